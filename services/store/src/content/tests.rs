//! Contents come, are shared, and go: never while something refers to them, and always after.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use mox_types::{AccountId, MessageId};
use proptest::prelude::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::*;
use crate::engine::{Limit, Options, Order, RocksEngine};

const GRACE: Duration = Duration::from_millis(1000);

struct Store {
    db: Db,
    contents: Contents,
    collector: Collector,
    time: Arc<AtomicI64>,
    account: AccountId,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let time = Arc::new(AtomicI64::new(1_000_000));
        let now = {
            let time = Arc::clone(&time);
            Arc::new(move || time.load(Ordering::SeqCst))
        };
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), now);
        let collector = Collector::with_graces(contents.clone(), GRACE, 10 * GRACE);
        Self {
            db,
            contents,
            collector,
            time,
            account: AccountId::new(),
            _dir: dir,
        }
    }

    fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    fn owner(&self) -> Owner {
        Owner::message(self.account, MessageId::new())
    }

    async fn upload(&self, bytes: &[u8], piece: usize) -> Uploaded {
        let pieces: Vec<_> = bytes
            .chunks(piece.max(1))
            .map(|p| Ok(Bytes::copy_from_slice(p)))
            .collect();
        self.contents
            .upload(futures::stream::iter(pieces), u64::MAX)
            .await
            .unwrap()
    }

    async fn release(&self, id: ContentId, owner: &Owner) {
        let mut commit = Commit::new();
        release(&mut commit, id, owner, self.contents.now());
        self.db.commit(commit).await.unwrap();
    }

    /// Rows of the spaces of contents.
    async fn left(&self) -> usize {
        let mut left = 0;
        for space in [
            keys::CONTENT,
            keys::CHUNK,
            keys::UPLOAD,
            keys::REFERENCE,
            keys::RELEASED,
        ] {
            let limit = Limit {
                rows: usize::MAX,
                bytes: usize::MAX,
            };
            left += self
                .db
                .scan(keys::prefix(&[space]), limit, Order::Ascending)
                .await
                .unwrap()
                .rows
                .len();
        }
        left
    }
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect()
}

