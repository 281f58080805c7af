//! Leases: taking what is due, and keeping it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mox_proto::queue::v1::{ClaimRequest, ClaimResponse, Claimed, Lease, RenewRequest};
use mox_proto::record::v1::QueueState;
use prost::Message;

use super::lease::{self, CONTENDED_MILLIS, Leased, check_worker, lease_millis};
use super::record::{self, Stored};
use super::{ATTEMPTS, Queue, QueueError};
use crate::engine::{Commit, Engine, EngineError, Limit, Order, Snapshot};
use crate::keys;

/// Most entries of an answer.
const CLAIM_MAX: usize = 256;
/// Most entries of one domain in an answer, so that a page is not filled by one.
const CLAIM_DOMAIN_MAX: usize = 128;
/// Bytes of entries in an answer, over which no more are added.
const CLAIM_BYTES: usize = 1 << 20;
/// Domains that a worker may name as not wanted.
const BUSY_MAX: usize = 4096;
/// Tickets that are read at once.
const TICKETS_PAGE: usize = 512;
/// Pages of tickets that are read for one claim. Those of unwanted domains are merged, one page a claim at least, so a
/// next claim gets further.
const TICKETS_PAGES: usize = 16;

/// A ticket that was read.
struct Ticket {
    key: Bytes,
    version: u64,
}

/// What a claim collects.
#[derive(Default)]
struct Taking {
    commit: Commit,
    entries: Vec<Claimed>,
    bytes: usize,
    /// When something that was not taken is due.
    next: Option<i64>,
}

impl Queue {
    /// Leases entries that are due to a worker.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<ClaimResponse, QueueError> {
        check_worker(&request.worker)?;
        if request.busy_domains.len() > BUSY_MAX {
            return Err(QueueError::Invalid(format!("at most {BUSY_MAX} busy domains")));
        }
        let busy: HashSet<&str> = request.busy_domains.iter().map(String::as_str).collect();
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let snapshot = self.db().snapshot().await?;
            let taking = take(snapshot.as_ref(), request, &busy, now).await?;
            drop(snapshot);
            let response = ClaimResponse {
                entries: taking.entries,
                next_due: taking.next,
            };
            if taking.commit.operations.is_empty() {
                return Ok(response);
            }
            match self.db().commit(taking.commit).await {
                Ok(_) => return Ok(response),
                // Another worker took some of them, or one of them left the queue.
                Err(EngineError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(ClaimResponse {
            entries: Vec::new(),
            next_due: Some(self.now() + CONTENDED_MILLIS),
        })
    }

    /// Extends leases; answers which are still held. A lease that ended is held still if nobody else took the entry.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn renew(&self, request: &RenewRequest) -> Result<Vec<bool>, QueueError> {
        lease::renew::<Stored>(self.db(), &self.0.now, request).await
    }
}

impl Leased for Stored {
    async fn load(db: &dyn Engine, ids: &[u64]) -> Result<Vec<Option<Self>>, QueueError> {
        record::load(db, ids).await
    }

    fn is_held(&self, lease: &Lease, worker: &str) -> bool {
        self.state.attempt == lease.attempt && self.state.worker == worker
    }

    fn extend(&self, commit: &mut Commit, due: i64) -> Result<(), QueueError> {
        let state = QueueState {
            due,
            ..self.state.clone()
        };
        record::update_state(commit, self, &state);
        Ok(())
    }
}

