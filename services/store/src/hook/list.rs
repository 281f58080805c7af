//! Looking at webhooks: filtered, sorted, in pages.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use mox_proto::hook::v1::{
    Hook, HookFilter, HookSort, ListHooksRequest, ListHooksResponse, ListRetiredHooksRequest, ListRetiredHooksResponse,
    RetiredHook, RetiredHookFilter, RetiredHookSort, hook_sort, retired_hook_sort,
};
use prost::Message;

use super::{Hooks, record};
use crate::engine::{Limit, Order};
use crate::keys;
use crate::queue::QueueError;

/// Webhooks of an answer.
const PAGE_ROWS: usize = 1000;
/// Bytes of an answer, over which no more are added.
const PAGE_BYTES: usize = 1 << 20;
/// Ids that a filter may name.
const FILTER_IDS_MAX: usize = 10_000;

/// Where a webhook stands in the order: the time that it is sorted by and its id, both reversed for descending order.
pub(super) type Place = (i64, u64);

/// Where a page ended, and how many may follow; 0 is all.
pub(super) struct Token {
    after: Option<Place>,
    left: u64,
}

impl Token {
    pub(super) fn parse(text: &str, max: u32) -> Result<Self, QueueError> {
        if text.is_empty() {
            return Ok(Self {
                after: None,
                left: max.into(),
            });
        }
        let read = || {
            let mut parts = text.split('.');
            let time = parts.next()?.parse().ok()?;
            let id = parts.next()?.parse().ok()?;
            let left = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some((time, id, left))
        };
        let (time, id, left) = read().ok_or_else(|| QueueError::Invalid("page_token is none of ours".into()))?;
        Ok(Self {
            after: Some((time, id)),
            left,
        })
    }

    /// How many a page of at most `most` may have.
    fn wanted(&self, most: usize) -> usize {
        match self.left {
            0 => most,
            left => most.min(usize::try_from(left).unwrap_or(most)),
        }
    }
}

pub(super) fn check(ids: &[u64]) -> Result<(), QueueError> {
    if ids.len() > FILTER_IDS_MAX {
        return Err(QueueError::Invalid(format!("at most {FILTER_IDS_MAX} ids")));
    }
    Ok(())
}

fn place(time: i64, id: u64, ascending: bool) -> Place {
    if ascending { (time, id) } else { (-time, u64::MAX - id) }
}

fn within(time: i64, before: Option<i64>, after: Option<i64>) -> bool {
    before.is_none_or(|at| time < at) && after.is_none_or(|at| time > at)
}

pub(super) fn matches(filter: &HookFilter, hook: &Hook) -> bool {
    (filter.ids.is_empty() || filter.ids.contains(&hook.id))
        && (filter.account.is_empty() || filter.account == hook.account)
        && (filter.event.is_empty() || filter.event == hook.event)
        && within(hook.queued, filter.submitted_before, filter.submitted_after)
        && within(hook.next_attempt, filter.next_attempt_before, filter.next_attempt_after)
}

fn matches_retired(filter: &RetiredHookFilter, retired: &RetiredHook, hook: &Hook) -> bool {
    (filter.ids.is_empty() || filter.ids.contains(&hook.id))
        && (filter.account.is_empty() || filter.account == hook.account)
        && (filter.event.is_empty() || filter.event == hook.event)
        && within(hook.queued, filter.submitted_before, filter.submitted_after)
        && within(
            retired.last_activity,
            filter.last_activity_before,
            filter.last_activity_after,
        )
}

pub(super) fn place_of(sort: HookSort, hook: &Hook) -> Place {
    let time = match sort.field() {
        hook_sort::Field::NextAttempt => hook.next_attempt,
        hook_sort::Field::Queued => hook.queued,
    };
    place(time, hook.id, sort.ascending)
}

fn place_of_retired(sort: RetiredHookSort, retired: &RetiredHook, hook: &Hook) -> Place {
    let time = match sort.field() {
        retired_hook_sort::Field::LastActivity => retired.last_activity,
        retired_hook_sort::Field::Queued => hook.queued,
    };
    place(time, hook.id, sort.ascending)
}

