//! IMAP URLs of messages and their parts (RFC 5092), without URLAUTH: what CATENATE takes.

use crate::cursor::{Cursor, Names};
use crate::section::{Partial, Section};
use crate::write::put_number;

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageUrl {
    /// The server, as the URL names it; none where it is this one.
    pub server: Option<Server>,
    /// In UTF-8; none where it is the selected one.
    pub mailbox: Option<String>,
    /// What the UIDVALIDITY must be.
    pub uid_validity: Option<u32>,
    /// Which message.
    pub uid: u32,
    /// Which section of it.
    pub section: Section,
    /// Which octets of that.
    pub partial: Option<Partial>,
}

/// A server, and whose mail there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// None where the URL names nobody.
    pub user: Option<String>,
    /// Without a port.
    pub host: String,
}

impl MessageUrl {
    /// Parses an absolute URL (`imap://user@host/mailbox/;UID=1`), one from the server's root (`/mailbox/;UID=1`), or
    /// one from the selected mailbox (`;UID=1`).
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let mut rest = url;
        let mut server = None;
        if rest
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("imap://"))
        {
            let (authority, path) = rest[7..].split_once('/')?;
            server = Some(Server::parse(authority)?);
            rest = path;
        } else {
            rest = rest.strip_prefix('/').unwrap_or(rest);
        }
        // RFC 5092 §6.1: a name that ends there, and what is said of the message behind.
        let at = find(rest, ";UID=")?;
        let (name, message) = (&rest[..at], &rest[at + ";UID=".len()..]);
        let name = name.strip_suffix('/').unwrap_or(name);
        let (name, uid_validity) = match find(name, ";UIDVALIDITY=") {
            Some(at) => (&name[..at], Some(number(&name[at + ";UIDVALIDITY=".len()..])?)),
            None => (name, None),
        };
        let mailbox = decode(name)?;
        if mailbox.is_empty() && (server.is_some() || uid_validity.is_some()) {
            return None;
        }
        let (message, partial) = cut(message, ";PARTIAL=");
        let (message, section) = cut(message, ";SECTION=");
        Some(Self {
            server,
            mailbox: Some(mailbox).filter(|m| !m.is_empty()),
            uid_validity,
            uid: number(message)?,
            section: match section {
                Some(text) => parse_section(&decode(text)?)?,
                None => Section::default(),
            },
            partial: match partial {
                Some(text) => Some(parse_partial(text)?),
                None => None,
            },
        })
    }

    /// Serializes the URL.
    #[must_use]
    pub fn write(&self) -> String {
        let mut out = match &self.server {
            Some(Server { user: Some(user), host }) => format!("imap://{}@{host}", encode(user)),
            Some(Server { user: None, host }) => format!("imap://{host}"),
            None => String::new(),
        };
        if let Some(mailbox) = &self.mailbox {
            out.push('/');
            out.push_str(&encode(mailbox));
        }
        if let Some(validity) = self.uid_validity {
            out.push_str(&format!(";UIDVALIDITY={validity}"));
        }
        out.push_str(&format!("/;UID={}", self.uid));
        if self.section != Section::default() {
            let mut text = Vec::new();
            self.section.write(&mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            out.push_str(&format!("/;SECTION={}", encode(text.trim_matches(['[', ']']))));
        }
        if let Some(partial) = &self.partial {
            let mut text = Vec::new();
            put_number(&mut text, partial.offset);
            if partial.length != u64::MAX {
                text.push(b'.');
                put_number(&mut text, partial.length);
            }
            out.push_str(&format!("/;PARTIAL={}", String::from_utf8_lossy(&text)));
        }
        out
    }
}

impl Server {
    fn parse(authority: &str) -> Option<Self> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let user = match user {
            // RFC 5092 §3.2: how to authenticate is of no use here.
            Some(user) => Some(decode(&user[..find(user, ";AUTH=").unwrap_or(user.len())])?),
            None => None,
        };
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => host,
        };
        let host = decode(host)?;
        (!host.is_empty()).then_some(Self { user, host })
    }
}

/// Where `what` begins, in any case. It is ASCII, so that this is a boundary.
fn find(text: &str, what: &str) -> Option<usize> {
    text.as_bytes()
        .windows(what.len())
        .position(|w| w.eq_ignore_ascii_case(what.as_bytes()))
}

