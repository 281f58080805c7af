//! The mailbox that a session has selected: its view, and what changed in it that the client was not told yet.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::acl::Rights;
use mox_imap_proto::{NumberSet, SequenceSet};
use mox_proto::mail::v1::{Column, ListChangesRequest, ListChangesResponse, ListRowsRequest, Mailbox, Rows, UidRange};

use crate::Shared;
use crate::connection::Connection;
use crate::contexts::Contexts;
use crate::enabled::Enabled;
use crate::limits;
use crate::names;
use crate::notices;
use crate::reply::{Failed, Stop};
use crate::rights;
use crate::rows;
use crate::view::{Interner, View};

pub(crate) use crate::notices::numbered;

/// See the module.
pub(crate) struct Selected {
    pub id: Bytes,
    pub name: String,
    /// Of the UIDs in the view.
    pub uid_validity: u32,
    pub read_only: bool,
    /// What may be done with it.
    pub rights: Rights,
    /// Refuse numbers of messages that are not there, also beside others that are.
    pub pedantic: bool,
    /// What the client enabled: the session's.
    pub enabled: Enabled,
    pub view: View,
    /// All changes up to here, of the whole account, are in the view or in what is pending.
    pub modseq: u64,
    /// The mailbox's highest modification sequence as of then.
    pub highest: u64,
    /// The UID that the next message would get, as of then.
    pub uid_next: u32,
    /// What SEARCH saved for `$`, as UIDs (RFC 5182). Selecting a mailbox empties it.
    pub saved: NumberSet,
    /// Modification sequences of changes whose outcome the client was told in the answer to its command, ascending.
    pub told: Vec<u64>,
    /// What the client wants to be told of (RFC 5465).
    pub events: Events,
    /// Search results that are kept current (RFC 5267).
    pub contexts: Contexts,
    /// Flags that were told to exist here: keywords.
    keywords: Vec<String>,
    /// New messages.
    arrived: NumberSet,
    /// Expunged messages that are in the view.
    vanished: NumberSet,
    /// Messages with new flags, by UID.
    changed: BTreeMap<u32, Changed>,
}

/// Events that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    pub new: bool,
    pub expunge: bool,
    pub flags: bool,
}

impl Events {
    pub(crate) const ALL: Self = Self {
        new: true,
        expunge: true,
        flags: true,
    };
    pub(crate) const NONE: Self = Self {
        new: false,
        expunge: false,
        flags: false,
    };
}

impl Default for Events {
    fn default() -> Self {
        Self::ALL
    }
}

/// What a message's flags are now.
struct Changed {
    bits: u32,
    keywords: Vec<String>,
    modseq: u64,
}

/// Where catching up stands.
#[derive(Default)]
enum Step {
    /// In the change log, from [`Selected::modseq`].
    #[default]
    Changes,
    /// The log does not reach back: in all rows, from this UID, and with the modification sequence of the first page.
    Rows(u32, Option<(u64, u64)>),
    Done,
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
    /// Opens a mailbox: reads its UIDs. Between pages messages may come and go: what is told of them later starts at the
    /// first page's modification sequence.
    pub(crate) async fn open(
        shared: &Shared,
        token: &Bytes,
        mailbox: &Mailbox,
        read_only: bool,
        enabled: Enabled,
        seen_modseq: u64,
    ) -> Result<Self, Failed> {
        let mut selected = Self::closed(mailbox, read_only);
        selected.pedantic = shared.pedantic;
        selected.enabled = enabled;
        if let Some(uids) = &mailbox.uids {
            selected.modseq = uids.modseq;
            for range in &uids.ranges {
                selected.view.push_range(range.first, range.last);
            }
            selected.finish_opening(shared);
            return Ok(selected);
        }
        let mut request = ListRowsRequest {
            session: token.clone(),
            mailbox_id: mailbox.id.clone(),
            seen_modseq,
            as_ranges: true,
            ..Default::default()
        };
        let mut first = true;
        loop {
            let answer = shared.mail().list_rows(request.clone()).await?.into_inner();
            if std::mem::take(&mut first) {
                selected.modseq = answer.modseq;
                selected.highest = answer.highest_modseq;
                selected.uid_next = answer.uid_next;
            }
            for range in &answer.ranges {
                selected.view.push_range(range.first, range.last);
            }
            if answer.next_uid == 0 {
                break;
            }
            request.first_uid = answer.next_uid;
        }
        selected.finish_opening(shared);
        Ok(selected)
    }

    fn finish_opening(&mut self, shared: &Shared) {
        self.uid_next = self.uid_next.max(self.view.last_uid().saturating_add(1));
        shared.views.share(&self.id, &mut self.view);
    }

