//! Looking at the queue, and at what left it: filtered, sorted, in pages.

use bytes::Bytes;
use mox_proto::queue::v1::sort::Field as SortField;
use mox_proto::queue::v1::{Entry, Filter, ListQueueRequest, ListQueueResponse, Sort};
use prost::Message;

use super::find::{Found, Place, Query, Row, Times, find};
use super::index::{Field, Listed, mark, normal, value};
use super::{Queue, QueueError, record};
use crate::keys::{self, QueueList, QueueOrder};

/// Entries of an answer.
pub(super) const PAGE_ENTRIES: usize = 1000;
/// Bytes of an answer, over which no more are added.
const PAGE_BYTES: usize = 1 << 20;
/// Ids that a filter may name.
const FILTER_IDS_MAX: usize = 10_000;

/// Where a page ended, and how many rows may follow; 0 is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub after: Option<Place>,
    pub left: u64,
}

impl Token {
    /// Of a request: the first page has none.
    pub(super) fn parse(text: &str, max: u32) -> Result<Self, QueueError> {
        if text.is_empty() {
            return Ok(Self {
                after: None,
                left: max.into(),
            });
        }
        let mut numbers = text.split('.').map(|part| part.parse::<u64>().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(time)), Some(Some(id)), Some(Some(left)), None) => Ok(Self {
                after: Some((i64::try_from(time).unwrap_or(i64::MAX), id)),
                left,
            }),
            _ => Err(QueueError::Invalid("page_token is none of ours".into())),
        }
    }

    /// How many rows a page of at most `most` may have.
    pub(super) fn wanted(self, most: usize) -> usize {
        match self.left {
            0 => most,
            left => most.min(usize::try_from(left).unwrap_or(most)),
        }
    }

    /// The token of the next page, after one with `given` rows; "" if there is none.
    pub(super) fn next(self, given: usize, rest: Option<Place>) -> String {
        let left = self.left.saturating_sub(given as u64);
        match rest {
            Some((time, id)) if self.left == 0 || left > 0 => format!("{}.{id}.{left}", time.max(0)),
            _ => String::new(),
        }
    }
}

/// The condition of an address, or all of a domain as "@domain".
fn address_condition(pattern: &str, whole: Field, domain: Field) -> Option<(Field, String)> {
    if pattern.is_empty() {
        return None;
    }
    let (address, of) = normal(pattern);
    Some(if pattern.starts_with('@') {
        (domain, of)
    } else {
        (whole, address)
    })
}

/// The conditions of a filter that have an index, the likely rarer first.
pub(super) fn conditions(
    to: &str,
    from: &str,
    transport: Option<&str>,
    marked: Option<bool>,
    account: &str,
) -> Vec<(Field, String)> {
    let mut all = Vec::new();
    all.extend(address_condition(to, Field::To, Field::ToDomain));
    all.extend(
        transport
            .filter(|name| !name.is_empty())
            .map(|name| (Field::Transport, value(name))),
    );
    all.extend(address_condition(from, Field::From, Field::FromDomain));
    all.extend((!account.is_empty()).then(|| (Field::Account, value(account))));
    all.extend(marked.map(|on| (Field::Mark, mark(on).to_owned())));
    all
}

pub(super) fn check_ids(ids: &[u64]) -> Result<(), QueueError> {
    if ids.len() > FILTER_IDS_MAX {
        return Err(QueueError::Invalid(format!("at most {FILTER_IDS_MAX} ids")));
    }
    Ok(())
}

/// A filter, ready to be asked.
pub(super) struct EntryFilter {
    pub query: Query,
    transport: Option<String>,
}

impl EntryFilter {
    pub(super) fn new(filter: &Filter, sort: Sort, after: Option<Place>, wanted: usize) -> Result<Self, QueueError> {
        check_ids(&filter.ids)?;
        let query = Query {
            list: QueueList::Entries,
            ids: filter.ids.clone(),
            equal: conditions(
                &filter.to,
                &filter.from,
                filter.transport.as_deref(),
                filter.hold,
                &filter.account,
            ),
            activity: Times {
                after: filter.next_attempt_after,
                before: filter.next_attempt_before,
            },
            queued: Times {
                after: filter.submitted_after,
                before: filter.submitted_before,
            },
            order: match sort.field() {
                SortField::NextAttempt => QueueOrder::Activity,
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

    pub(super) fn matches(&self, entry: &Entry) -> bool {
        self.query.activity.contain(entry.next_attempt)
            && self.query.queued.contain(entry.queued)
            && self.transport.as_ref().is_none_or(|name| *name == entry.transport)
            && Listed::entry(entry).has_all(&self.query.equal)
    }
}

impl Row for Entry {
    fn read(data: &Bytes) -> Result<Self, QueueError> {
        record::decode_entry(data)
    }

    fn key(id: u64) -> Bytes {
        keys::queue_entry(id)
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn time(&self, order: QueueOrder) -> i64 {
        match order {
            QueueOrder::Activity => self.next_attempt,
            QueueOrder::Queued => self.queued,
        }
    }
}

/// As many of the rows as go into an answer, and the token of the next page.
pub(super) fn page<T: Row + Message>(found: Found<T>, order: QueueOrder, token: Token) -> (Vec<T>, String) {
    let Found { mut rows, mut rest } = found;
    let mut bytes = 0;
    let fitting = rows
        .iter()
        .take_while(|row| {
            bytes += row.encoded_len();
            bytes <= PAGE_BYTES
        })
        .count();
    if fitting.max(1) < rows.len() {
        rows.truncate(fitting.max(1));
        rest = rows.last().map(|row| (row.time(order), row.id()));
    }
    let next = token.next(rows.len(), rest);
    (rows, next)
}

impl Queue {
    /// Entries that match a filter, without their prefixes. An entry that changes its place in the order between two
    /// pages may be in both, or none; all others are in exactly one.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list(&self, request: &ListQueueRequest) -> Result<ListQueueResponse, QueueError> {
        let filter = request.filter.clone().unwrap_or_default();
        let token = Token::parse(&request.page_token, filter.max)?;
        let sort = request.sort.unwrap_or_default();
        let asked = EntryFilter::new(&filter, sort, token.after, token.wanted(PAGE_ENTRIES))?;
        let snapshot = self.db().snapshot().await?;
        let mut found = find(snapshot.as_ref(), &asked.query, |entry: &Entry| asked.matches(entry)).await?;
        for entry in &mut found.rows {
            entry.prefix.clear();
        }
        let (entries, next_page_token) = page(found, asked.query.order, token);
        Ok(ListQueueResponse {
            entries,
            next_page_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_others_refused() {
        let first = Token::parse("", 3).unwrap();
        assert_eq!((first.after, first.wanted(1000)), (None, 3));
        let next = first.next(2, Some((7, 9)));
        let token = Token::parse(&next, 3).unwrap();
        assert_eq!((token.after, token.left), (Some((7, 9)), 1));
        assert_eq!(token.next(1, Some((8, 9))), "", "no more are wanted");
        assert_eq!(Token::parse("", 0).unwrap().next(5, None), "");
        for bad in ["1", "1.2", "1.2.3.4", "a.b.c", "-1.2.3"] {
            assert!(Token::parse(bad, 0).is_err(), "{bad}");
        }
    }
}
