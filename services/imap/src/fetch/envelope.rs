//! ENVELOPE (RFC 9051 §7.5.2).

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::write::put_nstring;
use mox_proto::mail::v1::{Envelope, EnvelopeAddress};

/// Writes an envelope; one that is not known has nothing.
pub(super) fn write(envelope: Option<&Envelope>, utf8: bool, out: &mut BytesMut) {
    let nothing = Envelope::default();
    let e = envelope.unwrap_or(&nothing);
    out.put_u8(b'(');
    string(e.date.as_ref(), utf8, out);
    out.put_u8(b' ');
    string(e.subject.as_ref(), utf8, out);
    for addresses in [&e.from, &e.sender, &e.reply_to, &e.to, &e.cc, &e.bcc] {
        out.put_u8(b' ');
        list(addresses, utf8, out);
    }
    out.put_u8(b' ');
    string(e.in_reply_to.as_ref(), utf8, out);
    out.put_u8(b' ');
    string(e.message_id.as_ref(), utf8, out);
    out.put_u8(b')');
}

/// `utf8` says that quoted strings may be UTF-8.
pub(super) fn string(value: Option<&Bytes>, utf8: bool, out: &mut BytesMut) {
    put_nstring(out, value.map(Bytes::as_ref), utf8);
}

fn list(addresses: &[EnvelopeAddress], utf8: bool, out: &mut BytesMut) {
    if addresses.is_empty() {
        out.put_slice(b"NIL");
        return;
    }
    out.put_u8(b'(');
    for address in addresses {
        out.put_u8(b'(');
        string(address.name.as_ref(), utf8, out);
        out.put_u8(b' ');
        string(address.adl.as_ref(), utf8, out);
        out.put_u8(b' ');
        string(address.mailbox.as_ref(), utf8, out);
        out.put_u8(b' ');
        string(address.host.as_ref(), utf8, out);
        out.put_u8(b')');
    }
    out.put_u8(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_nil() {
        let mut out = BytesMut::new();
        write(None, false, &mut out);
        assert_eq!(out, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
        out.clear();
        let b = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
        let address = EnvelopeAddress {
            name: b("A \"B\""),
            adl: None,
            mailbox: b("a"),
            host: b("b.example"),
        };
        let envelope = Envelope {
            subject: b("Hi"),
            to: vec![address],
            message_id: b("<1@x>"),
            ..Default::default()
        };
        write(Some(&envelope), false, &mut out);
        let want = r#"(NIL "Hi" NIL NIL NIL (("A \"B\"" NIL "a" "b.example")) NIL NIL NIL "<1@x>")"#;
        assert_eq!(out, want);
    }
}
