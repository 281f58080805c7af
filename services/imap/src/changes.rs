//! What happened in the selected mailbox since a modification sequence that the client names: for CHANGEDSINCE,
//! VANISHED and QRESYNC (RFC 7162).

use bytes::Bytes;
use mox_imap_proto::NumberSet;
use mox_proto::mail::v1::{Column, ListChangesRequest, ListRowsRequest};

use crate::Shared;
use crate::reply::{Failed, Stop};
use crate::rows;
use crate::selected::{Selected, number_set, ranges, ranges_from};

/// Up to so many messages, looking at each is cheaper than reading the change log.
const FEW: u64 = 20_000;

/// See the module. Both are UIDs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    /// In the view, and new or with other flags.
    pub changed: NumberSet,
    /// No longer in the mailbox, and not in the view.
    pub vanished: NumberSet,
}

/// What happened to messages since `modseq`, as of at least the view.
///
/// `asked` may name messages that there never were. Where the change log does not reach back to `modseq`, those are told
/// to have vanished: RFC 7162 §3.2.10.1 lets a server tell more than the client needs, and never less. `vanished` says
/// whether that is asked at all.
pub(crate) async fn since(
    shared: &Shared,
    token: &Bytes,
    selected: &Selected,
    modseq: u64,
    asked: &NumberSet,
    vanished: bool,
) -> Result<Since, Failed> {
    let there = selected.view.known(asked);
    if (selected.highest..=selected.modseq).contains(&modseq) {
        return Ok(Since::default());
    }
    // A client that comes from the future knew the mailbox before a backup was restored: nothing it has can be relied on.
    let modseq = if modseq > selected.modseq { 0 } else { modseq };
    if modseq > 0 && (vanished || there.count() > FEW) {
        let found = from_log(shared, token, selected, modseq).await?;
        if let Some(found) = found {
            return Ok(Since {
                changed: found.changed.intersection(&there),
                vanished: found.vanished.intersection(asked).subtraction(&there),
            });
        }
    }
    let could_be = NumberSet::from_ranges([(1, selected.uid_next.saturating_sub(1).max(1))]);
    Ok(Since {
        changed: from_rows(shared, token, selected, modseq, &there).await?,
        vanished: match vanished {
            true => asked.intersection(&could_be).subtraction(&there),
            false => NumberSet::default(),
        },
    })
}

/// What the log says; nothing, if it does not reach back.
async fn from_log(shared: &Shared, token: &Bytes, selected: &Selected, modseq: u64) -> Result<Option<Since>, Failed> {
    let mut found = Since::default();
    let mut request = ListChangesRequest {
        session: token.clone(),
        mailbox_id: selected.id.clone(),
        since_modseq: modseq,
        columns: Column::Uid as u32,
    };
    loop {
        let answer = shared.mail().list_changes(request.clone()).await?.into_inner();
        if answer.mailbox_gone {
            return Err(Stop::Bye("The selected mailbox was deleted".into()).into());
        }
        if answer.resync {
            return Ok(None);
        }
        let mut changed = NumberSet::default();
        for row in answer.rows.iter().flat_map(rows::iter) {
            changed.push(row.uid);
        }
        found.changed = found.changed.union(&changed);
        found.vanished = found.vanished.union(&number_set(&answer.vanished));
        if !answer.more {
            return Ok(Some(found));
        }
        request.since_modseq = answer.modseq;
    }
}

/// Those of the messages that changed, by looking at each.
async fn from_rows(
    shared: &Shared,
    token: &Bytes,
    selected: &Selected,
    modseq: u64,
    there: &NumberSet,
) -> Result<NumberSet, Failed> {
    let mut changed = NumberSet::default();
    if there.is_empty() {
        return Ok(changed);
    }
    let mut request = ListRowsRequest {
        session: token.clone(),
        mailbox_id: selected.id.clone(),
        columns: Column::Modseq as u32,
        seen_modseq: selected.modseq,
        uids: ranges(there),
        ..Default::default()
    };
    loop {
        let answer = shared.mail().list_rows(request.clone()).await?.into_inner();
        for row in answer.rows.iter().flat_map(rows::iter).filter(|r| r.modseq > modseq) {
            changed.push(row.uid);
        }
        request.uids = ranges_from(&request.uids, answer.next_uid);
        request.first_uid = answer.next_uid;
        if answer.next_uid == 0 || request.uids.is_empty() {
            return Ok(changed);
        }
    }
}
