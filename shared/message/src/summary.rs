//! What others than IMAP clients look at in a header.

use mail_parser::DateTime;
use mox_types::Address;

use crate::address::{self, Item, Mailbox};
use crate::{base_subject, limits, params};

/// An address of a header, with its display name decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// Display name; empty if there is none.
    pub name: String,
    /// localpart@domain as written, for logs and for people.
    pub text: String,
    /// The same, if it is a valid address.
    pub address: Option<Address>,
}

/// The header of a message, for threading, rules and rights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderSummary {
    /// Canonical Message-ID: in lower case, without brackets and white space.
    pub message_id: Option<String>,
    /// Canonical ids of In-Reply-To.
    pub in_reply_to: Vec<String>,
    /// Canonical ids of References, oldest first, at most [`limits::REFERENCES`].
    pub references: Vec<String>,
    /// Subject, decoded.
    pub subject: String,
    /// See [`base_subject`].
    pub base_subject: String,
    /// The subject says that this is a reply or is forwarded.
    pub is_reply: bool,
    /// Addresses of From.
    pub from: Vec<NamedAddress>,
    /// How many From fields there are; RFC 5322 §3.6 wants exactly one.
    pub from_fields: usize,
    /// Addresses of Sender.
    pub sender: Vec<NamedAddress>,
    /// Addresses of Reply-To.
    pub reply_to: Vec<NamedAddress>,
    /// Addresses of To, without groups' names.
    pub to: Vec<NamedAddress>,
    /// Addresses of Cc.
    pub cc: Vec<NamedAddress>,
    /// Addresses of Bcc.
    pub bcc: Vec<NamedAddress>,
    /// Date, in seconds since 1970.
    pub date: Option<i64>,
    /// See [`sent_day`].
    pub sent_day: Option<i32>,
    /// A delivery status notification: multipart/report with report-type delivery-status (RFC 6522 §3, RFC 3464 §2).
    pub is_dsn: bool,
    /// From a mailing list: has List-Id (RFC 2919).
    pub is_list: bool,
    /// The message has Message-ID, valid or not.
    pub has_message_id: bool,
    /// The message has Date, valid or not.
    pub has_date: bool,
}

impl HeaderSummary {
    /// Reads the header of a message, or a header alone.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let mut s = Self::default();
        for field in crate::headers(message) {
            let value = field.value();
            match field.name.to_ascii_lowercase().as_slice() {
                b"message-id" => {
                    if !s.has_message_id {
                        s.message_id = ids(&value).into_iter().next().or_else(|| bare_id(&value));
                    }
                    s.has_message_id = true;
                }
                b"in-reply-to" if s.in_reply_to.is_empty() => s.in_reply_to = ids(&value),
                b"references" if s.references.is_empty() => s.references = ids(&value),
                b"subject" if s.subject.is_empty() => s.subject = crate::decode_header(&value),
                b"from" => {
                    s.from_fields += 1;
                    add(&mut s.from, &value);
                }
                b"sender" => add(&mut s.sender, &value),
                b"reply-to" => add(&mut s.reply_to, &value),
                b"to" => add(&mut s.to, &value),
                b"cc" => add(&mut s.cc, &value),
                b"bcc" => add(&mut s.bcc, &value),
                b"date" => {
                    if !s.has_date {
                        s.date = parse_date(&value);
                        s.sent_day = sent_day(&value);
                    }
                    s.has_date = true;
                }
                b"content-type" if !s.is_dsn => {
                    let t = params::structured(&value, 20);
                    s.is_dsn = t.value == "multipart/report"
                        && params::parameter(&t.parameters, "report-type")
                            .is_some_and(|t| t.eq_ignore_ascii_case("delivery-status"));
                }
                b"list-id" => s.is_list = true,
                _ => {}
            }
        }
        (s.base_subject, s.is_reply) = base_subject(&s.subject);
        s
    }

    /// The address that the message says it is from: that of the only From field with exactly one valid address.
    #[must_use]
    pub fn from_address(&self) -> Option<&Address> {
        match (self.from_fields, self.from.as_slice()) {
            (1, [only]) => only.address.as_ref(),
            _ => None,
        }
    }

    /// Ids of the messages that this one answers to, oldest first: References, or In-Reply-To without.
    #[must_use]
    pub fn parents(&self) -> &[String] {
        if self.references.is_empty() {
            &self.in_reply_to
        } else {
            &self.references
        }
    }
}

fn add(place: &mut Vec<NamedAddress>, value: &[u8]) {
    let room = limits::ADDRESSES.saturating_sub(place.len());
    place.extend(parse_addresses(value).into_iter().take(room));
}

/// The addresses of an unfolded address list, at most [`limits::ADDRESSES`]; names of groups are left out.
#[must_use]
pub fn parse_addresses(value: &[u8]) -> Vec<NamedAddress> {
    let items = address::list(value, limits::ADDRESSES).into_iter();
    items
        .filter_map(|item| {
            if let Item::Mailbox(m) = item {
                Some(named(&m))
            } else {
                None
            }
        })
        .collect()
}

fn named(m: &Mailbox) -> NamedAddress {
    let local = String::from_utf8_lossy(&m.localpart);
    let domain = String::from_utf8_lossy(&m.domain);
    let address = mox_types::Localpart::from_unquoted(&local).ok().and_then(|localpart| {
        Some(Address {
            localpart,
            domain: domain.parse().ok()?,
        })
    });
    NamedAddress {
        name: m.name.as_deref().map(crate::decode_header).unwrap_or_default(),
        text: if m.quoted {
            format!("\"{local}\"@{domain}")
        } else {
            format!("{local}@{domain}")
        },
        address,
    }
}

