//! Reading the delivery status notifications of others (RFC 3464, RFC 6533).

use mox_proto::mail::v1::Part;

use crate::{HeaderSummary, fields};

/// Octets of the status part that are looked at: a few thousand recipients.
const STATUS_MAX: usize = 1 << 20;
/// Recipients that are read; RFC 5321 §4.5.3.1.8 lets a transaction have 100, and lists have more.
const RECIPIENTS_MAX: usize = 1000;
/// Octets of one value that are kept.
const VALUE_MAX: usize = 2000;
/// Octets of what was returned in which its header is looked for.
const RETURNED_MAX: usize = 256 << 10;

/// What a notification says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Original-Envelope-Id, as written; empty without.
    pub envelope_id: String,
    /// One for each group of fields about a recipient.
    pub recipients: Vec<Status>,
    /// The canonical Message-ID of the message that was returned, if any of its header was.
    pub returned_message_id: Option<String>,
}

/// What became of a message for one recipient (RFC 3464 §2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Original-Recipient without its type; empty without.
    pub original: String,
    /// Final-Recipient without its type; empty without.
    pub recipient: String,
    /// Action, in lower case.
    pub action: String,
    /// Status without comments: `5.1.1`.
    pub status: String,
    /// Diagnostic-Code of type smtp, without the type; empty without.
    pub smtp_reply: String,
    /// Diagnostic-Code of whatever type, without the type; empty without.
    pub diagnostic: String,
}

impl Status {
    /// The SMTP code and the rest of the enhanced code that the report tells: those of the reply it quotes, else what
    /// its status says. `(550, "1.1")`; code 0 if it tells none, and an empty rest if only a code is known.
    #[must_use]
    pub fn codes(&self) -> (u32, String) {
        if let Some(codes) = reply_codes(&self.smtp_reply) {
            return codes;
        }
        match enhanced(&self.status) {
            Some((class, rest)) => (class * 100, rest.to_owned()),
            None => (0, String::new()),
        }
    }
}

/// `550 5.1.1 no such user`, or `550-5.1.1 …`.
fn reply_codes(reply: &str) -> Option<(u32, String)> {
    let (code, rest) = reply.split_at_checked(3)?;
    let code: u32 = code.parse().ok().filter(|code| (200..600).contains(code))?;
    let rest = rest.strip_prefix([' ', '-']).unwrap_or(rest);
    let word = rest.split_ascii_whitespace().next().unwrap_or_default();
    let rest = enhanced(word).filter(|(class, _)| *class == code / 100);
    Some((code, rest.map(|(_, rest)| rest.to_owned()).unwrap_or_default()))
}

