//! The queue's contract, kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::queue_service_server::{QueueService, QueueServiceServer};
use mox_proto::queue::v1::{
    AttemptResult, ClaimRequest, ClaimResponse, Claimed, CompleteRequest, CompleteResponse, Entry,
    ReadQueueContentRequest, ReadQueueContentResponse, RenewRequest, RenewResponse,
};
use mox_service::Clock;
use parking_lot::Mutex;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub const MESSAGE: &str = "From: me@ours.example\r\nSubject: hello\r\nMessage-ID: <1@ours.example>\r\n\r\n.body\r\n";
pub const PREFIX: &str = "Received: from here\r\n";

struct Kept {
    entry: Entry,
    due: i64,
    attempt: u64,
    worker: String,
}

/// What was told of an entry that left the queue, or stays.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: u64,
    pub outcome: Outcome,
    pub result: AttemptResult,
    pub dsn: String,
    pub at: i64,
}

pub struct FakeStore {
    clock: Clock,
    entries: Mutex<BTreeMap<u64, Kept>>,
    told: Mutex<Vec<Told>>,
    /// Answers renewals that the lease is lost.
    pub lose_leases: AtomicBool,
}

impl FakeStore {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            entries: Mutex::default(),
            told: Mutex::default(),
            lose_leases: AtomicBool::new(false),
        }
    }

    pub fn routes(self: &Arc<Self>) -> Routes {
        Routes::new(QueueServiceServer::new(Api(self.clone())))
    }

    /// Puts one message for these recipients into the queue.
    pub fn send(&self, recipients: &[&str]) -> Vec<u64> {
        self.send_as(
            &Entry {
                mail_from: "me@ours.example".into(),
                ..Entry::default()
            },
            recipients,
        )
    }

    pub fn send_as(&self, like: &Entry, recipients: &[&str]) -> Vec<u64> {
        let mut entries = self.entries.lock();
        let told = self.told.lock().iter().map(|t| t.id).max().unwrap_or(0);
        let base_id = entries.keys().max().copied().unwrap_or(0).max(told) + 1;
        let now = self.clock.unix_millis();
        let mut ids = Vec::new();
        for (id, recipient) in (base_id..).zip(recipients) {
            let entry = Entry {
                id,
                base_id,
                recipient: (*recipient).into(),
                prefix: Bytes::from_static(PREFIX.as_bytes()),
                size: (PREFIX.len() + MESSAGE.len()) as u64,
                queued: now,
                next_attempt: now,
                account: "me".into(),
                ..like.clone()
            };
            entries.insert(
                id,
                Kept {
                    entry,
                    due: now,
                    attempt: 0,
                    worker: String::new(),
                },
            );
            ids.push(id);
        }
        ids
    }

    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    /// Whether nothing is leased; and when the first entry is due.
    pub fn idle_until(&self) -> Option<i64> {
        let entries = self.entries.lock();
        let idle = entries.values().all(|kept| kept.worker.is_empty());
        entries.values().map(|kept| kept.due).min().filter(|_| idle)
    }

    pub fn leased(&self) -> usize {
        self.entries
            .lock()
            .values()
            .filter(|kept| !kept.worker.is_empty())
            .count()
    }

    /// All but what was only given back.
    pub fn told(&self) -> Vec<Told> {
        self.told
            .lock()
            .iter()
            .filter(|t| t.outcome != Outcome::Released)
            .cloned()
            .collect()
    }

    pub fn told_of(&self, id: u64) -> Vec<Told> {
        self.told().into_iter().filter(|t| t.id == id).collect()
    }
}

struct Api(Arc<FakeStore>);

#[tonic::async_trait]
impl QueueService for Api {
    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        let request = request.into_inner();
        let now = self.0.clock.unix_millis();
        let mut response = ClaimResponse::default();
        let mut entries = self.0.entries.lock();
        let busy = |to: &str| request.busy_domains.iter().any(|d| to.ends_with(&format!("@{d}")));
        let mut domains: BTreeMap<String, u32> = BTreeMap::new();
        for kept in entries.values_mut() {
            let domain = kept.entry.recipient.rsplit('@').next().unwrap_or_default().to_owned();
            let of_domain = domains.entry(domain).or_default();
            if kept.due <= now && request.domain_max > 0 && *of_domain >= request.domain_max {
                response.next_due = Some(now);
            } else if kept.due > now {
                response.next_due = Some(response.next_due.map_or(kept.due, |due| due.min(kept.due)));
            } else if response.entries.len() < request.max as usize && !busy(&kept.entry.recipient) {
                *of_domain += 1;
                kept.attempt += 1;
                kept.worker.clone_from(&request.worker);
                kept.due = now + i64::from(request.lease_seconds) * 1000;
                response.entries.push(Claimed {
                    entry: Some(kept.entry.clone()),
                    attempt: kept.attempt,
                });
            }
        }
        Ok(Response::new(response))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        let now = self.0.clock.unix_millis();
        let lose = self.0.lose_leases.load(Ordering::SeqCst);
        let mut entries = self.0.entries.lock();
        let held = request.leases.iter().map(|lease| {
            let kept = entries.get_mut(&lease.id);
            let kept = kept.filter(|k| k.attempt == lease.attempt && k.worker == request.worker && !lose);
            kept.map(|kept| kept.due = now + i64::from(request.lease_seconds) * 1000)
                .is_some()
        });
        Ok(Response::new(RenewResponse { held: held.collect() }))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<CompleteResponse>, Status> {
        let request = request.into_inner();
        let lease = request.lease.unwrap();
        let now = self.0.clock.unix_millis();
        let mut entries = self.0.entries.lock();
        let current = entries
            .get(&lease.id)
            .is_some_and(|k| k.attempt == lease.attempt && !k.worker.is_empty());
        let stale = !current;
        if current || request.outcome() == Outcome::Delivered {
            let dsn = String::from_utf8_lossy(&request.dsn).into_owned();
            let result = request.result.clone().unwrap_or_default();
            self.0.told.lock().push(Told {
                id: lease.id,
                outcome: request.outcome(),
                result,
                dsn,
                at: now,
            });
            match request.outcome() {
                Outcome::Delivered | Outcome::Failed => drop(entries.remove(&lease.id)),
                outcome => {
                    let kept = entries.get_mut(&lease.id).unwrap();
                    kept.worker.clear();
                    kept.due = request.next_attempt;
                    if outcome == Outcome::Retry {
                        kept.entry.attempts += 1;
                        kept.entry.next_attempt = request.next_attempt;
                    }
                }
            }
        }
        Ok(Response::new(CompleteResponse { stale }))
    }

    type ReadContentStream = futures::stream::BoxStream<'static, Result<ReadQueueContentResponse, Status>>;

    async fn read_content(
        &self,
        request: Request<ReadQueueContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        if !self.0.entries.lock().contains_key(&request.into_inner().id) {
            return Err(Status::not_found("gone"));
        }
        let pieces = MESSAGE.as_bytes().chunks(50).map(|p| {
            Ok(ReadQueueContentResponse {
                data: Bytes::from_static(p),
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }
}