async fn take(
    snapshot: &dyn Snapshot,
    request: &ClaimRequest,
    busy: &HashSet<&str>,
    now: i64,
) -> Result<Taking, QueueError> {
    let max = (request.max as usize).clamp(1, CLAIM_MAX);
    let mut taking = Taking::default();
    let mut range = keys::queue_tickets(0, now);
    // Domains of which a ticket is kept, or put, that is no later than what is left: their further tickets can go.
    let mut seen = HashSet::new();
    for _ in 0..TICKETS_PAGES {
        let page = snapshot
            .scan(range.clone(), Limit::rows(TICKETS_PAGE), Order::Ascending)
            .await?;
        // In the order of each domain's first ticket: who waited longest comes first.
        let mut order = Vec::new();
        let mut tickets: HashMap<String, Vec<Ticket>> = HashMap::new();
        for (key, value) in &page.rows {
            let (_, domain) = keys::parse_queue_ticket(key).ok_or(QueueError::Damaged("a queue ticket"))?;
            if !tickets.contains_key(domain) {
                order.push(domain.to_owned());
            }
            let ticket = Ticket {
                key: key.clone(),
                version: value.version,
            };
            tickets.entry(domain.to_owned()).or_default().push(ticket);
        }
        for domain in order {
            let tickets = tickets.remove(&domain).unwrap_or_default();
            if !seen.insert(domain.clone()) {
                merge(&mut taking.commit, &tickets, None);
                continue;
            }
            let room = max.saturating_sub(taking.entries.len());
            if busy.contains(domain.as_str()) || room == 0 || taking.bytes >= CLAIM_BYTES {
                if !busy.contains(domain.as_str()) {
                    taking.next = Some(now);
                }
                merge(&mut taking.commit, &tickets, tickets.first().map(|t| t.key.clone()));
                continue;
            }
            let most = match request.domain_max {
                0 => CLAIM_DOMAIN_MAX,
                most => CLAIM_DOMAIN_MAX.min(most as usize),
            };
            let room = room.min(most);
            // Nothing waits that is due before the first ticket of its domain: what was there is deleted, and looking
            // through what was deleted takes its time.
            let first = tickets.first().and_then(|ticket| keys::parse_queue_ticket(&ticket.key));
            let from = first.map_or(0, |(time, _)| time);
            let rest = take_domain(snapshot, &mut taking, request, (&domain, from), room, now).await?;
            merge(
                &mut taking.commit,
                &tickets,
                rest.map(|due| keys::queue_ticket(due, &domain)),
            );
        }
        match page.rest(&range) {
            Some(rest) if taking.next.is_none() => range = rest,
            _ => break,
        }
    }
    if taking.next.is_none() {
        let later = keys::queue_tickets(now.saturating_add(1), i64::MAX);
        let page = snapshot.scan(later, Limit::rows(1), Order::Ascending).await?;
        taking.next = page
            .rows
            .first()
            .and_then(|(key, _)| keys::parse_queue_ticket(key))
            .map(|(time, _)| time);
    }
    Ok(taking)
}

/// Replaces tickets by one, or none. An entry that is added meanwhile brings its own: if that is one of those replaced,
/// the commit does not take place.
fn merge(commit: &mut Commit, tickets: &[Ticket], keep: Option<Bytes>) {
    for ticket in tickets.iter().filter(|ticket| Some(&ticket.key) != keep.as_ref()) {
        commit.require_at(ticket.key.clone(), ticket.version);
        commit.delete(ticket.key.clone());
    }
    if let Some(keep) = keep
        && !tickets.iter().any(|ticket| ticket.key == keep)
    {
        commit.put(keep, Bytes::new());
    }
}

/// Takes what is due of a domain, from a time on; answers when the first that was not taken is due.
async fn take_domain(
    snapshot: &dyn Snapshot,
    taking: &mut Taking,
    request: &ClaimRequest,
    (domain, from): (&str, i64),
    room: usize,
    now: i64,
) -> Result<Option<i64>, QueueError> {
    let range = keys::queue_due(domain, from, 0)..keys::queue_due_all(domain).end;
    let page = snapshot.scan(range, Limit::rows(room + 1), Order::Ascending).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (key, _) in page.rows {
        let (due, id) = keys::parse_queue_due(&key).ok_or(QueueError::Damaged("the index of what is due"))?;
        rows.push((key, due, id));
    }
    let due = rows.iter().take(room).take_while(|(_, due, _)| *due <= now).count();
    let ids: Vec<u64> = rows[..due].iter().map(|(_, _, id)| *id).collect();
    let lease = lease_millis(request.lease_seconds);
    for ((key, due, _), stored) in rows.iter().zip(record::load_at(snapshot, &ids).await?) {
        if taking.bytes >= CLAIM_BYTES {
            taking.next = Some(now);
            return Ok(Some(*due));
        }
        // An index that says other than the entry is wrong: it is mended, and costs nothing but this look.
        let Some(stored) = stored.filter(|s| s.state.due == *due && !s.entry.hold) else {
            taking.commit.delete(key.clone());
            continue;
        };
        lend(taking, &stored, &request.worker, now + lease);
    }
    let rest = rows.get(due).map(|(_, due, _)| *due);
    if rest.is_some_and(|due| due <= now) {
        taking.next = Some(now);
    }
    Ok(rest)
}

fn lend(taking: &mut Taking, stored: &Stored, worker: &str, until: i64) {
    let attempt = stored.state.attempt + 1;
    let state = QueueState {
        due: until,
        attempt,
        worker: worker.to_owned(),
    };
    record::update_state(&mut taking.commit, stored, &state);
    taking.bytes += stored.entry.encoded_len();
    taking.entries.push(Claimed {
        entry: Some(stored.entry.clone()),
        attempt,
    });
}
