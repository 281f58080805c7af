//! Deliveries on a real engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use mox_config::{Account, Destination, Domain, Dynamic};
use mox_events::Bus;
use mox_proto::config::v1::CommitConfigRequest;
use mox_proto::delivery::v1::lookup_recipient_response::Kind;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MessageId};
use prost::Message as _;

use super::*;
use crate::auth::Sessions;
use crate::engine::{Db, Options, RocksEngine};
use crate::keys;
use crate::mail::Mail;
use crate::mail::tests::{NOW, inline, mail_over, message};

struct World {
    db: Db,
    delivery: Delivery,
    mail: Mail,
    ids: BTreeMap<String, AccountId>,
    _dir: tempfile::TempDir,
}

fn destination(toml: serde_json::Value) -> Destination {
    serde_json::from_value(toml).unwrap()
}

impl World {
    async fn new(quota: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let bus = Bus::in_process();
        let now = Arc::new(|| NOW * 1000);
        let registry = Registry::open(db.clone(), bus, now, Sessions::default()).await.unwrap();
        let mut dynamic = Dynamic::default();
        let domain: mox_types::Domain = "example.org".parse().unwrap();
        dynamic.domains.insert(domain.clone(), Domain::default());
        let rules = serde_json::json!({
            "mailbox": "Inbox",
            "rulesets": [
                { "mailbox": "Lists/Rust", "headers_regexp": { "^list-id$": "rust" } },
                { "mailbox": "Boss", "smtp_mail_from_regexp": "^boss@" },
                { "mailbox": "Verified", "verified_domain": "good.example", "is_forward": true },
            ],
        });
        for (name, destination) in [
            ("a", destination(rules)),
            ("b", Destination::default()),
            (
                "closed",
                destination(serde_json::json!({ "smtp_error": "421 come back later" })),
            ),
        ] {
            let mut account = Account::new(domain.clone());
            account
                .destinations
                .insert(format!("{name}@example.org").parse().unwrap(), destination);
            dynamic.accounts.insert(name.to_owned(), account);
        }
        let host = serde_json::json!({
            "hostnames": ["mail.example.org"],
            "postmaster": { "account": "b", "mailbox": "Inbox" },
        });
        dynamic.host = Some(serde_json::from_value(host).unwrap());
        let request = CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: serde_json::to_vec(&dynamic).unwrap().into(),
            ..Default::default()
        };
        let answer = registry.commit(&request).await.unwrap();
        let ids = answer
            .accounts
            .iter()
            .map(|a| (a.name.clone(), AccountId::try_from(&a.id).unwrap()))
            .collect();
        let mail = mail_over(&db, quota, 1 << 20);
        let blobs = Arc::new(crate::content::EngineBlobs::new(db.clone()));
        let contents = Contents::new(db.clone(), blobs, Arc::new(|| NOW * 1000));
        let delivery = Delivery::new(mail.accounts().clone(), contents, registry);
        Self {
            db,
            delivery,
            mail,
            ids,
            _dir: dir,
        }
    }

    fn to(&self, name: &str, mailbox: &str, prefix: &'static [u8]) -> api::Delivery {
        api::Delivery {
            recipient: Some(api::Recipient {
                rcpt_to: format!("{name}@Example.org"),
                account_id: self.ids[name].to_bytes(),
                address: format!("{name}@example.org"),
                ..Default::default()
            }),
            mailbox: mailbox.to_owned(),
            prefix: Bytes::from_static(prefix),
            reason: "test".into(),
            ..Default::default()
        }
    }

    async fn version(&self, name: &str) -> u64 {
        self.db
            .get(keys::account(self.ids[name]))
            .await
            .unwrap()
            .unwrap()
            .version
    }

    async fn messages(&self, name: &str, mailbox: &str) -> u32 {
        self.mail.named(self.ids[name], mailbox).await.map_or(0, |m| m.messages)
    }
}

