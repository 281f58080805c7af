//! What is kept of messages that left the queue, for as long as their account wants.

use bytes::Bytes;
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::retired_sort::Field as SortField;
use mox_proto::queue::v1::{
    AttemptResult, Entry, ListRetiredRequest, ListRetiredResponse, Retired, RetiredFilter, RetiredSort,
};
use mox_types::AccountId;
use prost::Message;

use super::complete::RESULTS_MAX;
use super::find::{Place, Query, Row, Times, find};
use super::index::{Field, Listed, mark};
use super::list::{PAGE_ENTRIES, Token, check_ids, conditions, page};
use super::record::{self, Stored};
use super::{ATTEMPTS, Queue, QueueError};
use crate::engine::{Commit, Engine, EngineError, Limit, Order};
use crate::keys::{self, QueueList, QueueOrder};

/// Retired messages that are removed in one commit.
const CLEAN_STEP: usize = 500;

impl Row for Retired {
    fn read(data: &Bytes) -> Result<Self, QueueError> {
        Self::decode(data.clone()).map_err(|_| QueueError::Damaged("a retired message"))
    }

    fn key(id: u64) -> Bytes {
        keys::queue_retired(id)
    }

    fn id(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.id)
    }

    fn time(&self, order: QueueOrder) -> i64 {
        match order {
            QueueOrder::Activity => self.last_activity,
            QueueOrder::Queued => self.entry.as_ref().map_or(0, |entry| entry.queued),
        }
    }
}

struct RetiredAsked {
    query: Query,
    transport: Option<String>,
}

impl RetiredAsked {
    fn new(filter: &RetiredFilter, sort: RetiredSort, after: Option<Place>, wanted: usize) -> Result<Self, QueueError> {
        check_ids(&filter.ids)?;
        let mut equal = conditions(
            &filter.to,
            &filter.from,
            filter.transport.as_deref(),
            None,
            &filter.account,
        );
        equal.extend(filter.success.map(|on| (Field::Mark, mark(on).to_owned())));
        let query = Query {
            list: QueueList::Retired,
            ids: filter.ids.clone(),
            equal,
            activity: Times {
                after: filter.last_activity_after,
                before: filter.last_activity_before,
            },
            queued: Times {
                after: filter.submitted_after,
                before: filter.submitted_before,
            },
            order: match sort.field() {
                SortField::LastActivity => QueueOrder::Activity,
                SortField::Queued => QueueOrder::Queued,
            },
            ascending: sort.ascending,
            after,
            wanted,
        };
        Ok(Self {
            query,
            transport: filter.transport.clone(),
        })
    }

    fn matches(&self, retired: &Retired) -> bool {
        let Some(entry) = &retired.entry else { return false };
        self.query.activity.contain(retired.last_activity)
            && self.query.queued.contain(entry.queued)
            && self.transport.as_ref().is_none_or(|name| *name == entry.transport)
            && Listed::retired(retired).has_all(&self.query.equal)
    }
}

impl Queue {
    /// Takes an entry out of the queue: `last` is the entry as it was last. If its account keeps them, it is retired.
    pub(super) fn leave(
        &self,
        commit: &mut Commit,
        stored: &Stored,
        last: &Entry,
        reason: Reason,
        now: i64,
    ) -> Result<(), QueueError> {
        record::remove(commit, stored, now)?;
        let account = record::account_of(last)?;
        let keep = self.keep_millis(&last.account);
        if keep == 0 {
            for key in record::links(last) {
                commit.delete(key);
            }
            return Ok(());
        }
        let mut entry = last.clone();
        entry.prefix.clear();
        entry.content_id.clear();
        let retired = Retired {
            entry: Some(entry),
            last_activity: now,
            keep_until: now.saturating_add(keep),
            success: matches!(reason, Reason::Delivered | Reason::Relayed),
            reason: reason.into(),
        };
        commit.put(keys::queue_retired(last.id), retired.encode_to_vec());
        commit.put(keys::queue_retired_until(retired.keep_until, last.id), Bytes::new());
        commit.put(keys::queue_retired_of(account, last.id), Bytes::new());
        Listed::retired(&retired).insert(commit);
        Ok(())
    }

