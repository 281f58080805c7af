//! Delivery status notifications (RFC 3464, and RFC 6533 for international addresses).

use std::fmt::Write;
use std::time::SystemTime;

use crate::compose::{self, Header, Part};
use crate::edit::{has_long_line, is_eight_bit};
use crate::header_end;

/// What happened to a message for one recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still being tried.
    Delayed,
    /// In the recipient's mailbox.
    Delivered,
    /// Handed to a host that gives no notifications.
    Relayed,
    /// Handed on to the members of a list.
    Expanded,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Mail could not be delivered",
            Self::Delayed => "Mail is delayed",
            Self::Delivered => "Mail was delivered",
            Self::Relayed => "Mail was handed on",
            Self::Expanded => "Mail was handed to a list",
        }
    }
}

/// The outcome for one recipient.
#[derive(Debug, Clone)]
pub struct Recipient<'a> {
    /// localpart@domain.
    pub address: &'a str,
    /// ORCPT as given, `rfc822;…` in xtext (RFC 3461 §4.2); empty if none.
    pub orcpt: &'a str,
    /// What happened.
    pub action: Action,
    /// Enhanced status code, `5.1.1` (RFC 3463).
    pub status: &'a str,
    /// The host that answered; empty if none did.
    pub remote_mta: &'a str,
    /// That host's last reply with its code, or what else went wrong; may have several lines.
    pub diagnostic: &'a str,
    /// Whether the diagnostic is the reply of an SMTP server.
    pub is_smtp_reply: bool,
    /// When it was last tried.
    pub last_attempt: Option<SystemTime>,
    /// Until when it will be tried; for delays.
    pub retry_until: Option<SystemTime>,
}

/// What comes back of the message itself (RFC 3461 §4.3, RET).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Its header.
    Headers,
    /// All of it.
    Full,
}

/// A notification about one message.
#[derive(Debug, Clone)]
pub struct Dsn<'a> {
    /// The host that reports.
    pub hostname: &'a str,
    /// Whom it is for: the message's reverse-path.
    pub to: &'a str,
    /// When the notification is made.
    pub at: SystemTime,
    /// When the message arrived here.
    pub arrival: SystemTime,
    /// ENVID as given, in xtext (RFC 3461 §4.4); empty if none.
    pub envid: &'a str,
    /// The message was sent with SMTPUTF8, so its sender can take such mail.
    pub smtputf8: bool,
    /// The message.
    pub original: &'a [u8],
    /// How much of it comes back. The header only, in place of all, for notifications that report no failure
    /// (RFC 3461 §6.2 (g)).
    pub ret: Return,
    /// The recipients that it is about; at least one.
    pub recipients: Vec<Recipient<'a>>,
}

/// Writes the whole notification, with its header. It is to be sent with the null reverse-path.
#[must_use]
pub fn compose(dsn: &Dsn<'_>) -> Vec<u8> {
    let worst = dsn.recipients.iter().map(|r| r.action).find(|a| *a == Action::Failed);
    let action = worst
        .or_else(|| dsn.recipients.first().map(|r| r.action))
        .unwrap_or(Action::Failed);
    let summary = crate::HeaderSummary::of(dsn.original);
    let subject = if summary.subject.is_empty() {
        action.subject().to_owned()
    } else {
        format!("{}: {}", action.subject(), summary.subject)
    };
    let mut header = Header::new(dsn.smtputf8);
    header
        .field("Date", &compose::date(dsn.at))
        .field("Message-ID", &compose::message_id(dsn.hostname))
        .addresses(
            "From",
            &[("Mail Delivery System", &format!("postmaster@{}", dsn.hostname))],
        )
        .addresses("To", &[("", dsn.to)])
        .text("Subject", &subject);
    if let Some(id) = summary.message_id.as_deref().filter(|id| dsn.smtputf8 || id.is_ascii()) {
        // As written: the canonical form has lost its case.
        let raw = crate::headers(dsn.original)
            .find(|f| f.is("message-id"))
            .map(|f| f.text());
        let raw = raw
            .filter(|raw| raw.starts_with('<') && raw.len() < 900)
            .unwrap_or_else(|| format!("<{id}>"));
        header.field("In-Reply-To", &raw).field("References", &raw);
    }
    // RFC 3834 §5, and what stops others from answering.
    header.field(
        "Auto-Submitted",
        if action == Action::Failed {
            "auto-replied"
        } else {
            "auto-generated"
        },
    );
    let parts = vec![
        Part::text(&explanation(dsn, action, &summary.subject)),
        status(dsn),
        original(dsn, action),
    ];
    header.message(&Part::multipart("report", "report-type=delivery-status", parts))
}

