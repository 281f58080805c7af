//! `mox message parse`

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_message::HeaderSummary;
use mox_proto::mail::v1::{Envelope, EnvelopeAddress, Part};
use serde_json::{Value, json};

use crate::command::{Command, flag, parameter, text};
use crate::context::Context;

/// Most bytes of a message.
const SIZE_MAX: u64 = 1 << 30;

pub const PARSE: Command = Command {
    words: &["message", "parse"],
    parameters: "message.eml",
    help: "Parse a message, and print what was understood of it as JSON.\n\n\
           \"-\" is standard input. Offsets are in bytes from the start of the message.",
    arguments: || {
        vec![
            parameter("message.eml"),
            flag(
                "smtputf8",
                "print only whether the message can be sent only to servers that support SMTPUTF8",
            ),
        ]
    },
    run: parse,
};

fn parse(_: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let file = text(matches, "message.eml");
    let mut message = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(SIZE_MAX + 1).read_to_end(&mut message)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(SIZE_MAX + 1).read_to_end(&mut message))
    };
    read.with_context(|| format!("reading {file}"))?;
    if message.len() as u64 > SIZE_MAX {
        bail!("{file} has more than {SIZE_MAX} bytes");
    }
    // As it would be kept: mail has CRLF, files often do not.
    let message = mox_message::to_crlf(&message);
    if matches.get_flag("smtputf8") {
        println!("message needs smtputf8: {}", needs_smtputf8(&message));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", serde_json::to_string_pretty(&as_json(&message))?);
    Ok(ExitCode::SUCCESS)
}

/// RFC 6531 §1.2, RFC 6532: whether a header, of the message or of a part of it, has octets that are not ASCII.
fn needs_smtputf8(message: &[u8]) -> bool {
    let computed = mox_message::computed(message);
    computed.structure.is_some_and(|part| header_is_utf8(message, &part))
}

fn header_is_utf8(message: &[u8], part: &Part) -> bool {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(message.len());
    let (start, end) = (at(part.header_offset), at(part.body_offset));
    let own = message.get(start..end).is_some_and(|header| !header.is_ascii());
    own || part.parts.iter().any(|p| header_is_utf8(message, p))
        || part.message.as_ref().is_some_and(|m| header_is_utf8(message, m))
}

fn as_json(message: &[u8]) -> Value {
    let computed = mox_message::computed(message);
    let summary = HeaderSummary::of(message);
    let header: Vec<Value> = mox_message::headers(message)
        .map(|field| json!([lossy(field.name), decoded(&field.value())]))
        .collect();
    json!({
        "size": message.len(),
        "header": header,
        "message_id": summary.message_id,
        "base_subject": summary.base_subject,
        "date": summary.date.and_then(moment),
        "dsn": summary.is_dsn,
        "list": summary.is_list,
        "envelope": computed.envelope.as_ref().map(envelope),
        "preview": computed.preview,
        "structure": computed.structure.as_ref().map(part),
    })
}

fn moment(seconds: i64) -> Option<String> {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    at.format(&time::format_description::well_known::Rfc3339).ok()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// With encoded words (RFC 2047) as text.
fn decoded(bytes: &[u8]) -> String {
    mox_message::decode_header(bytes)
}

fn envelope(e: &Envelope) -> Value {
    let text = |v: &Option<bytes::Bytes>| v.as_ref().map(|v| decoded(v));
    json!({
        "date": text(&e.date), "subject": text(&e.subject), "from": addresses(&e.from), "sender": addresses(&e.sender),
        "reply_to": addresses(&e.reply_to), "to": addresses(&e.to), "cc": addresses(&e.cc), "bcc": addresses(&e.bcc),
        "in_reply_to": text(&e.in_reply_to), "message_id": text(&e.message_id),
    })
}

fn addresses(list: &[EnvelopeAddress]) -> Vec<Value> {
    list.iter()
        .map(|a| {
            let text = |v: &Option<bytes::Bytes>| v.as_ref().map(|v| decoded(v));
            json!({ "name": text(&a.name), "mailbox": text(&a.mailbox), "host": text(&a.host) })
        })
        .collect()
}

fn part(p: &Part) -> Value {
    let parameters = |list: &[mox_proto::mail::v1::Parameter]| {
        let pairs = list.iter().map(|q| (q.name.clone(), json!(decoded(&q.value))));
        Value::Object(pairs.collect())
    };
    let mut object = json!({
        "type": format!("{}/{}", p.media_type, p.media_subtype),
        "parameters": parameters(&p.parameters),
        "encoding": p.encoding,
        "lines": p.lines,
        "header_offset": p.header_offset,
        "body_offset": p.body_offset,
        "end_offset": p.end_offset,
    });
    for (name, value) in [
        ("content_id", &p.content_id),
        ("description", &p.description),
        ("location", &p.location),
    ] {
        if let Some(value) = value {
            object[name] = json!(decoded(value));
        }
    }
    if let Some(disposition) = &p.disposition {
        object["disposition"] = json!(disposition);
        object["disposition_parameters"] = parameters(&p.disposition_parameters);
    }
    if !p.languages.is_empty() {
        object["languages"] = json!(p.languages);
    }
    if !p.parts.is_empty() {
        object["parts"] = p.parts.iter().map(part).collect();
    }
    if let Some(e) = &p.envelope {
        object["envelope"] = envelope(e);
    }
    if let Some(message) = &p.message {
        object["message"] = part(message);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told() {
        let message = "From: =?utf-8?q?=C3=A9?= <a@example.org>\r\nSubject: Re: x\r\nMessage-ID: <1@x>\r\n\
                       MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n";
        let object = as_json(message.as_bytes());
        assert_eq!(object["envelope"]["from"][0]["name"], "é");
        assert_eq!(object["base_subject"], "x");
        assert_eq!(object["structure"]["parts"][0]["type"], "text/plain");
        assert!(!needs_smtputf8(message.as_bytes()));
        assert!(needs_smtputf8("Subject: é\r\n\r\nx".as_bytes()));
        assert!(!needs_smtputf8("Subject: e\r\n\r\né".as_bytes()));
        let inner = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
                     Content-Description: é\r\n\r\nx\r\n--b--\r\n";
        assert!(needs_smtputf8(inner.as_bytes()));
    }
}
