//! What a sender is told of recipients that got nothing.

use mox_proto::queue::v1::Entry;

use super::*;
use crate::engine::{Limit, Order};
use crate::queue::Queue;

fn failed(to: &str, smtp_code: u32, notify: &str) -> api::NotifiedRecipient {
    api::NotifiedRecipient {
        rcpt_to: to.to_owned(),
        dsn_orcpt: format!("rfc822;{to}"),
        dsn_notify: notify.to_owned(),
        smtp_code,
        enhanced_code: "5.1.1".into(),
        text: "no such recipient here".into(),
        expanded: false,
    }
}

/// Entries of the queue, with their content.
async fn queued(world: &World) -> Vec<(Entry, String)> {
    let mut all = Vec::new();
    let page = world
        .db
        .scan(keys::queue_entries(), Limit::default(), Order::Ascending)
        .await
        .unwrap();
    for (_, value) in page.rows {
        let entry = Entry::decode(value.data).unwrap();
        let id = (&entry.content_id).try_into().unwrap();
        let content = world.delivery.contents.bytes(id).await.unwrap();
        all.push((entry, String::from_utf8(content.to_vec()).unwrap()));
    }
    all
}

/// Whose accounts hold so many bytes (0: any), and where senders are told.
async fn notifying(quota: u64) -> World {
    let mut world = World::new(quota).await;
    let (contents, accounts) = (world.delivery.contents.clone(), world.mail.accounts().clone());
    let queue = Queue::new(
        world.db.clone(),
        contents,
        accounts,
        Bus::in_process(),
        Arc::new(|| NOW * 1000),
    );
    world.delivery = world.delivery.notifying(queue);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_try_again_is_not_told_yet() {
    let world = notifying(10).await;
    let content = message("hello", "world");
    let mut request = deliver(&content, vec![world.to("a", "", b"")]);
    request.notified = vec![
        failed("x@example.org", 550, ""),
        failed("a@example.org", 250, "SUCCESS"),
    ];
    let answer = world.delivery.do_deliver(request).await.unwrap();
    assert!(
        !answer.results[0].delivered && answer.results[0].smtp_code == 452,
        "{answer:?}"
    );
    assert_eq!(queued(&world).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_notification_comes_with_the_delivery() {
    let world = notifying(0).await;
    let content = message("hello", "world");
    let mut request = deliver(&content, vec![world.to("a", "", b"")]);
    request.reporting_host = "mail.example.org".into();
    request.notified = vec![
        failed("x@example.org", 550, ""),
        failed("y@example.org", 451, "FAILURE,DELAY"),
        failed("z@example.org", 550, "NEVER"),
        failed("got@example.org", 250, "SUCCESS,FAILURE"),
        failed("quiet@example.org", 250, "FAILURE"),
        failed("silent@example.org", 250, ""),
    ];
    let answer = world.delivery.do_deliver(request.clone()).await.unwrap();
    // Repeated, it is told once.
    assert_eq!(world.delivery.do_deliver(request.clone()).await.unwrap(), answer);
    let told = queued(&world).await;
    let [(entry, text)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        (entry.mail_from.as_str(), entry.recipient.as_str()),
        ("", "Sender@remote.example")
    );
    assert!(entry.dsn && entry.account == "b");
    for part in [
        "Reporting-MTA: dns; mail.example.org",
        "Final-Recipient: rfc822; x@example.org",
        "Original-Recipient: rfc822; y@example.org",
        "Diagnostic-Code: smtp; 550 5.1.1 no such recipient here",
        "Subject: hello",
        "Final-Recipient: rfc822; got@example.org\r\nAction: delivered",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("quiet@") && !text.contains("silent@"), "{text}");
    assert!(!text.contains("z@example.org") && !text.contains("world"), "{text}");

    // Nobody is told of what nobody sent, or wants to know.
    request.key = mox_rpc::key();
    request.envelope.as_mut().unwrap().mail_from.clear();
    world.delivery.do_deliver(request.clone()).await.unwrap();
    request.key = mox_rpc::key();
    request.envelope.as_mut().unwrap().mail_from = "a@b.example".into();
    request.notified = vec![failed("z@example.org", 550, "NEVER")];
    world.delivery.do_deliver(request).await.unwrap();
    assert_eq!(queued(&world).await.len(), 1);
}
