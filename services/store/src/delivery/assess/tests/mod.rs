//! Every stage, and their order.

mod history;
mod rejects;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use mox_config::{Account, Domain, Dynamic};
use mox_events::Bus;
use mox_proto::config::v1::CommitConfigRequest;
use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Validation};
use mox_proto::mail::v1::store_flags_request::Mode;
use mox_proto::mail::v1::{self as mail, Flag};
use serde_json::{Value, json};

use super::*;
use crate::account::{Accounts, JunkRules};
use crate::auth::Sessions;
use crate::content::{Contents, EngineBlobs};
use crate::engine::{Db, Options, RocksEngine};
use crate::junk::Junk;
use crate::mail::Mail;
use crate::mail::tests::{NOW, inline};
use crate::registry::Registry;

const DAY: i64 = 24 * 60 * 60;
const JUNK: u32 = Flag::Junk as u32;
const NOT_JUNK: u32 = Flag::Notjunk as u32;
const JUNK_WORDS: &str = "cheap pills casino winner lottery jackpot viagra";
const HAM_WORDS: &str = "meeting project schedule report budget colleague regards";

pub(in crate::delivery) struct World {
    pub(in crate::delivery) db: Db,
    pub(in crate::delivery) delivery: Delivery,
    pub(in crate::delivery) mail: Mail,
    pub(in crate::delivery) account: AccountId,
    registry: Registry,
    junk: Junk,
    now: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn configuration(settings: Value) -> Bytes {
    let domain: mox_types::Domain = "example.org".parse().unwrap();
    let mut account = serde_json::to_value(Account::new(domain.clone())).unwrap();
    merge(
        &mut account,
        json!({ "destinations": { "a@example.org": { "mailbox": "Inbox" } } }),
    );
    merge(&mut account, settings);
    let mut dynamic = Dynamic::default();
    dynamic.domains.insert(domain, Domain::default());
    dynamic
        .accounts
        .insert("a".into(), serde_json::from_value(account).unwrap());
    serde_json::to_vec(&dynamic).unwrap().into()
}

impl World {
    pub(in crate::delivery) async fn new(settings: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let now = Arc::new(AtomicI64::new(NOW));
        let seconds = now.clone();
        let millis = now.clone();
        let millis: crate::content::NowMillis = Arc::new(move || millis.load(Ordering::Relaxed) * 1000);
        let registry = Registry::open(db.clone(), Bus::in_process(), millis.clone(), Sessions::default())
            .await
            .unwrap();
        let clock = Arc::new(move || seconds.load(Ordering::Relaxed));
        let accounts = Accounts::new(db.clone(), Arc::new(|_: &str| 0), clock, 1 << 20);
        let rules = registry.clone();
        accounts.set_junk_rules(Arc::new(move |name| {
            JunkRules::new(rules.current().dynamic.clone(), name)
        }));
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), millis);
        let mut world = Self {
            delivery: Delivery::new(accounts.clone(), contents.clone(), registry.clone())
                .with_jitter(Arc::new(|_, _| 0.0)),
            mail: Mail::new(accounts.clone(), contents.clone(), Sessions::default()),
            junk: Junk::new(accounts, contents, registry.clone()),
            account: AccountId::from([0; 16]),
            registry,
            now,
            db,
            _dir: dir,
        };
        world.account = world.set(settings).await;
        world
    }

    /// Changes the account's settings.
    pub(in crate::delivery) async fn set(&self, settings: Value) -> AccountId {
        let mut initial = mox_proto::config::v1::InitialMailboxes::default();
        initial.special_use.insert("\\Sent".into(), "Sent".into());
        let request = CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: configuration(settings),
            initial_mailboxes: Some(initial),
            ..Default::default()
        };
        let committed = self.registry.commit(&request).await.unwrap();
        AccountId::try_from(&committed.accounts[0].id).unwrap()
    }

    pub(in crate::delivery) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn append(&self, mailbox: &str, bits: u32, content: String) {
        let flags = mail::Flags {
            bits,
            keywords: Vec::new(),
        };
        self.mail
            .append_one(self.account, mailbox, flags, &content.into())
            .await
            .unwrap();
    }

    /// Lets the filter learn from so many messages of each kind.
    async fn train(&self, messages: usize) {
        for n in 0..messages {
            for (bits, words) in [(JUNK, JUNK_WORDS), (NOT_JUNK, HAM_WORDS)] {
                let text = format!("Subject: {words}\r\n\r\n{words} x{n}y\r\n");
                self.append("Inbox", bits, text).await;
            }
        }
        self.junk.learn(self.account, &|_| {}).await.unwrap();
    }

    async fn write_to(&self, address: &str) {
        self.append("Sent", 0, format!("To: {address}\r\nSubject: x\r\n\r\nx\r\n"))
            .await;
    }

    fn recipient(&self) -> api::Recipient {
        api::Recipient {
            rcpt_to: "a@example.org".into(),
            account_id: self.account.to_bytes(),
            address: "a@example.org".into(),
            ..Default::default()
        }
    }

    /// Receives a message, which its user then judges.
    async fn receive(&self, envelope: &api::Envelope, bits: u32) {
        let content = letter(envelope, "a@example.org", "x");
        let request = api::DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(envelope.clone()),
            content: Some(inline(&content)),
            deliveries: vec![api::Delivery {
                recipient: Some(self.recipient()),
                flags: Some(mail::Flags {
                    bits,
                    keywords: Vec::new(),
                }),
                ..Default::default()
            }],
            received: self.now.load(Ordering::Relaxed),
            ..Default::default()
        };
        self.delivery.do_deliver(request).await.unwrap();
    }

    pub(in crate::delivery) async fn assess(&self, envelope: &api::Envelope, content: &Bytes) -> Verdict {
        let request = api::AssessRequest {
            envelope: Some(envelope.clone()),
            size: content.len() as u64,
            content: Some(inline(content)),
            recipients: vec![self.recipient()],
        };
        self.delivery.do_assess(&request).await.unwrap().verdicts.remove(0)
    }

    async fn reason(&self, envelope: &api::Envelope) -> String {
        let verdict = self.assess(envelope, &letter(envelope, "a@example.org", "hello")).await;
        let sign = if verdict.accept { "+" } else { "-" };
        format!("{sign}{}", verdict.reason)
    }
}