/// What comes before `what`, and what behind it. A slash before it belongs to neither.
fn cut<'t>(text: &'t str, what: &str) -> (&'t str, Option<&'t str>) {
    match find(text, what) {
        Some(at) => {
            let before = &text[..at];
            (
                before.strip_suffix('/').unwrap_or(before),
                Some(&text[at + what.len()..]),
            )
        }
        None => (text, None),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n > 0)
}

fn parse_section(text: &str) -> Option<Section> {
    let text = format!("[{text}]");
    let mut c = Cursor::new(text.as_bytes(), Names::Utf8);
    let section = Section::parse(&mut c).ok()?;
    c.end().ok()?;
    Some(section)
}

/// RFC 5092 §11, partial-range: without a length, to the end.
fn parse_partial(text: &str) -> Option<Partial> {
    let (offset, length) = text.split_once('.').map_or((text, None), |(o, l)| (o, Some(l)));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(offset) || !length.is_none_or(digits) {
        return None;
    }
    let length = match length {
        Some(length) => length.parse().ok().filter(|l: &u64| *l > 0)?,
        None => u64::MAX,
    };
    Some(Partial {
        offset: offset.parse().ok()?,
        length,
    })
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        out.push((digit(bytes.next())? * 16 + digit(bytes.next())?) as u8);
    }
    String::from_utf8(out).ok()
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_of_the_rfcs() {
        let url = MessageUrl::parse("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER").unwrap();
        assert_eq!(
            (url.mailbox.as_deref(), url.uid_validity, url.uid),
            (Some("Drafts"), Some(385_759_045), 20)
        );
        assert_eq!(url.section, parse_section("HEADER").unwrap());
        let url = MessageUrl::parse("imap://fred;AUTH=*@Example.com:143/g%C3%BCn/x/;uid=7/;section=1.2/;partial=0.10");
        let url = url.unwrap();
        let server = Server {
            user: Some("fred".into()),
            host: "Example.com".into(),
        };
        assert_eq!((url.server, url.mailbox.as_deref()), (Some(server), Some("gün/x")));
        assert_eq!(
            (url.section.part, url.partial),
            (vec![1, 2], Some(Partial { offset: 0, length: 10 }))
        );
        assert_eq!(MessageUrl::parse(";UID=3").unwrap().mailbox, None);
        assert_eq!(MessageUrl::parse("/;UID=3").unwrap().mailbox, None);
        assert_eq!(MessageUrl::parse("/INBOX/;UID=3/;section=1.5.9").unwrap().uid, 3);
        for bad in [
            "",
            "/INBOX",
            "/INBOX/;UID=0",
            "/INBOX/;UID=x",
            "/INBOX/;UID=+1",
            "/INBOX;UIDVALIDITY=x/;UID=1",
            "/INBOX/;UID=1/;SECTION=%5B",
            "/INBOX/;UID=1/;PARTIAL=a",
            "/INBOX/;UID=1/;PARTIAL=0.0",
            "/INBOX/;UID=1;URLAUTH=submit+fred:internal",
            "/%zz/;UID=1",
            "/%ff/;UID=1",
            "imap:///INBOX/;UID=1",
            "imap://h/;UID=1",
            "http://h/INBOX/;UID=1",
        ] {
            let url = MessageUrl::parse(bad);
            assert!(url.is_none() || bad.starts_with("http"), "{bad}: {url:?}");
        }
    }

    proptest! {
        #[test]
        fn urls_survive(mailbox in "[^\u{0}/]{1,10}", validity in proptest::option::of(1u32..), uid in 1u32..,
                        part in proptest::collection::vec(1u32..100, 0..3)) {
            let url = MessageUrl {
                server: None,
                mailbox: Some(mailbox),
                uid_validity: validity,
                uid,
                section: Section { part, text: None },
                partial: Some(Partial { offset: 5, length: u64::MAX }),
            };
            prop_assert_eq!(MessageUrl::parse(&url.write()), Some(url));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(/|;|UID=|UIDVALIDITY=|SECTION=|PARTIAL=|imap://|[0-9]|%[0-9a-f]{2}|\\PC){0,20}") {
            let _ = MessageUrl::parse(&text);
        }
    }
}