/// The class of an enhanced code of a failure, and the rest (RFC 3463 §2).
fn enhanced(code: &str) -> Option<(u32, &str)> {
    let (class, rest) = code.split_once('.')?;
    let digits = |s: &str| (1..=3).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    let (subject, detail) = rest.split_once('.')?;
    let class = match class {
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    (digits(subject) && digits(detail)).then_some((class, rest))
}

/// Reads a notification, whose structure must be that of `message`; `None` if it is none.
#[must_use]
pub fn parse(message: &[u8], structure: &Part) -> Option<Report> {
    // RFC 6522 §3: a human readable part, the report, and maybe what was returned.
    if (structure.media_type.as_str(), structure.media_subtype.as_str()) != ("multipart", "report") {
        return None;
    }
    let status = structure.parts.get(1)?;
    let is_status = status.media_type == "message"
        && matches!(
            status.media_subtype.as_str(),
            "delivery-status" | "global-delivery-status"
        );
    if !is_status {
        return None;
    }
    let text = crate::decode_part_start(message, status, STATUS_MAX);
    let mut report = groups(&text);
    report.returned_message_id = structure
        .parts
        .get(2)
        .and_then(|returned| message_id(message, returned));
    Some(report)
}

fn groups(text: &str) -> Report {
    let mut report = Report::default();
    // Fields about the message, then groups about a recipient each, with empty lines between them.
    let mut rest = text.as_bytes();
    let mut first = true;
    while !rest.is_empty() && report.recipients.len() < RECIPIENTS_MAX {
        let start = rest
            .iter()
            .position(|b| !matches!(b, b'\r' | b'\n'))
            .unwrap_or(rest.len());
        rest = &rest[start..];
        let end = fields::header_end(rest);
        let (group, after) = rest.split_at(end.clamp(1, rest.len().max(1)).min(rest.len()));
        rest = after;
        let mut status = Status::default();
        let mut of_recipient = false;
        for field in crate::headers(group) {
            let value = text_of(&field);
            let of_type = || after_type(&value).1;
            match field.name.to_ascii_lowercase().as_slice() {
                b"original-envelope-id" if first => report.envelope_id = value,
                b"original-recipient" => status.original = of_type(),
                b"final-recipient" => status.recipient = of_type(),
                b"action" => {
                    status.action = without_comment(&value).to_lowercase();
                    of_recipient = true;
                }
                b"status" => {
                    status.status = without_comment(&value);
                    of_recipient = true;
                }
                b"diagnostic-code" => {
                    let (kind, diagnostic) = after_type(&value);
                    if kind.eq_ignore_ascii_case("smtp") {
                        status.smtp_reply.clone_from(&diagnostic);
                    }
                    status.diagnostic = diagnostic;
                }
                _ => {}
            }
        }
        if of_recipient || !status.recipient.is_empty() {
            report.recipients.push(status);
        }
        first = false;
    }
    report
}

fn text_of(field: &fields::Field<'_>) -> String {
    let mut value = String::from_utf8_lossy(&field.value()).trim().to_owned();
    value.truncate(value.floor_char_boundary(VALUE_MAX));
    value
}

/// `rfc822; a@b` as the type and the rest.
fn after_type(value: &str) -> (&str, String) {
    match value.split_once(';') {
        Some((kind, rest)) => (kind.trim(), rest.trim().to_owned()),
        None => ("", value.trim().to_owned()),
    }
}

fn without_comment(value: &str) -> String {
    value.split(['(', ' ', '\t']).next().unwrap_or_default().to_owned()
}

/// Of the message, or the header, that came back.
fn message_id(message: &[u8], returned: &Part) -> Option<String> {
    let bytes = match (returned.media_type.as_str(), returned.media_subtype.as_str()) {
        ("message", "rfc822" | "global" | "rfc822-headers" | "global-headers") | ("text", "rfc822-headers") => {
            crate::decode_part_start(message, returned, RETURNED_MAX)
        }
        _ => return None,
    };
    HeaderSummary::of(bytes.as_bytes()).message_id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(kind: &str, status: &str, returned: &str) -> Option<Report> {
        let message = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nfailed\r\n\
             --b\r\nContent-Type: message/{kind}\r\n\r\n{status}\r\n--b\r\n{returned}\r\n--b--\r\n"
        );
        let structure = crate::computed(message.as_bytes()).structure.unwrap();
        parse(message.as_bytes(), &structure)
    }

    const POSTFIX: &str = "Reporting-MTA: dns; mx.example\r\nX-Postfix-Queue-ID: 4F\r\nOriginal-Envelope-Id: abc\r\n\
        Arrival-Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n\
        Final-Recipient: rfc822; no@there.example\r\nOriginal-Recipient: rfc822;No@there.example\r\nAction: Failed\r\n\
        Status: 5.1.1\r\nRemote-MTA: dns; mx2.example\r\nDiagnostic-Code: smtp; 550 5.1.1 <no@there.example>: Recipient\r\n \
        address rejected\r\n";

    #[test]
    fn a_notification_is_read() {
        for kind in ["delivery-status", "global-delivery-status"] {
            let returned = "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\nMessage-ID: <A@b.example>\r\n";
            let read = report(kind, POSTFIX, returned).unwrap();
            assert_eq!(read.envelope_id, "abc");
            assert_eq!(read.returned_message_id.as_deref(), Some("a@b.example"));
            assert_eq!(
                read.recipients,
                [Status {
                    original: "No@there.example".into(),
                    recipient: "no@there.example".into(),
                    action: "failed".into(),
                    status: "5.1.1".into(),
                    smtp_reply: "550 5.1.1 <no@there.example>: Recipient address rejected".into(),
                    diagnostic: "550 5.1.1 <no@there.example>: Recipient address rejected".into(),
                }]
            );
            assert_eq!(read.recipients[0].codes(), (550, "1.1".into()));
        }
        let whole = "Content-Type: message/rfc822\r\n\r\nMessage-ID: <c@d>\r\n\r\nbody\r\n";
        let two = format!("{POSTFIX}\r\nFinal-Recipient: rfc822;x@y\r\nAction: delayed\r\nStatus: 4.4.1 (connect)\r\n");
        let read = report("delivery-status", &two, whole).unwrap();
        assert_eq!(read.returned_message_id.as_deref(), Some("c@d"));
        assert_eq!(read.recipients.len(), 2);
        assert_eq!(read.recipients[1].action, "delayed");
        assert_eq!(read.recipients[1].codes(), (400, "4.1".into()));
        assert!(report("disposition-notification", POSTFIX, "\r\n").is_none());
        assert!(parse(b"Subject: a\r\n\r\nb", &Part::default()).is_none());
    }

    #[test]
    fn codes_are_those_of_the_reply() {
        let codes = |status: &str, reply: &str| {
            let status = Status {
                status: status.into(),
                smtp_reply: reply.into(),
                ..Status::default()
            };
            status.codes()
        };
        assert_eq!(codes("5.0.0", "550-5.7.1 no"), (550, "7.1".into()));
        assert_eq!(codes("5.0.0", "550 no such user"), (550, String::new()));
        assert_eq!(codes("5.0.0", "550 4.7.1 mixed up"), (550, String::new()));
        assert_eq!(codes("5.2.2", "999 what"), (500, "2.2".into()));
        assert_eq!(codes("2.0.0", ""), (0, String::new()));
        assert_eq!(codes("5.1", "äö"), (0, String::new()));
        assert_eq!(codes("5.1.x", "55"), (0, String::new()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(status in "([A-Za-z-]{0,12}: ?[ -~äöü]{0,20}(\r\n|\n|\r)){0,20}", extra in "[\r\n]{0,4}") {
            let _ = report("delivery-status", &format!("{extra}{status}{extra}"), "\r\n");
            let _ = groups(&format!("{extra}{status}"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}[\r\n]{0,3}\\PC{0,60}") {
            let _ = groups(&text);
        }
    }
}
