//! Copies of refused messages.

use super::*;

impl World {
    async fn reject(&self, content: &Bytes) -> api::DeliveryResult {
        self.hand_over(content, "Rejects", true).await
    }

    async fn hand_over(&self, content: &Bytes, mailbox: &str, reject: bool) -> api::DeliveryResult {
        let delivery = api::Delivery {
            mailbox: mailbox.to_owned(),
            reject,
            reason: "junk-content".into(),
            ..Default::default()
        };
        self.deliver(content, delivery).await
    }

    async fn deliver(&self, content: &Bytes, delivery: api::Delivery) -> api::DeliveryResult {
        let request = api::DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(verified("joe@sender.example")),
            content: Some(inline(content)),
            deliveries: vec![api::Delivery {
                recipient: Some(self.recipient()),
                ..delivery
            }],
            received: self.now.load(Ordering::Relaxed),
            ..Default::default()
        };
        self.delivery.do_deliver(request).await.unwrap().results.remove(0)
    }

    async fn rejects(&self) -> u32 {
        self.mail.named(self.account, "Rejects").await.map_or(0, |m| m.messages)
    }

    async fn known_copies(&self) -> usize {
        let range = keys::account_table(self.account, keys::TABLE_REJECTS);
        let all = crate::engine::Limit::rows(10_000);
        let page = self.db.scan(range, all, crate::engine::Order::Ascending).await;
        page.unwrap().rows.len()
    }
}

