//! ENVELOPE (RFC 9051 §7.5.2).

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::write::put_nstring;
use mox_proto::mail::v1::{Envelope, EnvelopeAddress};

/// Writes an envelope; one that is not known has nothing.
pub(super) fn write(envelope: Option<&Envelope>, out: &mut BytesMut) {
    let nothing = Envelope::default();
    let e = envelope.unwrap_or(&nothing);
    out.put_u8(b'(');
    string(e.date.as_ref(), out);
    out.put_u8(b' ');
    string(e.subject.as_ref(), out);
    for addresses in [&e.from, &e.sender, &e.reply_to, &e.to, &e.cc, &e.bcc] {
        out.put_u8(b' ');
        list(addresses, out);
    }
    out.put_u8(b' ');
    string(e.in_reply_to.as_ref(), out);
    out.put_u8(b' ');
    string(e.message_id.as_ref(), out);
    out.put_u8(b')');
}

pub(super) fn string(value: Option<&Bytes>, out: &mut BytesMut) {
    put_nstring(out, value.map(Bytes::as_ref), false);
}

fn list(addresses: &[EnvelopeAddress], out: &mut BytesMut) {
    if addresses.is_empty() {
        out.put_slice(b"NIL");
        return;
    }
    out.put_u8(b'(');
    for address in addresses {
        out.put_u8(b'(');
        string(address.name.as_ref(), out);
        out.put_u8(b' ');
        string(address.adl.as_ref(), out);
        out.put_u8(b' ');
        string(address.mailbox.as_ref(), out);
        out.put_u8(b' ');
        string(address.host.as_ref(), out);
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
        write(None, &mut out);
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
        write(Some(&envelope), &mut out);
        let want = r#"(NIL "Hi" NIL NIL NIL (("A \"B\"" NIL "a" "b.example")) NIL NIL NIL "<1@x>")"#;
        assert_eq!(out, want);
    }
}
