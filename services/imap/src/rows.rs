//! Rows of a mailbox, from the columns they travel in.

use mox_proto::mail::v1::{KeywordSet, Rows};

/// A row. Columns that were not asked for are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub uid: u32,
    pub bits: u32,
    /// Index into the page's keyword sets plus one, or 0.
    pub keyword_set: u32,
    pub keywords: &'a [String],
    pub modseq: u64,
    pub size: u64,
    pub received: i64,
}

/// The keywords of a set by its number.
pub(crate) fn keywords(sets: &[KeywordSet], number: u32) -> &[String] {
    let index = usize::try_from(number).unwrap_or_default().checked_sub(1);
    index.and_then(|i| sets.get(i)).map_or(&[], |set| &set.keywords)
}

/// The rows in order.
pub(crate) fn iter(rows: &Rows) -> impl Iterator<Item = Row<'_>> {
    let (mut uid, mut modseq) = (0u32, 0i64);
    rows.uid_delta.iter().enumerate().map(move |(i, delta)| {
        uid = uid.wrapping_add(*delta);
        modseq = modseq.wrapping_add(rows.modseq_delta.get(i).copied().unwrap_or_default());
        let keyword_set = rows.keyword_set.get(i).copied().unwrap_or_default();
        Row {
            uid,
            bits: rows.flags.get(i).copied().unwrap_or_default(),
            keyword_set,
            keywords: keywords(&rows.keyword_sets, keyword_set),
            modseq: modseq as u64,
            size: rows.size.get(i).copied().unwrap_or_default(),
            received: rows.received.get(i).copied().unwrap_or_default(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_make_rows() {
        let rows = Rows {
            uid_delta: vec![3, 1, 5],
            flags: vec![1, 0, 2],
            keyword_set: vec![0, 1, 0],
            keyword_sets: vec![KeywordSet {
                keywords: vec!["a".into()],
            }],
            modseq_delta: vec![10, -4, 1],
            ..Default::default()
        };
        let got: Vec<_> = iter(&rows)
            .map(|r| (r.uid, r.bits, r.keywords.len(), r.modseq, r.size))
            .collect();
        assert_eq!(got, [(3, 1, 0, 10, 0), (4, 0, 1, 6, 0), (9, 2, 0, 7, 0)]);
    }
}
