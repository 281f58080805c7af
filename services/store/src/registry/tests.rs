//! Configurations come and go, and accounts with them.

use std::collections::BTreeMap;

use mox_config::{Account as ConfigAccount, Destination, Domain, IncomingWebhook, Secret, Selector};
use mox_proto::config::v1 as api;
use mox_types::MessageId;

use super::*;
use crate::content::{self, Collector, Contents, EngineBlobs, Owner, Staged};
use crate::engine::{Commit, Options, RocksEngine};

struct Store {
    db: Db,
    registry: Registry,
    accounts: Accounts,
    queue: Queue,
    contents: Contents,
    bus: Bus,
    dir: tempfile::TempDir,
}

fn now() -> NowMillis {
    Arc::new(|| 1_800_000_000_000)
}

impl Store {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let bus = Bus::in_process();
        let registry = Registry::open(db.clone(), bus.clone(), now(), Sessions::default())
            .await
            .unwrap();
        let seconds = Arc::new(|| 1_800_000_000);
        let accounts = Accounts::new(db.clone(), Arc::new(|_| 0), seconds, 1 << 20);
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), now());
        let queue = Queue::new(db.clone(), contents.clone(), accounts.clone(), bus.clone(), now());
        Self {
            db,
            registry,
            accounts,
            queue,
            contents,
            bus,
            dir,
        }
    }

    async fn commit(&self, accounts: &[&str]) -> Result<api::CommitConfigResponse, RegistryError> {
        self.registry.commit(&request(&config(accounts))).await
    }

    async fn rows(&self, range: std::ops::Range<Bytes>) -> usize {
        self.db
            .scan(range, Limit::default(), Order::Ascending)
            .await
            .unwrap()
            .rows
            .len()
    }
}

fn config(accounts: &[&str]) -> Dynamic {
    let mut dynamic = Dynamic::default();
    dynamic
        .domains
        .insert("example.org".parse().unwrap(), Domain::default());
    for name in accounts {
        let mut account = ConfigAccount::new("example.org".parse().unwrap());
        let address = serde_json::from_str(&format!("\"{name}@example.org\"")).unwrap();
        account.destinations = BTreeMap::from([(address, Destination::default())]);
        dynamic.accounts.insert((*name).to_owned(), account);
    }
    dynamic
}

fn request(dynamic: &Dynamic) -> api::CommitConfigRequest {
    let mut mailboxes = api::InitialMailboxes {
        regular: vec!["Lists".into()],
        ..Default::default()
    };
    mailboxes.special_use.insert("\\Sent".into(), "Sent".into());
    api::CommitConfigRequest {
        key: mox_rpc::key(),
        snapshot: serde_json::to_vec(dynamic).unwrap().into(),
        initial_mailboxes: Some(mailboxes),
        default_quota: 1000,
    }
}