    /// Retired messages that match a filter.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list_retired(&self, request: &ListRetiredRequest) -> Result<ListRetiredResponse, QueueError> {
        let filter = request.filter.clone().unwrap_or_default();
        let token = Token::parse(&request.page_token, filter.max)?;
        let sort = request.sort.unwrap_or_default();
        let asked = RetiredAsked::new(&filter, sort, token.after, token.wanted(PAGE_ENTRIES))?;
        let snapshot = self.db().snapshot().await?;
        let found = find(snapshot.as_ref(), &asked.query, |retired: &Retired| {
            asked.matches(retired)
        })
        .await?;
        let (retired, next_page_token) = page(found, asked.query.order, token);
        Ok(ListRetiredResponse {
            retired,
            next_page_token,
        })
    }

    /// One retired message.
    ///
    /// # Errors
    /// If it is not there, or the engine fails.
    pub async fn retired(&self, id: u64) -> Result<Retired, QueueError> {
        let value = self.db().get(keys::queue_retired(id)).await?;
        Retired::read(&value.ok_or(QueueError::NoRetired(id))?.data)
    }

    /// Removes the retired messages whose time is over.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn clean_retired(&self) -> Result<u64, QueueError> {
        let mut removed = 0;
        loop {
            let range = keys::queue_retired_over(self.now());
            let page = self.db().scan(range, Limit::rows(CLEAN_STEP), Order::Ascending).await?;
            let ids: Vec<u64> = page
                .rows
                .iter()
                .filter_map(|(key, _)| keys::parse_queue_retired_until(key))
                .collect();
            let mut commit = Commit::new();
            for (key, _) in &page.rows {
                commit.delete(key.clone());
            }
            removed += remove(self.db().as_ref(), &mut commit, &ids).await?;
            if !commit.operations.is_empty() {
                commit.set_frees();
                self.db().commit(commit).await?;
            }
            if !page.more {
                return Ok(removed);
            }
        }
    }

    /// Removes the retired messages of an account.
    pub(super) async fn remove_retired(&self, account: AccountId) -> Result<(), QueueError> {
        let mut conflicts = 0;
        loop {
            let range = keys::queue_retired_of_all(account);
            let page = self.db().scan(range, Limit::rows(CLEAN_STEP), Order::Ascending).await?;
            if page.rows.is_empty() {
                return Ok(());
            }
            let ids: Vec<u64> = page
                .rows
                .iter()
                .filter_map(|(key, _)| keys::parse_queue_of_account(key))
                .collect();
            let mut commit = Commit::new();
            for (key, _) in page.rows {
                commit.delete(key);
            }
            remove(self.db().as_ref(), &mut commit, &ids).await?;
            commit.set_frees();
            match self.db().commit(commit).await {
                Ok(_) => conflicts = 0,
                Err(EngineError::Conflict { .. }) if conflicts < ATTEMPTS => conflicts += 1,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Entries, and retired messages, of an account with a Message-ID, of which something came back.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn by_message_id(&self, account: AccountId, message_id: &str) -> Result<Vec<Sent>, QueueError> {
        let link = record::link_of(message_id).unwrap_or_default();
        self.by_fromid(account, &link).await
    }

    /// Adds to a commit a result that became known after a message left the queue, by what came back for it, and what
    /// became of the message then, if it says so. Nothing is changed if the message is not kept.
    ///
    /// # Errors
    /// If the engine fails.
    pub(crate) async fn note_retired(
        &self,
        commit: &mut Commit,
        id: u64,
        result: AttemptResult,
        reason: Option<Reason>,
    ) -> Result<(), QueueError> {
        let key = keys::queue_retired(id);
        let Some(value) = self.db().get(key.clone()).await? else {
            return Ok(());
        };
        let before = Retired::read(&value.data)?;
        let mut after = before.clone();
        after.last_activity = self.now();
        if let Some(reason) = reason {
            after.success = result.success;
            after.set_reason(reason);
        }
        if let Some(entry) = &mut after.entry {
            entry.results.push(result);
            let surplus = entry.results.len().saturating_sub(RESULTS_MAX);
            entry.results.drain(..surplus);
        }
        commit.require_at(key.clone(), value.version);
        commit.put(key, after.encode_to_vec());
        Listed::replace(&Listed::retired(&before), &Listed::retired(&after), commit);
        Ok(())
    }

    /// Entries, and retired messages, of an account whose sender's address had this in it: for what comes back to that
    /// address. A retired message says what became of it.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn by_fromid(&self, account: AccountId, fromid: &str) -> Result<Vec<Sent>, QueueError> {
        if fromid.is_empty() {
            return Ok(Vec::new());
        }
        let range = keys::queue_fromid_all(account, fromid);
        let page = self.db().scan(range, Limit::rows(FROMID_MAX), Order::Ascending).await?;
        let ids: Vec<u64> = page
            .rows
            .iter()
            .filter_map(|(key, _)| keys::parse_queue_fromid(key))
            .collect();
        let wanted = ids
            .iter()
            .flat_map(|id| [keys::queue_entry(*id), keys::queue_retired(*id)]);
        let values = self.db().get_many(wanted.collect()).await?;
        let mut sent = Vec::new();
        for pair in values.chunks(2) {
            match pair {
                [Some(entry), _] => sent.push(Sent::Queued(record::decode_entry(&entry.data)?)),
                [None, Some(retired)] => sent.push(Sent::Retired(Retired::read(&retired.data)?)),
                _ => {}
            }
        }
        Ok(sent)
    }
}

/// Messages of one fromid that are found: one submission has at most so many recipients.
const FROMID_MAX: usize = 1000;

/// A message that was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// It is in the queue still.
    Queued(Entry),
    /// It left the queue.
    Retired(Retired),
}

impl Sent {
    /// The entry, as it is or was last.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Queued(entry) => Some(entry),
            Self::Retired(retired) => retired.entry.as_ref(),
        }
    }
}

/// Adds the removal of retired messages to a commit; answers how many there are.
async fn remove(db: &dyn Engine, commit: &mut Commit, ids: &[u64]) -> Result<u64, QueueError> {
    let mut removed = 0;
    let found = db
        .get_many(ids.iter().map(|id| keys::queue_retired(*id)).collect())
        .await?;
    for value in found.into_iter().flatten() {
        let retired = Retired::read(&value.data)?;
        let Some(entry) = &retired.entry else { continue };
        let account = record::account_of(entry)?;
        commit.require_at(keys::queue_retired(entry.id), value.version);
        commit.delete(keys::queue_retired(entry.id));
        commit.delete(keys::queue_retired_until(retired.keep_until, entry.id));
        commit.delete(keys::queue_retired_of(account, entry.id));
        for key in record::links(entry) {
            commit.delete(key);
        }
        Listed::retired(&retired).remove(commit);
        removed += 1;
    }
    Ok(removed)
}
