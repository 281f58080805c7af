//! The mailbox that a session has selected: its view, and what changed in it that the client was not told yet.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::NumberSet;
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::{Column, ListChangesRequest, ListChangesResponse, ListRowsRequest, Mailbox, UidRange};

use crate::Shared;
use crate::names;
use crate::reply::{Failed, Stop};
use crate::rows;
use crate::view::{Interner, View};

/// See the module.
pub(crate) struct Selected {
    pub id: Bytes,
    pub name: String,
    pub read_only: bool,
    /// Refuse numbers of messages that are not there, also beside others that are.
    pub pedantic: bool,
    pub view: View,
    /// All changes up to here are in the view or in what is pending.
    pub modseq: u64,
    /// Modification sequences of changes whose outcome the client was told in the answer to its command, since the last
    /// [`Selected::tell`].
    pub told: Vec<u64>,
    /// Flags that were told to exist here: keywords.
    keywords: Vec<String>,
    /// New messages.
    arrived: NumberSet,
    /// Expunged messages that are in the view.
    vanished: NumberSet,
    /// Messages with new flags, by UID: bits and keywords.
    changed: BTreeMap<u32, (u32, Vec<String>)>,
}

/// What is read about changes.
const CHANGES: u32 = Column::Flags as u32 | Column::Modseq as u32;

/// Ranges as the store takes them.
pub(crate) fn ranges(set: &NumberSet) -> Vec<UidRange> {
    set.ranges()
        .iter()
        .map(|&(first, last)| UidRange { first, last })
        .collect()
}

/// What is left of a change that takes several calls.
pub(crate) fn ranges_from(ranges: &[UidRange], next_uid: u32) -> Vec<UidRange> {
    let left = ranges.iter().filter(|r| r.last >= next_uid);
    left.map(|r| UidRange {
        first: r.first.max(next_uid),
        last: r.last,
    })
    .collect()
}

/// Ranges as the store gives them.
pub(crate) fn number_set(ranges: &[UidRange]) -> NumberSet {
    NumberSet::from_ranges(ranges.iter().filter(|r| r.first <= r.last).map(|r| (r.first, r.last)))
}

impl Selected {
    /// Opens a mailbox: reads its UIDs.
    pub(crate) async fn open(
        shared: &Shared,
        token: &Bytes,
        mailbox: &Mailbox,
        read_only: bool,
        seen_modseq: u64,
    ) -> Result<Self, Failed> {
        let mut selected = Self::closed(mailbox, read_only);
        selected.pedantic = shared.pedantic;
        selected
            .read_all(shared, token, seen_modseq, Column::Uid as u32)
            .await?;
        Ok(selected)
    }

    /// With nothing in view yet.
    fn closed(mailbox: &Mailbox, read_only: bool) -> Self {
        Self {
            id: mailbox.id.clone(),
            name: mailbox.name.clone(),
            read_only,
            pedantic: false,
            view: View::default(),
            modseq: 0,
            told: Vec::new(),
            keywords: mailbox.keywords.clone(),
            arrived: NumberSet::default(),
            vanished: NumberSet::default(),
            changed: BTreeMap::new(),
        }
    }

    /// Reads the UIDs of all messages into the view, and the flags of those that changed since what is known. Between
    /// pages messages may come and go: what is told of them later starts at the first page's modification sequence.
    async fn read_all(&mut self, shared: &Shared, token: &Bytes, seen_modseq: u64, columns: u32) -> Result<(), Failed> {
        let mut request = ListRowsRequest {
            session: token.clone(),
            mailbox_id: self.id.clone(),
            seen_modseq,
            columns,
            ..Default::default()
        };
        let mut view = View::default();
        let mut modseq = None;
        loop {
            let answer = shared.mail().list_rows(request.clone()).await?.into_inner();
            modseq.get_or_insert(answer.modseq);
            for row in answer.rows.iter().flat_map(rows::iter) {
                if row.uid > view.last_uid() {
                    view.push(row.uid);
                }
                if row.modseq > self.modseq {
                    self.changed.insert(row.uid, (row.bits, row.keywords.to_vec()));
                }
            }
            if answer.next_uid == 0 {
                break;
            }
            request.first_uid = answer.next_uid;
        }
        self.view = view;
        self.modseq = modseq.unwrap_or_default();
        shared.views.share(&self.id, &mut self.view);
        Ok(())
    }

