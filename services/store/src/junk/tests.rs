//! That a filter knows exactly what the flagged messages teach, whatever happened on the way there.

mod bogofilter;
mod corpus;

use std::collections::BTreeMap;
use std::time::Duration;

use mox_config::{Account, Dynamic, JunkFilter};
use mox_events::Bus;
use mox_junk::{Counts, Token};
use mox_proto::config::v1 as config;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::Flag;
use mox_proto::mail::v1::store_flags_request::Mode;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::account::{JunkRules, lesson};
use crate::auth::Sessions;
use crate::content::EngineBlobs;
use crate::engine::{Options, RocksEngine};
use crate::mail::Mail;

const JUNK: u32 = Flag::Junk as u32;
const NOT_JUNK: u32 = Flag::Notjunk as u32;
const BOXES: [&str; 3] = ["Inbox", "Archive", "Junk"];

struct World {
    db: Db,
    mail: Mail,
    junk: Junk,
    account: AccountId,
    dir: tempfile::TempDir,
}

fn configuration(automatic: bool) -> Dynamic {
    let mut dynamic = Dynamic::default();
    dynamic
        .domains
        .insert("example.org".parse().unwrap(), mox_config::Domain::default());
    let mut account = Account::new("example.org".parse().unwrap());
    let mut filter = JunkFilter::default();
    filter.params.onegrams = true;
    filter.params.twograms = true;
    account.junk_filter = Some(filter);
    if automatic {
        account.automatic_junk_flags.enabled = true;
        account.automatic_junk_flags.junk_mailbox_regexp = Some(serde_json::from_str("\"^junk\"").unwrap());
        account.automatic_junk_flags.neutral_mailbox_regexp = Some(serde_json::from_str("\"^inbox\"").unwrap());
    }
    dynamic.accounts.insert("a".into(), account);
    dynamic
}

