//! The answer for one message, as far as it needs no contents.

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::datetime::DateTime;
use mox_imap_proto::write::{put_number, put_string};
use mox_proto::mail::v1::{Computed, Flag, KeywordSet, Message};
use prost::Message as _;

use crate::enabled::Enabled;
use crate::fetch::plan::Item;
use crate::fetch::{envelope, raw, structure};
use crate::names;
use crate::notices;
use crate::rows::Row;

/// What is known of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub uid: u32,
    pub flags: FlagSet<'a>,
    pub size: u64,
    pub received: i64,
    pub modseq: u64,
    pub computed: Option<&'a Computed>,
    /// What else the store said, if that was asked.
    pub message: Option<&'a Message>,
    /// In place of `computed`: as the store keeps it.
    pub encoded: Option<&'a [u8]>,
}

/// Flags; keywords as those of a page's set, or as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlagSet<'a> {
    pub bits: u32,
    /// Number of the page's keyword set, or 0 if there is no page.
    set: u32,
    keywords: &'a [String],
}

impl<'a> Facts<'a> {
    pub(crate) fn of_row(row: &Row<'a>) -> Self {
        let flags = FlagSet {
            bits: row.bits,
            set: row.keyword_set,
            keywords: row.keywords,
        };
        Self {
            uid: row.uid,
            flags,
            size: row.size,
            received: row.received,
            modseq: row.modseq,
            computed: None,
            message: None,
            encoded: None,
        }
    }

    pub(crate) fn of_message(message: &'a Message) -> Self {
        let flags = message.flags.as_ref();
        let keywords = flags.map_or(&[][..], |f| &f.keywords);
        Self {
            uid: message.uid,
            flags: FlagSet {
                bits: flags.map_or(0, |f| f.bits),
                set: 0,
                keywords,
            },
            size: message.size,
            received: message.received,
            modseq: message.modseq,
            computed: message.computed.as_ref(),
            message: Some(message),
            encoded: None,
        }
    }

    pub(crate) fn is_seen(&self) -> bool {
        self.flags.bits & Flag::Seen as u32 != 0
    }

    pub(crate) fn set_seen(&mut self) {
        self.flags.bits |= Flag::Seen as u32;
    }
}

/// Writes flags; most messages of a page have the same ones as the message before, so their text is kept.
#[derive(Debug, Default)]
pub(crate) struct FlagWriter {
    last: Option<(u32, u32)>,
    text: Vec<u8>,
    /// What the client enabled: how everything else is written.
    pub enabled: Enabled,
}

impl FlagWriter {
    pub(crate) fn new(enabled: Enabled) -> Self {
        Self {
            enabled,
            ..Self::default()
        }
    }

    /// Must be told of a new page, whose keyword sets are others.
    pub(crate) fn new_page(&mut self, _sets: &[KeywordSet]) {
        self.last = None;
    }

    #[inline]
    pub(crate) fn write(&mut self, flags: &FlagSet<'_>, out: &mut BytesMut) {
        let key = (flags.bits, flags.set);
        // Keywords without a set have no number to be recognized by.
        let known = self.last == Some(key) && (flags.set != 0 || flags.keywords.is_empty());
        if !known {
            self.text.clear();
            names::write_flags(flags.bits, flags.keywords, &mut self.text);
            self.last = (flags.set != 0 || flags.keywords.is_empty()).then_some(key);
        }
        out.put_slice(&self.text);
    }
}

