//! The header of a message that is to be sent (RFC 6409 §8).

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use mox_message::{HeaderSummary, received_count};
use mox_types::Address;

/// RFC 5321 §6.3: a message that went through so many hops is in a loop.
const RECEIVED_MAX: usize = 100;

/// A message that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Header fields that were missing, to be put above the content: Date and Message-ID.
    pub added: String,
    /// The message without Bcc.
    pub content: Bytes,
    /// Who it is from.
    pub msg_from: Address,
    /// Decoded.
    pub subject: String,
    /// Canonical: in lower case, without brackets.
    pub message_id: String,
    /// Whether an octet is not ASCII.
    pub eight_bit: bool,
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
}

/// Completes a message, at `now`, for a host called `hostname`.
///
/// # Errors
/// If it may not be sent as it is.
pub fn prepare(message: &Bytes, hostname: &str, now: SystemTime) -> Result<Prepared, Refused> {
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
    // Those in Bcc are recipients of the envelope; the others may not learn of them.
    let content = match mox_message::remove_headers(message, &["Bcc"]) {
        Cow::Borrowed(_) => message.clone(),
        Cow::Owned(without) => without.into(),
    };
    let eight_bit = !content.is_ascii();
    Ok(Prepared {
        added,
        content,
        msg_from,
        subject: header.subject,
        message_id,
        eight_bit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(message: &'static str) -> Result<Prepared, Refused> {
        prepare(
            &Bytes::from_static(message.as_bytes()),
            "mail.example.org",
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn what_is_missing_is_added_and_bcc_is_removed() {
        let p =
            prepared("From: A <a@example.org>\r\nBcc: b@example.org,\r\n c@example.org\r\nSubject: x\r\n\r\nhi\r\n")
                .unwrap();
        assert_eq!(&p.content[..], b"From: A <a@example.org>\r\nSubject: x\r\n\r\nhi\r\n");
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
        assert_eq!(&p.content[..], message.as_bytes());
        assert_eq!(p.message_id, "q@example.org");
        assert!(p.eight_bit);
    }

    #[test]
    fn exactly_one_author_is_needed() {
        assert_eq!(prepared("Subject: x\r\n\r\n"), Err(Refused::FromFields(0)));
        assert_eq!(
            prepared("From: a@example.org\r\nFrom: a@example.org\r\n\r\n"),
            Err(Refused::FromFields(2))
        );
        assert_eq!(
            prepared("From: a@example.org, b@example.org\r\n\r\n"),
            Err(Refused::FromAddress)
        );
        assert_eq!(prepared("From: nobody\r\n\r\n"), Err(Refused::FromAddress));
    }
}
