//! A page of what matches a filter, in an order, at a cost that is bounded whatever there is.
//!
//! Every condition that has an index is a *candidate*. If one of them has few rows, those are read, filtered and sorted.
//! Otherwise one candidate's index is walked in the order that was asked for, from where the last page ended, and what
//! matches the rest is taken. A walk looks at a bounded number of rows: if few of them match, the page is short, and
//! says where to go on.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::QueueError;
use super::index::{Field, MARKS};
use crate::engine::{Limit, Order, Snapshot, Value};
use crate::keys::{self, QueueList, QueueOrder};

/// A candidate with at most as many rows is few.
const FEW: usize = 500;
/// Rows that a walk looks at for one page: some 20 ms.
const WALK: usize = 3000;
/// Rows of an index that are read at once.
const STEP: usize = 512;

/// Where something stands in an order: the time that it is sorted by, and its id.
pub(super) type Place = (i64, u64);

/// Before and after all places.
const FIRST: Place = (0, 0);
const LAST: Place = (i64::MAX, u64::MAX);

/// After and before which times, both exclusive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub after: Option<i64>,
    pub before: Option<i64>,
}

impl Times {
    fn places(self) -> Range<Place> {
        let start = self.after.map_or(FIRST, |at| (at.saturating_add(1).max(0), 0));
        let end = self.before.map_or(LAST, |at| (at.max(0), 0));
        start..end.max(start)
    }

    fn is_set(self) -> bool {
        self.after.is_some() || self.before.is_some()
    }

    pub(super) fn contain(self, time: i64) -> bool {
        self.after.is_none_or(|at| time > at) && self.before.is_none_or(|at| time < at)
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub list: QueueList,
    /// If there are some, nothing else is looked at.
    pub ids: Vec<u64>,
    /// All of them, the likely rarer ones first.
    pub equal: Vec<(Field, String)>,
    pub activity: Times,
    pub queued: Times,
    pub order: QueueOrder,
    pub ascending: bool,
    /// Where the last page ended.
    pub after: Option<Place>,
    /// At least one.
    pub wanted: usize,
}

/// What is listed.
pub(super) trait Row: Sized {
    fn read(data: &Bytes) -> Result<Self, QueueError>;
    fn key(id: u64) -> Bytes;
    fn id(&self) -> u64;
    /// What it is sorted by.
    fn time(&self, order: QueueOrder) -> i64;
}

/// A page.
pub(super) struct Found<T> {
    pub rows: Vec<T>,
    /// Where to go on, if there may be more.
    pub rest: Option<Place>,
}

impl Query {
    fn times(&self, order: QueueOrder) -> Times {
        match order {
            QueueOrder::Activity => self.activity,
            QueueOrder::Queued => self.queued,
        }
    }

    /// The places, in an order, that are left to look at.
    fn places(&self, order: QueueOrder) -> Range<Place> {
        let mut places = self.times(order).places();
        if let Some((time, id)) = self.after.filter(|_| order == self.order) {
            if self.ascending {
                places.start = places.start.max((time, id.saturating_add(1)));
            } else {
                places.end = places.end.min((time, id));
            }
            places.end = places.end.max(places.start);
        }
        places
    }

    /// The ranges of a candidate.
    fn ranges(&self, candidate: Option<&(Field, String)>, order: QueueOrder) -> Vec<Range<Bytes>> {
        let range =
            |field, value: &str| keys::queue_index_range(self.list, field as u8, order, value, self.places(order));
        match candidate {
            Some((field, value)) => vec![range(*field, value)],
            None => MARKS.map(|mark| range(Field::Mark, mark)).into(),
        }
    }

