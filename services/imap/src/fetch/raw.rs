//! ENVELOPE, BODY and BODYSTRUCTURE from what the store computed, as it comes: encoded.
//!
//! A client that opens a large mailbox asks for these of every message. Decoding them into values would cost several
//! times what writing them does, so they are read where they lie, in the order in which they are written. What is
//! written is that of [`super::envelope`] and [`super::structure`], which a test holds it to. Fields that are out of the
//! order in which the store writes them are left to those two.

use bytes::{BufMut, BytesMut};
use mox_imap_proto::write::{put_nstring, put_number, put_string};

/// As in [`super::structure`].
const DEPTH: usize = 200;

/// The encoding is not what the store writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unusual;

/// Fields of a protobuf message, one after the other.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

/// A field's value: those that messages here have.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Unusual> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Unusual)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Unusual)
    }

    /// The next field, with its number.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Unusual> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Unusual)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Unusual)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return Err(Unusual),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// Where an encoded `Computed` has what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Computed<'a> {
    envelope: Option<&'a [u8]>,
    structure: Option<&'a [u8]>,
}

impl<'a> Computed<'a> {
    pub(crate) fn new(encoded: &'a [u8]) -> Result<Self, Unusual> {
        let mut found = Self::default();
        let mut fields = Fields(encoded);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) if found.envelope.is_none() => found.envelope = Some(bytes),
                (2, Value::Bytes(bytes)) if found.structure.is_none() => found.structure = Some(bytes),
                (1 | 2, _) => return Err(Unusual),
                _ => {}
            }
        }
        Ok(found)
    }

    /// ENVELOPE's value.
    pub(crate) fn write_envelope(&self, utf8: bool, out: &mut BytesMut) -> Result<(), Unusual> {
        envelope(self.envelope.unwrap_or_default(), utf8, out)
    }

    /// BODYSTRUCTURE's value, or BODY's.
    pub(crate) fn write_structure(&self, extended: bool, utf8: bool, out: &mut BytesMut) -> Result<(), Unusual> {
        let structure = self.structure.ok_or(Unusual)?;
        Writer { extended, utf8, out }.body(structure, 0)
    }
}

/// The fields of an envelope are numbered in the order in which ENVELOPE has them.
fn envelope(encoded: &[u8], utf8: bool, out: &mut BytesMut) -> Result<(), Unusual> {
    const LAST: u64 = 10;
    let is_list = |number| (3..=8).contains(&number);
    let mut fields = Fields(encoded);
    // What was written last; a list is open while its addresses come.
    let mut at = 0;
    out.put_u8(b'(');
    loop {
        let next = fields.next()?;
        let number = next.as_ref().map_or(LAST + 1, |(number, _)| *number);
        if number == at && is_list(at) {
            // One more of the list.
        } else if number > at {
            if is_list(at) {
                out.put_u8(b')');
            }
            for absent in at + 1..number.min(LAST + 1) {
                out.put_slice(if absent == 1 { b"NIL" } else { b" NIL" });
            }
            if number > LAST {
                break;
            }
            if number > 1 {
                out.put_u8(b' ');
            }
            if is_list(number) {
                out.put_u8(b'(');
            }
            at = number;
        } else {
            return Err(Unusual);
        }
        match next {
            Some((number, Value::Bytes(bytes))) if is_list(number) => address(bytes, utf8, out)?,
            Some((_, Value::Bytes(bytes))) => put_string(out, bytes, utf8),
            _ => return Err(Unusual),
        }
    }
    out.put_u8(b')');
    Ok(())
}

fn address(encoded: &[u8], utf8: bool, out: &mut BytesMut) -> Result<(), Unusual> {
    let mut parts = [None; 4];
    let mut fields = Fields(encoded);
    while let Some((number, value)) = fields.next()? {
        if let (1..=4, Value::Bytes(bytes)) = (number, value) {
            parts[number as usize - 1] = Some(bytes);
        }
    }
    for (i, part) in parts.into_iter().enumerate() {
        out.put_u8(if i == 0 { b'(' } else { b' ' });
        put_nstring(out, part, utf8);
    }
    out.put_u8(b')');
    Ok(())
}