/// Canonical ids of a list of msg-ids: what stands between "<" and ">". The first, and the latest of the others, up to
/// [`limits::REFERENCES`].
fn ids(value: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    for piece in value.split(|b| *b == b'<').skip(1) {
        let Some(end) = memchr::memchr(b'>', piece) else {
            continue;
        };
        let Some(id) = canonical(&piece[..end]) else { continue };
        if out.len() >= 2 * limits::REFERENCES {
            out.drain(1..=limits::REFERENCES);
        }
        out.push(id);
    }
    if out.len() > limits::REFERENCES {
        out.drain(1..=out.len() - limits::REFERENCES);
    }
    out
}

/// Some writers leave the brackets out.
fn bare_id(value: &[u8]) -> Option<String> {
    canonical(value).filter(|id| id.contains('@') && !id.contains(['<', '>']))
}

fn canonical(id: &[u8]) -> Option<String> {
    let id: String = String::from_utf8_lossy(&id[..id.len().min(limits::VALUE)])
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .flat_map(char::to_lowercase)
        .collect();
    (!id.is_empty()).then_some(id)
}

/// The time of a Date value (RFC 5322 §3.3, with §4.3's old forms), in seconds since 1970.
#[must_use]
pub fn parse_date(value: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(&value[..value.len().min(998)]);
    let date = DateTime::parse_rfc822(&format!("{text}\n")).filter(DateTime::is_valid)?;
    Some(date.to_timestamp())
}

/// The day that stands in a Date value, whatever its timezone (as RFC 9051 §6.4.4 searches), in days since 1970.
#[must_use]
pub fn sent_day(value: &[u8]) -> Option<i32> {
    let at = parse_date(value)?;
    i32::try_from((at + zone(value)).div_euclid(86_400)).ok()
}

/// The offset of a Date value in seconds (RFC 5322 §3.3); old names of zones count as UTC.
fn zone(date: &[u8]) -> i64 {
    let offset = date.split(u8::is_ascii_whitespace).find_map(|word| {
        let (sign, digits) = word.split_first()?;
        let sign = match sign {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let four = digits.len() == 4 && digits.iter().all(u8::is_ascii_digit);
        let two = |at: usize| i64::from(digits[at] - b'0') * 10 + i64::from(digits[at + 1] - b'0');
        four.then(|| sign * (two(0) * 3600 + two(2) * 60))
    });
    offset.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_summed_up() {
        let s = HeaderSummary::of(
            b"Message-ID: < Ab.C@Example >\r\nReferences: <1@x> <2@x>\r\n <3@x\r\n\t>\r\nIn-Reply-To: your mail <3@x>\r\n\
              Subject: Re: =?utf-8?q?[l]_Gr=C3=BCn?=\r\nFrom: =?utf-8?q?J=C3=B6rg?= <J@Example.ORG>\r\n\
              To: g: a@b, \"x y\"@c;\r\nDate: Sun, 22 Nov 2026 12:00:00 +0100 (CET)\r\nList-Id: x\r\n\r\n",
        );
        assert_eq!(s.message_id.as_deref(), Some("ab.c@example"));
        assert_eq!(s.references, ["1@x", "2@x", "3@x"]);
        assert_eq!(s.in_reply_to, ["3@x"]);
        assert_eq!((s.base_subject.as_str(), s.is_reply), ("grün", true));
        assert_eq!(s.from[0].name, "Jörg");
        assert_eq!(s.from_address().unwrap().to_string(), "J@example.org");
        assert_eq!(s.to[1].text, "\"x y\"@c");
        assert_eq!(s.date, Some(1_795_345_200));
        assert!(s.is_list && !s.is_dsn);
    }

    #[test]
    fn from_must_be_one_valid_address() {
        for bad in [
            "",
            "From: a@b, c@d\r\n",
            "From: a@b\r\nFrom: a@b\r\n",
            "From: a\r\n",
            "From: a@b..c\r\n",
        ] {
            assert_eq!(HeaderSummary::of(bad.as_bytes()).from_address(), None, "{bad}");
        }
    }

    #[test]
    fn reports_are_recognized() {
        let dsn = |t: &str| HeaderSummary::of(format!("Content-Type: {t}\r\n").as_bytes()).is_dsn;
        assert!(dsn("Multipart/Report; Report-Type=\"delivery-status\"; boundary=x"));
        assert!(!dsn("multipart/report; report-type=disposition-notification"));
        assert!(!dsn("multipart/mixed; report-type=delivery-status"));
    }

    #[test]
    fn references_keep_the_first_and_the_latest() {
        let value: String = (0..1000).map(|n| format!("<{n}@x> ")).collect();
        let ids = ids(value.as_bytes());
        assert_eq!(
            (ids.len(), ids[0].as_str(), ids[199].as_str()),
            (limits::REFERENCES, "0@x", "999@x")
        );
        assert_eq!(ids[1], "801@x");
    }

    #[test]
    fn dates_are_read_in_old_forms() {
        assert_eq!(parse_date(b"1 Jan 70 00:00:10 GMT"), Some(10));
        for bad in ["", "tomorrow", "99 Foo 2020 99:99:99 +9999"] {
            assert_eq!(parse_date(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(name in "(Date|From|References|Message-ID|Subject|Content-Type)", value in "\\PC{0,80}") {
            let _ = HeaderSummary::of(format!("{name}: {value}\r\n\r\n").as_bytes());
        }

        #[test]
        fn no_date_makes_it_panic(value in "[0-9A-Za-z:,;+() \\\\-]{0,50}") {
            let _ = parse_date(value.as_bytes());
        }
    }
}