impl World {
    async fn new(automatic: bool) -> Self {
        let world = Self::open(tempfile::tempdir().unwrap(), None).await;
        let request = config::CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: serde_json::to_vec(&configuration(automatic)).unwrap().into(),
            ..Default::default()
        };
        let committed = world.junk.registry.commit(&request).await.unwrap();
        let account = AccountId::try_from(&committed.accounts[0].id).unwrap();
        let world = Self { account, ..world };
        for name in BOXES.iter().skip(1) {
            world.make(name).await;
        }
        world
    }

    async fn make(&self, name: &str) {
        let request = mail::CreateMailboxRequest {
            key: mox_rpc::key(),
            name: name.to_owned(),
            ..Default::default()
        };
        self.mail.make_mailbox(self.account, request).await.unwrap();
    }

    async fn open(dir: tempfile::TempDir, account: Option<AccountId>) -> Self {
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let millis: crate::content::NowMillis = Arc::new(|| 1_800_000_000_000);
        let registry = Registry::open(db.clone(), Bus::in_process(), millis.clone(), Sessions::default())
            .await
            .unwrap();
        let accounts = Accounts::new(db.clone(), Arc::new(|_: &str| 0), Arc::new(|| 1_800_000_000), 1 << 20);
        let rules = registry.clone();
        accounts.set_junk_rules(Arc::new(move |name| {
            JunkRules::new(rules.current().dynamic.clone(), name)
        }));
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), millis);
        Self {
            mail: Mail::new(accounts.clone(), contents.clone(), Sessions::default()),
            junk: Junk::new(accounts, contents, registry),
            account: account.unwrap_or_else(|| AccountId::from([0; 16])),
            db,
            dir,
        }
    }

    /// The same data after a restart.
    async fn reopen(self) -> Self {
        let Self {
            db,
            mail,
            junk,
            account,
            dir,
        } = self;
        drop((mail, junk));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&db) > 1 {
            assert!(std::time::Instant::now() < deadline, "somebody still holds the engine");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(db);
        Self::open(dir, Some(account)).await
    }

    async fn append(&self, mailbox: &str, bits: u32, text: &str) {
        let content = format!(
            "Subject: {text}\r\nMessage-ID: <{}@x>\r\n\r\n{text}\r\n",
            rand::random::<u64>()
        );
        let flags = mail::Flags {
            bits,
            keywords: Vec::new(),
        };
        self.mail
            .append_one(self.account, mailbox, flags, &content.into())
            .await
            .unwrap();
    }

    async fn uids(&self, mailbox: &Bytes) -> Vec<u32> {
        let rows = self.mail.rows(self.account, mailbox).await.unwrap();
        rows.into_iter().map(|row| row.0).collect()
    }

    async fn id(&self, mailbox: &str) -> Bytes {
        self.mail.named(self.account, mailbox).await.unwrap().id
    }

    /// What the filter knows: words of its generation, and how many messages it learned from.
    async fn known(&self) -> (BTreeMap<Token, Counts>, Counts) {
        let snapshot = self.db.snapshot().await.unwrap();
        let filter = filter_state(&FromSnapshot(&*snapshot), self.account)
            .await
            .unwrap()
            .unwrap_or_default();
        let mut words = BTreeMap::new();
        let mut left = Some(keys::junk_words(self.account));
        while let Some(range) = left {
            let page = snapshot
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await
                .unwrap();
            left = page.rest(&range);
            for (key, value) in page.rows {
                let key = keys::in_account_table(&key);
                assert_eq!(key[..4], filter.generation.to_be_bytes(), "words of another generation");
                words.insert(key[4..].try_into().unwrap(), decode_counts(&value.data).unwrap());
            }
        }
        assert_eq!(words.len() as u64, filter.words);
        let totals = Counts {
            junk: filter.junk,
            ham: filter.notjunk,
        };
        (words, totals)
    }

    /// What it should know: the sum over flagged messages.
    async fn expected(&self) -> (BTreeMap<Token, Counts>, Counts) {
        let (mut words, mut totals) = (BTreeMap::<Token, Counts>::new(), Counts::default());
        let rows = self
            .db
            .scan(
                keys::account_table(self.account, keys::TABLE_ROWS),
                Limit {
                    rows: usize::MAX,
                    bytes: usize::MAX,
                },
                Order::Ascending,
            )
            .await
            .unwrap();
        for (_, value) in rows.rows {
            let row = record::Row::decode(value.data).unwrap();
            let lesson = lesson(row.flags);
            if lesson == record::message::Training::None {
                continue;
            }
            let id = MessageId::try_from(&row.message_id).unwrap();
            let message = self.db.get(keys::message(self.account, id)).await.unwrap().unwrap();
            let message = record::Message::decode(message.data).unwrap();
            assert_eq!(message.trained(), lesson);
            let content = ContentId::try_from(&message.content_id).unwrap();
            let content = self.junk.contents.bytes(content).await.unwrap();
            let junk = lesson == record::message::Training::Junk;
            for token in tokens(&content, Grams::from_bits(3)).as_slice() {
                let counts = words.entry(*token).or_default();
                *counts = counts.trained(junk);
            }
            totals = totals.trained(junk);
        }
        (words, totals)
    }

    /// One random change.
    async fn change(&self, random: &mut StdRng) {
        let text: Vec<String> = (0..random.random_range(1..8))
            .map(|_| format!("word{}x", random.random_range(0..30)))
            .collect();
        let bits = [0, 0, JUNK, NOT_JUNK, JUNK | NOT_JUNK][random.random_range(0..5)];
        let name = BOXES[random.random_range(0..BOXES.len())];
        let mailbox = self.id(name).await;
        let uids = self.uids(&mailbox).await;
        let some = |random: &mut StdRng| -> Vec<mail::UidRange> {
            let chosen = uids.iter().copied().filter(|_| random.random_bool(0.4));
            crate::account::ranges_of(chosen)
        };
        let (session, key, mailbox_id) = (Bytes::new(), mox_rpc::key(), mailbox.clone());
        match random.random_range(0..10) {
            0..4 => self.append(name, bits, &text.join(" ")).await,
            4..6 => {
                let request = mail::StoreFlagsRequest {
                    session,
                    key,
                    mailbox_id,
                    uids: some(random),
                    mode: [Mode::Add, Mode::Remove, Mode::Replace][random.random_range(0..3)].into(),
                    flags: Some(mail::Flags {
                        bits,
                        keywords: Vec::new(),
                    }),
                    ..Default::default()
                };
                self.mail.change_flags(self.account, request).await.unwrap();
            }
            6..8 => {
                let request = mail::CopyRequest {
                    session,
                    key,
                    mailbox_id,
                    uids: some(random),
                    destination: BOXES[random.random_range(0..BOXES.len())].to_owned(),
                };
                let moving = random.random_bool(0.6);
                self.mail.copy_or_move(self.account, request, moving).await.unwrap();
            }
            8 => {
                let uids = some(random);
                let request = mail::StoreFlagsRequest {
                    session: session.clone(),
                    key,
                    mailbox_id: mailbox_id.clone(),
                    uids: uids.clone(),
                    mode: Mode::Add.into(),
                    flags: Some(mail::Flags {
                        bits: Flag::Deleted as u32,
                        keywords: Vec::new(),
                    }),
                    ..Default::default()
                };
                self.mail.change_flags(self.account, request).await.unwrap();
                let request = mail::ExpungeRequest {
                    session,
                    key: mox_rpc::key(),
                    mailbox_id,
                    uids,
                };
                self.mail.remove(self.account, request).await.unwrap();
            }
            _ if name != "Inbox" => {
                let request = mail::DeleteMailboxRequest {
                    key,
                    name: name.to_owned(),
                    ..Default::default()
                };
                self.mail.drop_mailbox(self.account, request).await.unwrap();
                self.junk.accounts.purge().await.unwrap();
                self.make(name).await;
            }
            _ => {}
        }
    }

    async fn score(&self, text: &str) -> Option<f64> {
        let message = Bytes::from(format!("Subject: {text}\r\n\r\n{text}\r\n"));
        let judgement = self.junk.judge(self.account, &Looked::new(&message)).await.unwrap();
        judgement.map(|judgement| judgement.score.probability)
    }

    /// Judges with what is remembered, and reading all, while nothing is learned.
    async fn check_remembered(&self, text: &str) {
        let message = Bytes::from(format!("Subject: {text}\r\n\r\n{text} rare\r\n"));
        let forgetful = Junk {
            remembered: Arc::default(),
            ..self.junk.clone()
        };
        loop {
            let before = self.db.get(keys::junk_filter(self.account)).await.unwrap();
            let judged = self.junk.judge(self.account, &Looked::new(&message)).await.unwrap();
            let expected = forgetful.judge(self.account, &Looked::new(&message)).await.unwrap();
            let after = self.db.get(keys::junk_filter(self.account)).await.unwrap();
            if before == after {
                assert_eq!(judged, expected);
                return;
            }
        }
    }

    async fn learn(&self) {
        self.junk.learn(self.account, &|_| {}).await.unwrap();
    }
}

