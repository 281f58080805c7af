//! From what a program wrote to a message for a mail server.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::SystemTime;

use bytes::Bytes;
use mox_config::Sendmail;
use mox_message::compose::{self, Header};
use mox_message::{HeaderSummary, headers, parse_addresses, to_crlf, without_fields};
use mox_types::Address;

use super::flags::Flags;

/// Fields that are replaced or of no use to others.
const REPLACED: [&str; 2] = ["From", "Return-Path"];

/// A message and its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Each once, at least one.
    pub recipients: Vec<Address>,
    /// With CRLF line ends.
    pub content: Vec<u8>,
}

/// Why a message can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// For who has no domain there has to be somebody else.
    #[error("recipient {0:?} has no domain, and the settings have no default_destination for users of this host")]
    Local(String),
    /// Not an address.
    #[error("recipient {0:?} is not an address")]
    Address(String),
    /// With -t, nobody is named.
    #[error("the message has no To field with a recipient, which -t asks for")]
    NoTo,
}

impl Outgoing {
    /// From what a program wrote.
    ///
    /// # Errors
    /// If it is not for anybody.
    pub fn new(flags: &Flags, settings: &Sendmail, text: &[u8], now: SystemTime) -> Result<Self, MessageError> {
        let text = Bytes::from(normal(text));
        let summary = HeaderSummary::of(&text);
        let mut given = flags.recipients.clone();
        if flags.from_header {
            given.extend(
                headers(&text)
                    .filter(|field| field.is("To"))
                    .map(|field| String::from_utf8_lossy(&field.value()).into_owned()),
            );
        }
        let recipients = recipients(&given, settings)?;
        if recipients.is_empty() {
            return Err(MessageError::NoTo);
        }

        let name = flags
            .name
            .clone()
            .or_else(|| summary.from.first().map(|from| from.name.clone()));
        let from = settings.from.to_string();
        let mut added = Header::new(!from.is_ascii());
        added.addresses("From", &[(name.as_deref().unwrap_or_default(), &from)]);
        if summary.to.is_empty() && !has(&text, "To") && summary.cc.is_empty() && summary.bcc.is_empty() {
            let to: Vec<String> = recipients.iter().map(ToString::to_string).collect();
            let to: Vec<(&str, &str)> = to.iter().map(|to| ("", to.as_str())).collect();
            added.addresses("To", &to);
        }
        if !summary.has_date {
            added.field("Date", &compose::date(now));
        }
        if !summary.has_message_id {
            added.field("Message-ID", &compose::message_id(&settings.local_hostname));
        }
        if settings.require_tls == Some(false) && !has(&text, "TLS-Required") {
            added.field("TLS-Required", "No");
        }
        let kept = without_fields(&text, |field| REPLACED.iter().any(|name| field.is(name)));
        let content = [added.as_bytes(), &kept.concat()].concat();
        Ok(Self { recipients, content })
    }
}

fn has(message: &[u8], name: &str) -> bool {
    headers(message).any(|field| field.is(name))
}

/// With CRLF line ends, and a header that ends: what begins with something else is a body.
fn normal(text: &[u8]) -> Vec<u8> {
    // The first line of a message in an mbox file.
    let text = match text.strip_prefix(b"From ") {
        Some(_) => text
            .iter()
            .position(|b| *b == b'\n')
            .map_or(&[][..], |end| &text[end + 1..]),
        None => text,
    };
    let text: Cow<'_, [u8]> = to_crlf(text);
    let mut text = text.into_owned();
    if !text.is_empty() && !text.ends_with(b"\r\n") {
        text.extend_from_slice(b"\r\n");
    }
    // The header ends before the first line that has no place in one.
    let mut position = 0;
    while position < text.len() {
        let end = text[position..]
            .windows(2)
            .position(|w| w == b"\r\n")
            .map_or(text.len(), |n| position + n + 2);
        let line = &text[position..end];
        if line == b"\r\n" {
            return text;
        }
        let continues = position > 0 && matches!(line[0], b' ' | b'\t');
        if !continues && !is_field(line) {
            break;
        }
        position = end;
    }
    text.splice(position..position, *b"\r\n");
    text
}

/// Whether a line begins a header field (RFC 5322 §2.2).
fn is_field(line: &[u8]) -> bool {
    headers(line).next().is_some()
}

