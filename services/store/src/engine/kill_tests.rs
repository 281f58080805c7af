//! The engine in a process of its own, which is killed at random moments: all that it acknowledged is there after.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;

use super::*;

/// Tells the child where to write.
const DIRECTORY: &str = "MOX_ENGINE_KILL_TEST_DIRECTORY";
const WRITERS: u64 = 8;

fn key(writer: u64, step: u64) -> Bytes {
    let mut key = vec![b't'];
    key.extend_from_slice(&writer.to_be_bytes());
    key.extend_from_slice(&step.to_be_bytes());
    key.into()
}

fn options(path: &str) -> Options {
    // Small, so that tables are written and logs used again while it runs.
    Options {
        memtable_bytes: 256 << 10,
        prime_log: true,
        ..Options::new(path)
    }
}

/// Every writer puts its own numbers in order, each on condition of the one before, a row and a bulk value, and says so
/// when it is acknowledged.
async fn write_forever(path: &str) {
    let db = Arc::new(RocksEngine::open(&options(path)).unwrap());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = Arc::clone(&db);
            tokio::spawn(async move {
                let range = key(writer, 0)..key(writer + 1, 0);
                let last = db.scan(range, Limit::rows(1), Order::Descending).await.unwrap();
                let mut step = last
                    .rows
                    .first()
                    .map_or(0, |(key, _)| u64::from_be_bytes(*key.last_chunk::<8>().unwrap()) + 1);
                loop {
                    let mut commit = Commit::new();
                    if step > 0 {
                        commit.require_present(key(writer, step - 1));
                    }
                    commit.put(key(writer, step), vec![writer as u8; 100]);
                    let mut bulk = key(writer, step).to_vec();
                    bulk[0] = b'c';
                    commit.put(bulk.into(), vec![step as u8; 3000]);
                    db.commit(commit).await.unwrap();
                    println!("acknowledged {writer} {step}");
                    step += 1;
                }
            })
        })
        .collect();
    futures::future::join_all(writers).await;
}

/// Not a test of its own: what the child process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    if let Ok(path) = std::env::var(DIRECTORY) {
        write_forever(&path).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut acknowledged: [Option<u64>; WRITERS as usize] = Default::default();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "engine::kill_tests::child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIRECTORY, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || lines.lines().map_while(Result::ok).collect::<Vec<String>>());
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(100..900)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reading.join().unwrap() {
            // The last line may be cut.
            let Some((writer, step)) = line.strip_prefix("acknowledged ").and_then(|l| l.split_once(' ')) else {
                continue;
            };
            let (writer, step): (usize, u64) = (writer.parse().unwrap(), step.parse().unwrap());
            acknowledged[writer] = acknowledged[writer].max(Some(step));
        }
        let start = Instant::now();
        let db = RocksEngine::open(&options(path)).unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "opening took {:?}",
            start.elapsed()
        );
        for (writer, last) in acknowledged.iter().enumerate() {
            let writer = writer as u64;
            let limit = Limit {
                rows: usize::MAX,
                bytes: usize::MAX,
            };
            let page = db
                .scan(key(writer, 0)..key(writer + 1, 0), limit, Order::Ascending)
                .await
                .unwrap();
            for (step, (found, _)) in page.rows.iter().enumerate() {
                assert_eq!(*found, key(writer, step as u64), "round {round}: a gap");
            }
            let count = page.rows.len() as u64;
            // One more may have been written and not been said.
            let expected = last.map_or(0, |last| last + 1);
            assert!(
                count >= expected,
                "round {round}: writer {writer} has {count} of {expected}"
            );
            for step in [0, count.saturating_sub(1)].into_iter().filter(|_| count > 0) {
                let mut bulk = key(writer, step).to_vec();
                bulk[0] = b'c';
                let value = db.get(bulk.into()).await.unwrap().unwrap();
                assert_eq!(value.data, vec![step as u8; 3000]);
            }
        }
    }
    assert!(acknowledged.iter().all(Option::is_some), "{acknowledged:?}");
}
