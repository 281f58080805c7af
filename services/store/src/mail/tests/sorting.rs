//! SORT, THREAD and the changes of an account, on a real engine.

use bytes::Bytes;
use futures::StreamExt as _;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::search_key::Key;

use super::*;
use crate::account::ops::{CreateMailbox, SetSubscribed, StoreFlags};

fn all() -> Option<mail::SearchKey> {
    Some(mail::SearchKey {
        key: Some(Key::All(Default::default())),
    })
}

async fn sorted(world: &World, key: Option<mail::SearchKey>, by: &[(mail::SortCriterion, bool)]) -> Vec<u32> {
    let request = mail::SortRequest {
        session: Bytes::new(),
        mailbox_id: world.mailbox("Inbox").await.id,
        key,
        by: by
            .iter()
            .map(|(criterion, reverse)| mail::SortBy {
                criterion: (*criterion).into(),
                reverse: *reverse,
            })
            .collect(),
    };
    let mut pages = world.mail.do_sort(world.account, request).unwrap();
    let mut uids = Vec::new();
    while let Some(page) = pages.next().await {
        uids.extend(page.unwrap().uids);
    }
    uids
}

async fn threads(world: &World, algorithm: mail::ThreadAlgorithm) -> Vec<(u32, u32)> {
    let request = mail::ThreadRequest {
        session: Bytes::new(),
        mailbox_id: world.mailbox("Inbox").await.id,
        key: all(),
        algorithm: algorithm.into(),
    };
    let mut pages = world.mail.do_thread(world.account, request).unwrap();
    let mut nodes = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        nodes.extend(page.uids.into_iter().zip(page.depths));
    }
    nodes
}

async fn append(world: &World, id: &str, references: &str, subject: &str, date: &str) {
    let content =
        format!("Message-ID: <{id}@x>\r\nReferences: {references}\r\nSubject: {subject}\r\nDate: {date}\r\n\r\nx");
    world.append("Inbox", 0, &content.into()).await.unwrap();
}

#[tokio::test]
async fn messages_are_sorted_and_threaded_as_they_come_and_go() {
    use mail::SortCriterion as C;
    let world = World::new().await;
    assert!(sorted(&world, all(), &[(C::Date, false)]).await.is_empty());
    append(&world, "a", "", "b", "3 Jan 2026 00:00 +0000").await;
    append(&world, "b", "<a@x>", "Re: A", "1 Jan 2026 00:00 +0000").await;
    append(&world, "c", "<a@x> <b@x>", "c", "2 Jan 2026 00:00 +0000").await;
    for _ in 0..2 {
        assert_eq!(sorted(&world, all(), &[(C::Date, false)]).await, [2, 3, 1]);
        assert_eq!(sorted(&world, all(), &[(C::Subject, true)]).await, [3, 1, 2]);
    }
    assert_eq!(
        threads(&world, mail::ThreadAlgorithm::References).await,
        [(1, 0), (2, 1), (3, 2)]
    );
    // The columns that are kept are extended.
    append(&world, "d", "", "a", "2 Jan 2026 12:00 +0000").await;
    assert_eq!(sorted(&world, all(), &[(C::Date, false)]).await, [2, 3, 4, 1]);
    assert_eq!(
        sorted(&world, all(), &[(C::Subject, false), (C::Date, true)]).await,
        [4, 2, 1, 3]
    );
    assert_eq!(
        threads(&world, mail::ThreadAlgorithm::Orderedsubject).await,
        [(2, 0), (4, 1), (3, 0), (1, 0)]
    );
    // A search that finds little reads little.
    let one = mail::SearchKey {
        key: Some(Key::Uids(mail::search_key::Uids { ranges: range(4, 4) })),
    };
    assert_eq!(sorted(&world, Some(one), &[(C::From, false)]).await, [4]);
    // What went is not there any more.
    let id = world.mailbox("Inbox").await.id;
    let flags = mail::StoreFlagsRequest {
        key: mox_rpc::key(),
        mailbox_id: id.clone(),
        uids: range(3, 3),
        mode: mail::store_flags_request::Mode::Add.into(),
        flags: Some(flags(mail::Flag::Deleted as u32, &[])),
        ..Default::default()
    };
    world.mail.do_store_flags(world.account, flags).await.unwrap();
    let expunge = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: id,
        ..Default::default()
    };
    world.mail.do_expunge(world.account, expunge).await.unwrap();
    assert_eq!(sorted(&world, all(), &[(C::Date, false)]).await, [2, 4, 1]);
    let request = mail::SortRequest {
        mailbox_id: Bytes::from_static(b"short"),
        ..Default::default()
    };
    assert!(world.mail.do_sort(world.account, request).is_err());
}

#[tokio::test]
async fn the_changes_of_an_account_are_told() {
    let world = World::new().await;
    let accounts = world.mail.accounts();
    let changes = async |since| {
        let request = mail::ListAccountChangesRequest {
            session: Bytes::new(),
            since_modseq: since,
        };
        world.mail.do_list_account_changes(world.account, &request).await
    };
    let start = accounts.state(world.account, 0).await.unwrap().modseq();
    let none = changes(start).await.unwrap();
    assert_eq!((none.modseq, none.mailboxes.len()), (start, 0));
    assert!(changes(start + 1).await.is_err(), "from the future");
    let name = "new".to_owned();
    let create = CreateMailbox {
        name: name.clone(),
        special_use: Vec::new(),
        subscribe: true,
    };
    accounts.submit(world.account, None, create).await.unwrap();
    let unsubscribe = SetSubscribed {
        name: "ghost".to_owned(),
        subscribed: true,
    };
    accounts.submit(world.account, None, unsubscribe).await.unwrap();
    world.append("Inbox", 0, &message("s", "b")).await.unwrap();
    let found = changes(start).await.unwrap();
    assert_eq!(found.subscriptions, ["new", "ghost"]);
    assert_eq!(found.subscribed, [true, true]);
    let by_name = |name: &str| {
        let of = |c: &&mail::list_account_changes_response::ChangedMailbox| {
            c.mailbox.as_ref().is_some_and(|m| m.name == name)
        };
        found.mailboxes.iter().find(of).unwrap()
    };
    assert!(by_name("new").itself && !by_name("Inbox").itself);
    assert_eq!(by_name("Inbox").changed, range(1, 1));
    let later = found.modseq;
    let op = StoreFlags {
        mailbox: mox_types::MailboxId::try_from(&world.mailbox("Inbox").await.id).unwrap(),
        uids: range(1, 1),
        mode: mail::store_flags_request::Mode::Add,
        flags: crate::account::Wanted::new(&flags(1, &[])).unwrap(),
        unchanged_since: None,
    };
    accounts.submit(world.account, None, op).await.unwrap();
    let found = changes(later).await.unwrap();
    assert_eq!((found.mailboxes.len(), found.subscriptions.len()), (1, 0));
}