async fn random_life(seed: u64, automatic: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(automatic).await;
    for _ in 0..random.random_range(5..60) {
        world.change(&mut random).await;
        match random.random_range(0..12) {
            0..4 => world.learn().await,
            // Cut short somewhere.
            4..7 => {
                let time = Duration::from_micros(random.random_range(0..20_000));
                let _ = tokio::time::timeout(time, world.junk.learn(world.account, &|_| {})).await;
            }
            7 => world = world.reopen().await,
            8 => {
                let time = Duration::from_micros(random.random_range(0..20_000));
                let _ = tokio::time::timeout(time, world.junk.relearn(world.account, &|_| {})).await;
            }
            _ => {}
        }
        let first = random.random_range(0..30);
        let text = format!("word{first}x word{}x", random.random_range(0..30));
        world.check_remembered(&text).await;
    }
    world = world.reopen().await;
    world.learn().await;
    let known = world.known().await;
    // What differs says more than all of it.
    let (words, totals) = world.expected().await;
    assert_eq!(known.1, totals);
    let differ: Vec<_> = words
        .iter()
        .filter(|(token, counts)| known.0.get(*token) != Some(*counts))
        .collect();
    assert!(differ.is_empty() && known.0.len() == words.len(), "{differ:?}");
    let queue = world
        .db
        .scan(keys::trainings_of_all(), Limit::default(), Order::Ascending)
        .await
        .unwrap();
    assert!(queue.rows.is_empty());
    let before = (
        world.score("word1x word2x word3x").await,
        world.score("word7x word8x").await,
    );
    world.junk.relearn(world.account, &|_| {}).await.unwrap();
    assert_eq!(world.known().await, known);
    let after = (
        world.score("word1x word2x word3x").await,
        world.score("word7x word8x").await,
    );
    assert_eq!(before, after);
    // Contents of what was unlearned are not kept.
    let collector = crate::content::Collector::new(world.junk.contents.clone());
    let _ = collector.run_once().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_filter_knows_the_sum_over_flagged_messages(seed in any::<u64>(), automatic in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(random_life(seed, automatic));
    }
}

