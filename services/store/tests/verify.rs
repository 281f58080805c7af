//! Each kind of damage is found, and put right where that is possible.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mox_config::Static;
use mox_events::Bus;
use mox_proto::admin::v1::report::Report as Kind;
use mox_proto::admin::v1::{Finding, Level};
use mox_proto::record::v1 as record;
use mox_service::Clock;
use mox_store::engine::{Commit, Limit, Order};
use mox_store::verify::{Checks, verify};
use mox_store::{Config, Parts, Service, keys};
use mox_telemetry::Telemetry;
use mox_types::{AccountId, ContentId, MailboxId, MessageId};
use prost::Message as _;

/// A store with mail, as an earlier version wrote it.
struct World {
    _dir: tempfile::TempDir,
    service: Service,
    account: AccountId,
    inbox: MailboxId,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema-1.tar.gz");
        let done = Command::new("tar")
            .arg("xzf")
            .arg(archive)
            .arg("-C")
            .arg(store)
            .status();
        assert!(done.unwrap().success());
        let fixed = Static::new(dir.path().to_owned(), "localhost".parse().unwrap());
        let service = Service::open(Config {
            data_dir: dir.path().to_owned(),
            static_config: Arc::new(fixed),
            bus: Bus::in_process(),
            telemetry: Telemetry::detached(),
            clock: Clock::system(),
        })
        .await
        .unwrap();
        let accounts = service.parts().registry.list().await.unwrap();
        let account = AccountId::try_from(&accounts[0].id).unwrap();
        let state = service.parts().accounts.state(account, 0).await.unwrap();
        let inbox = state.named("Inbox").unwrap().id;
        Self {
            _dir: dir,
            service,
            account,
            inbox,
        }
    }

    fn parts(&self) -> &Parts {
        self.service.parts()
    }

    async fn get(&self, key: Bytes) -> Option<Bytes> {
        self.parts().db.get(key).await.unwrap().map(|v| v.data)
    }

    async fn put(&self, key: Bytes, value: impl Into<Bytes>) {
        self.parts()
            .db
            .commit(Commit::new().put(key, value).clone())
            .await
            .unwrap();
        self.parts().accounts.forget(self.account);
    }

    async fn delete(&self, key: Bytes) {
        self.parts().db.commit(Commit::new().delete(key).clone()).await.unwrap();
        self.parts().accounts.forget(self.account);
    }

    async fn row(&self, uid: u32) -> record::Row {
        let value = self.get(keys::row(self.account, self.inbox, uid)).await.unwrap();
        record::Row::decode(value).unwrap()
    }

    async fn message(&self, uid: u32) -> (MessageId, record::Message) {
        let id = MessageId::try_from(&self.row(uid).await.message_id).unwrap();
        let value = self.get(keys::message(self.account, id)).await.unwrap();
        (id, record::Message::decode(value).unwrap())
    }

    async fn content(&self, uid: u32) -> ContentId {
        ContentId::try_from(&self.message(uid).await.1.content_id).unwrap()
    }

    async fn change_mailbox(&self, change: impl FnOnce(&mut record::Mailbox)) {
        let key = keys::mailbox(self.account, self.inbox);
        let mut mailbox = record::Mailbox::decode(self.get(key.clone()).await.unwrap()).unwrap();
        change(&mut mailbox);
        self.put(key, mailbox.encode_to_vec()).await;
    }

    async fn change_account(&self, change: impl FnOnce(&mut record::Account)) {
        let key = keys::account(self.account);
        let mut account = record::Account::decode(self.get(key.clone()).await.unwrap()).unwrap();
        change(&mut account);
        self.put(key, account.encode_to_vec()).await;
    }

    async fn change_message(&self, uid: u32, change: impl FnOnce(&mut record::Message)) {
        let (id, mut message) = self.message(uid).await;
        change(&mut message);
        self.put(keys::message(self.account, id), message.encode_to_vec()).await;
    }

    async fn change_row(&self, uid: u32, change: impl FnOnce(&mut record::Row)) {
        let mut row = self.row(uid).await;
        change(&mut row);
        self.put(keys::row(self.account, self.inbox, uid), row.encode_to_vec())
            .await;
    }

    async fn verify(&self, checks: Checks) -> Vec<Finding> {
        let findings = Mutex::new(Vec::new());
        let tell = |report: mox_proto::admin::v1::Report| {
            if let Some(Kind::Finding(finding)) = report.report {
                findings.lock().unwrap().push(finding);
            }
        };
        verify(self.parts(), checks, &tell).await.unwrap();
        findings.into_inner().unwrap()
    }

    /// Finds something with this text; after fixing, it is no longer found if it can be fixed, and is if it cannot.
    async fn expect(self, text: &str, fixable: bool) {
        let found = self.verify(Checks::default()).await;
        let of = |found: &[Finding]| found.iter().filter(|f| f.text.contains(text)).count();
        assert!(of(&found) > 0, "{text:?} is not in {found:#?}");
        assert!(found.iter().all(|f| f.level() == Level::Error), "{found:#?}");
        let fix = Checks {
            fix: true,
            ..Checks::default()
        };
        let fixed = self.verify(fix).await;
        let level = if fixable { Level::Fixed } else { Level::Error };
        assert!(
            fixed.iter().any(|f| f.text.contains(text) && f.level() == level),
            "{text:?}: {fixed:#?}"
        );
        let after = self.verify(Checks::default()).await;
        if fixable {
            assert_eq!(after, [], "{text:?} was fixed");
        } else {
            assert!(of(&after) > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_found_whole() {
    let world = World::new().await;
    assert_eq!(world.verify(Checks::default()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_counts_are_found() {
    let world = World::new().await;
    world.change_mailbox(|m| m.counts.as_mut().unwrap().unseen += 3).await;
    world.expect("wrong counts", true).await;
    let world = World::new().await;
    world.change_account(|a| a.size += 1000).await;
    world.expect("wrong totals", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_uids_are_found() {
    let world = World::new().await;
    world.change_mailbox(|m| m.uid_next = 5).await;
    world.expect("UIDNEXT is 5", true).await;
    let world = World::new().await;
    world.change_account(|a| a.next_uid_validity = 5).await;
    world.expect("and the next one of the account 5", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_messages_that_disagree_are_found() {
    let world = World::new().await;
    let (id, _) = world.message(3).await;
    world.delete(keys::message(world.account, id)).await;
    world.expect("UID 3 has no message", true).await;

    let world = World::new().await;
    world.delete(keys::row(world.account, world.inbox, 3)).await;
    world.expect("UID 3 is in no list of its mailbox", true).await;

    let world = World::new().await;
    world.put(keys::row(world.account, world.inbox, 3), &b"\xff"[..]).await;
    world.expect("cannot be read", true).await;

    let world = World::new().await;
    world.change_message(3, |m| m.uid = 77).await;
    world.expect("says that it is elsewhere, with UID 77", true).await;

    let world = World::new().await;
    world.change_row(3, |r| r.keywords = vec![1000]).await;
    world.expect("a keyword has no text", true).await;

    let world = World::new().await;
    world.change_row(3, |r| r.received += 1).await;
    world.expect("in its message", true).await;

    // The same message twice.
    let world = World::new().await;
    let row = world.row(3).await;
    world
        .put(keys::row(world.account, world.inbox, 5), row.encode_to_vec())
        .await;
    world.expect("says that it is elsewhere, with UID 3", true).await;

    // In a mailbox that is gone.
    let world = World::new().await;
    let row = world.row(3).await;
    let nowhere = MailboxId::new();
    world
        .put(keys::row(world.account, nowhere, 1), row.encode_to_vec())
        .await;
    world.expect("which is gone", true).await;
    let world = World::new().await;
    world
        .change_message(3, |m| m.mailbox_id = MailboxId::new().to_bytes())
        .await;
    world.delete(keys::row(world.account, world.inbox, 3)).await;
    world.expect("is in a mailbox that is gone", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_sizes_are_found() {
    let world = World::new().await;
    world.change_message(3, |m| m.size += 7).await;
    let skipping = Checks {
        skip_sizes: true,
        ..Checks::default()
    };
    assert_eq!(world.verify(skipping).await, []);
    world.expect("and its bytes are", true).await;
    let world = World::new().await;
    world.change_row(3, |r| r.size += 7).await;
    world.expect("in its message", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_derived_is_made_again() {
    let world = World::new().await;
    let (id, _) = world.message(3).await;
    world.delete(keys::computed(world.account, id)).await;
    world.expect("has no structure that can be read", true).await;

    let world = World::new().await;
    world
        .put(keys::computed(world.account, MessageId::new()), &b""[..])
        .await;
    world.expect("structure of a message that is gone", true).await;

    let world = World::new().await;
    for table in [keys::TABLE_MESSAGE_IDS, keys::TABLE_SUBJECTS] {
        let range = keys::account_table(world.account, table);
        let page = world
            .parts()
            .db
            .scan(range, Limit::rows(1), Order::Ascending)
            .await
            .unwrap();
        world.delete(page.rows[0].0.clone()).await;
    }
    world.expect("is not found by its Message-ID or subject", true).await;

    let world = World::new().await;
    let (id, _) = world.message(3).await;
    world.put(keys::message_id(world.account, &[7; 16], id), &b""[..]).await;
    world
        .put(keys::base_subject(world.account, &[7; 16], id), &b""[..])
        .await;
    world.expect("leads to a message without it", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_damaged_contents_are_found() {
    let world = World::new().await;
    let content = world.content(4).await;
    world.delete(keys::content(content)).await;
    world.expect("UID 4 has no content", false).await;

    let world = World::new().await;
    let content = world.content(4).await;
    let mut kept = record::Content::decode(world.get(keys::content(content)).await.unwrap()).unwrap();
    let mut bytes = kept.small.to_vec();
    bytes[0] ^= 1;
    kept.small = bytes.into();
    world.put(keys::content(content), kept.encode_to_vec()).await;
    world.expect("its checksum is another", false).await;

    let world = World::new().await;
    let range = keys::prefix(&[keys::CHUNK]);
    let page = world
        .parts()
        .db
        .scan(range, Limit::rows(1), Order::Ascending)
        .await
        .unwrap();
    world.delete(page.rows[0].0.clone()).await;
    world.expect("lacks 1 of its 3 chunks (0)", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_checked_both_ways() {
    let world = World::new().await;
    let (id, content) = (world.message(4).await.0, world.content(4).await);
    let owner = mox_store::content::Owner::message(world.account, id);
    world.delete(keys::reference(content, owner.as_bytes())).await;
    world
        .expect("does not count among those that need its content", true)
        .await;

    let world = World::new().await;
    let content = world.content(4).await;
    let owner = mox_store::content::Owner::message(world.account, MessageId::new());
    world.put(keys::reference(content, owner.as_bytes()), &b""[..]).await;
    world.expect("by what does not have it", true).await;

    let world = World::new().await;
    let nobody = ContentId::new();
    let kept = world.get(keys::content(world.content(4).await)).await.unwrap();
    world.put(keys::content(nobody), kept).await;
    world.expect("is needed by nobody", true).await;

    let world = World::new().await;
    world.put(keys::chunk(ContentId::new(), 0), &b"x"[..]).await;
    world.expect("chunks of content", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_senders_is_checked_both_ways() {
    let judge = async |world: &World| {
        let sender = mox_proto::delivery::v1::Validation::Strict.into();
        world.change_message(4, |m| m.msg_from_validation = sender).await;
        let mut row = world.row(4).await;
        row.flags |= mox_proto::mail::v1::Flag::Junk as u32;
        let key = keys::row(world.account, world.inbox, 4);
        world.put(key, row.encode_to_vec()).await;
    };
    let world = World::new().await;
    judge(&world).await;
    world.expect("is not in the history of its sender", true).await;

    let world = World::new().await;
    let id = world.message(4).await.0;
    let key = keys::history(world.account, 1, &[7; 16], 1000, id);
    world.put(key, &b"123456789"[..]).await;
    world.expect("has a message that does not belong there", true).await;

    let world = World::new().await;
    let id = world.message(4).await.0;
    world.put(keys::reject(world.account, &[7; 16]), id.to_bytes()).await;
    world.expect("leads to a copy that is not one", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_checked() {
    let world = World::new().await;
    world.delete(keys::queue_state(1)).await;
    world.expect("has no state: it is never sent", false).await;
    let world = World::new().await;
    world.put(keys::queue_state(99), &b""[..]).await;
    world.expect("state of queue entry", true).await;
    let world = World::new().await;
    let entry = world.get(keys::queue_entry(1)).await.unwrap();
    let content = mox_proto::queue::v1::Entry::decode(entry).unwrap().content_id;
    let content = ContentId::try_from(&content).unwrap();
    world.delete(keys::content(content)).await;
    world
        .expect("queue entry 1 to later-temperror@localhost has no content", false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_a_name_and_files_of_others_are_told() {
    let world = World::new().await;
    let other = AccountId::new();
    world.put(keys::account(other), &b""[..]).await;
    std::fs::write(world.parts().data_dir.join("holiday.jpg"), "").unwrap();
    let found = world.verify(Checks::default()).await;
    let levels: BTreeMap<String, Level> = found.iter().map(|f| (f.text.clone(), f.level())).collect();
    assert!(
        levels
            .iter()
            .any(|(text, level)| text.contains("out of reach") && *level == Level::Error)
    );
    assert!(
        levels
            .iter()
            .any(|(text, level)| text.contains("holiday.jpg") && *level == Level::Warning)
    );
}