fn explanation(dsn: &Dsn<'_>, action: Action, subject: &str) -> String {
    let mut text = match action {
        Action::Failed => {
            "Your message could not be delivered to one or more recipients, and will not be tried again.\n"
        }
        Action::Delayed => {
            "Your message could not be delivered yet. It will be tried again; you need not do anything.\n"
        }
        Action::Delivered => "Your message was delivered.\n",
        Action::Relayed => "Your message was handed to a mail server that does not confirm delivery.\n",
        Action::Expanded => "Your message was handed to the members of a list.\n",
    }
    .to_owned();
    let _ = write!(text, "\nSubject: {subject}\nReceived: {}\n", compose::date(dsn.arrival));
    for r in &dsn.recipients {
        let _ = write!(
            text,
            "\nRecipient: {}\nOutcome: {} ({})\n",
            r.address,
            r.action.name(),
            r.status
        );
        if !r.remote_mta.is_empty() {
            let _ = writeln!(text, "Mail server: {}", r.remote_mta);
        }
        if !r.diagnostic.is_empty() {
            let what = if r.is_smtp_reply { "It answered" } else { "Error" };
            let _ = writeln!(text, "{what}: {}", r.diagnostic.trim().replace('\n', "\n    "));
        }
        if let Some(until) = r.retry_until {
            let _ = writeln!(text, "Will be tried until: {}", compose::date(until));
        }
    }
    let _ = write!(text, "\n{}\n", dsn.hostname);
    text
}

/// message/delivery-status (RFC 3464 §2), or message/global-delivery-status (RFC 6533 §4.2).
fn status(dsn: &Dsn<'_>) -> Part {
    let mut groups = Header::new(dsn.smtputf8);
    groups.field("Reporting-MTA", &format!("dns; {}", dsn.hostname));
    if !dsn.envid.is_empty() {
        groups.field("Original-Envelope-Id", &unxtext(dsn.envid));
    }
    groups.field("Arrival-Date", &compose::date(dsn.arrival));
    let mut out = groups.as_bytes().to_vec();
    for r in &dsn.recipients {
        let mut group = Header::new(dsn.smtputf8);
        if let Some((kind, address)) = r.orcpt.split_once(';') {
            let address = address_of(&unxtext(address), kind, dsn.smtputf8);
            group.field("Original-Recipient", &address);
        }
        group
            .field("Final-Recipient", &address_of(r.address, "rfc822", dsn.smtputf8))
            .field("Action", r.action.name())
            .field("Status", if r.status.is_empty() { "5.0.0" } else { r.status });
        if !r.remote_mta.is_empty() {
            group.field("Remote-MTA", &format!("dns; {}", r.remote_mta));
        }
        if !r.diagnostic.is_empty() {
            let kind = if r.is_smtp_reply { "smtp" } else { "x-mox" };
            let text: String = r
                .diagnostic
                .chars()
                .map(|c| if dsn.smtputf8 || c.is_ascii() { c } else { '?' })
                .collect();
            group.field("Diagnostic-Code", &format!("{kind}; {text}"));
        }
        if let Some(at) = r.last_attempt {
            group.field("Last-Attempt-Date", &compose::date(at));
        }
        if let Some(at) = r.retry_until {
            group.field("Will-Retry-Until", &compose::date(at));
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(group.as_bytes());
    }
    if is_eight_bit(&out) {
        Part::encoded("message/global-delivery-status", "8bit", out)
    } else {
        Part::encoded("message/delivery-status", "7bit", out)
    }
}

/// An address with its type. RFC 6533 §3: "utf-8" where it is not ASCII; in an ASCII report, with escapes.
fn address_of(address: &str, kind: &str, smtputf8: bool) -> String {
    if address.is_ascii() {
        return format!("{kind}; {address}");
    }
    if smtputf8 {
        return format!("utf-8; {address}");
    }
    let mut escaped = String::new();
    for c in address.chars() {
        if c.is_ascii_graphic() && !"+=\\".contains(c) {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "\\x{{{:X}}}", u32::from(c));
        }
    }
    format!("utf-8; {escaped}")
}