#[tokio::test]
async fn what_is_flagged_is_learned_in_the_background_and_judged_by() {
    let world = World::new(false).await;
    let junk = world.junk.clone();
    let learning = tokio::spawn(async move { junk.run().await });
    for n in 0..10 {
        world
            .append("Inbox", JUNK, &format!("cheap pills offer number{n}x"))
            .await;
        world
            .append("Inbox", NOT_JUNK, &format!("project meeting minutes number{n}x"))
            .await;
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while world.known().await.1 != (Counts { junk: 10, ham: 10 }) {
        assert!(std::time::Instant::now() < deadline, "{:?}", world.known().await.1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.score("cheap pills, an offer").await.unwrap() > 0.95);
    assert!(world.score("minutes of the project meeting").await.unwrap() < 0.05);
    learning.abort();
}

#[tokio::test]
async fn mailboxes_judge_what_is_moved_into_them() {
    let world = World::new(true).await;
    world.append("Inbox", 0, "hello").await;
    world.append("Inbox", JUNK, "judged already").await;
    let inbox = world.id("Inbox").await;
    let flags =
        |rows: Vec<crate::mail::tests::Listed>| -> Vec<u32> { rows.into_iter().map(|r| r.1 & JUDGEMENT).collect() };
    let rows = world.mail.rows(world.account, &inbox).await.unwrap();
    assert_eq!(flags(rows), [0, JUNK]);
    for (from, to, expected) in [
        ("Inbox", "Junk", JUNK),
        ("Junk", "Archive", NOT_JUNK),
        ("Archive", "Inbox", 0),
    ] {
        let request = mail::CopyRequest {
            key: mox_rpc::key(),
            mailbox_id: world.id(from).await,
            uids: vec![mail::UidRange {
                first: 1,
                last: u32::MAX,
            }],
            destination: to.to_owned(),
            ..Default::default()
        };
        world.mail.copy_or_move(world.account, request, true).await.unwrap();
        let rows = world.mail.rows(world.account, &world.id(to).await).await.unwrap();
        assert_eq!(flags(rows), [expected, expected], "{to}");
        world.learn().await;
        assert_eq!(world.known().await, world.expected().await);
    }
}

#[tokio::test]
async fn an_account_without_a_filter_learns_nothing() {
    let world = World::new(false).await;
    let mut dynamic = configuration(false);
    dynamic.accounts.get_mut("a").unwrap().junk_filter = None;
    let request = config::CommitConfigRequest {
        key: mox_rpc::key(),
        snapshot: serde_json::to_vec(&dynamic).unwrap().into(),
        ..Default::default()
    };
    world.junk.registry.commit(&request).await.unwrap();
    world.append("Inbox", JUNK, "cheap pills").await;
    let queue = world
        .db
        .scan(keys::trainings_of_all(), Limit::default(), Order::Ascending)
        .await
        .unwrap();
    assert!(queue.rows.is_empty());
    assert_eq!(world.score("cheap pills").await, None);
    let refused = world.junk.relearn(world.account, &|_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("junk_filter"), "{refused}");
}