impl Hooks {
    /// Webhooks in the queue that match a filter. One that changes its place in the order between two pages may be in
    /// both, or none; all others are in exactly one.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list(&self, request: &ListHooksRequest) -> Result<ListHooksResponse, QueueError> {
        self.list_at_most(request, PAGE_ROWS).await
    }

    /// As [`Hooks::list`], with pages of at most so many.
    pub(super) async fn list_at_most(
        &self,
        request: &ListHooksRequest,
        most: usize,
    ) -> Result<ListHooksResponse, QueueError> {
        let filter = request.filter.clone().unwrap_or_default();
        check(&filter.ids)?;
        let token = Token::parse(&request.page_token, filter.max)?;
        let sort = request.sort.unwrap_or_default();
        let read = |data: &Bytes| {
            let hook = record::decode(data)?.hook;
            Ok(hook
                .filter(|hook| matches(&filter, hook))
                .map(|hook| (place_of(sort, &hook), hook)))
        };
        let wanted = filter.ids.iter().map(|id| keys::hook_entry(*id)).collect();
        let rows = token.wanted(most);
        let found = self.first(keys::hook_entries(), wanted, &token, rows, read).await?;
        let (hooks, next_page_token) = page(found, &token, rows);
        Ok(ListHooksResponse { hooks, next_page_token })
    }

    /// Webhooks that left the queue and are kept.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list_retired(
        &self,
        request: &ListRetiredHooksRequest,
    ) -> Result<ListRetiredHooksResponse, QueueError> {
        let filter = request.filter.clone().unwrap_or_default();
        check(&filter.ids)?;
        let token = Token::parse(&request.page_token, filter.max)?;
        let sort = request.sort.unwrap_or_default();
        let read = |data: &Bytes| {
            let retired = record::decode_retired(data)?;
            let place = retired
                .hook
                .as_ref()
                .filter(|hook| matches_retired(&filter, &retired, hook))
                .map(|hook| place_of_retired(sort, &retired, hook));
            Ok(place.map(|place| (place, retired)))
        };
        let wanted = filter.ids.iter().map(|id| keys::hook_retired(*id)).collect();
        let rows = token.wanted(PAGE_ROWS);
        let found = self.first(keys::hooks_retired(), wanted, &token, rows, read).await?;
        let (hooks, next_page_token) = page(found, &token, rows);
        Ok(ListRetiredHooksResponse { hooks, next_page_token })
    }

    /// The first of what is left, as many as a page has, and one more that tells whether there is a next page. If some `keys` are given, only
    /// those are looked at.
    pub(super) async fn first<T>(
        &self,
        range: Range<Bytes>,
        keys: Vec<Bytes>,
        token: &Token,
        wanted: usize,
        read: impl Fn(&Bytes) -> Result<Option<(Place, T)>, QueueError>,
    ) -> Result<BTreeMap<Place, T>, QueueError> {
        let mut first: BTreeMap<Place, T> = BTreeMap::new();
        let mut add = |data: &Bytes| -> Result<(), QueueError> {
            if let Some((at, row)) = read(data)?
                && token.after.is_none_or(|after| at > after)
            {
                first.insert(at, row);
                if first.len() > wanted + 1 {
                    first.pop_last();
                }
            }
            Ok(())
        };
        if !keys.is_empty() {
            for value in self.db().get_many(keys).await?.into_iter().flatten() {
                add(&value.data)?;
            }
            return Ok(first);
        }
        let mut left = Some(range);
        while let Some(range) = left {
            let page = self
                .db()
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await?;
            for (_, value) in &page.rows {
                add(&value.data)?;
            }
            left = page.rest(&range);
        }
        Ok(first)
    }
}

/// The order in which nothing moves.
pub(super) fn unchanging() -> HookSort {
    HookSort {
        field: hook_sort::Field::Queued.into(),
        ascending: true,
    }
}

/// As many as go into an answer, and the token of the next.
pub(super) fn page<T: Message>(first: BTreeMap<Place, T>, token: &Token, wanted: usize) -> (Vec<T>, String) {
    let available = first.len();
    let mut bytes = 0;
    let mut last = None;
    let mut rows = Vec::with_capacity(wanted.min(available));
    for (at, row) in first {
        bytes += row.encoded_len();
        if rows.len() == wanted || (!rows.is_empty() && bytes > PAGE_BYTES) {
            break;
        }
        last = Some(at);
        rows.push(row);
    }
    let left = token.left.saturating_sub(rows.len() as u64);
    let more = rows.len() < available && (token.left == 0 || left > 0);
    let next = last.filter(|_| more).map(|(time, id)| format!("{time}.{id}.{left}"));
    (rows, next.unwrap_or_default())
}
