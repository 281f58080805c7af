//! Looking at the queue: filtered, sorted, in pages.

use std::collections::BTreeMap;

use mox_proto::queue::v1::sort::Field;
use mox_proto::queue::v1::{Entry, Filter, ListQueueRequest, ListQueueResponse};
use prost::Message;

use super::{Queue, QueueError, record};
use crate::engine::{Limit, Order};
use crate::keys;

/// Entries of an answer.
const PAGE_ENTRIES: usize = 1000;
/// Bytes of an answer, over which no more are added.
const PAGE_BYTES: usize = 1 << 20;
/// Ids that a filter may name.
const FILTER_IDS_MAX: usize = 10_000;

/// Where an entry stands in the order: the field, negated for descending order, and the id.
type Place = (i64, u64);

/// Where a page ends, and how many entries may follow; 0 is all.
struct Token {
    after: Place,
    left: u64,
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let field = parts.next()?.parse().ok()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let token = Self {
            after: (field, number()?),
            left: number()?,
        };
        parts.next().is_none().then_some(token)
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.after.0, self.after.1, self.left)
    }
}

/// An address, or all of a domain as "@domain".
fn address_matches(pattern: &str, address: &str) -> bool {
    let (pattern, address) = (pattern.to_lowercase(), address.to_lowercase());
    pattern.is_empty()
        || if pattern.starts_with('@') {
            address.ends_with(&pattern)
        } else {
            address == pattern
        }
}

fn matches(filter: &Filter, entry: &Entry) -> bool {
    (filter.ids.is_empty() || filter.ids.contains(&entry.id))
        && (filter.account.is_empty() || filter.account == entry.account)
        && address_matches(&filter.from, &entry.mail_from)
        && address_matches(&filter.to, &entry.recipient)
        && filter.hold.is_none_or(|hold| hold == entry.hold)
        && filter.submitted_before.is_none_or(|at| entry.queued < at)
        && filter.submitted_after.is_none_or(|at| entry.queued > at)
        && filter.next_attempt_before.is_none_or(|at| entry.next_attempt < at)
        && filter.next_attempt_after.is_none_or(|at| entry.next_attempt > at)
        && filter
            .transport
            .as_ref()
            .is_none_or(|transport| *transport == entry.transport)
}

impl Queue {
    /// Entries that match a filter, without their prefixes. An entry that changes its place in the order between two
    /// pages may be in both, or none; all others are in exactly one.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list(&self, request: &ListQueueRequest) -> Result<ListQueueResponse, QueueError> {
        let filter = request.filter.clone().unwrap_or_default();
        if filter.ids.len() > FILTER_IDS_MAX {
            return Err(QueueError::Invalid(format!("at most {FILTER_IDS_MAX} ids")));
        }
        let sort = request.sort.unwrap_or_default();
        let token = match request.page_token.as_str() {
            "" => Token {
                after: (i64::MIN, 0),
                left: u64::from(filter.max),
            },
            text => Token::parse(text).ok_or_else(|| QueueError::Invalid("page_token is none of ours".into()))?,
        };
        let begun = !request.page_token.is_empty();
        let place = |entry: &Entry| {
            let time = match sort.field() {
                Field::NextAttempt => entry.next_attempt,
                Field::Queued => entry.queued,
            };
            if sort.ascending {
                (time, entry.id)
            } else {
                (-time, u64::MAX - entry.id)
            }
        };
        let wanted = if token.left == 0 {
            PAGE_ENTRIES
        } else {
            PAGE_ENTRIES.min(token.left as usize)
        };
        // The first entries of what is left, and one more that tells whether there is a next page.
        let mut first: BTreeMap<Place, Entry> = BTreeMap::new();
        let mut range = keys::queue_entries();
        loop {
            let page = self
                .db()
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await?;
            for (_, value) in &page.rows {
                let mut entry = record::decode_entry(&value.data)?;
                let at = place(&entry);
                let beyond = first.len() > wanted && first.last_key_value().is_some_and(|(last, _)| at > *last);
                if (begun && at <= token.after) || beyond || !matches(&filter, &entry) {
                    continue;
                }
                entry.prefix.clear();
                first.insert(at, entry);
                if first.len() > wanted + 1 {
                    first.pop_last();
                }
            }
            match page.rest(&range) {
                Some(rest) => range = rest,
                None => break,
            }
        }
        Ok(page(first, wanted, token.left))
    }
}

/// As many of the entries as go into an answer.
fn page(first: BTreeMap<Place, Entry>, wanted: usize, left: u64) -> ListQueueResponse {
    let available = first.len();
    let mut bytes = 0;
    let mut last = None;
    let mut entries = Vec::with_capacity(wanted.min(available));
    for (at, entry) in first {
        bytes += entry.encoded_len();
        if entries.len() == wanted || (!entries.is_empty() && bytes > PAGE_BYTES) {
            break;
        }
        last = Some(at);
        entries.push(entry);
    }
    let left_after = left.saturating_sub(entries.len() as u64);
    let more = entries.len() < available && (left == 0 || left_after > 0);
    let next_page_token = last
        .filter(|_| more)
        .map(|after| {
            Token {
                after,
                left: left_after,
            }
            .text()
        })
        .unwrap_or_default();
    ListQueueResponse {
        entries,
        next_page_token,
    }
}
