//! Messages that arrive: on the deliveries of a real store.

use mox_config::{Account, Destination, Domain, IncomingWebhook, OutgoingWebhook};
use mox_proto::config::v1::CommitConfigRequest;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::delivery_service_server::DeliveryService as _;
use mox_proto::hook::v1::ClaimedHook;
use mox_proto::mail::v1::{ExpungeRequest, Flag, StoreFlagsRequest};
use mox_proto::queue::v1::complete_request::Outcome as Sent;
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::{AttemptResult, ClaimRequest, CompleteRequest, EnqueueRecipient, EnqueueRequest};
use tonic::Request;

use super::*;
use crate::auth::Sessions;
use crate::delivery::Delivery;
use crate::mail::Mail;
use crate::mail::tests::{NOW, inline, mail_over};
use crate::queue::{Queue, Settings, Submitter};
use crate::registry::Registry;

struct Arrivals {
    db: Db,
    hooks: Hooks,
    queue: Queue,
    config: Arc<Dynamic>,
    mail: Mail,
    delivery: Delivery,
    ids: BTreeMap<String, AccountId>,
    _dir: tempfile::TempDir,
}

const MESSAGE: &str =
    "From: Jö <jo@remote.example>\r\nTo: tell@example.org\r\nSubject: hi\r\nMessage-ID: <A@b>\r\n\r\nhello\r\n";

