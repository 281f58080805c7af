//! The engine's contract, on RocksDB.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn open(dir: &tempfile::TempDir) -> RocksEngine {
    RocksEngine::open(&Options::new(dir.path())).unwrap()
}

fn put(at: &str, value: &str) -> Commit {
    let mut commit = Commit::new();
    commit.put(key(at), value.to_owned());
    commit
}

#[tokio::test]
async fn values_carry_the_version_of_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let first = db
        .commit(Commit::new().put(key("ta"), "1").put(key("tb"), "2").clone())
        .await
        .unwrap();
    let second = db
        .commit(Commit::new().put(key("tb"), "3").require_at(key("ta"), first).clone())
        .await
        .unwrap();
    assert!(second > first);
    let values = db.get_many(vec![key("ta"), key("tb"), key("tc")]).await.unwrap();
    assert_eq!(
        values[0],
        Some(Value {
            data: key("1"),
            version: first
        })
    );
    assert_eq!(
        values[1],
        Some(Value {
            data: key("3"),
            version: second
        })
    );
    assert_eq!(values[2], None);
    drop(db);
    let db = open(&dir);
    assert_eq!(
        db.get(key("tb")).await.unwrap(),
        Some(Value {
            data: key("3"),
            version: second
        })
    );
    assert!(
        db.commit(put("tc", "4")).await.unwrap() > second,
        "versions are not used again after a restart"
    );
}

#[tokio::test]
async fn a_commit_whose_condition_fails_changes_nothing_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let version = db.commit(put("ta", "1")).await.unwrap();
    for (condition, holds) in [
        (Condition::Absent(key("ta")), false),
        (Condition::Absent(key("tz")), true),
        (Condition::Present(key("ta")), true),
        (Condition::Present(key("tz")), false),
        (Condition::At(key("ta"), version), true),
        (Condition::At(key("ta"), version + 1), false),
        (Condition::At(key("tz"), version), false),
    ] {
        let mut commit = put("tw", "x");
        commit.require_present(key("ta"));
        commit.conditions.push(condition.clone());
        let result = db.commit(commit).await;
        if holds {
            assert!(result.is_ok(), "{condition:?}");
        } else {
            assert_eq!(result, Err(EngineError::Conflict { condition: 1 }), "{condition:?}");
        }
        assert_eq!(db.get(key("tw")).await.unwrap().is_some(), holds, "{condition:?}");
        db.commit(Commit::new().delete(key("tw")).clone()).await.unwrap();
    }
    assert!(
        db.commit(Commit::new().require_present(key("ta")).clone())
            .await
            .is_ok(),
        "nothing to do is no error"
    );
}

#[tokio::test]
async fn snapshots_do_not_see_later_commits() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    db.commit(put("ta", "1")).await.unwrap();
    let snapshot = db.snapshot().await.unwrap();
    db.commit(put("tb", "2")).await.unwrap();
    db.commit(Commit::new().delete(key("ta")).clone()).await.unwrap();
    let page = snapshot
        .scan(keys_all(), Limit::default(), Order::Ascending)
        .await
        .unwrap();
    assert_eq!(page.rows.len(), 1);
    assert!(snapshot.get(key("ta")).await.unwrap().is_some());
    assert_eq!(snapshot.get(key("tb")).await.unwrap(), None);
    assert_eq!(db.get(key("ta")).await.unwrap(), None);
    drop(db);
    assert_eq!(snapshot.get(key("ta")).await, Err(EngineError::Closed));
}

fn keys_all() -> Range<Bytes> {
    crate::keys::prefix(b"t")
}