/// RFC 3461 §4: `+XX` for what may not stand as it is. RFC 6533 §3: `\x{XX}` in utf-8-addr-xtext.
fn unxtext(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'+', [a, b, after @ ..]) = (first, tail)
            && a.is_ascii_hexdigit()
            && b.is_ascii_hexdigit()
        {
            out.push(crate::transfer::hex(*a) << 4 | crate::transfer::hex(*b));
            rest = after;
        } else if let (b'\\', Some((c, after))) = (first, embedded(tail)) {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            out.push(*first);
        }
    }
    String::from_utf8_lossy(&out)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// `x{XX}` with up to six hexadecimal digits.
fn embedded(text: &[u8]) -> Option<(char, &[u8])> {
    let digits = text.strip_prefix(b"x{")?;
    let end = digits.iter().take(7).position(|b| *b == b'}')?;
    let number = u32::from_str_radix(std::str::from_utf8(&digits[..end]).ok()?, 16).ok()?;
    Some((char::from_u32(number)?, &digits[end + 1..]))
}

fn original(dsn: &Dsn<'_>, action: Action) -> Part {
    let full = dsn.ret == Return::Full && action == Action::Failed;
    let end = header_end(dsn.original);
    let content = if full { dsn.original } else { &dsn.original[..end] };
    let content = crate::to_crlf(content);
    // RFC 6532 §3.7: a header with UTF-8 needs the "global" types, a body with 8 bits does not.
    let is_global = is_eight_bit(&content[..end.min(content.len())]);
    let encoding = if has_long_line(&content) {
        "binary"
    } else if is_eight_bit(&content) {
        "8bit"
    } else {
        "7bit"
    };
    let content_type = match (full, is_global) {
        (true, false) => "message/rfc822",
        (true, true) => "message/global",
        (false, false) => "text/rfc822-headers",
        (false, true) => "message/global-headers",
    };
    Part::encoded(content_type, encoding, content.into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{HeaderSummary, computed, decode_part};

    fn recipient(address: &'static str, action: Action) -> Recipient<'static> {
        Recipient {
            address,
            orcpt: "rfc822;o+2Bx@y.z",
            action,
            status: "5.1.1",
            remote_mta: "mx.example",
            diagnostic: "550-5.1.1 no\n550 5.1.1 such user",
            is_smtp_reply: true,
            last_attempt: Some(UNIX_EPOCH),
            retry_until: None,
        }
    }

    fn dsn(recipients: Vec<Recipient<'_>>) -> Dsn<'_> {
        Dsn {
            hostname: "mail.example",
            to: "sender@example.org",
            at: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            arrival: UNIX_EPOCH,
            envid: "id+3D1",
            smtputf8: false,
            original: b"Subject: Gr=\r\nMessage-ID: <A@b>\r\n\r\nbody\r\n",
            ret: Return::Full,
            recipients,
        }
    }

    #[test]
    fn a_failure_is_reported_with_the_message() {
        let m = compose(&dsn(vec![recipient("x@y.z", Action::Failed)]));
        let s = HeaderSummary::of(&m);
        assert!(s.is_dsn);
        assert_eq!(s.subject, "Mail could not be delivered: Gr=");
        assert_eq!(s.in_reply_to, ["a@b"]);
        let root = computed(&m).structure.unwrap();
        assert_eq!(root.parts.len(), 3);
        assert!(decode_part(&m, &root.parts[0]).contains("Recipient: x@y.z\r\nOutcome: failed (5.1.1)\r\n"));
        assert_eq!(root.parts[1].media_subtype, "delivery-status");
        let status = decode_part(&m, &root.parts[1]);
        assert!(
            status.starts_with(
                "Reporting-MTA: dns; mail.example\r\nOriginal-Envelope-Id: id=1\r\n\
             Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\nOriginal-Recipient: rfc822; o+x@y.z\r\n\
             Final-Recipient: rfc822; x@y.z\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example\r\n\
             Diagnostic-Code: smtp; 550-5.1.1 no 550 5.1.1 such user\r\n"
            ),
            "{status}"
        );
        assert_eq!(
            root.parts[2].envelope.as_ref().unwrap().message_id.as_deref(),
            Some(&b"<A@b>"[..])
        );
        assert!(m.is_ascii());
    }

    #[test]
    fn a_delay_brings_the_header_only() {
        let m = compose(&dsn(vec![recipient("x@y.z", Action::Delayed)]));
        let root = computed(&m).structure.unwrap();
        let part = &root.parts[2];
        assert_eq!(
            (part.media_type.as_str(), part.media_subtype.as_str()),
            ("text", "rfc822-headers")
        );
        assert!(!decode_part(&m, part).contains("body"));
        assert!(decode_part(&m, &root.parts[1]).contains("Action: delayed"));
    }

    #[test]
    fn international_addresses_use_the_global_types_or_escapes() {
        let mut d = dsn(vec![recipient("jörg@y.z", Action::Failed)]);
        let m = compose(&d);
        assert!(m.is_ascii() || computed(&m).structure.is_some());
        let text = decode_part(&m, &computed(&m).structure.unwrap().parts[1]);
        assert!(text.contains("Final-Recipient: utf-8; j\\x{F6}rg@y.z"), "{text}");
        d.smtputf8 = true;
        d.original = "Subject: Grün\r\n\r\nbödy".as_bytes();
        d.recipients[0].orcpt = "utf-8;j\\x{F6}rg@y.z";
        let m = compose(&d);
        let root = computed(&m).structure.unwrap();
        assert_eq!(root.parts[1].media_subtype, "global-delivery-status");
        assert!(decode_part(&m, &root.parts[1]).contains("Original-Recipient: utf-8; jörg@y.z"));
        assert_eq!(
            (root.parts[2].media_subtype.as_str(), root.parts[2].encoding.as_str()),
            ("global", "8BIT")
        );
        d.ret = Return::Headers;
        let m = compose(&d);
        assert_eq!(computed(&m).structure.unwrap().parts[2].media_subtype, "global-headers");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_peers_say_breaks_the_report(orcpt in ".{0,30}", diagnostic in "[a\r\n:-]{0,40}", envid in ".{0,20}") {
            let mut r = recipient("x@y.z", Action::Failed);
            (r.orcpt, r.diagnostic) = (&orcpt, &diagnostic);
            let mut d = dsn(vec![r]);
            d.envid = &envid;
            let m = compose(&d);
            let root = computed(&m).structure.unwrap();
            proptest::prop_assert_eq!(root.parts.len(), 3);
            let status = decode_part(&m, &root.parts[1]);
            proptest::prop_assert_eq!(status.matches("\r\n\r\n").count(), 1);
            proptest::prop_assert_eq!(status.matches("\r\nAction:").count(), 1);
        }
    }
}
