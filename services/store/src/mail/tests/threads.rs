//! Conversations.

use mox_proto::record::v1 as record;
use mox_types::MessageId;
use prost::Message as _;

use super::*;
use crate::account::ops::StoreFlags;
use crate::account::{DELETED, SEEN, Wanted};
use crate::keys;

/// Appends a message, and answers with its UID.
async fn add(world: &World, id: &str, subject: &str, more: &str) -> u32 {
    let text: Bytes = format!("Message-ID: <{id}>\r\nSubject: {subject}\r\n{more}\r\nhello\r\n").into();
    world.append("Inbox", 0, &text).await.unwrap().uids[0]
}

async fn shown(world: &World, uid: u32) -> mail::Message {
    let request = mail::GetMessagesRequest {
        mailbox_id: world.mailbox("Inbox").await.id,
        uids: range(uid, uid),
        ..Default::default()
    };
    let mut answer = world.mail.do_get_messages(world.account, &request).await.unwrap();
    answer.messages.pop().unwrap()
}

async fn record(world: &World, uid: u32) -> record::Message {
    let id = MessageId::try_from(&shown(world, uid).await.id).unwrap();
    let value = world.db.get(keys::message(world.account, id)).await.unwrap().unwrap();
    record::Message::decode(value.data).unwrap()
}

#[tokio::test]
async fn messages_are_linked_to_what_they_refer_to() {
    let world = World::new().await;
    let a = record(&world, add(&world, "a@x", "Hello", "").await).await;
    assert_eq!(
        (a.thread_id.clone(), a.thread_parents.len(), a.thread_missing_link),
        (a.id.clone(), 0, false)
    );
    let b = record(&world, add(&world, "b@x", "Re: Hello", "In-Reply-To: <A@x>\r\n").await).await;
    assert_eq!((&b.thread_id, &b.thread_parents), (&a.id, &vec![a.id.clone()]));
    // All ancestors, the nearest first; References go before In-Reply-To.
    let c = record(
        &world,
        add(
            &world,
            "c@x",
            "[list] Re: hello",
            "References: <a@x> <b@x>\r\nIn-Reply-To: <a@x>\r\n",
        )
        .await,
    )
    .await;
    assert_eq!(c.thread_parents, [b.id.clone(), a.id.clone()]);
    assert!(!c.thread_missing_link);
    // The direct parent is not there.
    let d = record(
        &world,
        add(&world, "d@x", "Re: Hello", "References: <a@x> <b@x> <gone@x>\r\n").await,
    )
    .await;
    assert_eq!(
        (d.thread_parents.clone(), d.thread_missing_link),
        (vec![b.id.clone(), a.id.clone()], true)
    );
    // None is there.
    let e = record(
        &world,
        add(&world, "e@x", "Re: Hello", "References: <gone@x>\r\n").await,
    )
    .await;
    assert_eq!(
        (e.thread_id.clone(), e.thread_parents.len(), e.thread_missing_link),
        (e.id, 0, true)
    );
    // Another subject is another conversation.
    let f = record(&world, add(&world, "f@x", "Lunch?", "In-Reply-To: <b@x>\r\n").await).await;
    assert_eq!((f.thread_id.clone(), f.thread_missing_link), (f.id, true));
    // By base subject alone, only without references: the latest.
    let g = record(&world, add(&world, "g@x", "Fwd: HELLO (fwd)", "").await).await;
    assert_eq!(g.thread_parents.len(), 1);
    let h = record(&world, add(&world, "h@x", "re: hello", "").await).await;
    assert_eq!(h.thread_parents[0], g.id);
    let i = record(&world, add(&world, "i@x", "", "").await).await;
    let j = record(&world, add(&world, "j@x", "", "").await).await;
    assert_ne!(i.thread_id, j.thread_id, "no subject is no reason");
    // Another copy stands where the first does.
    let copy = record(&world, add(&world, "d@x", "Re: Hello", "").await).await;
    assert_eq!(
        (copy.thread_id, copy.thread_parents, copy.thread_missing_link),
        (d.thread_id, d.thread_parents, true)
    );
}

#[tokio::test]
async fn messages_of_one_append_find_each_other_and_gone_ones_are_not_found() {
    let world = World::new().await;
    let message = |id: &str, more: &str| mail::AppendMessage {
        content: Some(inline(
            &format!("Message-ID: <{id}>\r\nSubject: s\r\n{more}\r\n\r\n").into(),
        )),
        ..Default::default()
    };
    let request = mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: "Inbox".into(),
        messages: vec![message("1@x", "X: y"), message("2@x", "References: <1@x>")],
        ..Default::default()
    };
    world.mail.do_append(world.account, request).await.unwrap();
    let (one, two) = (record(&world, 1).await, record(&world, 2).await);
    assert_eq!((&two.thread_id, &two.thread_parents[0]), (&one.id, &one.id));
    let inbox = world.mailbox("Inbox").await;
    let delete = StoreFlags {
        mailbox: inbox.id.as_ref().try_into().unwrap(),
        uids: range(1, 2),
        mode: mail::store_flags_request::Mode::Add,
        flags: Wanted::new(&flags(DELETED, &[])).unwrap(),
        unchanged_since: None,
    };
    world.mail.accounts().submit(world.account, None, delete).await.unwrap();
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id,
        ..Default::default()
    };
    world.mail.do_expunge(world.account, request).await.unwrap();
    let uid = add(&world, "3@x", "s", "").await;
    assert_eq!(record(&world, uid).await.thread_parents.len(), 0);
    for table in [keys::TABLE_MESSAGE_IDS, keys::TABLE_SUBJECTS] {
        let range = keys::account_table(world.account, table);
        let page = world
            .db
            .scan(range, Default::default(), crate::engine::Order::Ascending)
            .await
            .unwrap();
        assert_eq!(page.rows.len(), 1);
    }
}

#[tokio::test]
async fn answers_in_a_muted_thread_are_seen() {
    let world = World::new().await;
    let mut first = record(&world, add(&world, "a@x", "Hello", "").await).await;
    first.thread_muted = true;
    let id = MessageId::try_from(&first.id).unwrap();
    let mut commit = Commit::new();
    commit.put(keys::message(world.account, id), first.encode_to_vec());
    world.db.commit(commit).await.unwrap();
    let uid = add(&world, "b@x", "Re: Hello", "In-Reply-To: <a@x>\r\n").await;
    assert!(record(&world, uid).await.thread_muted);
    assert_eq!(shown(&world, uid).await.flags.unwrap().bits & SEEN, SEEN);
}
