//! Odd messages, each in a file, and beside it what is made of it. To write down a change that is meant to be, run with
//! `MOX_WRITE_CORPUS=1`, and read the difference.

use std::fmt::Write;
use std::path::Path;

use mox_message::{HeaderSummary, computed, decoded_text};
use mox_proto::mail::v1::{Envelope, EnvelopeAddress, Parameter, Part};

fn octets(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn parameters(parameters: &[Parameter]) -> String {
    parameters
        .iter()
        .map(|p| format!("; {}={}", p.name, octets(&p.value)))
        .collect()
}

fn addresses(out: &mut String, name: &str, addresses: &[EnvelopeAddress]) {
    for a in addresses {
        let value = |v: &Option<bytes::Bytes>| v.as_ref().map_or("-".into(), |v| format!("[{}]", octets(v)));
        let parts = [&a.name, &a.adl, &a.mailbox, &a.host].map(value).join(" ");
        writeln!(out, "  {name}: {parts}").expect("strings take all");
    }
}

fn envelope(out: &mut String, e: &Envelope) {
    let values = [
        ("date", &e.date),
        ("subject", &e.subject),
        ("in-reply-to", &e.in_reply_to),
        ("message-id", &e.message_id),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            writeln!(out, "  {name}: [{}]", octets(value)).expect("strings take all");
        }
    }
    let lists = [("from", &e.from), ("sender", &e.sender), ("reply-to", &e.reply_to)];
    for (name, list) in lists.into_iter().chain([("to", &e.to), ("cc", &e.cc), ("bcc", &e.bcc)]) {
        addresses(out, name, list);
    }
}

fn part(out: &mut String, number: &str, p: &Part) {
    writeln!(
        out,
        "part {number} {}/{}{} {} lines {} at {}..{}..{}",
        p.media_type,
        p.media_subtype,
        parameters(&p.parameters),
        p.encoding,
        p.lines,
        p.header_offset,
        p.body_offset,
        p.end_offset
    )
    .expect("strings take all");
    if let Some(d) = &p.disposition {
        writeln!(out, "  disposition: {d}{}", parameters(&p.disposition_parameters)).expect("strings take all");
    }
    if !p.languages.is_empty() {
        writeln!(out, "  languages: {:?}", p.languages).expect("strings take all");
    }
    if let Some(id) = &p.content_id {
        writeln!(out, "  id: [{}]", octets(id)).expect("strings take all");
    }
    if let (Some(message), Some(e)) = (&p.message, &p.envelope) {
        envelope(out, e);
        part(out, &format!("{number}m"), message);
    }
    for (n, inner) in p.parts.iter().enumerate() {
        part(out, &format!("{number}.{}", n + 1), inner);
    }
}

fn shown(message: &[u8]) -> String {
    let c = computed(message);
    let mut out = String::from("envelope\n");
    envelope(&mut out, &c.envelope.expect("always computed"));
    part(&mut out, "1", &c.structure.expect("always computed"));
    let s = HeaderSummary::of(message);
    let from = s.from_address().map(ToString::to_string);
    writeln!(out, "preview {:?}", c.preview.expect("always computed")).expect("strings take all");
    writeln!(
        out,
        "summary id {:?} base {:?} reply {} from {from:?}",
        s.message_id, s.base_subject, s.is_reply
    )
    .expect("strings take all");
    writeln!(
        out,
        "summary date {:?} dsn {} parents {:?}",
        s.date,
        s.is_dsn,
        s.parents()
    )
    .expect("strings take all");
    decoded_text(message, &mut |text| {
        writeln!(out, "text {text:?}").expect("strings take all");
    });
    out
}

#[test]
fn odd_messages_are_read_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut differences = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_none_or(|e| e != "eml") {
            continue;
        }
        count += 1;
        let shown = shown(&std::fs::read(&path).expect("it can be read"));
        let expected = path.with_extension("txt");
        if std::env::var_os("MOX_WRITE_CORPUS").is_some() {
            std::fs::write(&expected, &shown).expect("it can be written");
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            differences.push(format!("{}:\n{shown}", path.display()));
        }
    }
    assert!(count >= 10, "only {count} messages are there");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
