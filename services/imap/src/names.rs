//! Mailbox names on their way in and out, and flags.

use bytes::BufMut;
use mox_imap_proto::cursor::Names;
use mox_imap_proto::flags::Flag;
use mox_imap_proto::mailbox;
use mox_proto::mail::v1::{Flag as Bit, Flags};

/// The store's name of the inbox; clients call it INBOX.
const INBOX: &str = "Inbox";

/// As clients see it: the inbox in capitals, also where it is a parent.
pub(crate) fn shown(name: &str) -> String {
    match name.strip_prefix(INBOX) {
        Some(rest) if rest.is_empty() || rest.starts_with(mailbox::SEPARATOR) => format!("INBOX{rest}"),
        _ => name.to_owned(),
    }
}

/// As the store knows it: a first level that is the inbox in any case is its name.
pub(crate) fn kept(name: &str) -> String {
    let (first, rest) = name.find(mailbox::SEPARATOR).map_or((name, ""), |i| name.split_at(i));
    if mailbox::is_inbox(first) {
        format!("{INBOX}{rest}")
    } else {
        name.to_owned()
    }
}

/// The identifier of a mailbox (RFC 8474 §4): of its id, which it keeps when it is renamed.
pub(crate) fn mailbox_id(id: &[u8]) -> String {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    format!("F{hex}")
}

/// Writes the name of a mailbox of the store.
pub(crate) fn write(name: &str, names: Names, out: &mut impl BufMut) {
    mailbox::write(&shown(name), names, out);
}

/// Before the digits of identifiers of messages (RFC 8474 §3: they must not be taken for each other).
pub(crate) const EMAIL_ID: char = 'M';
/// Before the digits of identifiers of threads.
pub(crate) const THREAD_ID: char = 'T';

/// An identifier as clients see it: a letter, and its octets in hexadecimal (RFC 8474 §7).
pub(crate) fn object_id(prefix: char, id: &[u8]) -> String {
    let mut out = String::with_capacity(1 + 2 * id.len());
    out.push(prefix);
    for octet in id {
        out.push_str(&format!("{octet:02x}"));
    }
    out
}

/// The flags with a bit of their own, in the order they are told.
pub(crate) const BITS: [(Bit, &str); 11] = [
    (Bit::Seen, "\\Seen"),
    (Bit::Answered, "\\Answered"),
    (Bit::Flagged, "\\Flagged"),
    (Bit::Deleted, "\\Deleted"),
    (Bit::Draft, "\\Draft"),
    (Bit::Forwarded, "$Forwarded"),
    (Bit::Junk, "$Junk"),
    (Bit::Notjunk, "$NotJunk"),
    (Bit::Phishing, "$Phishing"),
    (Bit::Mdnsent, "$MDNSent"),
    (Bit::Important, "$Important"),
];

/// The bit of a flag, if it has one.
pub(crate) fn bit(flag: &Flag) -> Option<u32> {
    BITS.iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(flag.as_str()))
        .map(|(bit, _)| *bit as u32)
}

/// Flags as the store takes them: keywords in lower case, sorted, once each.
pub(crate) fn flags(given: &[Flag]) -> Flags {
    let mut out = Flags::default();
    for flag in given {
        match bit(flag) {
            Some(bit) => out.bits |= bit,
            None => out.keywords.push(flag.as_str().to_ascii_lowercase()),
        }
    }
    out.keywords.sort_unstable();
    out.keywords.dedup();
    out
}

/// Writes a list of flags in parentheses.
pub(crate) fn write_flags(bits: u32, keywords: &[String], out: &mut impl BufMut) {
    out.put_u8(b'(');
    let system = BITS
        .iter()
        .filter(|(bit, _)| bits & *bit as u32 != 0)
        .map(|(_, name)| *name);
    for (i, name) in system.chain(keywords.iter().map(String::as_str)).enumerate() {
        if i > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(name.as_bytes());
    }
    out.put_u8(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_has_one_name() {
        for (given, store, client) in [
            ("inbox", "Inbox", "INBOX"),
            ("INBOX/a", "Inbox/a", "INBOX/a"),
            ("Inboxes", "Inboxes", "Inboxes"),
            ("a/INBOX", "a/INBOX", "a/INBOX"),
        ] {
            assert_eq!(kept(given), store);
            assert_eq!(shown(store), client);
        }
    }

    #[test]
    fn flags_have_bits_or_are_keywords() {
        let given = [
            Flag::Seen,
            Flag::Keyword("Work".into()),
            Flag::Keyword("$junk".into()),
            Flag::Keyword("work".into()),
        ];
        let got = flags(&given);
        assert_eq!(got.bits, Bit::Seen as u32 | Bit::Junk as u32);
        assert_eq!(got.keywords, ["work"]);
        let mut out = Vec::new();
        write_flags(got.bits, &got.keywords, &mut out);
        assert_eq!(out, b"(\\Seen $Junk work)");
    }
}
