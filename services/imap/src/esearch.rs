//! The ESEARCH response (RFC 4731, RFC 9394, RFC 5267, RFC 7377): what SEARCH, SORT and ESEARCH found, as it was asked
//! for.

use bytes::{BufMut, BytesMut};
use mox_imap_proto::NumberSet;
use mox_imap_proto::search::Return;
use mox_imap_proto::sequence::write_in_order;
use mox_imap_proto::write::{put_number, put_string};

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Results<'a> {
    /// In the order of the mailbox.
    Set(&'a NumberSet),
    /// In another order (RFC 5267 §3).
    Ordered(&'a [u32]),
}

impl Results<'_> {
    fn first(&self) -> Option<u32> {
        match self {
            Self::Set(set) => set.first(),
            Self::Ordered(list) => list.first().copied(),
        }
    }

    fn last(&self) -> Option<u32> {
        match self {
            Self::Set(set) => set.last(),
            Self::Ordered(list) => list.last().copied(),
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::Set(set) => set.count(),
            Self::Ordered(list) => list.len() as u64,
        }
    }

    /// Writes those at some positions; `NIL` if there are none.
    fn write(&self, positions: std::ops::Range<u64>, out: &mut BytesMut) {
        match self {
            _ if positions.is_empty() => out.put_slice(b"NIL"),
            Self::Set(set) => set.slice(positions).write(out),
            Self::Ordered(list) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(list.len());
                write_in_order(&list[at(positions.start)..at(positions.end)], out);
            }
        }
    }
}

/// `* ESEARCH (TAG "a1") UID`
pub(crate) fn begin(tag: &str, uid: bool, out: &mut BytesMut) {
    out.put_slice(b"* ESEARCH (TAG ");
    put_string(out, tag.as_bytes(), false);
    out.put_u8(b')');
    if uid {
        out.put_slice(b" UID");
    }
}

/// What follows the beginning, up to the end of the line.
pub(crate) fn data(returns: &Return, found: Results<'_>, modseq: Option<u64>, out: &mut BytesMut) {
    let mut number = |name: &[u8], value: u64| {
        out.put_slice(name);
        put_number(out, value);
    };
    // RFC 4731 §3.1: MIN, MAX and ALL are left out where nothing was found.
    if let (true, Some(first)) = (returns.min, found.first()) {
        number(b" MIN ", first.into());
    }
    if let (true, Some(last)) = (returns.max, found.last()) {
        number(b" MAX ", last.into());
    }
    if returns.count {
        number(b" COUNT ", found.count());
    }
    if let Some(modseq) = modseq {
        number(b" MODSEQ ", modseq);
    }
    if returns.all && found.count() > 0 {
        out.put_slice(b" ALL ");
        found.write(0..found.count(), out);
    }
    if let Some(window) = returns.partial {
        // RFC 9394 §3.1: the window as it was asked for, and what is in it.
        out.put_slice(b" PARTIAL (");
        window.write(out);
        out.put_u8(b' ');
        found.write(window.of(found.count()), out);
        out.put_u8(b')');
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::window::Window;

    use super::*;

    fn text(returns: Return, found: Results<'_>) -> String {
        let mut out = BytesMut::new();
        begin("a\"1", true, &mut out);
        data(&returns, found, None, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn results_are_told_as_asked_for() {
        let all = Return {
            min: true,
            max: true,
            all: true,
            count: true,
            ..Return::default()
        };
        let set = NumberSet::from_ranges([(3, 5), (9, 9)]);
        let begin = "* ESEARCH (TAG \"a\\\"1\") UID";
        assert_eq!(
            text(all, Results::Set(&set)),
            format!("{begin} MIN 3 MAX 9 COUNT 4 ALL 3:5,9\r\n")
        );
        assert_eq!(text(all, Results::Ordered(&[])), format!("{begin} COUNT 0\r\n"));
        // RFC 5267 §3.1: the ends are those of the order; §3.2: ranges ascend.
        assert_eq!(
            text(all, Results::Ordered(&[9, 8, 3, 4, 5, 1])),
            format!("{begin} MIN 9 MAX 1 COUNT 6 ALL 9,8,3:5,1\r\n")
        );
        let partial = |first, last, from_end| Return {
            partial: Some(Window { first, last, from_end }),
            ..Return::default()
        };
        assert_eq!(
            text(partial(1, 2, true), Results::Ordered(&[9, 8, 3])),
            format!("{begin} PARTIAL (-1:-2 8,3)\r\n")
        );
        assert_eq!(
            text(partial(5, 6, false), Results::Set(&set)),
            format!("{begin} PARTIAL (5:6 NIL)\r\n")
        );
    }
}