async fn collect(stream: impl futures::Stream<Item = Result<Bytes, ContentError>>) -> Result<Vec<u8>, ContentError> {
    let pieces: Vec<_> = stream.collect().await;
    let mut all = Vec::new();
    for piece in pieces {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[tokio::test]
async fn any_size_is_read_back_in_any_range() {
    let store = Store::new();
    for size in [
        0,
        1,
        INLINE_BYTES,
        INLINE_BYTES + 1,
        2 * INLINE_BYTES,
        3 * INLINE_BYTES + 77,
    ] {
        let bytes = pattern(size);
        let uploaded = store.upload(&bytes, 100_001).await;
        assert_eq!(uploaded.size, size as u64);
        let source = mail::Content {
            r#where: Some(mail::content::Where::UploadId(uploaded.id.to_bytes())),
        };
        let staged = store.contents.stage(&source).await.unwrap();
        assert_eq!((staged.id(), staged.size()), (uploaded.id, size as u64));
        let mut commit = Commit::new();
        staged.reference(&mut commit, &[store.owner()]);
        store.db.commit(commit).await.unwrap();

        assert_eq!(store.contents.bytes(staged.id()).await.unwrap(), bytes);
        let edge = INLINE_BYTES as u64;
        for range in [
            0..u64::MAX,
            1..edge,
            edge - 1..edge + 2,
            edge..2 * edge,
            5..5,
            size as u64..u64::MAX,
        ] {
            let end = (range.end.min(size as u64)) as usize;
            let expected = &bytes[(range.start as usize).min(end)..end];
            let read = collect(store.contents.read(staged.id(), range.clone())).await.unwrap();
            assert_eq!(read, expected, "{range:?} of {size}");
        }
    }
}

#[tokio::test]
async fn an_upload_is_referred_to_once_and_an_abandoned_one_never() {
    let store = Store::new();
    let used = store.upload(&pattern(2 * INLINE_BYTES), 4096).await;
    let lost = store.upload(&pattern(2 * INLINE_BYTES), 4096).await;
    let small = store.upload(b"small", 4096).await;
    let owner = store.owner();
    let mut commit = Commit::new();
    used.staged().reference(&mut commit, std::slice::from_ref(&owner));
    store.db.commit(commit.clone()).await.unwrap();
    assert!(matches!(
        store.db.commit(commit).await,
        Err(EngineError::Conflict { .. })
    ));

    // Time for the sender to refer to it.
    store.pass(9 * GRACE);
    assert_eq!(store.collector.run_once().await.unwrap(), Collected::default());
    store.pass(2 * GRACE);
    assert_eq!(store.collector.run_once().await.unwrap().abandoned, 2);
    for upload in [lost, small] {
        let mut commit = Commit::new();
        upload.staged().reference(&mut commit, &[store.owner()]);
        assert!(matches!(
            store.db.commit(commit).await,
            Err(EngineError::Conflict { .. })
        ));
    }
    store.pass(GRACE);
    assert_eq!(store.collector.run_once().await.unwrap().removed, 2);
    assert!(store.contents.bytes(used.id).await.is_ok());
    let source = mail::Content {
        r#where: Some(mail::content::Where::UploadId(lost.id.to_bytes())),
    };
    assert_eq!(store.contents.stage(&source).await.unwrap_err(), ContentError::NoUpload);

    store.release(used.id, &owner).await;
    store.pass(GRACE);
    store.collector.run_once().await.unwrap();
    assert_eq!(store.left().await, 0);
}

#[tokio::test]
async fn a_failed_or_cut_upload_leaves_nothing() {
    let store = Store::new();
    let piece = || Ok(Bytes::from(pattern(INLINE_BYTES)));
    let failing = futures::stream::iter([piece(), piece(), piece(), Err(tonic::Status::cancelled("gone"))]);
    assert!(matches!(
        store.contents.upload(failing, u64::MAX).await,
        Err(ContentError::Sender(..))
    ));
    let large = futures::stream::iter([piece(), piece(), piece()]);
    assert_eq!(
        store.contents.upload(large, 300_000).await,
        Err(ContentError::TooLarge(300_000))
    );
    {
        let endless = futures::stream::iter([piece(), piece(), piece()]).chain(futures::stream::pending());
        let upload = store.contents.upload(endless, u64::MAX);
        tokio::select! {
            _ = upload => unreachable!("it has no end"),
            () = async {
                while store.left().await < 3 {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        store.pass(11 * GRACE);
    }
    // Chunks that were in flight may still be written.
    let mut rounds = 0;
    while store.left().await > 0 {
        store.pass(11 * GRACE);
        store.collector.run_once().await.unwrap();
        rounds += 1;
        assert!(rounds < 100, "{} rows are left", store.left().await);
    }
}

#[tokio::test]
async fn an_upload_in_progress_is_not_abandoned_however_long_it_takes() {
    let store = Store::new();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, tonic::Status>>(1);
    let contents = store.contents.clone();
    let upload = tokio::spawn(async move {
        contents
            .upload(tokio_stream::wrappers::ReceiverStream::new(receiver), u64::MAX)
            .await
    });
    for _ in 0..3 {
        sender.send(Ok(Bytes::from(pattern(INLINE_BYTES)))).await.unwrap();
    }
    while store.left().await == 0 {
        tokio::task::yield_now().await;
    }
    store.pass(100 * GRACE);
    assert_eq!(store.collector.run_once().await.unwrap(), Collected::default());
    drop(sender);
    let uploaded = upload.await.unwrap().unwrap();
    assert_eq!(store.contents.bytes(uploaded.id).await.unwrap().len(), 3 * INLINE_BYTES);
}

/// What a step of the model does.
#[derive(Debug, Clone)]
enum Action {
    Inline(usize),
    Upload(usize),
    Refer(usize),
    Share(usize),
    Release(usize),
    Wait(u64),
    Collect,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let sizes = prop_oneof![0..100usize, INLINE_BYTES - 2..INLINE_BYTES + 3];
    let action = prop_oneof![
        (0..2000usize).prop_map(Action::Inline),
        sizes.prop_map(Action::Upload),
        any::<usize>().prop_map(Action::Refer),
        any::<usize>().prop_map(Action::Share),
        any::<usize>().prop_map(Action::Release),
        any::<usize>().prop_map(Action::Release),
        (0..6000u64).prop_map(Action::Wait),
        Just(Action::Collect),
    ];
    proptest::collection::vec(action, 1..60)
}

async fn run_model(actions: Vec<Action>) {
    let store = Store::new();
    let mut uploads: Vec<(Uploaded, i64)> = Vec::new();
    let mut held: Vec<(ContentId, usize, Owner)> = Vec::new();
    for action in actions {
        match action {
            Action::Inline(size) => {
                let staged = Staged::inline(pattern(size).into());
                let owners = [store.owner(), store.owner()];
                let mut commit = Commit::new();
                staged.reference(&mut commit, &owners);
                store.db.commit(commit).await.unwrap();
                held.extend(owners.map(|owner| (staged.id(), size, owner)));
            }
            Action::Upload(size) => uploads.push((store.upload(&pattern(size), 65_536).await, store.contents.now())),
            Action::Refer(which) if !uploads.is_empty() => {
                let (upload, at) = uploads.swap_remove(which % uploads.len());
                let owner = store.owner();
                let mut commit = Commit::new();
                upload.staged().reference(&mut commit, std::slice::from_ref(&owner));
                match store.db.commit(commit).await {
                    Ok(_) => held.push((upload.id, upload.size as usize, owner)),
                    Err(_) => assert!(store.contents.now() - at >= 10 * GRACE.as_millis() as i64),
                }
            }
            Action::Share(which) if !held.is_empty() => {
                let (id, size, existing) = held[which % held.len()].clone();
                let owner = store.owner();
                let mut commit = Commit::new();
                share(&mut commit, id, &existing, &owner);
                store.db.commit(commit).await.unwrap();
                held.push((id, size, owner));
            }
            Action::Release(which) if !held.is_empty() => {
                let (id, _, owner) = held.swap_remove(which % held.len());
                store.release(id, &owner).await;
                let mut commit = Commit::new();
                share(&mut commit, id, &owner, &store.owner());
                assert!(
                    store.db.commit(commit).await.is_err(),
                    "a released reference is none to share"
                );
            }
            Action::Wait(millis) => store.pass(Duration::from_millis(millis)),
            Action::Collect => {
                store.collector.run_once().await.unwrap();
            }
            _ => {}
        }
        for (id, size, _) in &held {
            assert_eq!(store.contents.bytes(*id).await.unwrap(), pattern(*size));
        }
    }
    for (id, _, owner) in held {
        store.release(id, &owner).await;
    }
    store.pass(20 * GRACE);
    store.collector.run_once().await.unwrap();
    store.pass(20 * GRACE);
    store.collector.run_once().await.unwrap();
    assert_eq!(store.left().await, 0, "all is released, so nothing is left");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn what_is_referred_to_stays_and_the_rest_goes(actions in actions()) {
        tokio::runtime::Runtime::new().unwrap().block_on(run_model(actions));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collecting_while_many_refer_and_release_removes_nothing_in_use() {
    const TASKS: usize = 8;
    const STEPS: usize = 150;
    let store = Arc::new(Store::new());
    // Without a grace there is nothing but the conditions to go by.
    let collector = Collector::with_graces(store.contents.clone(), Duration::ZERO, Duration::ZERO);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let collecting = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let mut removed = 0;
            while !done.load(Ordering::SeqCst) {
                let collected = collector.run_once().await.unwrap();
                removed += collected.removed;
            }
            collector.run_once().await.unwrap();
            removed + collector.run_once().await.unwrap().removed
        })
    };
    // References that any task may share or release.
    let shared: Arc<Mutex<HashMap<usize, (ContentId, Owner)>>> = Arc::default();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (store, shared) = (Arc::clone(&store), Arc::clone(&shared));
            tokio::spawn(async move {
                for _ in 0..STEPS {
                    let (create, slot) = {
                        let mut random = rand::rng();
                        (random.random_bool(0.4), random.random_range(0..16usize))
                    };
                    let known: Vec<(ContentId, Owner)> = shared.lock().values().cloned().collect();
                    let chosen = known.choose(&mut rand::rng()).cloned();
                    let owner = store.owner();
                    let mut commit = Commit::new();
                    let id = match chosen {
                        Some((id, existing)) if !create => {
                            share(&mut commit, id, &existing, &owner);
                            id
                        }
                        _ => {
                            let staged = Staged::inline(pattern(100).into());
                            staged.reference(&mut commit, std::slice::from_ref(&owner));
                            staged.id()
                        }
                    };
                    if store.db.commit(commit).await.is_err() {
                        continue;
                    }
                    // It is ours now, whatever the others and the collector do.
                    assert_eq!(store.contents.bytes(id).await.unwrap(), pattern(100));
                    tokio::task::yield_now().await;
                    assert_eq!(store.contents.bytes(id).await.unwrap(), pattern(100));
                    let replaced = shared.lock().insert(slot, (id, owner));
                    if let Some((id, owner)) = replaced {
                        store.release(id, &owner).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let left: Vec<_> = shared.lock().drain().map(|(_, held)| held).collect();
    for (id, owner) in left {
        assert_eq!(store.contents.bytes(id).await.unwrap(), pattern(100));
        store.release(id, &owner).await;
    }
    done.store(true, Ordering::SeqCst);
    assert!(collecting.await.unwrap() > 0);
    assert_eq!(store.left().await, 0);
}

#[tokio::test]
async fn large_contents_have_turns_to_be_in_memory() {
    let store = Store::new();
    let large = vec![b'x'; (read::WHOLE_KIB as usize * 1024) / 8 * 5];
    let (one, other) = (store.upload(&large, 1 << 20).await, store.upload(&large, 1 << 20).await);
    let small = store.upload(b"small", 5).await;
    let first = store.contents.whole(one.id).await.unwrap();
    assert!(first[..] == large[..]);
    let mut second = std::pin::pin!(store.contents.whole(other.id));
    assert!(futures::poll!(&mut second).is_pending());
    let waiting = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(waiting.is_err(), "both are read at once");
    assert_eq!(store.contents.whole(small.id).await.unwrap()[..], b"small"[..]);
    drop(first);
    assert!(second.await.unwrap()[..] == large[..]);
}