    /// Asks what changed. The view stays as it is until [`Selected::tell`].
    pub(crate) async fn catch_up(&mut self, shared: &Shared, token: &Bytes) -> Result<(), Failed> {
        loop {
            let request = ListChangesRequest {
                session: token.clone(),
                mailbox_id: self.id.clone(),
                since_modseq: self.modseq,
                columns: CHANGES,
            };
            let answer = shared.mail().list_changes(request).await?.into_inner();
            if answer.mailbox_gone {
                // RFC 2180 §3.3 leaves this way.
                return Err(Stop::Bye("The selected mailbox was deleted".into()).into());
            }
            if answer.resync {
                self.resync(shared, token).await?;
                return Ok(());
            }
            self.note(&answer);
            if !answer.more {
                return Ok(());
            }
        }
    }

    /// The log no longer reaches back to where we are: what changed is found by reading all.
    async fn resync(&mut self, shared: &Shared, token: &Bytes) -> Result<(), Failed> {
        let before = self.view.clone();
        self.read_all(shared, token, self.modseq, CHANGES).await?;
        let now = std::mem::replace(&mut self.view, before).uids();
        let gone = self
            .view
            .uids()
            .iter()
            .filter(|uid| !now.contains(*uid))
            .map(|uid| (uid, uid))
            .collect::<Vec<_>>();
        self.vanished = NumberSet::from_ranges(gone);
        let last = self.view.last_uid();
        let new = now
            .ranges()
            .iter()
            .filter(|r| r.1 > last)
            .map(|&(first, end)| (first.max(last + 1), end));
        self.arrived = NumberSet::from_ranges(new);
        self.changed.retain(|uid, _| *uid <= last);
        Ok(())
    }

    fn note(&mut self, answer: &ListChangesResponse) {
        self.modseq = self.modseq.max(answer.modseq);
        let gone = number_set(&answer.vanished);
        if !gone.is_empty() {
            let known = self.view.known(&gone);
            let all = self.vanished.ranges().iter().chain(known.ranges()).copied();
            self.vanished = NumberSet::from_ranges(all);
            // What came and went before it was told never was.
            if !self.arrived.is_empty() {
                let left = self.arrived.iter().filter(|uid| !gone.contains(*uid));
                self.arrived = NumberSet::from_ranges(left.map(|uid| (uid, uid)));
            }
        }
        let Some(rows) = &answer.rows else { return };
        for row in rows::iter(rows) {
            if row.uid > self.view.last_uid() {
                if self.arrived.last().is_none_or(|last| last < row.uid) {
                    self.arrived.push(row.uid);
                } else if !self.arrived.contains(row.uid) {
                    let all = self.arrived.ranges().iter().copied().chain([(row.uid, row.uid)]);
                    self.arrived = NumberSet::from_ranges(all);
                }
            } else if !self.told.contains(&row.modseq) {
                self.changed.insert(row.uid, (row.bits, row.keywords.to_vec()));
            }
        }
    }

    /// Tells what changed, and brings the view to it. Expunged messages stay in it until they may be told.
    pub(crate) fn tell(&mut self, views: &Interner, may_expunge: bool, out: &mut BytesMut) {
        let before = (self.view.count(), self.view.last_uid());
        if may_expunge && !self.vanished.is_empty() {
            let vanished = std::mem::take(&mut self.vanished);
            self.view
                .remove(&vanished, |number| numbered(out, number, b" EXPUNGE\r\n"));
        }
        if !self.arrived.is_empty() {
            for uid in std::mem::take(&mut self.arrived).iter() {
                self.view.push(uid);
            }
            // RFC 3501 §7.3.1. \Recent is never set, so RECENT stays what it was: 0.
            numbered(out, self.view.count(), b" EXISTS\r\n");
        }
        for (uid, (bits, keywords)) in std::mem::take(&mut self.changed) {
            let Some(number) = self.view.number_of(uid) else {
                continue;
            };
            self.announce(&keywords, out);
            numbered(out, number, b" FETCH (UID ");
            put_number(out, u64::from(uid));
            out.put_slice(b" FLAGS ");
            names::write_flags(bits, &keywords, out);
            out.put_slice(b")\r\n");
        }
        self.told.clear();
        if before != (self.view.count(), self.view.last_uid()) {
            views.share(&self.id, &mut self.view);
        }
    }