#[tokio::test]
async fn accounts_keep_their_ids_through_configurations_and_restarts() {
    let store = Store::new().await;
    assert_eq!(store.registry.current().version, 0);
    let mut events = store.bus.subscribe(Subject::Config);
    let first = store.commit(&["a", "b"]).await.unwrap();
    assert_eq!((first.version, first.accounts.len()), (1, 2));
    let id = store.registry.current().id("a").unwrap();
    assert_eq!(store.registry.current().name(id), Some("a"));
    assert_eq!(store.registry.current().quota("a"), 1000);
    loop {
        if let Some(Notice::Event(event)) = events.next().await {
            assert_eq!(event, Event::ConfigChanged { version: 1 });
            break;
        }
    }
    assert!(store.rows(keys::account_all(id)).await > 3, "it has mailboxes");

    let same = store.commit(&["a", "b"]).await.unwrap();
    assert_eq!(same.version, 1, "nothing changed");
    let without = store.commit(&["b"]).await.unwrap();
    assert_eq!(without.version, 2);
    assert!(without.accounts.iter().any(|a| a.name == "a" && a.disabled));
    assert_eq!(store.registry.current().id("a"), None);
    store.commit(&["a", "b", "c"]).await.unwrap();
    assert_eq!(store.registry.current().id("a"), Some(id), "it is the same account");

    let Store {
        dir,
        db,
        registry,
        accounts,
        queue,
        contents,
        bus,
    } = store;
    // All that holds the database, but for this.
    drop((registry, accounts, queue, contents, bus));
    let version = Registry::open(db, Bus::in_process(), now(), Sessions::default())
        .await
        .unwrap()
        .current()
        .version;
    assert_eq!(version, 3);
    let store = Store::open(dir).await;
    assert_eq!(store.registry.current().id("a"), Some(id));
    assert_eq!(store.registry.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_repeated_commit_is_answered_as_the_first() {
    let store = Store::new().await;
    let first = request(&config(&["a"]));
    let answer = store.registry.commit(&first).await.unwrap();
    store.commit(&["a", "b"]).await.unwrap();
    assert_eq!(store.registry.commit(&first).await.unwrap(), answer);
    assert!(store.registry.current().id("b").is_some(), "it was not done again");
    let other = api::CommitConfigRequest {
        key: first.key.clone(),
        ..request(&config(&["c"]))
    };
    assert!(
        store.registry.commit(&other).await.is_err(),
        "the key is of another request"
    );
    let broken = api::CommitConfigRequest {
        snapshot: Bytes::from_static(b"{"),
        ..request(&config(&[]))
    };
    assert!(matches!(
        store.registry.commit(&broken).await,
        Err(RegistryError::Invalid(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_committed_at_once_come_one_after_the_other() {
    let store = Arc::new(Store::new().await);
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store
                    .commit(&["shared", &format!("own{number}")])
                    .await
                    .unwrap()
                    .version
            })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(store.registry.list().await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_removed_account_leaves_nothing_and_its_name_is_free() {
    let store = Store::new().await;
    store.commit(&["a", "b"]).await.unwrap();
    let id = store.registry.current().id("a").unwrap();
    let other = store.registry.current().id("b").unwrap();
    let early = store.registry.remove("a", &store.accounts, &store.queue).await;
    assert!(matches!(early, Err(RegistryError::Configured(_))));

    // A message that only this account has, and one that it shares.
    let (own, shared) = (Staged::inline("own".into()), Staged::inline("shared".into()));
    let mut commit = Commit::new();
    for staged in [&own, &shared] {
        let message = MessageId::new();
        let record = record::Message {
            id: message.to_bytes(),
            content_id: staged.id().to_bytes(),
            ..Default::default()
        };
        commit.put(keys::message(id, message), record.encode_to_vec());
        staged.reference(&mut commit, &[Owner::message(id, message)]);
    }
    let owner = Owner::message(other, MessageId::new());
    content::refer(&mut commit, shared.id(), &owner);
    store.db.commit(commit).await.unwrap();

    store.commit(&["b"]).await.unwrap();
    store.registry.remove("a", &store.accounts, &store.queue).await.unwrap();
    assert_eq!(store.rows(keys::account_all(id)).await, 0);
    assert!(store.rows(keys::account_all(other)).await > 0);
    let collector = Collector::with_graces(store.contents.clone(), Duration::ZERO, Duration::ZERO);
    collector.run_once().await.unwrap();
    assert!(store.contents.bytes(own.id()).await.is_err());
    assert_eq!(store.contents.bytes(shared.id()).await.unwrap(), "shared");
    let again = store.registry.remove("a", &store.accounts, &store.queue).await;
    assert!(matches!(again, Err(RegistryError::NoAccount(_))));

    store.commit(&["a", "b"]).await.unwrap();
    assert_ne!(store.registry.current().id("a"), Some(id), "another account");
}

#[tokio::test]
async fn a_removal_that_was_cut_short_is_finished_later() {
    let store = Store::new().await;
    store.commit(&["a"]).await.unwrap();
    let id = store.registry.current().id("a").unwrap();
    store.commit(&[]).await.unwrap();
    // What the first commit of a removal does.
    let (key, _, registration) = store.registry.registration("a").await.unwrap();
    let mut commit = Commit::new();
    commit.put(
        key,
        record::Registration {
            removing: true,
            ..registration
        }
        .encode_to_vec(),
    );
    commit.delete(keys::account(id));
    store.db.commit(commit).await.unwrap();
    assert!(matches!(store.commit(&["a"]).await, Err(RegistryError::Removing(_))));
    tokio::select! {
        () = store.registry.follow(store.accounts.clone(), store.queue.clone()) => {}
        () = async {
            while store.rows(keys::names()).await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    assert_eq!(store.rows(keys::account_all(id)).await, 0);
    store.commit(&["a"]).await.unwrap();
}

#[tokio::test]
async fn secrets_reach_only_those_who_use_them() {
    let mut dynamic = config(&["a"]);
    let selector = Selector {
        private_key: Some(Secret::new("sign-key")),
        ..Selector::default()
    };
    dynamic
        .domains
        .values_mut()
        .for_each(|d| drop(d.dkim.selectors.insert("s".into(), selector.clone())));
    dynamic.accounts.values_mut().for_each(|a| {
        a.incoming_webhook = Some(IncomingWebhook {
            url: "http://127.0.0.1/".into(),
            authorization: Some(Secret::new("hook-secret")),
        });
    });
    let store = Store::new().await;
    store.registry.commit(&request(&dynamic)).await.unwrap();
    let current = store.registry.current();
    for (caller, signs, calls) in [
        ("smtp-in", false, false),
        ("imap", false, false),
        ("acme", false, false),
        ("submission", true, false),
        ("queue-delivery", true, true),
        ("control", true, true),
        ("web", true, true),
        ("somebody", false, false),
    ] {
        let part = store.registry.part(&current, &Identity::new(caller)).unwrap();
        let text = std::str::from_utf8(&part).unwrap();
        assert_eq!(text.contains("sign-key"), signs, "{caller}");
        assert_eq!(text.contains("hook-secret"), calls, "{caller}");
        serde_json::from_slice::<Dynamic>(&part).unwrap();
    }
}
