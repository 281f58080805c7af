//! The header of a message that is to be sent (RFC 6409 §8).

use std::collections::BTreeMap;
use std::time::SystemTime;

use mox_message::{Field, HeaderSummary, received_count};
use mox_spool::{Excerpt, Message};
use mox_types::Address;

/// RFC 5321 §6.3: a message that went through so many hops is in a loop.
const RECEIVED_MAX: usize = 100;

/// Header fields whose name begins so are not sent, but kept beside the message for webhooks.
const EXTRA: &str = "X-Mox-Extra-";
/// Most of them, and octets of their names and values together: as much as the queue keeps.
const EXTRA_FIELDS: usize = 64;
const EXTRA_BYTES: usize = 16 << 10;

/// A message that may be sent.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Header fields that were missing, to be put above the content: Date and Message-ID.
    pub added: String,
    /// The message without Bcc and fields of [`EXTRA`].
    pub content: Excerpt,
    /// Who it is from.
    pub msg_from: Address,
    /// Decoded.
    pub subject: String,
    /// Canonical: in lower case, without brackets.
    pub message_id: String,
    /// Whether an octet is not ASCII.
    pub eight_bit: bool,
    /// Whether the header has text that is not ASCII, for which SMTPUTF8 is needed (RFC 6532).
    pub international: bool,
    /// The author prefers delivery without TLS to none: `TLS-Required: No` (RFC 8689 §5).
    pub tls_optional: bool,
    /// Values of X-Mox-Extra fields by the rest of their name, written as in `Some-Name`.
    pub extra: BTreeMap<String, String>,
}

/// Why a message may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// RFC 5322 §3.6: exactly one From field.
    #[error("message has {0} From fields: it must have exactly one")]
    FromFields(usize),
    /// The From field has no, or more than one, or an invalid address.
    #[error("the From field must have exactly one valid address")]
    FromAddress,
    /// It went around in circles.
    #[error("message went through {0} hosts: it is in a loop")]
    Loop(usize),
    /// A field for webhooks is there twice, has no name of its own, or there are too many.
    #[error("header field {0}: {1}")]
    Extra(String, &'static str),
}

/// Completes a message, at `now`, for a host called `hostname`.
///
/// # Errors
/// If it may not be sent as it is.
pub fn prepare(message: &Message, hostname: &str, now: SystemTime) -> Result<Prepared, Refused> {
    let header = HeaderSummary::of(message);
    if header.from_fields != 1 {
        return Err(Refused::FromFields(header.from_fields));
    }
    let msg_from = header.from_address().ok_or(Refused::FromAddress)?.clone();
    let hops = received_count(message);
    if hops > RECEIVED_MAX {
        return Err(Refused::Loop(hops));
    }
    let mut added = String::new();
    // RFC 6409 §8.2 and §8.3: what the author's program left out.
    let message_id = match (header.has_message_id, header.message_id) {
        (true, id) => id.unwrap_or_default(),
        (false, _) => {
            let id = mox_message::compose::message_id(hostname);
            added.push_str(&format!("Message-ID: {id}\r\n"));
            id.trim_matches(['<', '>']).to_lowercase()
        }
    };
    if !header.has_date {
        added.push_str(&format!("Date: {}\r\n", mox_message::compose::date(now)));
    }
    let fields = fields(message)?;
    // Those in Bcc are recipients of the envelope; the others may not learn of them.
    let slices = mox_message::without_fields(&message.bytes(), |field| field.is("Bcc") || is_extra(field));
    let eight_bit = slices.iter().any(|slice| !slice.is_ascii());
    // RFC 6532 is UTF-8; what older programs send in other character sets is what it always was. The header is all but
    // the last slice, and the beginning of that.
    let mut international = false;
    if let (true, Some((last, tops))) = (eight_bit, slices.split_last()) {
        let tops: Vec<&[u8]> = tops.iter().map(AsRef::as_ref).collect();
        let tops = || tops.iter().copied().chain([&last[..mox_message::header_end(last)]]);
        international = tops().any(|top| !top.is_ascii()) && tops().all(|top| std::str::from_utf8(top).is_ok());
    }
    let content = Excerpt::new(message.clone(), slices);
    Ok(Prepared {
        added,
        content,
        msg_from,
        subject: header.subject,
        message_id,
        eight_bit,
        international,
        tls_optional: fields.tls_optional,
        extra: fields.extra,
    })
}

fn is_extra(field: &Field<'_>) -> bool {
    let prefix = field.name.get(..EXTRA.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(EXTRA.as_bytes()))
}

/// What header fields ask for.
#[derive(Default)]
struct Fields {
    extra: BTreeMap<String, String>,
    tls_optional: bool,
}

fn fields(message: &[u8]) -> Result<Fields, Refused> {
    let mut found = Fields::default();
    let (mut tls_required, mut bytes) = (0, 0);
    for field in mox_message::headers(message) {
        if field.is("TLS-Required") {
            tls_required += 1;
            // RFC 8689 §5: the only value there is.
            found.tls_optional = field.value().eq_ignore_ascii_case(b"No");
            continue;
        }
        if !is_extra(&field) {
            continue;
        }
        let name = &field.name[EXTRA.len()..];
        let written = String::from_utf8_lossy(field.name).into_owned();
        if name.is_empty() {
            return Err(Refused::Extra(written, "it has no name of its own"));
        }
        let value = field.text().trim().to_owned();
        bytes += name.len() + value.len();
        if found.extra.len() == EXTRA_FIELDS || bytes > EXTRA_BYTES {
            return Err(Refused::Extra(written, "there are too many, or they are too long"));
        }
        if found.extra.insert(in_title_case(name), value).is_some() {
            return Err(Refused::Extra(written, "it may be there once only"));
        }
    }
    // Twice is not defined, and then TLS is not given up.
    found.tls_optional &= tls_required == 1;
    Ok(found)
}

