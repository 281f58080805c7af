//! The contract of webhooks, kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use mox_proto::hook::v1::complete_hook_request::Outcome;
use mox_proto::hook::v1::hook_service_server::{HookService, HookServiceServer};
use mox_proto::hook::v1::{
    Arrival, ClaimHooksRequest, ClaimHooksResponse, ClaimedHook, CompleteHookRequest, CompleteHookResponse, Hook,
    HookResult, ReadPayloadRequest, ReadPayloadResponse,
};
use mox_proto::queue::v1::{RenewRequest, RenewResponse};
use mox_service::Clock;
use parking_lot::Mutex;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

struct Kept {
    hook: Hook,
    due: i64,
    attempt: u64,
    worker: String,
}

/// What was told of an attempt.
#[derive(Debug, Clone)]
pub struct ToldHook {
    pub id: u64,
    pub outcome: Outcome,
    pub result: HookResult,
    pub next_attempt: i64,
}

pub struct FakeHooks {
    clock: Clock,
    hooks: Mutex<BTreeMap<u64, Kept>>,
    next: AtomicU64,
    told: Mutex<Vec<ToldHook>>,
}

impl FakeHooks {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            hooks: Mutex::default(),
            next: AtomicU64::new(1),
            told: Mutex::default(),
        }
    }

    pub fn add_to(self: &Arc<Self>, routes: Routes) -> Routes {
        routes.add_service(HookServiceServer::new(Api(self.clone())))
    }

    /// Queues webhooks of an account, about what became of messages.
    pub fn queue(&self, account: &str, url: &str, many: usize) -> Vec<u64> {
        self.add(account, url, many, None)
    }

    /// Queues one about a message that arrived.
    pub fn queue_incoming(&self, account: &str, url: &str) -> u64 {
        self.add(account, url, 1, Some(&Arrival::default()))[0]
    }

    fn add(&self, account: &str, url: &str, many: usize, arrival: Option<&Arrival>) -> Vec<u64> {
        let mut hooks = self.hooks.lock();
        let first = self.next.fetch_add(many as u64, Ordering::Relaxed);
        let now = self.clock.unix_millis();
        let ids: Vec<u64> = (first..first + many as u64).collect();
        for id in &ids {
            let hook = Hook {
                id: *id,
                account: account.to_owned(),
                account_id: Bytes::copy_from_slice(account.as_bytes()),
                url: url.to_owned(),
                event: "delivered".into(),
                queued: now,
                next_attempt: now,
                arrival: arrival.cloned(),
                ..Hook::default()
            };
            hooks.insert(
                *id,
                Kept {
                    hook,
                    due: now,
                    attempt: 0,
                    worker: String::new(),
                },
            );
        }
        ids
    }

    pub fn is_empty(&self) -> bool {
        self.hooks.lock().is_empty()
    }

    /// All attempts, without those that did not take place.
    pub fn told(&self) -> Vec<ToldHook> {
        let told = self.told.lock();
        told.iter()
            .filter(|t| t.outcome != Outcome::Released)
            .cloned()
            .collect()
    }

    pub fn told_of(&self, id: u64) -> Vec<ToldHook> {
        self.told().into_iter().filter(|t| t.id == id).collect()
    }

    pub fn is_leased(&self) -> bool {
        self.hooks.lock().values().any(|kept| !kept.worker.is_empty())
    }
}

struct Api(Arc<FakeHooks>);

#[tonic::async_trait]
impl HookService for Api {
    async fn claim(&self, request: Request<ClaimHooksRequest>) -> Result<Response<ClaimHooksResponse>, Status> {
        let request = request.into_inner();
        let now = self.0.clock.unix_millis();
        let mut response = ClaimHooksResponse::default();
        let mut hooks = self.0.hooks.lock();
        for kept in hooks.values_mut() {
            let incoming = kept.hook.arrival.is_some();
            let busy = request.busy.iter();
            let busy = busy
                .clone()
                .any(|b| b.account_id == kept.hook.account_id && b.incoming == incoming);
            let of_account = response.hooks.iter();
            let taken = of_account
                .filter(|c: &&ClaimedHook| c.hook.as_ref().is_some_and(|h| h.account_id == kept.hook.account_id));
            if kept.due > now {
                response.next_due = Some(response.next_due.map_or(kept.due, |due| due.min(kept.due)));
            } else if response.hooks.len() < request.max as usize && !busy && taken.count() < 8 {
                kept.attempt += 1;
                kept.worker.clone_from(&request.worker);
                kept.due = now + i64::from(request.lease_seconds) * 1000;
                let payload = match incoming {
                    true => Bytes::new(),
                    false => Bytes::from(format!("{{\"QueueMsgID\":{}}}", kept.hook.id)),
                };
                response.hooks.push(ClaimedHook {
                    hook: Some(kept.hook.clone()),
                    attempt: kept.attempt,
                    payload,
                });
            } else if !busy {
                response.next_due = Some(now);
            }
        }
        Ok(Response::new(response))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        let now = self.0.clock.unix_millis();
        let mut hooks = self.0.hooks.lock();
        let held = request.leases.iter().map(|lease| {
            let kept = hooks.get_mut(&lease.id);
            let kept = kept.filter(|k| k.attempt == lease.attempt && k.worker == request.worker);
            kept.map(|kept| kept.due = now + i64::from(request.lease_seconds) * 1000)
                .is_some()
        });
        Ok(Response::new(RenewResponse { held: held.collect() }))
    }

    type ReadPayloadStream = BoxStream<'static, Result<ReadPayloadResponse, Status>>;

    async fn read_payload(
        &self,
        request: Request<ReadPayloadRequest>,
    ) -> Result<Response<Self::ReadPayloadStream>, Status> {
        let id = request.into_inner().id;
        if !self.0.hooks.lock().contains_key(&id) {
            return Err(Status::not_found("gone"));
        }
        let pieces = ["{\"Incoming\":".to_owned(), format!("{id}}}")];
        let pieces = pieces.map(|piece| {
            Ok(ReadPayloadResponse {
                data: Bytes::from(piece),
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn complete(&self, request: Request<CompleteHookRequest>) -> Result<Response<CompleteHookResponse>, Status> {
        let request = request.into_inner();
        let lease = request.lease.unwrap();
        let mut hooks = self.0.hooks.lock();
        let current = hooks
            .get(&lease.id)
            .is_some_and(|k| k.attempt == lease.attempt && !k.worker.is_empty());
        if current {
            self.0.told.lock().push(ToldHook {
                id: lease.id,
                outcome: request.outcome(),
                result: request.result.clone().unwrap_or_default(),
                next_attempt: request.next_attempt,
            });
            match request.outcome() {
                Outcome::Delivered | Outcome::Failed => drop(hooks.remove(&lease.id)),
                outcome => {
                    let kept = hooks.get_mut(&lease.id).unwrap();
                    kept.worker.clear();
                    kept.due = request.next_attempt;
                    kept.hook.attempts += u32::from(outcome == Outcome::Retry);
                }
            }
        }
        Ok(Response::new(CompleteHookResponse { stale: !current }))
    }
}