#[tokio::test]
async fn scans_keep_to_range_limits_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let mut commit = Commit::new();
    for number in 0..500 {
        commit.put(key(&format!("t{number:03}")), vec![7; 100]);
    }
    commit.put(key("s"), "before").put(key("u"), "after");
    db.commit(commit).await.unwrap();
    let names = |page: &Page| -> Vec<String> {
        page.rows
            .iter()
            .map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
            .collect()
    };
    let range = key("t100")..key("t103");
    for (rows, order, expected, more) in [
        (9, Order::Ascending, vec!["t100", "t101", "t102"], false),
        (3, Order::Ascending, vec!["t100", "t101", "t102"], false),
        (2, Order::Ascending, vec!["t100", "t101"], true),
        (9, Order::Descending, vec!["t102", "t101", "t100"], false),
        (2, Order::Descending, vec!["t102", "t101"], true),
    ] {
        let page = db.scan(range.clone(), Limit::rows(rows), order).await.unwrap();
        assert_eq!(
            (names(&page), page.more),
            (expected.iter().map(|s| (*s).to_owned()).collect(), more)
        );
    }
    assert_eq!(
        db.scan(key("t9")..key("t1"), Limit::default(), Order::Ascending)
            .await
            .unwrap(),
        Page::default()
    );
    let small = Limit {
        rows: usize::MAX,
        bytes: 1,
    };
    let page = db.scan(keys_all(), small, Order::Ascending).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (1, true), "one row at least");
    // Page by page, all of it once.
    for limit in [
        Limit::rows(7),
        Limit {
            rows: usize::MAX,
            bytes: 1000,
        },
        Limit::rows(499),
        Limit::rows(500),
    ] {
        let mut all = Vec::new();
        let mut left = Some(keys_all());
        while let Some(range) = left {
            let page = db.scan(range.clone(), limit, Order::Ascending).await.unwrap();
            all.extend(names(&page));
            left = page.rest(&range);
        }
        assert_eq!(all.len(), 500);
        assert!(all.is_sorted());
    }
}