fn letter(envelope: &api::Envelope, to: &str, words: &str) -> Bytes {
    let from = &envelope.msg_from;
    let id = rand::random::<u64>();
    format!("From: {from}\r\nTo: {to}\r\nMessage-ID: <{id}@x>\r\nSubject: {words}\r\n\r\n{words}\r\n").into()
}

/// A message that is verified in every way.
pub(in crate::delivery) fn verified(from: &str) -> api::Envelope {
    let (_, domain) = from.rsplit_once('@').unwrap();
    api::Envelope {
        mail_from: format!("bounces@{domain}"),
        mail_from_validation: Validation::Pass.into(),
        ehlo: format!("mx.{domain}"),
        ehlo_validation: Validation::Pass.into(),
        remote_ip: "192.0.2.1".into(),
        msg_from: from.to_owned(),
        msg_from_validation: Validation::Strict.into(),
        msg_from_org_domain: domain
            .split('.')
            .rev()
            .take(2)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("."),
        dkim_domains: vec![domain.to_owned()],
        dmarc: DmarcResult::Pass.into(),
        tls_version: "TLS 1.3".into(),
        first_time_delay_milliseconds: 15_000,
        ..Default::default()
    }
}

/// A message of which nothing is verified, from an address of its own.
fn unverified(from: &str, ip: &str) -> api::Envelope {
    api::Envelope {
        mail_from_validation: Validation::None.into(),
        ehlo_validation: Validation::None.into(),
        msg_from_validation: Validation::None.into(),
        dmarc: DmarcResult::None.into(),
        dkim_domains: Vec::new(),
        remote_ip: ip.to_owned(),
        ..verified(from)
    }
}