/// The addresses that texts name, each once.
fn recipients(given: &[String], settings: &Sendmail) -> Result<Vec<Address>, MessageError> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut add = |address: Address| {
        if seen.insert(address.to_string()) {
            all.push(address);
        }
    };
    let local = |name: &str| {
        let default = settings.default_destination.clone();
        default.ok_or_else(|| MessageError::Local(name.to_owned()))
    };
    for text in given.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        // Without names and groups, an address is the whole of a word: "a@b@c" is none.
        if !text.contains([',', '<', '"', '(', ':']) && text.contains('@') {
            add(text.parse().map_err(|_| MessageError::Address(text.to_owned()))?);
            continue;
        }
        let named = parse_addresses(text.as_bytes());
        if named.is_empty() || !text.contains('@') {
            if text.contains('@') {
                return Err(MessageError::Address(text.to_owned()));
            }
            // Users of this host, one or several: they are all one.
            add(local(text)?);
            continue;
        }
        for recipient in named {
            match recipient.address {
                Some(address) => add(address),
                None if recipient.text.trim_end_matches('@').contains('@') => {
                    return Err(MessageError::Address(recipient.text));
                }
                None => add(local(&recipient.text)?),
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use mox_config::Source;

    use super::*;

    fn settings(more: &str) -> Sendmail {
        let source = Source {
            file: "moxsubmit.conf".into(),
            text: format!(
                "local_hostname = \"host.example.org\"\nhost = \"mail.example.org\"\nport = 465\ntls = true\n\
                 from = \"host@example.org\"\n{more}\n"
            ),
        };
        source.parse_sendmail().unwrap()
    }

    fn flags(line: &str) -> Flags {
        Flags::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    fn outgoing(line: &str, more: &str, text: &str) -> Result<(Vec<String>, String), MessageError> {
        let out = Outgoing::new(&flags(line), &settings(more), text.as_bytes(), SystemTime::UNIX_EPOCH)?;
        let recipients = out.recipients.iter().map(ToString::to_string).collect();
        Ok((recipients, String::from_utf8(out.content).unwrap()))
    }

    const ADMIN: &str = "default_destination = \"admin@example.org\"";

    #[test]
    fn what_cron_sends_goes_to_the_administrator() {
        let text = "From: \"(Cron Daemon)\" <root>\nTo: root\nSubject: Cron <root@host> date\nMIME-Version: 1.0\n\nout\n.\nput\n";
        let (recipients, content) = outgoing("-i -FCronDaemon -B8BITMIME -oem root", ADMIN, text).unwrap();
        assert_eq!(recipients, ["admin@example.org"]);
        assert!(
            content.starts_with("From: CronDaemon <host@example.org>\r\nDate: Thu, 1 Jan 1970"),
            "{content}"
        );
        assert!(
            content.contains("\r\nMessage-ID: <") && content.contains("@host.example.org>\r\nTo: root\r\n"),
            "{content}"
        );
        assert!(content.ends_with("\r\n\r\nout\r\n.\r\nput\r\n"), "{content}");
        assert_eq!(content.matches("From: ").count(), 1);
        let without = outgoing("root", "", text);
        assert_eq!(without, Err(MessageError::Local("root".into())));
    }

    #[test]
    fn recipients_come_from_arguments_and_to() {
        let text = "To: Joe <joe@example.com>,\n \"Doe, Jane\" <jane@example.com>, root\nCc: c@example.com\nBcc: b@example.com\n\nx\n";
        let (recipients, content) = outgoing("-t joe@example.com", ADMIN, text).unwrap();
        assert_eq!(recipients, ["joe@example.com", "jane@example.com", "admin@example.org"]);
        assert!(
            content.contains("\r\nCc: c@example.com\r\nBcc: b@example.com\r\n"),
            "{content}"
        );
        assert_eq!(outgoing("-t", ADMIN, "Subject: x\n\nx\n"), Err(MessageError::NoTo));
        assert!(matches!(outgoing("a@b@c", ADMIN, "x\n"), Err(MessageError::Address(_))));
        assert!(matches!(outgoing("a@", ADMIN, "x\n"), Err(MessageError::Address(_))));
    }

    #[test]
    fn texts_that_are_no_messages_become_some() {
        for (text, subject, body) in [
            ("hello\nworld", "", "\r\n\r\nhello\r\nworld\r\n"),
            (
                "Subject: x\nno field\n\nrest\n",
                "Subject: x\r\n",
                "\r\n\r\nno field\r\n\r\nrest\r\n",
            ),
            (
                "From root Thu Jan  1 00:00:00 1970\nSubject: x\n\nrest\n",
                "Subject: x\r\n",
                "\r\n\r\nrest\r\n",
            ),
            ("Subject: x\n folded\n", "Subject: x\r\n folded\r\n", "\r\n\r\n"),
            ("", "", "\r\n\r\n"),
        ] {
            let (_, content) = outgoing("a@example.com", "", text).unwrap();
            assert!(
                content.contains(subject) && content.ends_with(body),
                "{text:?}: {content:?}"
            );
            assert!(content.contains("\r\nTo: <a@example.com>\r\n"), "{content}");
        }
    }

    #[test]
    fn tls_is_given_up_only_if_the_settings_say_so() {
        let of = |more: &str, text: &str| {
            outgoing("a@example.com", more, text)
                .unwrap()
                .1
                .matches("TLS-Required: No")
                .count()
        };
        assert_eq!(of("", "Subject: x\n\nx\n"), 0);
        assert_eq!(of("require_tls = true", "Subject: x\n\nx\n"), 0);
        assert_eq!(of("require_tls = false", "Subject: x\n\nx\n"), 1);
        assert_eq!(of("require_tls = false", "TLS-Required: No\n\nx\n"), 1);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_sent_with_crlf(text in "([a-zA-Z: \t<>@.,\"\r\n]|From |To:){0,80}") {
            if let Ok((_, content)) = outgoing("a@example.com", ADMIN, &text) {
                let bare = content.replace("\r\n", "");
                assert!(!bare.contains(['\r', '\n']));
                assert!(content.contains("\r\n\r\n"));
            }
        }
    }
}