#[tokio::test]
async fn what_is_on_disk_only_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        cache_bytes: 0,
        memtable_bytes: 64 << 10,
        ..Options::new(dir.path())
    };
    let db = RocksEngine::open(&options).unwrap();
    let value = |number: u32| Bytes::from(vec![number as u8; 3000]);
    for number in 0..200u32 {
        let mut commit = Commit::new();
        commit
            .put(key(&format!("t{number:03}")), value(number))
            .put(key(&format!("c{number:03}")), value(number));
        db.commit(commit).await.unwrap();
    }
    for space in ["t", "c"] {
        for number in 0..200u32 {
            let found = db.get(key(&format!("{space}{number:03}"))).await.unwrap().unwrap();
            assert_eq!(found.data, value(number));
        }
        for rows in [100, usize::MAX] {
            let limit = Limit {
                rows,
                bytes: usize::MAX,
            };
            let page = db
                .scan(crate::keys::prefix(space.as_bytes()), limit, Order::Ascending)
                .await
                .unwrap();
            assert_eq!(page.rows.len(), rows.min(200));
        }
        // Side by side, apart, first the one and then the other; and many that are absent.
        for wanted in [
            (0..200).collect::<Vec<_>>(),
            (0..400).step_by(11).collect(),
            (0..40).chain((40..400).step_by(9)).collect(),
            (0..100).step_by(9).chain(100..300).collect(),
        ] {
            let keys = wanted.iter().map(|n| key(&format!("{space}{n:03}"))).collect();
            let found = db.get_many(keys).await.unwrap();
            let found: Vec<Option<Bytes>> = found.into_iter().map(|v| v.map(|v| v.data)).collect();
            let expected: Vec<_> = wanted.iter().map(|n| (*n < 200).then(|| value(*n))).collect();
            assert!(found == expected, "{space} {wanted:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_of_conditional_commits_lose_no_update() {
    const TASKS: u64 = 32;
    const STEPS: u64 = 100;
    const COUNTERS: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(open(&dir));
    let conflicts = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    // A sum over all counters, read in one snapshot, never goes back.
    let watching = {
        let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut before = 0;
            while !stop.load(Ordering::SeqCst) {
                let snapshot = db.snapshot().await.unwrap();
                let keys = (0..COUNTERS).map(|n| key(&format!("tcount{n}"))).collect();
                let sum: u64 = snapshot
                    .get_many(keys)
                    .await
                    .unwrap()
                    .iter()
                    .flatten()
                    .map(number)
                    .sum();
                let log = snapshot
                    .scan(key("tlog")..key("tloh"), Limit::default(), Order::Ascending)
                    .await
                    .unwrap();
                assert!(
                    log.more || log.rows.len() as u64 == sum,
                    "the log is written with the counter"
                );
                assert!(sum >= before);
                before = sum;
            }
        })
    };
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (db, conflicts) = (Arc::clone(&db), Arc::clone(&conflicts));
            tokio::spawn(async move {
                for step in 0..STEPS {
                    let counter = key(&format!("tcount{}", (task + step) % COUNTERS));
                    loop {
                        let now = db.get(counter.clone()).await.unwrap();
                        let next = now.as_ref().map_or(0, number) + 1;
                        let mut commit = Commit::new();
                        commit.require_unchanged(counter.clone(), now.as_ref());
                        commit.put(counter.clone(), next.to_be_bytes().to_vec());
                        commit.put(key(&format!("tlog{task:03}{step:03}")), "");
                        match db.commit(commit).await {
                            Ok(_) => break,
                            Err(EngineError::Conflict { condition: 0 }) => conflicts.fetch_add(1, Ordering::Relaxed),
                            Err(error) => unreachable!("{error}"),
                        };
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    watching.await.unwrap();
    assert!(
        conflicts.load(Ordering::Relaxed) > 0,
        "they did get in each other's way"
    );
    drop(db);
    let db = open(&dir);
    let keys = (0..COUNTERS).map(|n| key(&format!("tcount{n}"))).collect();
    let sum: u64 = db.get_many(keys).await.unwrap().iter().flatten().map(number).sum();
    assert_eq!(sum, TASKS * STEPS);
}

fn number(value: &Value) -> u64 {
    u64::from_be_bytes(value.data.as_ref().try_into().unwrap())
}

#[tokio::test]
async fn dropping_finishes_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(open(&dir));
    let waiting: Vec<_> = (0..200)
        .map(|n| {
            let db = Arc::clone(&db);
            let mut commit = Box::pin(async move { db.commit(put(&format!("t{n}"), "x")).await });
            // Asked for, and nobody waits for it.
            assert!(futures::FutureExt::now_or_never(&mut commit).is_none_or(|result| result.is_ok()));
            commit
        })
        .collect();
    drop(waiting);
    drop(db);
    let db = open(&dir);
    let page = db.scan(keys_all(), Limit::default(), Order::Ascending).await.unwrap();
    assert_eq!(page.rows.len(), 200);
}

#[test]
fn a_directory_in_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let _db = open(&dir);
    let error = RocksEngine::open(&Options::new(dir.path())).err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_growth_and_takes_what_frees() {
    let dir = tempfile::tempdir().unwrap();
    let free = rustix::fs::statvfs(dir.path())
        .map(|s| s.f_bavail * s.f_frsize)
        .unwrap();
    let db = open(&dir);
    db.commit(put("ta", "1")).await.unwrap();
    drop(db);
    // Between a quarter of it and all of it is free.
    let options = Options {
        reserve_bytes: free.saturating_mul(2),
        ..Options::new(dir.path())
    };
    let db = RocksEngine::open(&options).unwrap();
    assert_eq!(db.commit(put("tb", "2")).await, Err(EngineError::NoSpace));
    assert!(db.commit(put("tb", "2").set_frees().clone()).await.is_ok());
    assert!(db.commit(Commit::new().delete(key("ta")).clone()).await.is_ok());
    assert_eq!(db.get(key("ta")).await.unwrap(), None);
}

/// A step of a commit on a few keys.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let name = (0..12u8).prop_map(|n| Bytes::from(vec![b't', n]));
    let operation = prop_oneof![
        4 => (name.clone(), any::<u8>()).prop_map(|(key, value)| Operation::Put(key, vec![value].into())),
        2 => name.clone().prop_map(Operation::Delete),
        1 => (name.clone(), name).prop_map(|(start, end)| Operation::DeleteRange(start, end)),
    ];
    proptest::collection::vec(operation, 0..6)
}

/// Conditions that name keys; whether they hold is for the model to say.
fn conditions() -> impl Strategy<Value = Vec<(u8, Bytes)>> {
    proptest::collection::vec((0..4u8, (0..12u8).prop_map(|n| Bytes::from(vec![b't', n]))), 0..3)
}

#[derive(Default)]
struct Model(BTreeMap<Bytes, Bytes>);

impl Model {
    fn holds(&self, condition: &Condition, versions: &HashMap<Bytes, u64>) -> bool {
        match condition {
            Condition::Absent(key) => !self.0.contains_key(key),
            Condition::Present(key) => self.0.contains_key(key),
            Condition::At(key, version) => self.0.contains_key(key) && versions.get(key) == Some(version),
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Put(key, value) => drop(self.0.insert(key.clone(), value.clone())),
            Operation::Delete(key) => drop(self.0.remove(key)),
            Operation::DeleteRange(start, end) => self.0.retain(|key, _| key < start || key >= end),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    // Commits that are sent together are often written as one group: each must see those before it.
    #[test]
    fn groups_of_commits_do_what_one_after_the_other_does(
        rounds in proptest::collection::vec(proptest::collection::vec((conditions(), operations()), 1..8), 1..6)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let db = open(&dir);
            let mut model = Model::default();
            for round in rounds {
                let page = db.scan(keys_all(), Limit::default(), Order::Ascending).await.unwrap();
                let mut versions: HashMap<Bytes, u64> =
                    page.rows.iter().map(|(key, value)| (key.clone(), value.version)).collect();
                let commits: Vec<Commit> = round
                    .into_iter()
                    .map(|(conditions, operations)| {
                        let conditions = conditions
                            .into_iter()
                            .map(|(kind, key)| match kind {
                                0 => Condition::Absent(key),
                                1 => Condition::Present(key),
                                2 => Condition::At(key.clone(), versions.get(&key).copied().unwrap_or(0)),
                                _ => Condition::At(key, u64::MAX),
                            })
                            .collect();
                        Commit { conditions, operations, frees: false }
                    })
                    .collect();
                // In this order: a future is first polled when it is joined, and asks then.
                let results = futures::future::join_all(commits.iter().map(|c| db.commit(c.clone()))).await;
                for (commit, result) in commits.iter().zip(results) {
                    let failing = commit.conditions.iter().position(|c| !model.holds(c, &versions));
                    match (failing, result) {
                        (Some(condition), result) => assert_eq!(result, Err(EngineError::Conflict { condition })),
                        (None, result) => {
                            let version = result.unwrap();
                            for operation in &commit.operations {
                                model.apply(operation);
                                if let Operation::Put(key, _) = operation {
                                    versions.insert(key.clone(), version);
                                }
                            }
                        }
                    }
                }
                let page = db.scan(keys_all(), Limit::default(), Order::Ascending).await.unwrap();
                let found: BTreeMap<Bytes, Bytes> = page.rows.iter().map(|(k, v)| (k.clone(), v.data.clone())).collect();
                assert_eq!(found, model.0);
                for (key, value) in &page.rows {
                    assert_eq!(versions.get(key), Some(&value.version));
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_that_lie_apart_are_found_while_the_database_is_reorganized() {
    const KEYS: u32 = 5000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        cache_bytes: 1 << 20,
        memtable_bytes: 64 << 10,
        ..Options::new(dir.path())
    };
    let db = Arc::new(RocksEngine::open(&options).unwrap());
    let name = |n: u32| Bytes::from([&b"tw"[..], &n.to_be_bytes()].concat());
    let mut commit = Commit::new();
    for n in 0..KEYS {
        commit.put(name(n), Bytes::copy_from_slice(&n.to_be_bytes()));
    }
    db.commit(commit).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reading: Vec<_> = (0..4u32)
        .map(|task| {
            let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut round = task;
                while !stop.load(Ordering::SeqCst) {
                    round += 1;
                    // Some are absent.
                    let wanted: Vec<u32> = (0..400).map(|n| n * 14 + round % 14).collect();
                    let found = db.get_many(wanted.iter().map(|n| name(*n)).collect()).await.unwrap();
                    for (n, found) in wanted.iter().zip(found) {
                        let expected = (*n < KEYS).then(|| Bytes::copy_from_slice(&n.to_be_bytes()));
                        assert_eq!(found.map(|v| v.data), expected);
                    }
                }
                round
            })
        })
        .collect();
    for n in 0..600u32 {
        let mut commit = Commit::new();
        commit.put(Bytes::from([&b"tx"[..], &n.to_be_bytes()].concat()), vec![0; 1000]);
        if n % 10 == 0 {
            let again = n * 7 % KEYS;
            commit.put(name(again), Bytes::copy_from_slice(&again.to_be_bytes()));
        }
        db.commit(commit).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for task in reading {
        task.await.unwrap();
    }
}