fn numbered(n: usize) -> Bytes {
    format!("Message-ID: <{n}@x>\r\nSubject: x\r\n\r\nx\r\n").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_are_kept_where_the_account_says() {
    let rule = json!({ "mailbox": "Inbox", "msg_from_regexp": "^bill@", "accept_rejects_to_mailbox": "Maybe" });
    let world = World::new(json!({
        "rejects_mailbox": "Rejects",
        "destinations": { "a@example.org": { "rulesets": [rule] } },
    }))
    .await;
    let joe = verified("joe@sender.example");
    world.receive(&joe, JUNK).await;
    let verdict = world.assess(&joe, &letter(&joe, "a@example.org", "x")).await;
    assert_eq!((verdict.accept, verdict.rejects_mailbox.as_str()), (false, "Rejects"));
    let bill = verified("bill@biller.example");
    world.receive(&bill, JUNK).await;
    let verdict = world.assess(&bill, &letter(&bill, "a@example.org", "x")).await;
    assert!(verdict.accept && verdict.accepted_reject);
    assert_eq!(
        (verdict.mailbox.as_str(), verdict.reason.as_str()),
        ("Maybe", "reputation-address")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_is_kept_until_the_message_is_accepted() {
    let world = World::new(json!({ "rejects_mailbox": "Rejects" })).await;
    let without_id = Bytes::from_static(b"Subject: x\r\n\r\nx\r\n");
    for content in [&numbered(1), &without_id] {
        let first = world.reject(content).await;
        let again = world.reject(content).await;
        assert!(first.delivered && again.delivered);
        assert_eq!(first.message_id, again.message_id);
    }
    assert_eq!((world.rejects().await, world.known_copies().await), (2, 2));
    for (content, left) in [(&numbered(1), 1), (&numbered(2), 1), (&without_id, 0)] {
        assert!(world.hand_over(content, "Inbox", false).await.delivered);
        assert_eq!(world.rejects().await, left);
    }
    assert_eq!(world.known_copies().await, 0);
    // A copy that the user has moved away is the user's.
    world.reject(&numbered(3)).await;
    let rejects = world.mail.named(world.account, "Rejects").await.unwrap().id;
    let inbox = world.mail.named(world.account, "Inbox").await.unwrap();
    let request = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: rejects,
        uids: crate::mail::tests::range(1, 100),
        destination: "Inbox".into(),
        ..Default::default()
    };
    world.mail.copy_or_move(world.account, request, true).await.unwrap();
    world.hand_over(&numbered(3), "Inbox", false).await;
    let now = world.mail.named(world.account, "Inbox").await.unwrap();
    assert_eq!(now.messages, inbox.messages + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_copies_go_and_so_do_those_that_are_too_many() {
    let world = World::new(json!({ "rejects_mailbox": "Rejects" })).await;
    for n in 0..1010 {
        world.reject(&numbered(n)).await;
    }
    assert_eq!((world.rejects().await, world.known_copies().await), (1000, 1000));
    world.pass(14 * DAY + 1);
    for n in 2000..2005 {
        world.reject(&numbered(n)).await;
    }
    // A few at once.
    assert_eq!(world.rejects().await, 1000 - 50 + 5);
    world
        .set(json!({ "rejects_mailbox": "Rejects", "keep_rejects": true }))
        .await;
    world.reject(&numbered(3000)).await;
    assert_eq!(world.rejects().await, 1000 - 50 + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_copies_go_though_no_new_ones_come() {
    let world = World::new(json!({ "rejects_mailbox": "Rejects" })).await;
    let begin = world.now.load(Ordering::Relaxed);
    let (clock, hand) = mox_service::Clock::manual(std::time::UNIX_EPOCH);
    let registry = world.registry.clone();
    let accounts = world.mail.accounts().clone();
    let upkeep = tokio::spawn(async move { crate::maintenance::tidy_rejects(&registry, &accounts, &clock).await });
    for n in 0..450 {
        world.reject(&numbered(n)).await;
    }
    world.pass(7 * DAY);
    for n in 450..460 {
        world.reject(&numbered(n)).await;
    }
    let settled = |left: u32| {
        let (world, hand) = (&world, &hand);
        async move {
            let wait = async {
                while world.rejects().await != left {
                    hand.advance(std::time::Duration::from_secs(3600));
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), wait).await
        }
    };
    // Not before their time is over.
    world.now.store(begin + 14 * DAY, Ordering::Relaxed);
    world.mail.accounts().tidy_rejects(world.account).await.unwrap();
    assert_eq!(world.rejects().await, 460);
    world.pass(1);
    settled(10).await.expect("the first ones go");
    assert_eq!(world.known_copies().await, 10);
    // Where they are to be kept, they are.
    world
        .set(json!({ "rejects_mailbox": "Rejects", "keep_rejects": true }))
        .await;
    world.pass(30 * DAY);
    world.mail.accounts().tidy_rejects(world.account).await.unwrap();
    assert_eq!(world.rejects().await, 10);
    world.set(json!({ "rejects_mailbox": "Rejects" })).await;
    settled(0).await.expect("all of them go");
    assert_eq!(world.known_copies().await, 0);
    upkeep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_taken_for_good_by_where_it_is_kept() {
    // Mailboxes that neither expression matches are for what is wanted.
    let world = World::new(json!({
        "rejects_mailbox": "Refused",
        "automatic_junk_flags": {
            "enabled": true,
            "junk_mailbox_regexp": "^junk",
            "neutral_mailbox_regexp": "^inbox",
        },
    }))
    .await;
    let joe = verified("joe@sender.example");
    world.hand_over(&numbered(1), "Refused", true).await;
    let accepted = api::Delivery {
        mailbox: "Maybe".into(),
        accepted_reject: true,
        ..Default::default()
    };
    world.deliver(&numbered(2), accepted).await;
    assert_eq!(world.reason(&joe).await, "+no-bad-signals");
    // Its user moves it to what is wanted.
    let request = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: world.mail.named(world.account, "Refused").await.unwrap().id,
        uids: crate::mail::tests::range(1, 100),
        destination: "Maybe".into(),
        ..Default::default()
    };
    world.mail.copy_or_move(world.account, request, true).await.unwrap();
    assert_eq!(world.reason(&joe).await, "+reputation-address");
}
