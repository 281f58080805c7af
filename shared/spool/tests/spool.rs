//! What a receiver of messages relies on.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mox_spool::{Budget, MEMORY_BYTES, READERS, Spool, SpoolError};
use proptest::prelude::*;

const LIMIT: u64 = 100 << 20;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn small_messages_need_no_file() {
    let budget = Budget::new(1000, "/nonexistent");
    let mut spool = Spool::new(&budget, LIMIT);
    spool.write(b"Subject: hello\r\n\r\n").await.unwrap();
    spool.write(b"world\r\n").await.unwrap();
    let message = spool.finish().await.unwrap();
    assert_eq!(&message[..], b"Subject: hello\r\n\r\nworld\r\n");
    assert_eq!(budget.used(), message.len() as u64);
}

#[tokio::test]
async fn empty_message_is_empty() {
    let budget = Budget::new(0, "/nonexistent");
    assert!(Spool::new(&budget, LIMIT).finish().await.unwrap().is_empty());
}

#[tokio::test]
async fn large_messages_are_mapped_and_leave_nothing() {
    let folder = folder();
    let budget = Budget::new(LIMIT, folder.path());
    let mut spool = Spool::new(&budget, LIMIT);
    let chunk: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for _ in 0..50 {
        spool.write(&chunk).await.unwrap();
    }
    let message = spool.finish().await.unwrap();
    assert_eq!(message.len(), 5_000_000);
    assert!(message.chunks(chunk.len()).all(|part| part == chunk));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let tail = message.bytes().slice(4_999_000..);
    drop(message);
    assert_eq!(tail[..], chunk[99_000..]);
    assert_eq!(budget.used(), 5_000_000, "a slice keeps the message");
    drop(tail);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn few_large_messages_are_read_at_a_time() {
    let folder = folder();
    let budget = Budget::new(LIMIT, folder.path());
    let (reading, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for n in 0..8_u8 {
        let mut spool = Spool::new(&budget, LIMIT);
        spool.write(&vec![n; 2 << 20]).await.unwrap();
        let message = spool.finish().await.unwrap();
        let (reading, most) = (Arc::clone(&reading), Arc::clone(&most));
        readers.push(tokio::spawn(async move {
            let work = move |bytes: &Bytes| {
                most.fetch_max(reading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let sum: usize = bytes.iter().map(|b| usize::from(*b)).sum();
                reading.fetch_sub(1, Ordering::SeqCst);
                sum
            };
            assert_eq!(message.read(work).await.unwrap(), usize::from(n) << 21);
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert!((1..=READERS).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn many_small_messages_do_not_fill_the_memory() {
    let folder = folder();
    let budget = Budget::within(1 << 20, LIMIT, folder.path());
    let mut spools: Vec<Spool> = (0..50).map(|_| Spool::new(&budget, LIMIT)).collect();
    for n in 0..10_u8 {
        for spool in &mut spools {
            spool.write(&vec![n; 10_000]).await.unwrap();
            assert!(budget.held() <= 1 << 20);
        }
    }
    let expected: Vec<u8> = (0..10).flat_map(|n| vec![n; 10_000]).collect();
    for spool in spools {
        assert_eq!(spool.finish().await.unwrap()[..], expected);
    }
    assert_eq!((budget.held(), budget.used()), (0, 0));
}

#[tokio::test]
async fn too_large_is_refused_at_the_limit() {
    let budget = Budget::new(LIMIT, "/nonexistent");
    let mut spool = Spool::new(&budget, 10);
    spool.write(b"0123456789").await.unwrap();
    assert!(matches!(
        spool.write(b"x").await,
        Err(SpoolError::TooLarge { limit: 10 })
    ));
    assert!(spool.write(b"").await.is_err(), "it stays failed");
    assert!(spool.finish().await.is_err());
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn budget_is_of_all_messages_together() {
    let budget = Budget::new(10, "/nonexistent");
    let mut first = Spool::new(&budget, LIMIT);
    let mut second = Spool::new(&budget, LIMIT);
    first.write(b"123456").await.unwrap();
    assert!(matches!(
        second.write(b"12345").await,
        Err(SpoolError::Budget { budget: 10 })
    ));
    drop(first);
    let mut third = Spool::new(&budget, LIMIT);
    third.write(b"1234567890").await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_missing_is_an_error_that_names_it() {
    let budget = Budget::new(LIMIT, "/nonexistent/folder");
    let mut spool = Spool::new(&budget, LIMIT);
    let error = spool.write(&vec![0; MEMORY_BYTES + 1]).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/folder"), "{error}");
    drop(spool);
    assert_eq!(budget.used(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a message is cut into writes, it is what was written, and gives the budget back.
    #[test]
    fn what_is_written_is_what_comes_out(
        sizes in prop::collection::vec(prop_oneof![0usize..5000, 200_000usize..700_000, Just(MEMORY_BYTES), Just(256 << 10)], 0..8),
        seed in any::<u8>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = folder();
        let budget = Budget::new(LIMIT, folder.path());
        let total: usize = sizes.iter().sum();
        let all: Vec<u8> = (0..total).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed) ^ (n >> 8) as u8).collect();
        let message = runtime.block_on(async {
            let mut spool = Spool::new(&budget, LIMIT);
            let mut rest = &all[..];
            for size in sizes {
                let (now, later) = rest.split_at(size);
                spool.write(now).await.unwrap();
                rest = later;
            }
            assert_eq!(spool.len(), total as u64);
            spool.finish().await.unwrap()
        });
        prop_assert!(message[..] == all[..]);
        prop_assert_eq!(budget.used(), total as u64);
        drop(message);
        prop_assert_eq!(budget.used(), 0);
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
