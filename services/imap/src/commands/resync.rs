//! The parameter QRESYNC of SELECT and EXAMINE (RFC 7162 §3.2.5): what changed while the client was away.

use bytes::Bytes;
use mox_imap_proto::status::SelectParameter;
use mox_imap_proto::{NumberSet, SequenceSet};
use mox_proto::mail::v1::{Column, ListRowsRequest};

use crate::Shared;
use crate::changes::{self, Since};
use crate::connection::Connection;
use crate::enabled::Enabled;
use crate::notices;
use crate::reply::{Failed, Reply};
use crate::rows;
use crate::selected::{Selected, ranges, ranges_from};

/// What a client knows of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resync {
    pub uid_validity: u32,
    modseq: u64,
    /// UIDs that it has; none are all there can be.
    known: Option<NumberSet>,
    /// Sequence numbers and UIDs as they were to it, ascending.
    matches: Vec<(u32, u32)>,
}

impl Resync {
    /// From the parameters of SELECT.
    pub(super) fn new(parameters: &[SelectParameter], enabled: Enabled) -> Result<Option<Self>, Reply> {
        let mut found = None;
        for parameter in parameters {
            let SelectParameter::QResync {
                uid_validity,
                modseq,
                known_uids,
                matches,
            } = parameter
            else {
                continue;
            };
            // RFC 7162 §3.2.5: only after ENABLE QRESYNC.
            if !enabled.qresync {
                return Err(Reply::bad("Enable QRESYNC first"));
            }
            if enabled.uidonly && matches.is_some() {
                // RFC 9586 §3.5.
                return Err(Reply::bad("There are no sequence numbers").code("UIDREQUIRED"));
            }
            found = Some(Self {
                uid_validity: *uid_validity,
                modseq: *modseq,
                known: known_uids.as_ref().map(fixed).transpose()?,
                matches: match matches {
                    Some((numbers, uids)) => pairs(&fixed(numbers)?, &fixed(uids)?)?,
                    None => Vec::new(),
                },
            });
        }
        Ok(found)
    }

    /// Up to which UID the sequence numbers that the client remembers are those of now: so far nothing has vanished that
    /// it knew of.
    fn matched_up_to(&self, selected: &Selected) -> u32 {
        let same = self
            .matches
            .iter()
            .take_while(|(number, uid)| selected.view.number_of(*uid) == Some(*number));
        same.last().map_or(0, |(_, uid)| *uid)
    }
}

/// RFC 7162 §7: neither `*` nor `$` can be in these sets.
fn fixed(set: &SequenceSet) -> Result<NumberSet, Reply> {
    match set {
        SequenceSet::Ranges(_) if !set.has_largest() => Ok(set.resolve(0).unwrap_or_default()),
        _ => Err(Reply::bad("QRESYNC takes sets of numbers, without * and $")),
    }
}

/// Pairs of sequence numbers and UIDs: as many as a client has reason to send (RFC 7162 §3.2.5.2 suggests a few, ever
/// further apart).
const PAIRS: u64 = 10_000;

fn pairs(numbers: &NumberSet, uids: &NumberSet) -> Result<Vec<(u32, u32)>, Reply> {
    if numbers.count() != uids.count() || numbers.count() > PAIRS {
        return Err(Reply::bad(
            "The sets of sequence numbers and UIDs have different lengths, or are too long",
        ));
    }
    Ok(numbers.iter().zip(uids.iter()).collect())
}

/// Tells what vanished, and then what changed.
pub(super) async fn tell(
    shared: &Shared,
    token: &Bytes,
    selected: &Selected,
    resync: &Resync,
    connection: &mut Connection,
) -> Result<(), Failed> {
    // RFC 7162 §3.2.5: without known UIDs, they are all below UIDNEXT.
    let all = NumberSet::from_ranges(
        [(1, selected.uid_next.saturating_sub(1))]
            .into_iter()
            .filter(|r| r.1 > 0),
    );
    let known = resync.known.as_ref().unwrap_or(&all);
    let Since { changed, vanished } = changes::since(shared, token, selected, resync.modseq, known, true).await?;
    let matched = NumberSet::from_ranges([(1, resync.matched_up_to(selected))].into_iter().filter(|r| r.1 > 0));
    notices::vanished(&vanished.subtraction(&matched), true, &mut connection.out);
    if changed.is_empty() {
        return Ok(());
    }
    let mut request = ListRowsRequest {
        session: token.clone(),
        mailbox_id: selected.id.clone(),
        columns: Column::Flags as u32 | Column::Modseq as u32,
        seen_modseq: selected.modseq,
        uids: ranges(&changed),
        ..Default::default()
    };
    loop {
        let answer = shared.mail().list_rows(request.clone()).await?.into_inner();
        for row in answer.rows.iter().flat_map(rows::iter) {
            let flags = notices::Flags {
                uid: row.uid,
                bits: row.bits,
                keywords: row.keywords,
                modseq: row.modseq,
            };
            notices::flags(&selected.view, &flags, selected.enabled, &mut connection.out);
            connection.flush_if_large().await?;
        }
        request.uids = ranges_from(&request.uids, answer.next_uid);
        request.first_uid = answer.next_uid;
        if answer.next_uid == 0 || request.uids.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::sequence::Bound;

    use super::*;

    fn set(first: u32, last: u32) -> SequenceSet {
        SequenceSet::Ranges(vec![(Bound::Number(first), Bound::Number(last))])
    }

    fn parameter(known_uids: Option<SequenceSet>, matches: Option<(SequenceSet, SequenceSet)>) -> SelectParameter {
        SelectParameter::QResync {
            uid_validity: 1,
            modseq: 5,
            known_uids,
            matches,
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let on = Enabled {
            condstore: true,
            qresync: true,
            ..Enabled::default()
        };
        let uidonly = Enabled { uidonly: true, ..on };
        let new = |parameter, enabled| Resync::new(&[parameter], enabled);
        assert!(new(parameter(None, None), Enabled::default()).is_err());
        assert!(new(parameter(None, None), on).unwrap().is_some());
        assert!(new(parameter(Some(SequenceSet::Saved), None), on).is_err());
        let largest = SequenceSet::Ranges(vec![(Bound::Number(1), Bound::Largest)]);
        assert!(new(parameter(Some(largest), None), on).is_err());
        assert!(new(parameter(None, Some((set(1, 3), set(1, 4)))), on).is_err());
        assert!(new(parameter(None, Some((set(1, 3), set(5, 7)))), on).is_ok());
        let refused = new(parameter(None, Some((set(1, 3), set(5, 7)))), uidonly).unwrap_err();
        assert_eq!(refused.code.as_deref(), Some("UIDREQUIRED"));
        assert_eq!(Resync::new(&[SelectParameter::CondStore], on), Ok(None));
    }
}