/// What a part has once. What it has several of is looked for when it is written.
#[derive(Clone, Copy, Default)]
struct Part<'a> {
    media: &'a [u8],
    subtype: &'a [u8],
    content_id: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    encoding: &'a [u8],
    lines: u64,
    md5: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
    body_offset: u64,
    end_offset: u64,
    envelope: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
    /// Whether there are inner parts, parameters, parameters of the disposition, languages.
    has: [bool; 4],
    all: &'a [u8],
}

const PARAMETERS: u64 = 3;
const DISPOSITION_PARAMETERS: u64 = 10;
const LANGUAGES: u64 = 11;
const PARTS: u64 = 16;

impl<'a> Part<'a> {
    fn new(encoded: &'a [u8]) -> Result<Self, Unusual> {
        let mut part = Self {
            all: encoded,
            ..Self::default()
        };
        let mut fields = Fields(encoded);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => part.media = bytes,
                (2, Value::Bytes(bytes)) => part.subtype = bytes,
                (PARAMETERS, _) => part.has[1] = true,
                (4, Value::Bytes(bytes)) => part.content_id = Some(bytes),
                (5, Value::Bytes(bytes)) => part.description = Some(bytes),
                (6, Value::Bytes(bytes)) => part.encoding = bytes,
                (7, Value::Number(n)) => part.lines = n,
                (8, Value::Bytes(bytes)) => part.md5 = Some(bytes),
                (9, Value::Bytes(bytes)) => part.disposition = Some(bytes),
                (DISPOSITION_PARAMETERS, _) => part.has[2] = true,
                (LANGUAGES, _) => part.has[3] = true,
                (12, Value::Bytes(bytes)) => part.location = Some(bytes),
                (14, Value::Number(n)) => part.body_offset = n,
                (15, Value::Number(n)) => part.end_offset = n,
                (PARTS, _) => part.has[0] = true,
                (17, Value::Bytes(bytes)) => part.envelope = Some(bytes),
                (18, Value::Bytes(bytes)) => part.message = Some(bytes),
                _ => {}
            }
        }
        Ok(part)
    }

    /// The values of a field that may be there several times.
    fn each(&self, wanted: u64) -> impl Iterator<Item = Result<&'a [u8], Unusual>> + use<'a> {
        let mut fields = Fields(self.all);
        std::iter::from_fn(move || {
            loop {
                match fields.next() {
                    Ok(Some((number, Value::Bytes(bytes)))) if number == wanted => return Some(Ok(bytes)),
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => {
                        fields.0 = &[];
                        return Some(Err(error));
                    }
                }
            }
        })
    }
}

struct Writer<'o> {
    extended: bool,
    utf8: bool,
    out: &'o mut BytesMut,
}

