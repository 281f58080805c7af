//! What is kept in memory of an account, and how it is brought up to date.
//!
//! The state and the loaded indices change together, under one lock, after a commit. A reader compares the version of
//! the account's record with that of the state: if the record is newer, either this process is about to take over its
//! own commit, which is waited for, or another process wrote, and the change log is replayed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mox_proto::record::v1::Row;
use mox_types::MailboxId;
use prost::Message as _;

use super::index::{Delta, Index, IndexRow};
use super::rows::FromSnapshot;
use super::state::State;
use super::{Account, AccountError, Accounts, changes, ranges, rows};
use crate::engine::{Limit, Order, Snapshot};
use crate::keys;

/// Rows that are read at a time when a log is replayed.
const REPLAY_ROWS: usize = 10_000;

/// Of one account.
#[derive(Default)]
pub struct Shared {
    /// `None` before the first use.
    pub state: Option<State>,
    /// Of mailboxes that were listed.
    pub indexes: HashMap<MailboxId, Slot>,
}

/// The index of a mailbox.
pub enum Slot {
    /// It is being read; these changes were made meanwhile.
    Loading(Vec<Delta>),
    /// As of the state.
    Ready {
        /// The rows.
        index: Index,
        /// When it was last asked for.
        used: AtomicU64,
    },
}

impl Shared {
    /// Memory that the indices take.
    pub fn bytes(&self) -> usize {
        self.indexes.values().map(Slot::bytes).sum()
    }

    /// Takes over a new state with the changes that led to it. Answers with the bytes before and after.
    pub fn advance(&mut self, state: State, deltas: Vec<(MailboxId, Delta)>) -> (usize, usize) {
        let before = self.bytes();
        let mut grouped: HashMap<MailboxId, Vec<Delta>> = HashMap::new();
        if !self.indexes.is_empty() {
            for (mailbox, delta) in deltas {
                if self.indexes.contains_key(&mailbox) {
                    grouped.entry(mailbox).or_default().push(delta);
                }
            }
        }
        for (mailbox, deltas) in grouped {
            match self.indexes.get_mut(&mailbox) {
                Some(Slot::Ready { index, .. }) => index.apply(&deltas),
                Some(Slot::Loading(waiting)) => waiting.extend(deltas),
                None => {}
            }
        }
        self.indexes.retain(|id, _| state.mailboxes.contains_key(id));
        self.state = Some(state);
        (before, self.bytes())
    }

    fn ready(&self, mailbox: MailboxId, tick: u64) -> Option<Index> {
        match self.indexes.get(&mailbox) {
            Some(Slot::Ready { index, used }) => {
                used.store(tick, Ordering::Relaxed);
                Some(index.clone())
            }
            _ => None,
        }
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Slot::Loading(_) => 0,
            Slot::Ready { index, .. } => index.bytes(),
        }
    }
}

/// Takes a slot that is being loaded away again when loading is given up.
struct LoadingGuard<'a> {
    account: &'a Account,
    mailbox: MailboxId,
}

impl Drop for LoadingGuard<'_> {
    fn drop(&mut self) {
        let mut shared = self.account.shared.write();
        if let Some(Slot::Loading(_)) = shared.indexes.get(&self.mailbox) {
            shared.indexes.remove(&self.mailbox);
        }
    }
}

impl Accounts {
    /// The account as it is now.
    ///
    /// # Errors
    /// If it is gone, cannot be read, or is older than what the caller has seen.
    pub async fn state(&self, id: mox_types::AccountId, seen_modseq: u64) -> Result<State, AccountError> {
        self.fresh(&self.open(id), seen_modseq).await
    }

    /// The account as it is now, with the index of a mailbox.
    ///
    /// # Errors
    /// As [`Accounts::state`], and if the mailbox is gone.
    pub async fn view(
        &self,
        id: mox_types::AccountId,
        mailbox: MailboxId,
        seen_modseq: u64,
    ) -> Result<(State, Index), AccountError> {
        let account = self.open(id);
        self.fresh(&account, seen_modseq).await?.mailbox(mailbox)?;
        if let Some(both) = self.ready(&account, mailbox) {
            return Ok(both);
        }
        let _loading = account.loading.lock().await;
        if let Some(both) = self.ready(&account, mailbox) {
            return Ok(both);
        }
        self.load_index(&account, mailbox).await
    }

    fn ready(&self, account: &Account, mailbox: MailboxId) -> Option<(State, Index)> {
        let shared = account.shared.read();
        let index = shared.ready(mailbox, self.0.tick())?;
        Some((shared.state.clone()?, index))
    }

    /// Brings the state up to what is committed now.
    async fn fresh(&self, account: &Account, seen_modseq: u64) -> Result<State, AccountError> {
        let Some(now) = self.0.db.get(keys::account(account.id)).await? else {
            self.forget(account.id);
            return Err(AccountError::AccountGone);
        };
        let current = || account.shared.read().state.clone().filter(|s| s.version >= now.version);
        let state = match current() {
            Some(state) => state,
            None => {
                // A commit of this process that is not in the state yet holds this lock.
                let _committing = account.commit.lock().await;
                match current() {
                    Some(state) => state,
                    None => self.reload(account).await?,
                }
            }
        };
        if state.modseq() < seen_modseq {
            return Err(AccountError::Behind);
        }
        Ok(state)
    }

