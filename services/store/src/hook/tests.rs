//! Webhooks on a real engine, with a clock that is moved by hand.

mod arriving;
mod leases;
mod listing;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use mox_config::{Account, Dynamic, IncomingWebhook, OutgoingWebhook};
use mox_events::Bus;
use mox_proto::hook::v1::complete_hook_request::Outcome as Completed;
use mox_proto::hook::v1::{
    ClaimHooksRequest, ClaimHooksResponse, CompleteHookRequest, Hook, HookResult, HookSource as Source,
};
use mox_proto::queue::v1::{Entry, Lease};
use mox_types::AccountId;
use mox_webhook::Event;

use super::*;
use crate::content::EngineBlobs;
use crate::engine::{Commit, Limit, Options, Order, RocksEngine};

/// A time that is no round number.
const START: i64 = 1_700_000_000_123;
const LEASE_SECONDS: u32 = 60;
/// How long retired webhooks are kept by the account "keeps".
const KEEP: i64 = 3_600_000;

struct World {
    hooks: Hooks,
    db: Db,
    clock: Arc<AtomicI64>,
    ids: BTreeMap<String, AccountId>,
    _dir: tempfile::TempDir,
}

/// Accounts: "keeps" keeps what left the queue, "me" does not, "some" wants to know of failures only, and "silent" of
/// nothing.
fn config() -> Dynamic {
    let mut dynamic = Dynamic::default();
    for (name, events, keep) in [
        ("me", vec![], "0"),
        ("keeps", vec![], "1h"),
        ("some", vec!["failed".to_owned()], "0"),
    ] {
        let mut account = Account::new("local.example".parse().unwrap());
        account.keep_retired_webhook_period = keep.parse().unwrap();
        account.outgoing_webhook = Some(OutgoingWebhook {
            url: format!("http://{name}.example/out"),
            authorization: None,
            events,
        });
        account.incoming_webhook = Some(IncomingWebhook {
            url: format!("http://{name}.example/in"),
            authorization: None,
        });
        dynamic.accounts.insert(name.to_owned(), account);
    }
    let silent = Account::new("local.example".parse().unwrap());
    dynamic.accounts.insert("silent".to_owned(), silent);
    dynamic
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let clock = Arc::new(AtomicI64::new(START));
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.load(Ordering::SeqCst))
        };
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), now.clone());
        let hooks = Hooks::new(db.clone(), contents, Bus::in_process(), now);
        let dynamic = Arc::new(config());
        let ids = dynamic
            .accounts
            .keys()
            .map(|name| (name.clone(), AccountId::new()))
            .collect();
        hooks.configure(Arc::new(move || dynamic.clone()));
        Self {
            hooks,
            db,
            clock,
            ids,
            _dir: dir,
        }
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn advance(&self, millis: i64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    fn entry(&self, account: &str, id: u64) -> Entry {
        Entry {
            id,
            account: account.to_owned(),
            account_id: self.ids[account].to_bytes(),
            fromid: "abc".into(),
            message_id: "one@local.example".into(),
            subject: "grüße".into(),
            extra: [("order".to_owned(), "7".to_owned())].into(),
            trace_id: "t".into(),
            ..Entry::default()
        }
    }

    /// Tells of something, in a commit of its own; answers whether there is a webhook.
    async fn tell(&self, event: Event, account: &str, id: u64) -> bool {
        let entry = self.entry(account, id);
        let outcome = Outcome {
            event,
            entry: &entry,
            dsn: false,
            suppressing: false,
            smtp_code: 0,
            enhanced_code: "",
            error: "",
        };
        self.tell_of(&outcome).await
    }

    async fn tell_of(&self, outcome: &Outcome<'_>) -> bool {
        let mut commit = Commit::new();
        let told = self.hooks.on_outcome(&mut commit, outcome).await.unwrap();
        if told {
            self.db.commit(commit).await.unwrap();
        }
        told
    }

    async fn claim(&self, worker: &str, max: u32, busy: &[Source]) -> ClaimHooksResponse {
        let request = ClaimHooksRequest {
            worker: worker.into(),
            max,
            lease_seconds: LEASE_SECONDS,
            busy: busy.to_vec(),
        };
        self.hooks.claim(&request).await.unwrap()
    }

    fn source(&self, account: &str, incoming: bool) -> Source {
        Source {
            account_id: self.ids[account].to_bytes(),
            incoming,
        }
    }

    async fn complete(&self, lease: Lease, outcome: Completed, next_attempt: i64) -> bool {
        let mut request = CompleteHookRequest {
            lease: Some(lease),
            next_attempt,
            result: Some(HookResult {
                start: self.now(),
                url: "http://me.example/out".into(),
                error: "result".into(),
                ..HookResult::default()
            }),
            authorization: true,
            ..CompleteHookRequest::default()
        };
        request.set_outcome(outcome);
        self.hooks.complete(&request).await.unwrap().stale
    }

    async fn keys(&self) -> Vec<Bytes> {
        let space = keys::prefix(&[keys::HOOK]);
        let page = self.db.scan(space, Limit::default(), Order::Ascending).await.unwrap();
        let keys = page.rows.into_iter().map(|(key, _)| key);
        keys.filter(|key| *key != keys::hook_next()).collect()
    }

    /// Every webhook in the queue is due once, and is its message's; and nothing else is.
    async fn check(&self) {
        let all = self.keys().await;
        let mut expected: Vec<Bytes> = Vec::new();
        for key in all.iter().filter(|key| keys::hook_entries().contains(*key)) {
            let record = record::decode(&self.db.get(key.clone()).await.unwrap().unwrap().data).unwrap();
            let hook = record.hook.unwrap();
            expected.push(key.clone());
            expected.push(keys::hook_due(record::source_of(&hook).unwrap(), record.due, hook.id));
            if hook.queue_id != 0 {
                let key = keys::hook_of_message(hook.queue_id);
                let named = self.db.get(key.clone()).await.unwrap().unwrap().data;
                assert_eq!(named, hook.id.to_be_bytes().to_vec());
                expected.push(key);
            }
        }
        for key in all.iter().filter(|key| keys::hooks_retired().contains(*key)) {
            let retired = record::decode_retired(&self.db.get(key.clone()).await.unwrap().unwrap().data).unwrap();
            let hook = retired.hook.unwrap();
            expected.push(key.clone());
            expected.push(keys::hook_retired_until(retired.keep_until, hook.id));
            expected.push(keys::hook_retired_of(record::account_of(&hook).unwrap(), hook.id));
        }
        expected.sort();
        assert_eq!(all, expected);
    }
}

fn ids(response: &ClaimHooksResponse) -> Vec<u64> {
    response.hooks.iter().map(|c| c.hook.as_ref().unwrap().id).collect()
}

fn leases(response: &ClaimHooksResponse) -> Vec<Lease> {
    let lease = |c: &mox_proto::hook::v1::ClaimedHook| Lease {
        id: c.hook.as_ref().unwrap().id,
        attempt: c.attempt,
    };
    response.hooks.iter().map(lease).collect()
}
