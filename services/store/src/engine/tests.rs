//! The engine's contract, on RocksDB.

use super::*;

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn open(dir: &tempfile::TempDir) -> RocksEngine {
    RocksEngine::open(&Options::new(dir.path())).unwrap()
}

#[tokio::test]
async fn values_carry_the_version_of_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let first = db.commit(Commit::new().put(key("ta"), "1").put(key("tb"), "2").clone()).await.unwrap();
    let second = db.commit(Commit::new().put(key("tb"), "3").require_at(key("ta"), first).clone()).await.unwrap();
    assert!(second > first);
    let values = db.get_many(vec![key("ta"), key("tb"), key("tc")]).await.unwrap();
    assert_eq!(values[0], Some(Value { data: key("1"), version: first }));
    assert_eq!(values[1], Some(Value { data: key("3"), version: second }));
    assert_eq!(values[2], None);
}