impl Writer<'_> {
    fn body(&mut self, encoded: &[u8], depth: usize) -> Result<(), Unusual> {
        let part = Part::new(encoded)?;
        self.out.put_u8(b'(');
        if part.media == b"multipart" && part.has[0] && depth < DEPTH {
            for child in part.each(PARTS) {
                self.body(child?, depth + 1)?;
            }
            self.out.put_u8(b' ');
            self.upper(part.subtype);
            if self.extended {
                self.out.put_u8(b' ');
                self.parameters(&part, PARAMETERS, part.has[1])?;
                self.tail(&part)?;
            }
        } else {
            self.single(&part, depth)?;
        }
        self.out.put_u8(b')');
        Ok(())
    }

    fn single(&mut self, part: &Part<'_>, depth: usize) -> Result<(), Unusual> {
        let empty = part.media == b"multipart";
        let (media, subtype): (&[u8], &[u8]) = if empty {
            (b"text", b"plain")
        } else {
            (part.media, part.subtype)
        };
        self.upper(media);
        self.out.put_u8(b' ');
        self.upper(subtype);
        self.out.put_u8(b' ');
        self.parameters(part, PARAMETERS, part.has[1] && !empty)?;
        self.out.put_u8(b' ');
        put_nstring(self.out, part.content_id, self.utf8);
        self.out.put_u8(b' ');
        put_nstring(self.out, part.description, self.utf8);
        self.out.put_u8(b' ');
        self.upper(if part.encoding.is_empty() {
            b"7BIT"
        } else {
            part.encoding
        });
        self.out.put_u8(b' ');
        put_number(self.out, part.end_offset.saturating_sub(part.body_offset));
        if media == b"message" && (subtype == b"rfc822" || subtype == b"global") {
            self.out.put_u8(b' ');
            envelope(part.envelope.unwrap_or_default(), self.utf8, self.out)?;
            match part.message {
                Some(inner) if depth < DEPTH => {
                    self.out.put_u8(b' ');
                    self.body(inner, depth + 1)?;
                    self.out.put_u8(b' ');
                }
                // The grammar needs a body in any case.
                _ => self.out.put_slice(b" (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 0 0) "),
            }
            put_number(self.out, part.lines);
        } else if media == b"text" {
            self.out.put_u8(b' ');
            put_number(self.out, part.lines);
        }
        if self.extended {
            self.out.put_u8(b' ');
            put_nstring(self.out, part.md5, self.utf8);
            self.tail(part)?;
        }
        Ok(())
    }

    /// Disposition, language and location.
    fn tail(&mut self, part: &Part<'_>) -> Result<(), Unusual> {
        match part.disposition {
            Some(disposition) => {
                self.out.put_slice(b" (");
                self.upper(disposition);
                self.out.put_u8(b' ');
                self.parameters(part, DISPOSITION_PARAMETERS, part.has[2])?;
                self.out.put_u8(b')');
            }
            None => self.out.put_slice(b" NIL"),
        }
        self.out.put_u8(b' ');
        if part.has[3] {
            let several = part.each(LANGUAGES).nth(1).is_some();
            for (i, language) in part.each(LANGUAGES).enumerate() {
                if several {
                    self.out.put_u8(if i == 0 { b'(' } else { b' ' });
                }
                put_string(self.out, language?, false);
            }
            if several {
                self.out.put_u8(b')');
            }
        } else {
            self.out.put_slice(b"NIL");
        }
        self.out.put_u8(b' ');
        put_nstring(self.out, part.location, self.utf8);
        Ok(())
    }

    fn parameters(&mut self, part: &Part<'_>, number: u64, any: bool) -> Result<(), Unusual> {
        if !any {
            self.out.put_slice(b"NIL");
            return Ok(());
        }
        for (i, parameter) in part.each(number).enumerate() {
            let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
            let mut fields = Fields(parameter?);
            while let Some(field) = fields.next()? {
                match field {
                    (1, Value::Bytes(bytes)) => name = bytes,
                    (2, Value::Bytes(bytes)) => value = bytes,
                    _ => {}
                }
            }
            self.out.put_u8(if i == 0 { b'(' } else { b' ' });
            self.upper(name);
            self.out.put_u8(b' ');
            put_string(self.out, value, self.utf8);
        }
        self.out.put_u8(b')');
        Ok(())
    }

    fn upper(&mut self, text: &[u8]) {
        let plain = text.len() <= 64 && text.iter().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
        if !plain {
            put_string(self.out, &text.to_ascii_uppercase(), false);
            return;
        }
        self.out.put_u8(b'"');
        for b in text {
            self.out.put_u8(b.to_ascii_uppercase());
        }
        self.out.put_u8(b'"');
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use mox_proto::mail::v1 as mail;
    use proptest::option;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::fetch::{envelope, structure};

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9]{0,8}",
            "[ -~]{0,12}",
            "\\PC{0,6}",
            "[a\r\n\"\\\\]{0,4}",
            "[a-z]{70}"
        ]
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        text().prop_map(Bytes::from)
    }

    fn addresses() -> impl Strategy<Value = Vec<mail::EnvelopeAddress>> {
        let one = (
            option::of(bytes()),
            option::of(bytes()),
            option::of(bytes()),
            option::of(bytes()),
        );
        let one = one.prop_map(|(name, adl, mailbox, host)| mail::EnvelopeAddress {
            name,
            adl,
            mailbox,
            host,
        });
        prop::collection::vec(one, 0..3)
    }

    prop_compose! {
        fn envelopes()(
            (date, subject, in_reply_to, message_id) in
                (option::of(bytes()), option::of(bytes()), option::of(bytes()), option::of(bytes())),
            (from, sender, reply_to) in (addresses(), addresses(), addresses()),
            (to, cc, bcc) in (addresses(), addresses(), addresses()),
        ) -> mail::Envelope {
            mail::Envelope { date, subject, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id }
        }
    }

    fn parameters() -> impl Strategy<Value = Vec<mail::Parameter>> {
        let one = (text(), bytes()).prop_map(|(name, value)| mail::Parameter { name, value });
        prop::collection::vec(one, 0..3)
    }

    prop_compose! {
        fn leaf()(
            (media_type, media_subtype) in prop_oneof![
                Just(("text", "plain")), Just(("message", "rfc822")), Just(("message", "global")),
                Just(("multipart", "mixed")), Just(("image", "png")), Just(("", ""))],
            parameters_of in parameters(),
            (content_id, description, md5, location) in
                (option::of(bytes()), option::of(bytes()), option::of(bytes()), option::of(bytes())),
            encoding in prop_oneof![Just(""), Just("BASE64"), Just("8bit")],
            (lines, body_offset, end_offset) in (any::<u64>(), 0u64..1000, any::<u64>()),
            (disposition, disposition_parameters) in (option::of(text()), parameters()),
            languages in prop::collection::vec(text(), 0..3),
            envelope in option::of(envelopes().boxed()),
        ) -> mail::Part {
            mail::Part {
                media_type: media_type.into(),
                media_subtype: media_subtype.into(),
                parameters: parameters_of,
                content_id,
                description,
                encoding: encoding.into(),
                lines,
                md5,
                disposition,
                disposition_parameters,
                languages,
                location,
                header_offset: 3,
                body_offset,
                end_offset,
                envelope,
                ..Default::default()
            }
        }
    }

    fn parts() -> BoxedStrategy<mail::Part> {
        leaf()
            .boxed()
            .prop_recursive(2, 6, 2, |inner| {
                let children = prop::collection::vec(inner.clone(), 0..3);
                (leaf().boxed(), children, option::of(inner)).prop_map(|(part, parts, message)| mail::Part {
                    parts,
                    message: message.map(Box::new),
                    ..part
                })
            })
            .boxed()
    }

    fn written(encoded: &[u8], write: impl Fn(&Computed<'_>, &mut BytesMut) -> Result<(), Unusual>) -> Bytes {
        let mut out = BytesMut::new();
        write(&Computed::new(encoded).unwrap(), &mut out).unwrap();
        out.freeze()
    }

    proptest! {
        #[test]
        fn the_same_is_written_as_from_values(envelope in option::of(envelopes().boxed()), part in parts(), utf8: bool) {
            let computed = mail::Computed { envelope, structure: Some(part), preview: Some("p".into()), ..Default::default() };
            let encoded = computed.encode_to_vec();
            let mut expected = BytesMut::new();
            envelope::write(computed.envelope.as_ref(), utf8, &mut expected);
            prop_assert_eq!(written(&encoded, |c, out| c.write_envelope(utf8, out)), expected.split().freeze());
            for extended in [false, true] {
                structure::write(computed.structure.as_ref(), extended, utf8, &mut expected);
                let got = written(&encoded, |c, out| c.write_structure(extended, utf8, out));
                prop_assert_eq!(got, expected.split().freeze());
            }
        }

        #[test]
        fn any_octets_are_read_or_refused(encoded in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = BytesMut::new();
            if let Ok(computed) = Computed::new(&encoded) {
                let _ = computed.write_envelope(false, &mut out);
                let _ = computed.write_structure(true, false, &mut out);
            }
        }
    }
}