fn deliver(content: &Bytes, deliveries: Vec<api::Delivery>) -> api::DeliverRequest {
    api::DeliverRequest {
        key: mox_rpc::key(),
        envelope: Some(api::Envelope {
            mail_from: "Sender@Remote.example".into(),
            remote_ip: "192.0.2.201".into(),
            ehlo: "remote.example".into(),
            dkim_domains: vec!["remote.example".into()],
            cid: 7,
            ..Default::default()
        }),
        content: Some(inline(content)),
        deliveries,
        received: NOW,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_commit_delivers_to_all() {
    let world = World::new(0).await;
    let content = message("hello", "world");
    let mut forwarded = world.to("b", "deep/er", b"");
    forwarded.forwarded = true;
    let request = deliver(
        &content,
        vec![
            world.to("b", "", b"X-A: 1\r\n"),
            world.to("a", "INBOX", b"X-Bb: 2\r\n"),
            forwarded,
        ],
    );
    let answer = world.delivery.do_deliver(request.clone()).await.unwrap();
    assert!(answer.results.iter().all(|r| r.delivered) && answer.results.len() == 3);
    assert_eq!(world.version("a").await, world.version("b").await);
    assert_eq!(world.delivery.do_deliver(request).await.unwrap(), answer);
    assert_eq!(
        (world.messages("a", "Inbox").await, world.messages("b", "Inbox").await),
        (1, 1)
    );
    let made = world.mail.named(world.ids["b"], "deep/er").await.unwrap();
    assert!(made.messages == 1 && made.subscribed);

    let inbox = world.mail.named(world.ids["a"], "inbox").await.unwrap();
    let whole = world.mail.content(world.ids["a"], &inbox.id, 1, 0, 0).await.unwrap();
    assert_eq!(whole, [b"X-Bb: 2\r\n", &content[..]].concat());
    let part = world.mail.content(world.ids["a"], &inbox.id, 1, 5, 8).await.unwrap();
    assert_eq!(part, &whole[5..13]);

    let id = MessageId::try_from(&answer.results[1].message_id).unwrap();
    let stored = world.db.get(keys::message(world.ids["a"], id)).await.unwrap().unwrap();
    let stored = record::Message::decode(stored.data).unwrap();
    assert_eq!(stored.size, whole.len() as u64);
    assert_eq!(
        (stored.mail_from.as_str(), stored.mail_from_domain.as_str()),
        ("Sender@Remote.example", "remote.example")
    );
    assert_eq!(
        (stored.rcpt_to_localpart.as_str(), stored.rcpt_to_domain.as_str()),
        ("a", "example.org")
    );
    assert_eq!(
        (stored.remote_ip_network3.as_str(), stored.msg_from_domain.as_str()),
        ("192.0.0.0", "example.org")
    );
    assert_eq!(
        (stored.message_id.as_str(), stored.base_subject.as_str()),
        ("hello@x", "hello")
    );
    assert_eq!(
        (stored.thread_id, stored.cid, stored.reason.as_str()),
        (id.to_bytes(), 7, "test")
    );
    let computed = world.db.get(keys::computed(world.ids["a"], id)).await.unwrap().unwrap();
    let computed = mox_proto::mail::v1::Computed::decode(computed.data).unwrap();
    assert_eq!(computed, mox_message::computed(&whole));

    let id = MessageId::try_from(&answer.results[2].message_id).unwrap();
    let stored = world.db.get(keys::message(world.ids["b"], id)).await.unwrap().unwrap();
    let stored = record::Message::decode(stored.data).unwrap();
    assert_eq!(
        (stored.ehlo.as_str(), stored.original_ehlo.as_str()),
        ("", "remote.example")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_to_the_same_accounts_do_not_block_each_other() {
    let world = World::new(0).await;
    let content = message("m", "x");
    let results = join_all((0..60).map(|n| {
        let deliveries = match n % 4 {
            0 => vec![world.to("a", "", b""), world.to("b", "", b"")],
            1 => vec![world.to("b", "", b""), world.to("a", "", b"")],
            2 => vec![world.to("a", "", b"")],
            _ => vec![world.to("b", "", b"")],
        };
        world.delivery.do_deliver(deliver(&content, deliveries))
    }))
    .await;
    assert!(results.iter().all(Result::is_ok));
    for name in ["a", "b"] {
        let inbox = world.mail.named(world.ids[name], "Inbox").await.unwrap();
        assert_eq!(inbox.messages, 45);
        let uids: Vec<u32> = world
            .mail
            .rows(world.ids[name], &inbox.id)
            .await
            .unwrap()
            .iter()
            .map(|r| r.0)
            .collect();
        assert_eq!(uids, (1..=45).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_does_not_keep_others_from_theirs() {
    let content = message("m", "x");
    let world = World::new(content.len() as u64 + 10).await;
    world
        .delivery
        .do_deliver(deliver(&content, vec![world.to("a", "", b"")]))
        .await
        .unwrap();
    let both = deliver(&content, vec![world.to("a", "", b""), world.to("b", "", b"")]);
    let results = world.delivery.do_deliver(both).await.unwrap().results;
    assert_eq!(
        (results[0].delivered, results[0].smtp_code, results[1].delivered),
        (false, 452, true)
    );
    // The content came with the one that was kept.
    let inbox = world.mail.named(world.ids["b"], "Inbox").await.unwrap();
    assert_eq!(
        world.mail.content(world.ids["b"], &inbox.id, 1, 0, 0).await.unwrap(),
        content
    );
    let recipient = world.to("a", "", b"").recipient.unwrap();
    let request = api::AssessRequest {
        size: content.len() as u64,
        content: Some(inline(&content)),
        recipients: vec![recipient],
        ..Default::default()
    };
    let verdict = world.delivery.do_assess(&request).await.unwrap().verdicts.remove(0);
    assert_eq!((verdict.accept, verdict.smtp_code), (false, 452));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_delivered_once_whatever_is_repeated() {
    let world = World::new(0).await;
    let content = message("large", &"line\r\n".repeat(100_000));
    let uploaded = world.delivery.contents.upload_bytes(content.clone()).await.unwrap();
    let upload = mail::Content {
        r#where: Some(mail::content::Where::UploadId(uploaded.id().to_bytes())),
    };
    let mut request = deliver(&content, vec![world.to("a", "", b""), world.to("b", "", b"X: y\r\n")]);
    request.content = Some(upload);
    let at_once = join_all((0..4).map(|_| world.delivery.do_deliver(request.clone()))).await;
    for answer in &at_once {
        assert_eq!(answer.as_ref().unwrap(), at_once[0].as_ref().unwrap());
    }
    request.key = mox_rpc::key();
    assert_eq!(
        world.delivery.do_deliver(request).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    let inbox = world.mail.named(world.ids["b"], "Inbox").await.unwrap();
    assert_eq!(inbox.messages, 1);
    let whole = world.mail.content(world.ids["b"], &inbox.id, 1, 0, 0).await.unwrap();
    assert!(whole == [b"X: y\r\n", &content[..]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_looked_up() {
    let world = World::new(0).await;
    let lookup = async |address: &str| {
        let request = api::LookupRecipientRequest {
            address: address.into(),
        };
        world.delivery.do_lookup(&request).await
    };
    let found = lookup("A@EXAMPLE.org").await.unwrap();
    assert_eq!((found.kind(), found.account.as_str()), (Kind::Account, "a"));
    assert_eq!(found.account_id, world.ids["a"].to_bytes());
    assert_eq!(found.canonical_address, "a@example.org");
    assert_eq!(lookup("x@example.org").await.unwrap().kind(), Kind::Unknown);
    assert_eq!(lookup("x@elsewhere.example").await.unwrap().kind(), Kind::NotLocal);
    let closed = lookup("closed@example.org").await.unwrap();
    assert_eq!(
        (closed.kind(), closed.smtp_error.as_str()),
        (Kind::Refused, "421 come back later")
    );
    assert_eq!(
        lookup("nonsense").await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_say_where_messages_go() {
    let world = World::new(0).await;
    let assess = async |name: &str, mail_from: &str, dkim: &[&str], header: &str| {
        let content = Bytes::from(format!("{header}Subject: x\r\n\r\nbody\r\n"));
        let request = api::AssessRequest {
            envelope: Some(api::Envelope {
                mail_from: mail_from.into(),
                dkim_domains: dkim.iter().map(|d| (*d).to_owned()).collect(),
                ..Default::default()
            }),
            size: content.len() as u64,
            content: Some(inline(&content)),
            recipients: vec![world.to(name, "", b"").recipient.unwrap()],
        };
        world.delivery.do_assess(&request).await.unwrap().verdicts.remove(0)
    };
    let plain = assess("a", "x@y", &[], "").await;
    assert!(plain.accept && plain.mailbox == "Inbox");
    assert_eq!(
        assess("a", "x@y", &[], "List-Id: The Rust list <rust>\r\n")
            .await
            .mailbox,
        "Lists/Rust"
    );
    assert_eq!(assess("a", "boss@y", &[], "").await.mailbox, "Boss");
    let forwarded = assess("a", "x@y", &["sub.good.example"], "").await;
    assert!(forwarded.mailbox == "Verified" && forwarded.forward);
    assert_eq!(assess("a", "x@y", &["badgood.example"], "").await.mailbox, "Inbox");
    let closed = assess("closed", "x@y", &[], "").await;
    assert_eq!(
        (closed.accept, closed.smtp_code, closed.text.as_str()),
        (false, 421, "come back later")
    );
}

mod notices;
