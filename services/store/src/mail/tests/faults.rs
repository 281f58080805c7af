//! When the engine fails, or another was faster.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;

use super::*;
use crate::account::DELETED;
use crate::engine::{Engine, EngineError, Limit, Order, Page, Snapshot, Value};

/// What becomes of commits.
const WORK: usize = 0;
/// They take place, and that is not known.
const LOSE_ANSWER: usize = 1;
/// They do not take place, and that is not known.
const LOSE_COMMIT: usize = 2;
/// Only those that free space take place.
const FULL: usize = 3;

/// An engine that fails on wish. A lost commit or answer is lost once.
struct Failing {
    inner: Db,
    mode: AtomicUsize,
}

#[async_trait]
impl Engine for Failing {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        self.inner.snapshot().await
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>, EngineError> {
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: Range<Bytes>, limit: Limit, order: Order) -> Result<Page, EngineError> {
        self.inner.scan(range, limit, order).await
    }

    async fn commit(&self, commit: Commit) -> Result<u64, EngineError> {
        let lost = || Err(EngineError::Io("connection lost".into()));
        match self.mode.load(Ordering::SeqCst) {
            LOSE_ANSWER => {
                self.mode.store(WORK, Ordering::SeqCst);
                self.inner.commit(commit).await?;
                lost()
            }
            LOSE_COMMIT => {
                self.mode.store(WORK, Ordering::SeqCst);
                lost()
            }
            FULL if !commit.frees => Err(EngineError::NoSpace),
            _ => self.inner.commit(commit).await,
        }
    }
}

async fn failing() -> (World, Arc<Failing>, Mail) {
    let world = World::new().await;
    let engine = Arc::new(Failing {
        inner: world.db.clone(),
        mode: AtomicUsize::new(WORK),
    });
    let db: Db = engine.clone();
    let mail = mail_over(&db, 0, 1 << 20);
    (world, engine, mail)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_decided_by_the_key() {
    let (world, engine, mail) = failing().await;
    let content = message("a", "b");
    for (n, mode) in [LOSE_ANSWER, LOSE_COMMIT, LOSE_ANSWER].into_iter().enumerate() {
        engine.mode.store(mode, Ordering::SeqCst);
        let all = join_all((0..5).map(|_| mail.append_one(world.account, "Inbox", flags(0, &[]), &content))).await;
        let mut uids: Vec<u32> = all.into_iter().flat_map(|a| a.unwrap().uids).collect();
        uids.sort_unstable();
        let first = n as u32 * 5 + 1;
        assert_eq!(uids, (first..first + 5).collect::<Vec<_>>());
    }
    // Another process sees each once, as do we.
    assert_eq!(world.mailbox("Inbox").await.messages, 15);
    let inbox = mail.named(world.account, "Inbox").await.unwrap();
    assert_eq!((inbox.messages, inbox.uid_next), (15, 16));
    assert_eq!(mail.rows(world.account, &inbox.id).await.unwrap().len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_takes_space_and_lets_make_room() {
    let (world, engine, mail) = failing().await;
    let content = message("a", "b");
    for _ in 0..3 {
        mail.append_one(world.account, "Inbox", flags(DELETED, &[]), &content)
            .await
            .unwrap();
    }
    let inbox = mail.named(world.account, "Inbox").await.unwrap();
    engine.mode.store(FULL, Ordering::SeqCst);
    let appends = join_all((0..4).map(|_| mail.append_one(world.account, "Inbox", flags(0, &[]), &content)));
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id,
        ..Default::default()
    };
    let (appended, expunged) = futures::join!(appends, mail.do_expunge(world.account, request));
    for refused in appended {
        let status = refused.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::ResourceExhausted, "disk")
        );
    }
    assert_eq!(expand(&expunged.unwrap().uids), [1, 2, 3]);
    engine.mode.store(WORK, Ordering::SeqCst);
    mail.append_one(world.account, "Inbox", flags(0, &[]), &content)
        .await
        .unwrap();
    assert_eq!(mail.named(world.account, "Inbox").await.unwrap().messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_can_write_the_same_account_at_once() {
    let world = World::new().await;
    let other = mail_over(&world.db, 0, 1 << 20);
    let content = message("a", "b");
    let both = join_all((0..60).map(|n| {
        let mail = if n % 2 == 0 { &world.mail } else { &other };
        mail.append_one(world.account, "Inbox", flags(0, &[]), &content)
    }))
    .await;
    // Who loses too often is told to try again, and has done nothing.
    let mut uids: Vec<u32> = both.iter().flatten().flat_map(|a| a.uids.clone()).collect();
    uids.sort_unstable();
    assert_eq!(uids, (1..=uids.len() as u32).collect::<Vec<_>>());
    assert!(
        both.iter()
            .flat_map(|a| a.as_ref().err())
            .all(|e| e.code() == tonic::Code::Unavailable)
    );
    for mail in [&world.mail, &other] {
        assert_eq!(
            mail.named(world.account, "Inbox").await.unwrap().messages as usize,
            uids.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_right_while_messages_arrive() {
    let world = World::new().await;
    let inbox = world.mailbox("Inbox").await;
    let content = message("a", "b");
    let arriving = async {
        for _ in 0..100 {
            world.append("Inbox", 0, &content).await.unwrap();
        }
    };
    let reading = async {
        let mut last = 0;
        while last < 100 {
            // Each time as by a process that has just begun, so that the index is read while it grows.
            let reader = mail_over(&world.db, 0, 1 << 20);
            for mail in [&reader, &reader, &world.mail] {
                let rows = mail.rows(world.account, &inbox.id).await.unwrap();
                assert!(rows.len() >= last, "{} after {last}", rows.len());
                last = rows.len();
                assert_eq!(
                    rows.iter().map(|r| r.0).collect::<Vec<_>>(),
                    (1..=last as u32).collect::<Vec<_>>()
                );
            }
        }
    };
    futures::join!(arriving, reading);
}