    /// Reads the state, and replays the change log for the indices. The caller holds [`Account::commit`].
    pub(super) async fn reload(&self, account: &Account) -> Result<State, AccountError> {
        let snapshot = self.0.db.snapshot().await?;
        let state = State::load(&*snapshot, account.id).await?;
        let (before, loaded) = {
            let shared = account.shared.read();
            (
                shared.state.as_ref().map(State::modseq),
                shared.indexes.keys().copied().collect::<Vec<_>>(),
            )
        };
        let mut deltas = Vec::new();
        match before {
            Some(before) if before >= state.record.log_watermark && before < state.modseq() => {
                for mailbox in loaded {
                    if state.mailboxes.contains_key(&mailbox) {
                        replay(&*snapshot, account, mailbox, before, &mut deltas).await?;
                    }
                }
            }
            Some(before) if before == state.modseq() => {}
            _ => {
                let mut shared = account.shared.write();
                self.0.index_bytes.fetch_sub(shared.bytes(), Ordering::Relaxed);
                // Being loaded are only those of readers that began later than this state.
                shared.indexes.retain(|_, slot| matches!(slot, Slot::Loading(_)));
            }
        }
        self.advance(account, state.clone(), deltas);
        if before.is_some_and(|before| before < state.modseq()) {
            self.0.hub.noticed(account.id, &super::News::anywhere(state.modseq()));
        }
        Ok(state)
    }

    /// Takes over a new state. The caller holds [`Account::commit`].
    pub(super) fn advance(&self, account: &Account, state: State, deltas: Vec<(MailboxId, Delta)>) {
        let (before, after) = account.shared.write().advance(state, deltas);
        if after >= before {
            self.0.index_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.0.index_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Reads the index of a mailbox. The caller holds [`Account::loading`].
    async fn load_index(&self, account: &Account, mailbox: MailboxId) -> Result<(State, Index), AccountError> {
        account
            .shared
            .write()
            .indexes
            .insert(mailbox, Slot::Loading(Vec::new()));
        let _guard = LoadingGuard { account, mailbox };
        // From now on changes are kept for us; those that the snapshot has too are passed over.
        let snapshot = self.0.db.snapshot().await?;
        let value = snapshot
            .get(keys::account(account.id))
            .await?
            .ok_or(AccountError::AccountGone)?;
        let modseq = mox_proto::record::v1::Account::decode(value.data)
            .map_err(|_| AccountError::Damaged("an account"))?
            .modseq;
        let mut index = Index::default();
        let mut left = Some(keys::rows(account.id, mailbox, 0, u32::MAX));
        while let Some(range) = left.take() {
            let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
            left = page.rest(&range);
            for (key, value) in page.rows {
                let uid = keys::parse_row(&key).ok_or(AccountError::Damaged("a row"))?;
                let row = Row::decode(value.data).map_err(|_| AccountError::Damaged("a row"))?;
                index.push(&IndexRow::new(uid, &row));
            }
        }
        drop(snapshot);
        let both = {
            let mut shared = account.shared.write();
            let Some(Slot::Loading(waiting)) = shared.indexes.get_mut(&mailbox) else {
                return Err(AccountError::NoMailbox);
            };
            index.apply(std::mem::take(waiting).iter().filter(|d| d.modseq > modseq));
            let slot = Slot::Ready {
                index: index.clone(),
                used: AtomicU64::new(self.0.tick()),
            };
            self.0.index_bytes.fetch_add(slot.bytes(), Ordering::Relaxed);
            shared.indexes.insert(mailbox, slot);
            (shared.state.clone().ok_or(AccountError::AccountGone)?, index)
        };
        self.evict(account.id, mailbox);
        Ok(both)
    }

    /// Gives up least recently used indices until the rest is within the budget, but not the one just loaded.
    fn evict(&self, keep_account: mox_types::AccountId, keep: MailboxId) {
        while self.0.index_bytes.load(Ordering::Relaxed) > self.0.index_budget {
            let accounts: Vec<Arc<Account>> = self.0.accounts.lock().values().cloned().collect();
            let mut oldest: Option<(u64, &Arc<Account>, MailboxId)> = None;
            for account in &accounts {
                for (id, slot) in &account.shared.read().indexes {
                    let Slot::Ready { used, .. } = slot else { continue };
                    let used = used.load(Ordering::Relaxed);
                    let kept = account.id == keep_account && *id == keep;
                    if !kept && oldest.as_ref().is_none_or(|(best, ..)| used < *best) {
                        oldest = Some((used, account, *id));
                    }
                }
            }
            let Some((_, account, id)) = oldest else { return };
            let mut shared = account.shared.write();
            if let Some(Slot::Ready { .. }) = shared.indexes.get(&id)
                && let Some(slot) = shared.indexes.remove(&id)
            {
                self.0.index_bytes.fetch_sub(slot.bytes(), Ordering::Relaxed);
            }
        }
    }
}

/// What changed in a mailbox since a modification sequence, as of a snapshot.
async fn replay(
    snapshot: &dyn Snapshot,
    account: &Account,
    mailbox: MailboxId,
    since: u64,
    deltas: &mut Vec<(MailboxId, Delta)>,
) -> Result<(), AccountError> {
    let mut since = since;
    loop {
        let found = changes(snapshot, account.id, mailbox, since).await?;
        for range in &found.vanished {
            for uid in range.first..=range.last {
                deltas.push((
                    mailbox,
                    Delta {
                        uid,
                        modseq: found.modseq,
                        row: None,
                    },
                ));
            }
        }
        let mut left = Some(found.changed.clone());
        while let Some(now) = left.take() {
            let reader = FromSnapshot(snapshot);
            let (rows, next) = rows::read(&reader, account.id, mailbox, &now, REPLAY_ROWS).await?;
            for (uid, row) in rows {
                deltas.push((
                    mailbox,
                    Delta {
                        uid,
                        modseq: row.modseq,
                        row: Some(IndexRow::new(uid, &row)),
                    },
                ));
            }
            left = next.map(|next| ranges::from(&now, next));
        }
        if !found.more {
            return Ok(());
        }
        since = found.modseq;
    }
}