    fn comes_after(&self, place: Place) -> bool {
        self.after
            .is_none_or(|after| if self.ascending { place > after } else { place < after })
    }
}

/// The page of what matches a query, and `matches`, which has to check all of its conditions again.
pub(super) async fn find<T: Row>(
    snapshot: &dyn Snapshot,
    query: &Query,
    matches: impl Fn(&T) -> bool,
) -> Result<Found<T>, QueueError> {
    if !query.ids.is_empty() {
        let mut ids = query.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        return few(snapshot, query, ids, matches).await;
    }
    let mut candidates: Vec<Option<&(Field, String)>> = query.equal.iter().map(Some).collect();
    if candidates.is_empty() {
        candidates.push(None);
    }
    let other = match query.order {
        QueueOrder::Activity => QueueOrder::Queued,
        QueueOrder::Queued => QueueOrder::Activity,
    };
    for candidate in &candidates {
        for order in [query.order, other] {
            // Without a bound on time, both orders have the same rows; and with one condition, the walk is as good.
            let useful = if order == query.order {
                candidates.len() > 1
            } else {
                query.times(order).is_set()
            };
            if useful && let Some(ids) = count(snapshot, &query.ranges(*candidate, order)).await? {
                return few(snapshot, query, ids, matches).await;
            }
        }
    }
    walk(snapshot, query, query.ranges(candidates[0], query.order), matches).await
}

/// The ids of ranges, if they are few.
async fn count(snapshot: &dyn Snapshot, ranges: &[Range<Bytes>]) -> Result<Option<Vec<u64>>, QueueError> {
    let mut ids = Vec::new();
    for range in ranges {
        let page = snapshot
            .scan(range.clone(), Limit::rows(FEW + 1 - ids.len()), Order::Ascending)
            .await?;
        for (key, _) in &page.rows {
            ids.push(place(key)?.1);
        }
        if page.more || ids.len() > FEW {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

fn place(key: &[u8]) -> Result<Place, QueueError> {
    keys::parse_queue_index(key).ok_or(QueueError::Damaged("an index of the queue"))
}

async fn read<T: Row>(snapshot: &dyn Snapshot, ids: &[u64]) -> Result<Vec<Option<T>>, QueueError> {
    let values: Vec<Option<Value>> = snapshot.get_many(ids.iter().map(|id| T::key(*id)).collect()).await?;
    values
        .into_iter()
        .map(|value| value.map(|value| T::read(&value.data)).transpose())
        .collect()
}

/// Of these, what matches.
async fn few<T: Row>(
    snapshot: &dyn Snapshot,
    query: &Query,
    ids: Vec<u64>,
    matches: impl Fn(&T) -> bool,
) -> Result<Found<T>, QueueError> {
    let mut rows: Vec<(Place, T)> = Vec::new();
    for part in ids.chunks(STEP) {
        for row in read::<T>(snapshot, part).await?.into_iter().flatten() {
            let at = (row.time(query.order), row.id());
            if query.comes_after(at) && matches(&row) {
                rows.push((at, row));
            }
        }
    }
    rows.sort_unstable_by_key(|(at, _)| *at);
    if !query.ascending {
        rows.reverse();
    }
    let rest = (rows.len() > query.wanted).then(|| rows[query.wanted - 1].0);
    rows.truncate(query.wanted);
    Ok(Found {
        rows: rows.into_iter().map(|(_, row)| row).collect(),
        rest,
    })
}

/// Ranges that are walked as one.
struct Merged {
    parts: Vec<(Option<Range<Bytes>>, VecDeque<Place>)>,
    ascending: bool,
}

impl Merged {
    async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<Place>, QueueError> {
        for (range, places) in &mut self.parts {
            if !places.is_empty() {
                continue;
            }
            let Some(left) = range.take() else { continue };
            let order = if self.ascending {
                Order::Ascending
            } else {
                Order::Descending
            };
            let page = snapshot.scan(left.clone(), Limit::rows(STEP), order).await?;
            for (key, _) in &page.rows {
                places.push_back(place(key)?);
            }
            *range = if self.ascending {
                page.rest(&left)
            } else {
                let last = page.rows.last().filter(|_| page.more);
                last.map(|(key, _)| left.start.clone()..key.clone())
            };
        }
        let best = self
            .parts
            .iter_mut()
            .filter(|(_, places)| !places.is_empty())
            .reduce(|a, b| {
                if (b.1.front() < a.1.front()) == self.ascending {
                    b
                } else {
                    a
                }
            });
        Ok(best.and_then(|(_, places)| places.pop_front()))
    }
}

async fn walk<T: Row>(
    snapshot: &dyn Snapshot,
    query: &Query,
    ranges: Vec<Range<Bytes>>,
    matches: impl Fn(&T) -> bool,
) -> Result<Found<T>, QueueError> {
    let mut merged = Merged {
        parts: ranges.into_iter().map(|range| (Some(range), VecDeque::new())).collect(),
        ascending: query.ascending,
    };
    let mut rows: Vec<T> = Vec::new();
    let mut looked = 0;
    let mut last = None;
    loop {
        // As many as are missing, and if few of them match, more at once.
        let step = (query.wanted + 1 - rows.len()).max(looked).min(STEP);
        let mut places = Vec::with_capacity(step);
        while places.len() < step
            && let Some(place) = merged.next(snapshot).await?
        {
            places.push(place);
        }
        if places.is_empty() {
            return Ok(Found { rows, rest: None });
        }
        looked += places.len();
        let ids: Vec<u64> = places.iter().map(|(_, id)| *id).collect();
        for (place, row) in places.into_iter().zip(read::<T>(snapshot, &ids).await?) {
            // What does not match its index is passed over: it is found where its record says.
            let row = row.filter(|row| row.time(query.order).max(0) == place.0 && matches(row));
            if rows.len() == query.wanted && row.is_some() {
                return Ok(Found { rows, rest: last });
            }
            last = Some(place);
            rows.extend(row);
        }
        if looked >= WALK {
            return Ok(Found { rows, rest: last });
        }
    }
}
