//! The queue on a real engine, with a clock that is moved by hand.

mod leases;
mod notices;
mod steering;
mod submitting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use mox_config::{Account as AccountSettings, Destination, Domain as DomainSettings, Dynamic};
use mox_events::Bus;
use mox_proto::mail::v1::{Content, content};
use mox_proto::queue::v1::RequireTls;
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::{
    ClaimRequest, ClaimResponse, CompleteRequest, CompleteResponse, EnqueueRecipient, EnqueueRequest, Lease,
};
use mox_types::AccountId;

use super::*;
use crate::account::Accounts;
use crate::content::EngineBlobs;
use crate::engine::{Limit, Options, Order, RocksEngine};
use crate::keys;

/// A time that is no round number.
const START: i64 = 1_700_000_000_123;

pub(super) struct World {
    pub queue: Queue,
    pub db: Db,
    pub bus: Bus,
    pub sender: Submitter,
    pub config: Dynamic,
    clock: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

pub(super) fn config() -> Dynamic {
    let domain: mox_types::Domain = "local.example".parse().unwrap();
    let mut account = AccountSettings::new(domain.clone());
    account.max_outgoing_messages_per_day = 100_000;
    account.max_first_time_recipients_per_day = 100_000;
    account
        .destinations
        .insert("me@local.example".parse().unwrap(), Destination::default());
    Dynamic {
        domains: BTreeMap::from([(domain, DomainSettings::default())]),
        accounts: BTreeMap::from([("me".to_owned(), account)]),
        ..Dynamic::default()
    }
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let clock = Arc::new(AtomicI64::new(START));
        let now = |clock: &Arc<AtomicI64>, unit: i64| {
            let clock = clock.clone();
            Arc::new(move || clock.load(Ordering::SeqCst) / unit) as Now
        };
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), now(&clock, 1));
        let accounts = Accounts::new(db.clone(), Arc::new(|_: &str| 0), now(&clock, 1000), 1 << 20);
        let bus = Bus::in_process();
        let queue = Queue::new(db.clone(), contents, accounts, bus.clone(), now(&clock, 1));
        let sender = Submitter {
            id: AccountId::new(),
            name: "me".into(),
            login: "me@local.example".into(),
        };
        Self {
            queue,
            db,
            bus,
            sender,
            config: config(),
            clock,
            _dir: dir,
        }
    }

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub fn advance(&self, millis: i64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn request(&self, recipients: &[&str]) -> EnqueueRequest {
        EnqueueRequest {
            key: mox_rpc::key(),
            mail_from: "me@local.example".into(),
            msg_from: "me@local.example".into(),
            recipients: recipients
                .iter()
                .map(|to| EnqueueRecipient {
                    address: (*to).into(),
                    ..EnqueueRecipient::default()
                })
                .collect(),
            content: Some(Content {
                r#where: Some(content::Where::Inline(Bytes::from_static(b"Subject: a\r\n\r\nb\r\n"))),
            }),
            ..EnqueueRequest::default()
        }
    }

    pub async fn try_send(&self, request: &EnqueueRequest) -> Result<Vec<u64>, QueueError> {
        Ok(self.queue.submit(&self.sender, &self.config, request).await?.ids)
    }

    pub async fn send(&self, recipients: &[&str]) -> Vec<u64> {
        self.try_send(&self.request(recipients)).await.unwrap()
    }

    pub async fn claim(&self, worker: &str, max: u32, busy: &[&str]) -> ClaimResponse {
        let busy_domains = busy.iter().map(|d| (*d).to_owned()).collect();
        let request = ClaimRequest {
            worker: worker.into(),
            max,
            lease_seconds: LEASE_SECONDS,
            busy_domains,
            ..ClaimRequest::default()
        };
        self.queue.claim(&request).await.unwrap()
    }

    pub async fn complete(&self, lease: Lease, outcome: Outcome, next_attempt: i64) -> CompleteResponse {
        let request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(lease),
            outcome: outcome.into(),
            next_attempt,
            ..CompleteRequest::default()
        };
        self.queue.complete(&request).await.unwrap()
    }

    /// Everything that the queue keeps of entries, and references to contents.
    pub async fn keys(&self, range: std::ops::Range<Bytes>) -> Vec<Bytes> {
        let page = self.db.scan(range, Limit::default(), Order::Ascending).await.unwrap();
        page.rows.into_iter().map(|(key, _)| key).collect()
    }

    /// For every entry in an index there is a ticket of its domain that is not later.
    pub async fn check_tickets(&self) {
        let tickets = self.keys(keys::queue_tickets(0, i64::MAX)).await;
        for key in self.keys(keys::queue_entries()).await {
            let id = u64::from_be_bytes(key[2..].try_into().unwrap());
            let stored = record::load(self.db.as_ref(), &[id])
                .await
                .unwrap()
                .pop()
                .flatten()
                .unwrap();
            let domain = record::domain_of(&stored.entry);
            let due = self.keys(keys::queue_due_all(&domain)).await;
            assert!(
                due.contains(&keys::queue_due(&domain, stored.state.due, id)),
                "entry {id} is in the index"
            );
            assert!(
                tickets
                    .iter()
                    .filter_map(|t| keys::parse_queue_ticket(t))
                    .any(|(t, d)| d == domain && t <= stored.state.due),
                "entry {id} of {domain} due {} has a ticket",
                stored.state.due
            );
        }
    }
}

pub(super) const LEASE_SECONDS: u32 = 60;

pub(super) fn leases(response: &ClaimResponse) -> Vec<Lease> {
    response
        .entries
        .iter()
        .map(|c| Lease {
            id: c.entry.as_ref().unwrap().id,
            attempt: c.attempt,
        })
        .collect()
}