/// Writes an item other than a section.
#[inline]
pub(crate) fn item(item: &Item, facts: &Facts<'_>, flags: &mut FlagWriter, out: &mut BytesMut) {
    match item {
        Item::Uid => {
            out.put_slice(b"UID ");
            put_number(out, u64::from(facts.uid));
        }
        Item::Flags => {
            out.put_slice(b"FLAGS ");
            flags.write(&facts.flags, out);
        }
        Item::InternalDate => {
            out.put_slice(b"INTERNALDATE ");
            DateTime(facts.received).write(out);
        }
        Item::Size => {
            out.put_slice(b"RFC822.SIZE ");
            put_number(out, facts.size);
        }
        Item::Envelope => {
            out.put_slice(b"ENVELOPE ");
            let utf8 = flags.enabled.utf8_strings();
            let values = |computed: Option<&Computed>, out: &mut BytesMut| {
                envelope::write(computed.and_then(|c| c.envelope.as_ref()), utf8, out);
            };
            match facts.encoded {
                Some(encoded) => from_encoded(encoded, out, |raw, out| raw.write_envelope(utf8, out), values),
                None => values(facts.computed, out),
            }
        }
        Item::Body => {
            out.put_slice(b"BODY ");
            write_structure(facts, false, flags.enabled.utf8_strings(), out);
        }
        Item::BodyStructure => {
            out.put_slice(b"BODYSTRUCTURE ");
            write_structure(facts, true, flags.enabled.utf8_strings(), out);
        }
        Item::ModSeq => notices::modseq(facts.modseq, out),
        Item::Preview => {
            out.put_slice(b"PREVIEW ");
            // RFC 8970 §3.2: a message of which nothing can be shown has an empty one; NIL would say that it is not
            // known yet.
            let preview = facts.computed.and_then(|c| c.preview.as_deref()).unwrap_or_default();
            put_string(out, preview.as_bytes(), flags.enabled.utf8_strings());
        }
        Item::SaveDate => {
            out.put_slice(b"SAVEDATE ");
            // RFC 8514 §4.2.
            match facts.message.map_or(0, |m| m.saved) {
                0 => out.put_slice(b"NIL"),
                saved => DateTime(saved).write(out),
            }
        }
        Item::EmailId => object_id("EMAILID", names::EMAIL_ID, facts.message.map(|m| &m.email_id), out),
        Item::ThreadId => object_id("THREADID", names::THREAD_ID, facts.message.map(|m| &m.thread_id), out),
        Item::Section(_) | Item::Binary(_) => {}
    }
}

/// `EMAILID (M0123)`, or NIL if there is none (RFC 8474 §5).
fn object_id(name: &str, prefix: char, id: Option<&Bytes>, out: &mut BytesMut) {
    out.put_slice(name.as_bytes());
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        out.put_slice(b" NIL");
        return;
    };
    out.put_slice(b" (");
    out.put_slice(names::object_id(prefix, id).as_bytes());
    out.put_u8(b')');
}

fn write_structure(facts: &Facts<'_>, extended: bool, utf8: bool, out: &mut BytesMut) {
    let values = |computed: Option<&Computed>, out: &mut BytesMut| {
        structure::write(computed.and_then(|c| c.structure.as_ref()), extended, utf8, out);
    };
    let write = |raw: &raw::Computed<'_>, out: &mut BytesMut| raw.write_structure(extended, utf8, out);
    match facts.encoded {
        Some(encoded) => from_encoded(encoded, out, write, values),
        None => values(facts.computed, out),
    }
}

/// Writes from what is encoded; if that is not as the store writes it, by way of values.
fn from_encoded(
    encoded: &[u8],
    out: &mut BytesMut,
    write: impl FnOnce(&raw::Computed<'_>, &mut BytesMut) -> Result<(), raw::Unusual>,
    values: impl FnOnce(Option<&Computed>, &mut BytesMut),
) {
    let start = out.len();
    if raw::Computed::new(encoded).and_then(|raw| write(&raw, out)).is_err() {
        out.truncate(start);
        values(Computed::decode(encoded).ok().as_ref(), out);
    }
}

/// Writes the answer for a message whose items need no contents.
#[inline]
pub(crate) fn message(items: &[Item], number: u32, facts: &Facts<'_>, flags: &mut FlagWriter, out: &mut BytesMut) {
    notices::begin(number, facts.uid, flags.enabled, out);
    for (i, one) in items.iter().enumerate() {
        if i > 0 {
            out.put_u8(b' ');
        }
        item(one, facts, flags, out);
    }
    out.put_slice(b")\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;
    use mox_proto::mail::v1::Rows;

    #[test]
    fn rows_are_written() {
        let rows = Rows {
            uid_delta: vec![5, 1, 1, 1],
            flags: vec![1, 1, 0, 9],
            keyword_set: vec![0, 1, 1, 0],
            keyword_sets: vec![KeywordSet {
                keywords: vec!["work".into()],
            }],
            size: vec![1, 22, 333, 0],
            received: vec![0; 4],
            ..Default::default()
        };
        let mut out = BytesMut::new();
        let mut flags = FlagWriter::default();
        flags.new_page(&rows.keyword_sets);
        for (number, row) in (1..).zip(rows::iter(&rows)) {
            message(
                &[Item::Uid, Item::Flags, Item::Size],
                number,
                &Facts::of_row(&row),
                &mut flags,
                &mut out,
            );
        }
        let want = "* 1 FETCH (UID 5 FLAGS (\\Seen) RFC822.SIZE 1)\r\n\
            * 2 FETCH (UID 6 FLAGS (\\Seen work) RFC822.SIZE 22)\r\n\
            * 3 FETCH (UID 7 FLAGS (work) RFC822.SIZE 333)\r\n\
            * 4 FETCH (UID 8 FLAGS (\\Seen \\Deleted) RFC822.SIZE 0)\r\n";
        assert_eq!(out, want.as_bytes());
    }
}