impl Arrivals {
    /// Accounts "tell", which keeps nothing, "keep", which does, and "silent".
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let now = Arc::new(|| NOW * 1000);
        let bus = Bus::in_process();
        let registry = Registry::open(db.clone(), bus.clone(), now.clone(), Sessions::default())
            .await
            .unwrap();
        let mut dynamic = Dynamic::default();
        let domain: mox_types::Domain = "example.org".parse().unwrap();
        let settings = Domain {
            localpart_catchall_separators: vec!["+".into()],
            ..Domain::default()
        };
        dynamic.domains.insert(domain.clone(), settings);
        for name in ["tell", "keep", "silent"] {
            let mut account = Account::new(domain.clone());
            let address = format!("{name}@example.org").parse().unwrap();
            account.destinations.insert(address, Destination::default());
            account.incoming_webhook = (name != "silent").then(|| IncomingWebhook {
                url: format!("https://{name}.example/"),
                authorization: None,
            });
            if name == "keep" {
                account.keep_retired_message_period = "1h".parse().unwrap();
                account.outgoing_webhook = Some(OutgoingWebhook {
                    url: "https://keep.example/out".into(),
                    authorization: None,
                    events: Vec::new(),
                });
                account.keep_retired_webhook_period = "1h".parse().unwrap();
            }
            dynamic.accounts.insert(name.to_owned(), account);
        }
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
        let mail = mail_over(&db, 0, 1 << 20);
        let blobs = Arc::new(EngineBlobs::new(db.clone()));
        let contents = Contents::new(db.clone(), blobs, now.clone());
        let queue = Queue::new(db.clone(), contents.clone(), mail.accounts().clone(), bus, now);
        let config = registry.current().dynamic.clone();
        let (dynamic, names) = (registry.clone(), registry.clone());
        queue.configure(Settings {
            config: Arc::new(move || dynamic.current().dynamic.clone()),
            accounts: Arc::new(move |name| names.current().id(name)),
            hostname: "mail.example.org".into(),
        });
        let delivery = Delivery::new(mail.accounts().clone(), contents, registry).notifying(queue.clone());
        Self {
            db,
            hooks: queue.hooks().clone(),
            queue,
            config,
            mail,
            delivery,
            ids,
            _dir: dir,
        }
    }

    fn to(&self, name: &str, reject: bool) -> api::Delivery {
        api::Delivery {
            recipient: Some(api::Recipient {
                rcpt_to: format!("{name}@Example.org"),
                account_id: self.ids[name].to_bytes(),
                address: format!("{name}@example.org"),
                ..Default::default()
            }),
            mailbox: if reject { "Rejects" } else { "Lists" }.into(),
            prefix: Bytes::from_static(b"X-Ours: 1\r\n"),
            reject,
            ..Default::default()
        }
    }

    async fn deliver(&self, deliveries: Vec<api::Delivery>) {
        self.deliver_text(MESSAGE, "jo@remote.example", deliveries).await;
    }

    /// Twice, as whoever did not hear the answer does.
    async fn deliver_text(&self, text: &str, mail_from: &str, deliveries: Vec<api::Delivery>) {
        let request = api::DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(api::Envelope {
                mail_from: mail_from.into(),
                remote_ip: "192.0.2.201".into(),
                dkim_domains: vec!["remote.example".into()],
                mail_from_validation: api::Validation::Pass.into(),
                msg_from_validation: api::Validation::Dmarc.into(),
                ..Default::default()
            }),
            content: Some(inline(&Bytes::copy_from_slice(text.as_bytes()))),
            deliveries,
            received: NOW,
            ..Default::default()
        };
        for _ in 0..2 {
            let answer = self.delivery.deliver(Request::new(request.clone())).await.unwrap();
            assert!(answer.into_inner().results.iter().all(|r| r.delivered));
        }
    }

    async fn claim(&self) -> ClaimHooksResponse {
        let request = ClaimHooksRequest {
            worker: "w".into(),
            max: 10,
            lease_seconds: LEASE_SECONDS,
            busy: Vec::new(),
        };
        self.hooks.claim(&request).await.unwrap()
    }

    async fn references(&self) -> usize {
        let range = keys::prefix(&[keys::REFERENCE]);
        let page = self.db.scan(range, Limit::default(), Order::Ascending).await.unwrap();
        page.rows.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_told_even_if_it_is_removed_meanwhile() {
    let world = Arrivals::new().await;
    let all = vec![
        world.to("silent", false),
        world.to("tell", false),
        world.to("keep", false),
    ];
    world.deliver(all).await;
    assert_eq!(world.references().await, 3 + 2);
    for name in ["tell", "silent", "keep"] {
        let account = world.ids[name];
        let lists = world.mail.named(account, "Lists").await.unwrap();
        let deleted = StoreFlagsRequest {
            key: mox_rpc::key(),
            mailbox_id: lists.id.clone(),
            uids: crate::mail::tests::range(1, u32::MAX),
            flags: Some(crate::mail::tests::flags(Flag::Deleted as u32, &[])),
            ..StoreFlagsRequest::default()
        };
        world.mail.change_flags(account, deleted).await.unwrap();
        let request = ExpungeRequest {
            key: mox_rpc::key(),
            mailbox_id: lists.id,
            uids: crate::mail::tests::range(1, u32::MAX),
            ..ExpungeRequest::default()
        };
        world.mail.remove(account, request).await.unwrap();
    }
    assert_eq!(world.references().await, 2, "of the webhooks");
    let claimed = world.claim().await;
    assert_eq!(claimed.hooks.len(), 2, "one for each that wants to be told");
    for claim in &claimed.hooks {
        let hook = claim.hook.as_ref().unwrap();
        assert!(claim.payload.is_empty());
        assert_eq!(hook.url, format!("https://{}.example/", hook.account));
        assert_eq!(
            (hook.event.as_str(), hook.subject.as_str(), hook.message_id.as_str()),
            ("incoming", "hi", "<A@b>")
        );
        let payload: serde_json::Value =
            serde_json::from_slice(&world.hooks.payload_of(hook.id).await.unwrap()).unwrap();
        assert_eq!(
            payload["From"],
            serde_json::json!([{ "Name": "Jö", "Address": "jo@remote.example" }])
        );
        assert_eq!(payload["Text"], "hello\n");
        assert_eq!(
            payload["Meta"],
            serde_json::json!({
                "MsgID": 1, "MailFrom": "jo@remote.example", "MailFromValidated": true, "MsgFromValidated": true,
                "RcptTo": format!("{}@Example.org", hook.account), "DKIMVerifiedDomains": ["remote.example"],
                "RemoteIP": "192.0.2.201", "Received": mox_webhook::moment(NOW * 1000), "MailboxName": "Lists",
                "Automated": false,
            })
        );
    }
    for lease in leases(&claimed) {
        let mut request = CompleteHookRequest {
            lease: Some(lease),
            ..CompleteHookRequest::default()
        };
        request.set_outcome(Completed::Delivered);
        world.hooks.complete(&request).await.unwrap();
    }
    assert_eq!(world.references().await, 1, "of what is kept");
    let kept = world.hooks.list_retired(&Default::default()).await.unwrap().hooks;
    let payload = world.hooks.payload(kept[0].hook.as_ref().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&payload).contains("hello"));
    world.hooks.remove_account(world.ids["keep"]).await.unwrap();
    assert_eq!(world.references().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_is_not_told() {
    let world = Arrivals::new().await;
    world.deliver(vec![world.to("tell", true)]).await;
    assert!(world.claim().await.hooks.is_empty());
}

/// A notification about one recipient, or several.
fn report(action: &str, status: &str, to: &[&str], message_id: &str) -> String {
    let groups = to.iter().map(|to| {
        format!(
            "Final-Recipient: rfc822; {to}\r\nAction: {action}\r\nStatus: {status}\r\n\
             Diagnostic-Code: smtp; 550 {status} said the host\r\n\r\n"
        )
    });
    format!(
        "From: mailer-daemon@remote.example\r\nSubject: report\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; remote.example\r\n\r\n{}\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{message_id}>\r\n\r\n--b--\r\n",
        groups.collect::<String>()
    )
}

impl Arrivals {
    /// Sends a message of "keep", which a host takes.
    async fn send(&self, fromid: &str, message_id: &str, to: &str) -> u64 {
        let submitter = Submitter {
            id: self.ids["keep"],
            name: "keep".into(),
            login: "keep@example.org".into(),
        };
        let request = EnqueueRequest {
            key: mox_rpc::key(),
            mail_from: "keep@example.org".into(),
            msg_from: "keep@example.org".into(),
            recipients: vec![EnqueueRecipient {
                address: to.into(),
                ..EnqueueRecipient::default()
            }],
            content: Some(inline(&Bytes::from_static(b"Subject: a\r\n\r\nb\r\n"))),
            fromid: fromid.into(),
            message_id: message_id.into(),
            extra: [("order".to_owned(), "7".to_owned())].into(),
            ..EnqueueRequest::default()
        };
        let id = self.queue.submit(&submitter, &self.config, &request).await.unwrap().ids[0];
        self.attempt(id, Sent::Delivered).await;
        // That it was delivered is told, and heard.
        let told = self.claim().await;
        assert_eq!(self.event(&told.hooks[0]).await["Event"], "delivered");
        self.heard(&told).await;
        id
    }

    async fn attempt(&self, id: u64, outcome: Sent) {
        let request = ClaimRequest {
            worker: "w".into(),
            max: 10,
            lease_seconds: LEASE_SECONDS,
            ..ClaimRequest::default()
        };
        let claimed = self.queue.claim(&request).await.unwrap();
        let claimed = claimed
            .entries
            .iter()
            .find(|c| c.entry.as_ref().unwrap().id == id)
            .unwrap();
        let request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(Lease {
                id,
                attempt: claimed.attempt,
            }),
            outcome: outcome.into(),
            result: Some(AttemptResult {
                smtp_code: if outcome == Sent::Delivered { 250 } else { 550 },
                enhanced_code: "5.1.1".into(),
                error: "said the host".into(),
                remote_host: "mx.remote.example".into(),
                success: outcome == Sent::Delivered,
                ..AttemptResult::default()
            }),
            ..CompleteRequest::default()
        };
        self.queue.complete(&request).await.unwrap();
    }

    async fn event(&self, claimed: &ClaimedHook) -> serde_json::Value {
        let id = claimed.hook.as_ref().unwrap().id;
        serde_json::from_slice(&self.hooks.payload_of(id).await.unwrap()).unwrap()
    }

    async fn heard(&self, claimed: &ClaimHooksResponse) {
        for lease in leases(claimed) {
            let mut request = CompleteHookRequest {
                lease: Some(lease),
                ..CompleteHookRequest::default()
            };
            request.set_outcome(Completed::Delivered);
            self.hooks.complete(&request).await.unwrap();
        }
    }

    /// Delivers to an address of "keep", and answers what is told: an event and whether the recipient is suppressed.
    async fn back(&self, text: &str, mail_from: &str, rcpt_to: &str) -> serde_json::Value {
        let mut delivery = self.to("keep", false);
        delivery.recipient.as_mut().unwrap().rcpt_to = rcpt_to.to_owned();
        self.deliver_text(text, mail_from, vec![delivery]).await;
        let told = self.claim().await;
        assert_eq!(told.hooks.len(), 1);
        let event = self.event(&told.hooks[0]).await;
        self.heard(&told).await;
        event
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_told_of_the_message_that_was_sent() {
    let world = Arrivals::new().await;
    // Action, status; event, code, enhanced code, suppressing.
    let table = [
        ("failed", "5.1.1", "failed", 550, "5.1.1", true),
        ("failed", "4.4.7", "failed", 550, "", false),
        ("delayed", "4.4.1", "delayed", 550, "", false),
        ("delivered", "2.0.0", "delivered", 0, "", false),
        ("relayed", "2.0.0", "relayed", 0, "", false),
        ("expanded", "2.0.0", "expanded", 0, "", false),
        ("lost", "5.0.0", "unrecognized", 0, "", false),
    ];
    for by in ["fromid", "message id"] {
        for (n, (action, status, event, code, enhanced, suppressing)) in table.into_iter().enumerate() {
            let to = format!("{}{n}@remote.example", &by[..4]);
            let (fromid, id) = (format!("id{n}{}", &by[..1]), format!("{n}.{}@example.org", &by[..4]));
            let sent = world.send(&fromid, &id, &to).await;
            let told = match by {
                "fromid" => {
                    let text = report(action, status, &[&to], "other@example.org");
                    world.back(&text, "", &format!("keep+{fromid}@example.org")).await
                }
                _ => {
                    let text = report(action, status, &[&to.to_uppercase()], &id.to_uppercase());
                    world.back(&text, "", "keep@example.org").await
                }
            };
            assert_eq!(told["Event"], event, "{by} {action}");
            assert_eq!((&told["DSN"], &told["QueueMsgID"]), (&true.into(), &sent.into()));
            assert_eq!(
                (&told["SMTPCode"], &told["SMTPEnhancedCode"]),
                (&code.into(), &enhanced.into())
            );
            assert_eq!(told["Suppressing"], suppressing, "{by} {action} {status}");
            assert_eq!(
                (&told["FromID"], &told["Extra"]["order"]),
                (&fromid.into(), &"7".into())
            );
            assert_eq!(told["MessageID"], format!("<{id}>"));
            if event != "unrecognized" {
                let kept = world.queue.retired(sent).await.unwrap();
                assert_eq!(kept.success, action != "failed", "{action}");
                assert_eq!(kept.reason() == Reason::Failed, action == "failed", "{action}");
                assert_eq!(kept.entry.unwrap().results.len(), 2);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_belongs_to_a_message_is_told_of_it() {
    let world = Arrivals::new().await;
    let sent = world.send("secret", "1@example.org", "a@remote.example").await;
    // No notification, but at the address that only this message had.
    let told = world
        .back(MESSAGE, "jo@remote.example", "keep+secret@example.org")
        .await;
    assert_eq!((&told["Event"], &told["DSN"]), (&"unrecognized".into(), &false.into()));
    assert_eq!(told["QueueMsgID"], sent);
    // Of two recipients, one may be anybody.
    let two = report(
        "failed",
        "5.1.1",
        &["a@remote.example", "b@remote.example"],
        "1@example.org",
    );
    let told = world.back(&two, "", "keep+secret@example.org").await;
    assert_eq!((&told["Event"], &told["DSN"]), (&"unrecognized".into(), &true.into()));
    // All of these are messages that arrived, and nothing else.
    let one = |to: &str, id: &str| report("failed", "5.1.1", &[to], id);
    for (text, mail_from, to) in [
        (two.clone(), "", "keep@example.org"),
        (one("b@remote.example", "1@example.org"), "", "keep@example.org"),
        (one("a@remote.example", "2@example.org"), "", "keep@example.org"),
        (
            one("a@remote.example", "1@example.org"),
            "x@remote.example",
            "keep@example.org",
        ),
        (one("a@remote.example", "2@example.org"), "", "keep+other@example.org"),
        (MESSAGE.to_owned(), "x@remote.example", "keep+secretx@example.org"),
        (
            MESSAGE.to_owned(),
            "x@remote.example",
            "keep+%3C1%40example.org%3E@example.org",
        ),
    ] {
        let told = world.back(&text, mail_from, to).await;
        assert!(told.get("Event").is_none(), "{mail_from} {to} {told}");
    }
    // Another account has no such message, and wants to be told nothing of it either.
    let mut delivery = world.to("silent", false);
    delivery.recipient.as_mut().unwrap().rcpt_to = "silent+secret@example.org".into();
    let text = one("a@remote.example", "1@example.org");
    world.deliver_text(&text, "", vec![delivery]).await;
    assert!(world.claim().await.hooks.is_empty());
    assert!(
        world.queue.retired(sent).await.unwrap().success,
        "nothing of this says that it failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_the_queue_are_told_with_their_commit() {
    let world = Arrivals::new().await;
    world.send("x", "1@example.org", "a@remote.example").await;
    let submit = async |to: &str| {
        let submitter = Submitter {
            id: world.ids["keep"],
            name: "keep".into(),
            login: "keep@example.org".into(),
        };
        let request = EnqueueRequest {
            key: mox_rpc::key(),
            mail_from: "keep@example.org".into(),
            msg_from: "keep@example.org".into(),
            recipients: vec![EnqueueRecipient {
                address: to.into(),
                ..EnqueueRecipient::default()
            }],
            content: Some(inline(&Bytes::from_static(b"Subject: a\r\n\r\nb\r\n"))),
            ..EnqueueRequest::default()
        };
        world
            .queue
            .submit(&submitter, &world.config, &request)
            .await
            .unwrap()
            .ids[0]
    };
    let told = async || {
        let claimed = world.claim().await;
        let mut events = Vec::new();
        for hook in &claimed.hooks {
            events.push(world.event(hook).await);
        }
        world.heard(&claimed).await;
        events
    };
    let id = submit("bad@remote.example").await;
    world.attempt(id, Sent::Retry).await;
    let events = told().await;
    assert_eq!(
        (&events[0]["Event"], &events[0]["SMTPCode"]),
        (&"delayed".into(), &550.into())
    );
    assert_eq!(
        (&events[0]["Error"], &events[0]["QueueMsgID"]),
        (&"said the host".into(), &id.into())
    );
    let id = submit("bad@remote.example").await;
    world.attempt(id, Sent::Failed).await;
    let events = told().await;
    assert_eq!(
        (&events[0]["Event"], &events[0]["Suppressing"]),
        (&"failed".into(), &true.into())
    );
    assert_eq!(events[0]["SMTPEnhancedCode"], "5.1.1");
    // Now it is suppressed.
    let id = submit("bad@remote.example").await;
    world.attempt(id, Sent::Failed).await;
    let events = told().await;
    assert_eq!(
        (&events[0]["Event"], &events[0]["Suppressing"]),
        (&"suppressed".into(), &false.into())
    );
    for drop in [true, false] {
        use mox_proto::queue::v1::ChangeQueueRequest;
        use mox_proto::queue::v1::change_queue_request::{Change, Drop, Fail};
        let id = submit("good@remote.example").await;
        let request = ChangeQueueRequest {
            key: mox_rpc::key(),
            filter: Some(mox_proto::queue::v1::Filter {
                ids: vec![id],
                ..Default::default()
            }),
            change: Some(if drop {
                Change::Drop(Drop {})
            } else {
                Change::Fail(Fail {})
            }),
            ..ChangeQueueRequest::default()
        };
        world.queue.change(&request).await.unwrap();
        let events = told().await;
        assert_eq!(
            (&events[0]["Event"], &events[0]["QueueMsgID"]),
            (&"canceled".into(), &id.into())
        );
        assert!(events[0]["Error"].as_str().unwrap().contains("administrator"));
    }
}