    /// RFC 9051 §7.3.5: FLAGS is told again when a keyword is new in the mailbox.
    pub(crate) fn announce(&mut self, keywords: &[String], out: &mut BytesMut) {
        let known = self.keywords.len();
        for keyword in keywords {
            if !self.keywords.contains(keyword) {
                self.keywords.push(keyword.clone());
            }
        }
        if self.keywords.len() > known {
            self.write_flags(out);
        }
    }

    /// `* FLAGS (…)`: those that there are in the mailbox, or can be.
    pub(crate) fn write_flags(&self, out: &mut BytesMut) {
        out.put_slice(b"* FLAGS ");
        names::write_flags(u32::MAX, &self.keywords, out);
        out.put_slice(b"\r\n");
    }

    /// `* OK [PERMANENTFLAGS (…)]`: those that can be changed.
    pub(crate) fn write_permanent_flags(&self, out: &mut BytesMut) {
        out.put_slice(b"* OK [PERMANENTFLAGS ");
        if self.read_only {
            out.put_slice(b"()");
        } else {
            let keywords: Vec<String> = self.keywords.iter().cloned().chain(["\\*".to_owned()]).collect();
            names::write_flags(u32::MAX, &keywords, out);
        }
        out.put_slice(b"] Flags that can be set\r\n");
    }
}

/// `* 12 EXISTS` and its like.
pub(crate) fn numbered(out: &mut BytesMut, number: u32, rest: &[u8]) {
    out.put_slice(b"* ");
    put_number(out, u64::from(number));
    out.put_slice(rest);
}

#[cfg(test)]
mod tests {
    use mox_proto::mail::v1::{Flag, Rows};

    use super::*;

    /// UIDs 1, 2 and 4, at modification sequence 10.
    fn selected() -> Selected {
        let mut selected = Selected::closed(&Mailbox::default(), false);
        for uid in [1, 2, 4] {
            selected.view.push(uid);
        }
        selected.modseq = 10;
        selected
    }

    fn changes(rows: &[(u32, u32, i64)], vanished: &[(u32, u32)], modseq: u64) -> ListChangesResponse {
        let mut columns = Rows::default();
        let (mut uid, mut last) = (0, 0);
        for row in rows {
            columns.uid_delta.push(row.0 - uid);
            columns.flags.push(row.1);
            columns.modseq_delta.push(row.2 - last);
            (uid, last) = (row.0, row.2);
        }
        ListChangesResponse {
            rows: Some(columns),
            vanished: vanished.iter().map(|&(first, last)| UidRange { first, last }).collect(),
            modseq,
            ..Default::default()
        }
    }

    fn tell(selected: &mut Selected, may_expunge: bool) -> String {
        let mut out = BytesMut::new();
        selected.tell(&Interner::default(), may_expunge, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn changes_are_told_with_the_numbers_of_then() {
        let mut s = selected();
        s.note(&changes(
            &[(4, Flag::Seen as u32, 12), (7, 0, 13)],
            &[(1, 1), (3, 3)],
            13,
        ));
        assert_eq!(
            tell(&mut s, true),
            "* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 2 FETCH (UID 4 FLAGS (\\Seen))\r\n"
        );
        assert_eq!((tell(&mut s, true).as_str(), s.modseq), ("", 13));
    }

    #[test]
    fn expunges_wait_until_they_may_be_told() {
        let mut s = selected();
        s.note(&changes(&[(8, 0, 12)], &[(2, 2)], 12));
        assert_eq!(tell(&mut s, false), "* 4 EXISTS\r\n");
        assert_eq!(s.view.number_of(4), Some(3), "numbers stay");
        s.note(&changes(&[], &[(8, 8)], 13));
        assert_eq!(tell(&mut s, true), "* 2 EXPUNGE\r\n* 3 EXPUNGE\r\n");
        assert_eq!(s.view.count(), 2);
    }

    #[test]
    fn what_came_and_went_is_not_told() {
        let mut s = selected();
        s.note(&changes(&[(5, 0, 11), (6, 0, 12)], &[], 12));
        s.note(&changes(&[], &[(5, 5)], 13));
        assert_eq!(tell(&mut s, true), "* 4 EXISTS\r\n");
        assert_eq!(s.view.number_of(6), Some(4));
    }

    #[test]
    fn own_changes_are_told_once() {
        let mut s = selected();
        s.told.push(11);
        s.note(&changes(
            &[(1, Flag::Seen as u32, 11), (2, Flag::Draft as u32, 12)],
            &[],
            12,
        ));
        assert_eq!(tell(&mut s, true), "* 2 FETCH (UID 2 FLAGS (\\Draft))\r\n");
    }
}