    /// With nothing in view yet.
    fn closed(mailbox: &Mailbox, read_only: bool) -> Self {
        Self {
            // A copy: as it came, it holds all of the buffer that the answer was read into.
            id: Bytes::copy_from_slice(&mailbox.id),
            name: mailbox.name.clone(),
            uid_validity: mailbox.uid_validity,
            read_only,
            rights: rights::of(mailbox),
            pedantic: false,
            enabled: Enabled::default(),
            view: View::default(),
            modseq: 0,
            highest: mailbox.highest_modseq,
            uid_next: mailbox.uid_next,
            saved: NumberSet::default(),
            told: Vec::new(),
            events: Events::ALL,
            contexts: Contexts::default(),
            keywords: mailbox.keywords.clone(),
            arrived: NumberSet::default(),
            vanished: NumberSet::default(),
            changed: BTreeMap::new(),
        }
    }

    /// One that is not opened, for what a search says of UIDs there.
    pub(crate) fn unopened(mailbox: &Mailbox, enabled: Enabled) -> Self {
        let mut selected = Self::closed(mailbox, true);
        selected.enabled = enabled;
        if let Some(last) = mailbox.uid_next.checked_sub(1).filter(|last| *last > 0) {
            selected.view.push(last);
        }
        selected
    }

    /// New messages that [`Selected::tell`] will tell.
    pub(crate) fn arriving(&self) -> NumberSet {
        if self.events.new {
            self.arrived.clone()
        } else {
            NumberSet::default()
        }
    }

    /// Messages of the view that are gone.
    pub(crate) fn gone(&self) -> &NumberSet {
        &self.vanished
    }

    /// Whether the client was told everything up to [`Selected::highest`].
    pub(crate) fn is_all_told(&self) -> bool {
        self.arrived.is_empty() && self.vanished.is_empty() && self.changed.is_empty()
    }

    /// Whether nothing is pending but that these messages are gone.
    pub(crate) fn is_all_told_but(&self, gone: &NumberSet) -> bool {
        self.arrived.is_empty()
            && self.changed.is_empty()
            && self.vanished.intersection(gone).count() == self.vanished.count()
    }

    /// The numbers that a set means, if they are UIDs or sequence numbers; what SEARCH saved is at hand as either.
    /// Numbers of messages that are not there may be among them.
    pub(crate) fn resolve(&self, set: &SequenceSet, uid: bool) -> NumberSet {
        let largest = if uid { self.view.last_uid() } else { self.view.count() };
        match set.resolve(largest) {
            Some(numbers) => numbers,
            None if uid => self.view.known(&self.saved),
            None => self.view.numbers_of(&self.saved),
        }
    }

    /// Asks what changed. The view stays as it is until [`Selected::tell`].
    pub(crate) async fn catch_up(&mut self, shared: &Shared, token: &Bytes) -> Result<(), Failed> {
        let mut step = Step::default();
        while !matches!(step, Step::Done) {
            step = self.step(shared, token, step).await?;
        }
        Ok(())
    }

    /// Asks what changed and tells it, page by page: a client that reads slowly holds one page.
    pub(crate) async fn update(
        &mut self,
        shared: &Shared,
        token: &Bytes,
        may_expunge: bool,
        connection: &mut Connection,
    ) -> Result<(), Failed> {
        let mut step = Step::default();
        while !matches!(step, Step::Done) {
            step = self.step(shared, token, step).await?;
            while may_expunge && self.vanished.count() > limits::EXPUNGED {
                let some = self.vanished.slice(0..limits::EXPUNGED);
                self.vanished = self.vanished.subtraction(&some);
                self.tell_gone(&some, &mut connection.out);
                connection.flush_if_large().await?;
            }
            self.tell(&shared.views, may_expunge, &mut connection.out);
            connection.flush_if_large().await?;
        }
        Ok(())
    }

    /// Takes in a page of changes.
    async fn step(&mut self, shared: &Shared, token: &Bytes, step: Step) -> Result<Step, Failed> {
        match step {
            Step::Done => return Ok(Step::Done),
            Step::Rows(next_uid, first) => return self.resync(shared, token, next_uid, first).await,
            Step::Changes => {}
        }
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
        if answer.uid_validity != self.uid_validity {
            // RFC 9051 §2.3.1.1: the UIDs that the client knows mean nothing any more, and within a session they cannot
            // change.
            return Err(Stop::Bye("The UIDs of the selected mailbox were assigned anew: open it again".into()).into());
        }
        if answer.resync {
            return Ok(Step::Rows(1, None));
        }
        self.note(&answer);
        Ok(if answer.more { Step::Changes } else { Step::Done })
    }

    /// Finds what changed by a page of all rows.
    async fn resync(
        &mut self,
        shared: &Shared,
        token: &Bytes,
        from: u32,
        first: Option<(u64, u64)>,
    ) -> Result<Step, Failed> {
        let request = ListRowsRequest {
            session: token.clone(),
            mailbox_id: self.id.clone(),
            seen_modseq: self.modseq,
            columns: CHANGES,
            first_uid: from,
            ..Default::default()
        };
        let answer = shared.mail().list_rows(request).await?.into_inner();
        let last = answer.next_uid.checked_sub(1).unwrap_or(u32::MAX);
        let page = answer.rows.unwrap_or_default();
        self.note_all(&page, from, last);
        // Between pages messages come and go: the log has that from the first one on.
        let (modseq, highest) = first.unwrap_or((answer.modseq, answer.highest_modseq));
        self.uid_next = self.uid_next.max(answer.uid_next);
        if answer.next_uid != 0 {
            return Ok(Step::Rows(answer.next_uid, Some((modseq, highest))));
        }
        self.modseq = self.modseq.max(modseq);
        self.highest = highest;
        Ok(Step::Done)
    }

