//! Whom an account sent to, and messages that replace others (RFC 8508).

use super::*;
use crate::account::{find_recipient, knows_domain};

fn sent(to: &str, cc: &str) -> Bytes {
    format!("From: me@example.org\r\nTo: {to}\r\nCc: {cc}\r\nSubject: s\r\n\r\nx\r\n").into()
}

async fn times(world: &World, address: &str) -> Option<(i64, i64, u64)> {
    let address = address.parse().unwrap();
    let found = find_recipient(&world.db, world.account, &address).await.unwrap();
    found.map(|r| (r.first, r.last, r.messages))
}

async fn append(world: &World, mailbox: &str, content: &Bytes, at: i64) -> u32 {
    let message = mail::AppendMessage {
        content: Some(inline(content)),
        flags: None,
        received: Some(at),
    };
    let request = mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: mailbox.to_owned(),
        messages: vec![message],
        ..Default::default()
    };
    world.mail.do_append(world.account, request).await.unwrap().uids[0]
}

#[tokio::test]
async fn what_comes_into_sent_tells_whom_the_account_knows() {
    let world = World::new().await;
    append(&world, "Inbox", &sent("inbox@example.com", "x@y.example"), 1).await;
    assert_eq!(times(&world, "inbox@example.com").await, None);

    append(
        &world,
        "Sent",
        &sent("A@Example.COM, friends: b@example.com;", "a@example.com"),
        50,
    )
    .await;
    append(&world, "Sent", &sent("a@example.com", "nonsense"), 20).await;
    assert_eq!(times(&world, "a@example.com").await, Some((20, 50, 2)));
    assert_eq!(times(&world, "b@example.com").await, Some((50, 50, 1)));
    let domain = |d: &str| d.parse().unwrap();
    assert!(
        knows_domain(&world.db, world.account, &domain("example.com"))
            .await
            .unwrap()
    );
    assert!(
        !knows_domain(&world.db, world.account, &domain("example.co"))
            .await
            .unwrap()
    );

    for moving in [false, true] {
        let to = format!("moved{moving}@example.net");
        let uid = append(&world, "Inbox", &sent(&to, "c@example.net"), 70).await;
        let request = mail::CopyRequest {
            key: mox_rpc::key(),
            mailbox_id: world.mailbox("Inbox").await.id,
            uids: range(uid, uid),
            destination: "Sent".into(),
            ..Default::default()
        };
        world.mail.do_copy(world.account, request, moving).await.unwrap();
        assert_eq!(times(&world, &to).await, Some((70, 70, 1)));
    }
    assert_eq!(times(&world, "c@example.net").await, Some((70, 70, 2)));
}

#[tokio::test]
async fn a_message_is_replaced_in_one_change() {
    let world = World::with_quota(3000).await;
    let old = append(&world, "Inbox", &message("old", &"x".repeat(2500)), 1).await;
    let inbox = world.mailbox("Inbox").await;
    let request = |content: &Bytes, uid| mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: "Inbox".into(),
        messages: vec![mail::AppendMessage {
            content: Some(inline(content)),
            ..Default::default()
        }],
        replaces_mailbox_id: inbox.id.clone(),
        replaces_uid: uid,
        ..Default::default()
    };
    // It would not fit beside the old one.
    let new = message("new", &"y".repeat(2600));
    let answer = world.mail.do_append(world.account, request(&new, old)).await.unwrap();
    assert_eq!(answer.uids, [old + 1]);
    let rows = world.mail.rows(world.account, &inbox.id).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [old + 1]);
    let changes = mail::ListChangesRequest {
        mailbox_id: inbox.id.clone(),
        since_modseq: answer.modseq - 1,
        ..Default::default()
    };
    let changes = world.mail.do_list_changes(world.account, &changes).await.unwrap();
    assert_eq!(expand(&changes.vanished), [old]);
    assert_eq!(changes.rows.unwrap().uid_delta, [old + 1]);

    let gone = world
        .mail
        .do_append(world.account, request(&new, old))
        .await
        .unwrap_err();
    assert_eq!(gone.code(), tonic::Code::OutOfRange);
    let after = world.mailbox("Inbox").await;
    assert_eq!((after.messages, after.size), (1, new.len() as u64), "nothing was added");
}