/// `some-NAME` as `Some-Name`: names of header fields are the same in any case.
fn in_title_case(name: &[u8]) -> String {
    let mut first = true;
    let name = String::from_utf8_lossy(name);
    let letters = name.chars().map(|c| {
        let c = if first {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        first = c == '-';
        c
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn prepared(message: &'static str) -> Result<Prepared, Refused> {
        prepare(
            &Bytes::from_static(message.as_bytes()).into(),
            "mail.example.org",
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn what_is_missing_is_added_and_bcc_is_removed() {
        let p =
            prepared("From: A <a@example.org>\r\nBcc: b@example.org,\r\n c@example.org\r\nSubject: x\r\n\r\nhi\r\n")
                .unwrap();
        assert_eq!(
            p.content.slices().concat(),
            b"From: A <a@example.org>\r\nSubject: x\r\n\r\nhi\r\n"
        );
        assert_eq!(p.msg_from.to_string(), "a@example.org");
        assert!(
            p.added.contains("Message-ID: <") && p.added.contains("@mail.example.org>\r\n"),
            "{}",
            p.added
        );
        assert!(
            p.added.contains("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n"),
            "{}",
            p.added
        );
        assert!(p.message_id.ends_with("@mail.example.org"));
        assert!(!p.eight_bit);
    }

    #[test]
    fn what_is_there_stays() {
        let message = "From: a@example.org\r\nMessage-ID: <Q@example.org>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n\u{e9}\r\n";
        let p = prepared(message).unwrap();
        assert_eq!(p.added, "");
        assert_eq!(p.content.slices().concat(), message.as_bytes());
        assert_eq!(p.message_id, "q@example.org");
        assert!(p.eight_bit);
    }

    #[test]
    fn fields_for_webhooks_are_taken_out() {
        let p = prepared(
            "x-mox-EXTRA-some-KEY: =?utf-8?q?gr=C3=BCn?=\r\n folded\r\nFrom: a@example.org\r\nX-Mox-Extra-B: 1\r\n\r\n\
             X-Mox-Extra-C: body\r\n",
        )
        .unwrap();
        assert_eq!(
            p.content.slices().concat(),
            b"From: a@example.org\r\n\r\nX-Mox-Extra-C: body\r\n"
        );
        let extra: Vec<(&str, &str)> = p.extra.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(extra, [("B", "1"), ("Some-Key", "gr\u{fc}n folded")]);
        for bad in ["X-Mox-Extra-A: 1\r\nx-mox-extra-a: 2\r\n", "X-Mox-Extra-: 1\r\n"] {
            let message = format!("From: a@example.org\r\n{bad}\r\n");
            let refused = prepare(&Bytes::from(message).into(), "h", SystemTime::UNIX_EPOCH);
            assert!(matches!(refused, Err(Refused::Extra(..))), "{bad}");
        }
        let many: String = (0..65).map(|n| format!("X-Mox-Extra-{n}: 1\r\n")).collect();
        let long = format!("X-Mox-Extra-A: {}\r\n", "x".repeat(EXTRA_BYTES));
        for bad in [many, long] {
            let message = format!("From: a@example.org\r\n{bad}\r\n");
            let refused = prepare(&Bytes::from(message).into(), "h", SystemTime::UNIX_EPOCH);
            assert!(matches!(refused, Err(Refused::Extra(..))));
        }
    }

    #[test]
    fn what_the_header_asks_of_delivery_is_found() {
        for (header, optional) in [
            ("", false),
            ("TLS-Required: No\r\n", true),
            ("tls-required:\tno\r\n", true),
            ("TLS-Required: Yes\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n", false),
        ] {
            let message = format!("From: a@example.org\r\n{header}\r\nTLS-Required: No\r\n");
            let p = prepare(&Bytes::from(message).into(), "h", SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(p.tls_optional, optional, "{header}");
        }
        assert!(
            prepared("From: a@example.org\r\nSubject: \u{e9}\r\n\r\n")
                .unwrap()
                .international
        );
        assert!(!prepared("From: a@example.org\r\n\r\n\u{e9}\r\n").unwrap().international);
        let latin = Bytes::from_static(b"From: a@example.org\r\nSubject: \xe9\r\n\r\n");
        let p = prepare(&latin.into(), "h", SystemTime::UNIX_EPOCH).unwrap();
        assert!(p.eight_bit && !p.international);
    }

    #[test]
    fn exactly_one_author_is_needed() {
        assert_eq!(prepared("Subject: x\r\n\r\n").unwrap_err(), Refused::FromFields(0));
        assert_eq!(
            prepared("From: a@example.org\r\nFrom: a@example.org\r\n\r\n").unwrap_err(),
            Refused::FromFields(2)
        );
        assert_eq!(
            prepared("From: a@example.org, b@example.org\r\n\r\n").unwrap_err(),
            Refused::FromAddress
        );
        assert_eq!(prepared("From: nobody\r\n\r\n").unwrap_err(), Refused::FromAddress);
    }
}