    /// Takes in what there is in a range of UIDs.
    fn note_all(&mut self, page: &Rows, first: u32, last: u32) {
        let mut there = NumberSet::default();
        for row in rows::iter(page) {
            there.push(row.uid);
        }
        let known = self.view.known(&NumberSet::from_ranges([(first, last)]));
        let gone = known.subtraction(&there);
        self.note_gone(&gone);
        self.note_rows(page, self.modseq);
    }

    /// Takes in a page of the change log.
    fn note(&mut self, answer: &ListChangesResponse) {
        let since = self.modseq;
        self.modseq = self.modseq.max(answer.modseq);
        self.highest = self.highest.max(answer.highest_modseq);
        self.uid_next = self.uid_next.max(answer.uid_next);
        self.note_gone(&number_set(&answer.vanished));
        if let Some(rows) = &answer.rows {
            self.note_rows(rows, since);
        }
    }

    fn note_gone(&mut self, gone: &NumberSet) {
        if gone.is_empty() {
            return;
        }
        let known = self.view.known(gone);
        self.vanished = self.vanished.union(&known);
        // What came and went before it was told never was.
        self.arrived = self.arrived.subtraction(gone);
        for uid in known.iter() {
            self.changed.remove(&uid);
        }
    }

    /// Takes in rows that changed after `since`.
    fn note_rows(&mut self, rows: &Rows, since: u64) {
        for row in rows::iter(rows) {
            if row.modseq > since && row.uid <= self.view.last_uid() {
                self.contexts.touch(row.uid);
            }
            if row.uid > self.view.last_uid() {
                if self.arrived.last().is_none_or(|last| last < row.uid) {
                    self.arrived.push(row.uid);
                } else if !self.arrived.contains(row.uid) {
                    self.arrived = self.arrived.union(&NumberSet::from_ranges([(row.uid, row.uid)]));
                }
            } else if row.modseq > since && self.told.binary_search(&row.modseq).is_err() {
                let changed = Changed {
                    bits: row.bits,
                    keywords: row.keywords.to_vec(),
                    modseq: row.modseq,
                };
                self.changed.insert(row.uid, changed);
            }
        }
    }

    /// Tells what changed, and brings the view to it. Expunged messages stay in it until they may be told.
    pub(crate) fn tell(&mut self, views: &Interner, may_expunge: bool, out: &mut BytesMut) {
        let before = (self.view.count(), self.view.last_uid());
        if may_expunge && self.events.expunge && !self.vanished.is_empty() {
            let vanished = std::mem::take(&mut self.vanished);
            self.tell_gone(&vanished, out);
        }
        if self.events.new && !self.arrived.is_empty() {
            for uid in std::mem::take(&mut self.arrived).iter() {
                self.view.push(uid);
                self.contexts.touch(uid);
            }
            // RFC 3501 §7.3.1. \Recent is never set, so RECENT stays what it was: 0.
            numbered(out, self.view.count(), b" EXISTS\r\n");
        }
        let changed = match self.events.flags {
            true => std::mem::take(&mut self.changed),
            false => BTreeMap::new(),
        };
        for (uid, changed) in changed {
            self.announce(&changed.keywords, out);
            let flags = notices::Flags {
                uid,
                bits: changed.bits,
                keywords: &changed.keywords,
                modseq: changed.modseq,
            };
            notices::flags(&self.view, &flags, self.enabled, out);
        }
        let known = self.told.partition_point(|modseq| *modseq <= self.modseq);
        self.told.drain(..known);
        if before != (self.view.count(), self.view.last_uid()) {
            views.share(&self.id, &mut self.view);
        }
    }

    fn tell_gone(&mut self, gone: &NumberSet, out: &mut BytesMut) {
        notices::expunged(&mut self.view, gone, self.enabled, out);
        // RFC 5182 §2.1: what is gone is gone from the saved result.
        self.saved = self.saved.subtraction(gone);
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
    fn what_is_far_behind_is_found_in_the_rows() {
        let mut s = selected();
        s.saved = NumberSet::from_ranges([(1, 2)]);
        let page = changes(&[(2, 0, 9), (4, Flag::Draft as u32, 12), (6, 0, 13)], &[], 0);
        s.note_all(&page.rows.unwrap(), 1, u32::MAX);
        assert!(!s.is_all_told());
        assert_eq!(
            tell(&mut s, true),
            "* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 2 FETCH (UID 4 FLAGS (\\Draft))\r\n"
        );
        assert_eq!(s.saved, NumberSet::from_ranges([(2, 2)]), "the saved result shrinks");
        assert!(s.is_all_told());
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