fn filter() -> Value {
    json!({ "threshold": 0.95, "params": { "onegrams": true, "max_power": 0.01, "top_words": 10, "ignore_words": 0.1, "rare_words": 2 } })
}

/// A message that all stages but those that accept have something against. Each loses one, in their order.
#[tokio::test(flavor = "multi_thread")]
async fn stages_decide_in_their_order() {
    let world = World::new(json!({ "junk_filter": filter() })).await;
    world.train(6).await;
    for from in ["b1@bad.example", "b2@bad2.example"] {
        world.receive(&unverified(from, "198.51.100.1"), JUNK).await;
    }
    world.receive(&unverified("b3@bad3.example", "203.0.113.9"), JUNK).await;
    let mut settings = json!({
        "junk_filter": filter(),
        "subject_pass": { "period": "1h" },
        "destinations": { "a@example.org": {
            "smtp_error": "550 gone",
            "message_auth_required_smtp_error": "not authenticated",
            "rulesets": [{ "mailbox": "Lists", "list_allow_domain": "lists.example",
                           "smtp_mail_from_regexp": "^bounces@lists.example$" }],
        } },
    });
    world.set(settings.clone()).await;
    let mut envelope = api::Envelope {
        mail_from: "bounces@lists.example".into(),
        dkim_domains: vec!["lists.example".into()],
        mail_from_validation: Validation::Fail.into(),
        dmarc: DmarcResult::Fail.into(),
        dmarc_policy: DmarcPolicy::Reject.into(),
        iprev_failed: true,
        ..unverified("joe@new.example", "198.51.100.1")
    };
    let (mut subject, mut words) = (JUNK_WORDS.to_owned(), JUNK_WORDS);
    let mut expected = Vec::new();
    for step in 0.. {
        let content: Bytes = format!("From: joe@new.example\r\nSubject: {subject}\r\n\r\n{words}\r\n").into();
        let verdict = world.assess(&envelope, &content).await;
        let destination = &mut settings["destinations"]["a@example.org"];
        expected.push((
            verdict.reason.clone(),
            verdict.smtp_code,
            verdict.if_listed.as_ref().map(|v| v.reason.clone()),
        ));
        match step {
            0 => destination["smtp_error"] = json!(""),
            1 => envelope.dkim_domains = Vec::new(),
            2 => envelope.dmarc_policy = DmarcPolicy::None.into(),
            3 => destination["message_auth_required_smtp_error"] = json!(""),
            // A network whose history is not enough.
            4 => envelope.remote_ip = "203.0.113.9".into(),
            5 => envelope.mail_from_validation = Validation::None.into(),
            6 => envelope.iprev_failed = false,
            7 => {
                let (_, word) = verdict.text.split_once("pass:").unwrap();
                subject = format!("{JUNK_WORDS} pass:{word}");
            }
            8 => {
                (subject, words) = (HAM_WORDS.into(), HAM_WORDS);
                envelope.dkim_domains = vec!["signed.example".into()];
            }
            _ => break,
        }
        world.set(settings.clone()).await;
    }
    let of = |reason: &str, code, listed: Option<&str>| (reason.to_owned(), code, listed.map(str::to_owned));
    assert_eq!(
        expected,
        [
            of("destination-refuses", 550, None),
            of("list", 0, None),
            of("dmarc-policy", 550, None),
            of("authentication-required", 550, None),
            of("reputation-network", 451, None),
            of("spf-policy", 550, None),
            of("iprev", 451, None),
            of("subject-pass-offered", 451, None),
            of("subject-pass", 0, None),
            of("no-bad-signals", 0, Some("subject-pass-offered")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_were_written_to_are_welcome() {
    let world = World::new(json!({})).await;
    world.write_to("Joe@known.example").await;
    let joe = verified("joe@known.example");
    assert_eq!(world.reason(&joe).await, "+known");
    // Anybody can write that address.
    let forged = unverified("joe@known.example", "192.0.2.77");
    assert_eq!(world.reason(&forged).await, "+no-bad-signals");
    // Somebody else there is no stranger, and not known.
    let other = verified("jane@known.example");
    let verdict = world.assess(&other, &letter(&other, "a@example.org", "x")).await;
    assert_eq!(
        (verdict.reason.as_str(), verdict.delay_milliseconds),
        ("no-bad-signals", 0)
    );
    // What the user says last counts.
    for _ in 0..2 {
        world.receive(&joe, JUNK).await;
    }
    assert_eq!(world.reason(&joe).await, "-reputation-address");
    world.pass(10);
    world.receive(&joe, NOT_JUNK).await;
    assert_eq!(world.reason(&joe).await, "+known");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_decides_by_the_most_telling_name() {
    let from = |localpart: &str| verified(&format!("{localpart}@mail.sender.example"));
    let with = |change: fn(&mut api::Envelope)| {
        let mut envelope = verified("new@other.example");
        // Nothing in common with others but what is set.
        envelope.remote_ip = "203.0.113.200".into();
        change(&mut envelope);
        envelope
    };
    let network = |ip: &str| {
        unverified(
            &format!("x{}@{}.example", rand::random::<u32>(), rand::random::<u32>()),
            ip,
        )
    };
    // What it shows, the history with its flags, what comes now, and the reason given.
    type Row<'r> = (&'r str, Vec<(api::Envelope, u32)>, api::Envelope, &'r str);
    let cases: Vec<Row<'_>> = vec![
        (
            "address",
            vec![(from("joe"), NOT_JUNK)],
            from("joe"),
            "+reputation-address",
        ),
        ("address", vec![(from("joe"), JUNK)], from("joe"), "-reputation-address"),
        (
            "address before domain",
            vec![(from("joe"), JUNK), (from("jane"), NOT_JUNK), (from("jim"), NOT_JUNK)],
            from("joe"),
            "-reputation-address",
        ),
        (
            "domain",
            vec![(from("joe"), NOT_JUNK)],
            from("jane"),
            "+reputation-domain",
        ),
        (
            "one bad apple",
            vec![(from("joe"), JUNK)],
            from("jane"),
            "+no-bad-signals",
        ),
        (
            "three bad apples",
            vec![(from("a"), JUNK), (from("b"), JUNK), (from("c"), JUNK)],
            from("d"),
            "-reputation-domain",
        ),
        (
            "organization",
            vec![(from("joe"), NOT_JUNK)],
            verified("joe@www.sender.example"),
            "+reputation-organization",
        ),
        (
            "forged",
            vec![(from("joe"), NOT_JUNK)],
            unverified("joe@mail.sender.example", "198.51.100.7"),
            "+no-bad-signals",
        ),
        (
            "forged by a client without a name",
            vec![(from("joe"), NOT_JUNK)],
            api::Envelope {
                iprev_failed: true,
                ..unverified("joe@mail.sender.example", "198.51.100.7")
            },
            // What was said of the address itself is no matter of the client's.
            "+no-bad-signals",
        ),
        (
            "signer",
            vec![(from("joe"), NOT_JUNK)],
            with(|e| e.dkim_domains = vec!["mail.sender.example".into()]),
            "+reputation-authenticated",
        ),
        (
            "one message of a signer may be a mistake",
            vec![(from("joe"), JUNK)],
            with(|e| e.dkim_domains = vec!["mail.sender.example".into()]),
            "+no-bad-signals",
        ),
        (
            "signers that disagree",
            vec![
                (from("joe"), NOT_JUNK),
                (verified("z@spam.example"), JUNK),
                (verified("z@spam.example"), JUNK),
            ],
            with(|e| e.dkim_domains = vec!["mail.sender.example".into(), "spam.example".into()]),
            "+no-bad-signals",
        ),
        (
            "MAIL FROM",
            vec![(from("joe"), JUNK), (from("joe"), JUNK)],
            with(|e| e.mail_from = "bounces@mail.sender.example".into()),
            "-reputation-authenticated",
        ),
        (
            "MAIL FROM that is not verified",
            vec![(from("joe"), JUNK), (from("joe"), JUNK)],
            with(|e| {
                e.mail_from = "bounces@mail.sender.example".into();
                e.mail_from_validation = Validation::Neutral.into();
            }),
            "+no-bad-signals",
        ),
        (
            "EHLO",
            vec![(from("joe"), JUNK), (from("joe"), JUNK)],
            with(|e| e.ehlo = "mx.mail.sender.example".into()),
            "-reputation-authenticated",
        ),
        (
            "address of the client",
            vec![(network("198.51.100.1"), JUNK), (network("198.51.100.1"), JUNK)],
            network("198.51.100.1"),
            "-reputation-network",
        ),
        (
            "too little of a wider network",
            vec![(network("198.51.100.1"), JUNK), (network("198.51.100.1"), JUNK)],
            network("198.51.100.2"),
            "+no-bad-signals",
        ),
        (
            "a wider network",
            vec![(network("198.51.100.1"), JUNK); 5],
            network("198.51.100.2"),
            "-reputation-network",
        ),
        (
            "a still wider network",
            vec![(network("198.51.100.1"), JUNK); 10],
            network("198.51.101.2"),
            "-reputation-network",
        ),
        (
            "elsewhere",
            vec![(network("198.51.100.1"), JUNK); 10],
            network("198.51.200.2"),
            "+no-bad-signals",
        ),
        (
            "flagged neither",
            vec![(from("joe"), 0)],
            from("joe"),
            "+no-bad-signals",
        ),
        (
            "flagged both",
            vec![(from("joe"), JUNK | NOT_JUNK)],
            from("joe"),
            "+no-bad-signals",
        ),
    ];
    for (what, history, message, expected) in cases {
        let world = World::new(json!({})).await;
        for (envelope, bits) in &history {
            world.receive(envelope, *bits).await;
        }
        let verdict = world.assess(&message, &letter(&message, "a@example.org", "x")).await;
        let sign = if verdict.accept { "+" } else { "-" };
        assert_eq!(
            format!("{sign}{}", verdict.reason),
            expected,
            "{what}: {}",
            verdict.detail
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_forgotten_with_time_and_with_its_messages() {
    let world = World::new(json!({})).await;
    let joe = verified("joe@sender.example");
    world.receive(&joe, JUNK).await;
    assert_eq!(world.reason(&joe).await, "-reputation-address");
    world.pass(3 * 365 * DAY + 1);
    assert_eq!(world.reason(&joe).await, "+no-bad-signals");
    world.receive(&joe, JUNK).await;
    assert_eq!(world.reason(&joe).await, "-reputation-address");
    // From IMAP: flags that change, and messages that go.
    let inbox = world.mail.named(world.account, "Inbox").await.unwrap().id;
    let store = |bits: u32, mode: Mode| mail::StoreFlagsRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.clone(),
        uids: crate::mail::tests::range(1, 2),
        mode: mode.into(),
        flags: Some(mail::Flags {
            bits,
            keywords: Vec::new(),
        }),
        ..Default::default()
    };
    world
        .mail
        .change_flags(world.account, store(JUNK, Mode::Remove))
        .await
        .unwrap();
    assert_eq!(world.reason(&joe).await, "+no-bad-signals");
    world
        .mail
        .change_flags(world.account, store(NOT_JUNK, Mode::Add))
        .await
        .unwrap();
    assert_eq!(world.reason(&joe).await, "+reputation-address");
    let deleted = Flag::Deleted as u32;
    world
        .mail
        .change_flags(world.account, store(deleted, Mode::Add))
        .await
        .unwrap();
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.clone(),
        uids: crate::mail::tests::range(1, 2),
        ..Default::default()
    };
    world.mail.remove(world.account, request).await.unwrap();
    assert_eq!(world.reason(&joe).await, "+no-bad-signals");
    let left = world
        .db
        .scan(
            keys::account_table(world.account, keys::TABLE_HISTORY),
            crate::engine::Limit::rows(1),
            crate::engine::Order::Ascending,
        )
        .await
        .unwrap();
    assert!(left.rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarders_are_not_who_sends() {
    let rule = json!({ "mailbox": "Forwarded", "verified_domain": "forwarder.example", "is_forward": true });
    let world = World::new(json!({ "destinations": { "a@example.org": { "rulesets": [rule] } } })).await;
    let mut spam = unverified("x@spam.example", "192.0.2.50");
    spam.dkim_domains = vec!["forwarder.example".into(), "spam.example".into()];
    spam.ehlo = "mx.forwarder.example".into();
    spam.ehlo_validation = Validation::Pass.into();
    for _ in 0..3 {
        let verdict = world.assess(&spam, &letter(&spam, "old@elsewhere.example", "x")).await;
        assert!(verdict.accept && verdict.forward && verdict.forwarder == "forwarder.example");
        let content = letter(&spam, "old@elsewhere.example", "x");
        let request = api::DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(spam.clone()),
            content: Some(inline(&content)),
            deliveries: vec![api::Delivery {
                recipient: Some(world.recipient()),
                mailbox: verdict.mailbox,
                forwarded: verdict.forward,
                forwarder: verdict.forwarder,
                flags: Some(mail::Flags {
                    bits: JUNK,
                    keywords: Vec::new(),
                }),
                ..Default::default()
            }],
            received: NOW,
            ..Default::default()
        };
        world.delivery.do_deliver(request).await.unwrap();
    }
    let mut good = unverified("y@good.example", "192.0.2.50");
    good.dkim_domains = vec!["forwarder.example".into()];
    good.ehlo.clone_from(&spam.ehlo);
    good.ehlo_validation = spam.ehlo_validation;
    // SPF fails for what is forwarded, and the forwarder's address has no history.
    good.mail_from_validation = Validation::Fail.into();
    assert_eq!(world.reason(&good).await, "+no-bad-signals");
    // The sender's own signature has.
    let mut more = unverified("z@other.example", "192.0.2.99");
    more.dkim_domains = vec!["spam.example".into(), "forwarder.example".into()];
    assert_eq!(world.reason(&more).await, "-reputation-authenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_wait_and_are_introduced() {
    let world = World::new(json!({ "introbox": "Introbox" })).await;
    let joe = verified("joe@sender.example");
    let content = letter(&joe, "a@example.org", "x");
    let verdict = world.assess(&joe, &content).await;
    assert_eq!(
        (verdict.mailbox.as_str(), verdict.delay_milliseconds),
        ("Introbox", 15_000)
    );
    world.receive(&joe, NOT_JUNK).await;
    let verdict = world.assess(&joe, &content).await;
    assert_eq!((verdict.mailbox.as_str(), verdict.delay_milliseconds), ("Inbox", 0));
    // A client that others write through, too, is no reason not to introduce somebody.
    let bill = verified("bill@other.example");
    let verdict = world.assess(&bill, &letter(&bill, "a@example.org", "x")).await;
    assert_eq!((verdict.mailbox.as_str(), verdict.delay_milliseconds), ("Introbox", 0));
    world
        .set(
            json!({ "no_first_time_sender_delay": true, "destinations": { "a@example.org": {
            "rulesets": [{ "mailbox": "Ruled", "msg_from_regexp": "^jane@" }] } }, "introbox": "Introbox" }),
        )
        .await;
    let jane = verified("jane@stranger.example");
    let verdict = world.assess(&jane, &letter(&jane, "a@example.org", "x")).await;
    assert_eq!((verdict.mailbox.as_str(), verdict.delay_milliseconds), ("Ruled", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn spf_that_fails_is_no_matter_when_dkim_holds() {
    let world = World::new(json!({})).await;
    for (from, mail_from, expected) in [
        (Validation::None, Validation::Fail, 550),
        (Validation::None, Validation::Softfail, 451),
        (Validation::None, Validation::Neutral, 0),
        (Validation::Dmarc, Validation::Fail, 0),
    ] {
        let mut envelope = unverified("joe@sender.example", "192.0.2.1");
        envelope.msg_from_validation = from.into();
        envelope.mail_from_validation = mail_from.into();
        let verdict = world.assess(&envelope, &letter(&envelope, "a@example.org", "x")).await;
        assert_eq!(verdict.smtp_code, expected, "{from:?} {mail_from:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_decide_by_a_threshold_that_suspicion_lowers() {
    let mut world = World::new(json!({ "junk_filter": filter() })).await;
    // With too little learned, nothing is said.
    world.train(4).await;
    let joe = verified("joe@sender.example");
    let junk = letter(&joe, "a@example.org", JUNK_WORDS);
    assert!(world.assess(&joe, &junk).await.accept);
    world.train(4).await;
    let verdict = world.assess(&joe, &junk).await;
    assert_eq!((verdict.reason.as_str(), verdict.smtp_code), ("junk-content", 451));
    assert!(
        verdict.detail.starts_with("words: 1.0000 of 0.950"),
        "{}",
        verdict.detail
    );
    // Some of both: a half.
    let words = "pills casino lottery meeting project schedule";
    let to = |to: &str| letter(&joe, to, words);
    let mut cases = vec![(joe.clone(), to("a@example.org"), "no-bad-signals")];
    cases.push((joe.clone(), to("undisclosed@elsewhere.example"), "junk-content-strict"));
    cases.push((joe.clone(), to("A+x@example.org"), "junk-content-strict"));
    let clear = api::Envelope {
        tls_version: String::new(),
        ..joe.clone()
    };
    cases.push((clear, to("a@example.org"), "junk-content-strict"));
    let nameless = api::Envelope {
        iprev_failed: true,
        ..joe.clone()
    };
    cases.push((nameless, to("a@example.org"), "junk-content-strict"));
    cases.push((
        unverified("joe@sender.example", "192.0.2.1"),
        to("a@example.org"),
        "junk-content-strict",
    ));
    for (envelope, content, expected) in cases {
        let verdict = world.assess(&envelope, &content).await;
        assert_eq!(verdict.reason, expected, "{}", verdict.detail);
    }
    // Jitter is bounded.
    for (jitter, threshold) in [(1.0, "0.975"), (-1.0, "0.925")] {
        world.delivery = world.delivery.clone().with_jitter(Arc::new(move |_, _| jitter));
        let detail = world.assess(&joe, &junk).await.detail;
        assert!(detail.ends_with(&format!("of {threshold}")), "{detail}");
    }
    // Words that nobody knows say nothing, however suspicious.
    let unknown = unverified("joe@sender.example", "192.0.2.1");
    let verdict = world
        .assess(&unknown, &letter(&unknown, "x@y", "something quite different"))
        .await;
    assert_eq!(verdict.reason, "no-bad-signals");
}

#[tokio::test(flavor = "multi_thread")]
async fn developers_get_everything() {
    let world = World::new(json!({})).await;
    let mut dynamic: Dynamic = serde_json::from_slice(&configuration(json!({ "introbox": "Introbox" }))).unwrap();
    let host = json!({ "localserve": "a@example.org" });
    dynamic.host = Some(serde_json::from_value(host).unwrap());
    let request = CommitConfigRequest {
        key: mox_rpc::key(),
        snapshot: serde_json::to_vec(&dynamic).unwrap().into(),
        ..Default::default()
    };
    world.registry.commit(&request).await.unwrap();
    let spoofed = api::Envelope {
        mail_from_validation: Validation::Fail.into(),
        ..unverified("joe@sender.example", "192.0.2.1")
    };
    let verdict = world.assess(&spoofed, &letter(&spoofed, "a@example.org", "x")).await;
    assert!(verdict.accept && verdict.reason == "accepted" && verdict.if_listed.is_none());
    assert_eq!((verdict.mailbox.as_str(), verdict.delay_milliseconds), ("Inbox", 0));
}
