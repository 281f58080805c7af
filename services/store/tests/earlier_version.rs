//! Data that an earlier version wrote is brought to the present shape, and all of it is there.
//!
//! `data/schema-1.tar.gz` is the database of a localserve of the first released shape: twelve messages received by SMTP,
//! one of them expunged; five appended over IMAP with flags, keywords and dates, one of 700 kB; three copied; and one in
//! the outgoing queue.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mox_config::Static;
use mox_events::Bus;
use mox_service::Clock;
use mox_store::account::{FromSnapshot, find_recipient, read_rows};
use mox_store::{Config, Parts, Service};
use mox_telemetry::Telemetry;
use mox_types::{AccountId, Address, ContentId, MessageId};
use prost::Message as _;

fn unpack(into: &Path) {
    let store = into.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema-1.tar.gz");
    let done = Command::new("tar")
        .arg("xzf")
        .arg(archive)
        .arg("-C")
        .arg(store)
        .status();
    assert!(done.unwrap().success());
}

async fn open(data_dir: &Path) -> Service {
    let fixed = Static::new(data_dir.to_owned(), "localhost".parse().unwrap());
    let config = Config {
        data_dir: data_dir.to_owned(),
        static_config: Arc::new(fixed),
        bus: Bus::in_process(),
        telemetry: Telemetry::detached(),
        clock: Clock::system(),
    };
    Service::open(config).await.unwrap()
}

/// The messages of a mailbox: UID, flags, keywords, time, and bytes.
async fn messages(parts: &Parts, account: AccountId, mailbox: &str) -> Vec<(u32, u32, Vec<String>, i64, Vec<u8>)> {
    let state = parts.accounts.state(account, 0).await.unwrap();
    let id = state.named(mailbox).unwrap().id;
    let snapshot = parts.db.snapshot().await.unwrap();
    let all = [mox_proto::mail::v1::UidRange {
        first: 1,
        last: u32::MAX,
    }];
    let (rows, _) = read_rows(&FromSnapshot(&*snapshot), account, id, &all, usize::MAX)
        .await
        .unwrap();
    let mut found = Vec::new();
    for (uid, row) in rows {
        let key = mox_store::keys::message(account, MessageId::try_from(&row.message_id).unwrap());
        let value = snapshot.get(key).await.unwrap().unwrap().data;
        let message = mox_proto::record::v1::Message::decode(value).unwrap();
        let content = ContentId::try_from(&message.content_id).unwrap();
        let mut bytes = message.prefix.to_vec();
        bytes.extend_from_slice(&parts.contents.bytes(content).await.unwrap());
        assert_eq!(bytes.len() as u64, row.size);
        found.push((uid, row.flags, state.keywords.texts(&row.keywords), row.received, bytes));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_the_first_shape_is_brought_to_this_one() {
    let dir = tempfile::tempdir().unwrap();
    unpack(dir.path());
    let copy = dir.path().join("store/before-schema-1");
    let schema = |parts: &Parts| {
        let db = parts.db.clone();
        async move { db.get(mox_store::keys::schema()).await.unwrap().unwrap().data }
    };
    for round in 0..2 {
        let service = open(dir.path()).await;
        let parts = service.parts().clone();
        assert_eq!(schema(&parts).await.len(), 8);
        assert!(copy.join("CURRENT").exists(), "a copy of what was");
        let accounts = parts.registry.list().await.unwrap();
        assert_eq!(accounts.len(), 1);
        let account = AccountId::try_from(&accounts[0].id).unwrap();

        let inbox = messages(&parts, account, "Inbox").await;
        let uids: Vec<u32> = inbox.iter().map(|m| m.0).collect();
        assert_eq!(uids, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]);
        assert!(String::from_utf8_lossy(&inbox[0].4).contains("Subject: thread 0\r\n"));
        let work = messages(&parts, account, "Work").await;
        assert_eq!(work.len(), 5);
        assert_eq!((work[0].1, work[0].3), (1 | 4 | 32, 1_700_000_000));
        assert_eq!(work[0].2, ["custom"]);
        assert_eq!((work[1].1, work[1].3), (2, 1_600_000_000));
        assert_eq!(messages(&parts, account, "Work/Deep").await[0].4.len(), 702_256);
        assert_eq!(parts.queue.list(&Default::default()).await.unwrap().entries.len(), 1);

        // What this version added, from what there was.
        for (address, sent) in [
            ("bob@example.com", true),
            ("Carol@example.net", true),
            ("dave@example.net", true),
            ("alice@example.org", false),
        ] {
            let address: Address = address.parse().unwrap();
            let known = find_recipient(&parts.db, account, &address).await.unwrap();
            assert_eq!(known.map(|k| k.messages), sent.then_some(1), "{address}, round {round}");
        }
        drop((service, parts));
    }
}
