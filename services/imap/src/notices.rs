//! Untagged responses that tell what happened in the selected mailbox, in the forms that the client enabled.

use bytes::{BufMut, BytesMut};
use mox_imap_proto::NumberSet;
use mox_imap_proto::write::put_number;

use crate::enabled::Enabled;
use crate::names;
use crate::view::View;

/// Ranges of one VANISHED response. RFC 9051 §4.3.1's bound on lines is for what clients send; ours are kept short enough
/// for any of them to read.
const VANISHED_RANGES: usize = 1000;

/// `* 12 EXISTS` and its like.
pub(crate) fn numbered(out: &mut BytesMut, number: u32, rest: &[u8]) {
    out.put_slice(b"* ");
    put_number(out, u64::from(number));
    out.put_slice(rest);
}

/// Whether expunged messages are told by UID: RFC 7162 §3.2.10, RFC 9586 §3.
pub(crate) fn tells_vanished(enabled: Enabled) -> bool {
    enabled.qresync || enabled.uidonly
}

/// Tells that messages of the view are gone, and removes them from it.
pub(crate) fn expunged(view: &mut View, gone: &NumberSet, enabled: Enabled, out: &mut BytesMut) {
    if tells_vanished(enabled) {
        let gone = view.known(gone);
        view.remove(&gone, |_| {});
        vanished(&gone, false, out);
    } else {
        view.remove(gone, |number| numbered(out, number, b" EXPUNGE\r\n"));
    }
}

/// `* VANISHED 3:5`, or `* VANISHED (EARLIER) 3:5` for what the client may have heard of before (RFC 7162 §3.2.10).
pub(crate) fn vanished(gone: &NumberSet, earlier: bool, out: &mut BytesMut) {
    for ranges in gone.ranges().chunks(VANISHED_RANGES) {
        out.put_slice(b"* VANISHED ");
        if earlier {
            out.put_slice(b"(EARLIER) ");
        }
        NumberSet::from_ranges(ranges.iter().copied()).write(out);
        out.put_slice(b"\r\n");
    }
}

/// The flags of a message as they are told to a client that did not ask.
pub(crate) struct Flags<'a> {
    pub uid: u32,
    pub bits: u32,
    pub keywords: &'a [String],
    pub modseq: u64,
}

/// `* 2 FETCH (UID 4 FLAGS (\Seen))`, with its modification sequence for who enabled that (RFC 7162 §3.1).
pub(crate) fn flags(view: &View, flags: &Flags<'_>, enabled: Enabled, out: &mut BytesMut) {
    let Some(number) = view.number_of(flags.uid) else {
        return;
    };
    begin(number, flags.uid, enabled, out);
    if !enabled.uidonly {
        out.put_slice(b"UID ");
        put_number(out, u64::from(flags.uid));
        out.put_u8(b' ');
    }
    out.put_slice(b"FLAGS ");
    names::write_flags(flags.bits, flags.keywords, out);
    if enabled.condstore {
        out.put_u8(b' ');
        modseq(flags.modseq, out);
    }
    out.put_slice(b")\r\n");
}

/// `* 12 FETCH (`, or, for who wants no sequence numbers, `* 345 UIDFETCH (` (RFC 9586 §3.3).
#[inline]
pub(crate) fn begin(number: u32, uid: u32, enabled: Enabled, out: &mut BytesMut) {
    if enabled.uidonly {
        numbered(out, uid, b" UIDFETCH (");
    } else {
        numbered(out, number, b" FETCH (");
    }
}

/// `MODSEQ (12)`
pub(crate) fn modseq(modseq: u64, out: &mut BytesMut) {
    out.put_slice(b"MODSEQ (");
    put_number(out, modseq);
    out.put_u8(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut view = View::default();
        for uid in [1, 2, 4, 9] {
            view.push(uid);
        }
        view
    }

    fn enabled(condstore: bool, qresync: bool, uidonly: bool) -> Enabled {
        Enabled {
            condstore,
            qresync,
            uidonly,
            ..Enabled::default()
        }
    }

    fn expunge(enabled: Enabled) -> String {
        let mut out = BytesMut::new();
        let mut view = view();
        let gone = NumberSet::from_ranges([(2, 7), (9, 9)]);
        expunged(&mut view, &gone, enabled, &mut out);
        assert_eq!(view.count(), 1);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_gone_is_told_as_enabled() {
        assert_eq!(
            expunge(Enabled::default()),
            "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n"
        );
        assert_eq!(expunge(enabled(true, true, false)), "* VANISHED 2,4,9\r\n");
        assert_eq!(expunge(enabled(false, false, true)), "* VANISHED 2,4,9\r\n");
        let mut out = BytesMut::new();
        vanished(&NumberSet::from_ranges([(3, 5)]), true, &mut out);
        assert_eq!(out, "* VANISHED (EARLIER) 3:5\r\n");
    }

    #[test]
    fn flags_are_told_as_enabled() {
        let tell = |enabled| {
            let mut out = BytesMut::new();
            let keywords = ["a".to_owned()];
            let told = Flags {
                uid: 4,
                bits: 1,
                keywords: &keywords,
                modseq: 7,
            };
            flags(&view(), &told, enabled, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(tell(Enabled::default()), "* 3 FETCH (UID 4 FLAGS (\\Seen a))\r\n");
        assert_eq!(
            tell(enabled(true, false, false)),
            "* 3 FETCH (UID 4 FLAGS (\\Seen a) MODSEQ (7))\r\n"
        );
        assert_eq!(
            tell(enabled(true, false, true)),
            "* 4 UIDFETCH (FLAGS (\\Seen a) MODSEQ (7))\r\n"
        );
    }

    #[test]
    fn long_lists_are_told_in_parts() {
        let gone = NumberSet::from_ranges((1..=2500).map(|n| (2 * n, 2 * n)));
        let mut out = BytesMut::new();
        vanished(&gone, false, &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 3);
    }
}
