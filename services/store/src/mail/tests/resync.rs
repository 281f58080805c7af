//! What sessions that keep modification sequences count on, and identifiers of messages.

use mox_proto::mail::v1::store_flags_request::Mode;

use super::*;
use crate::account::{DELETED, SEEN};

impl World {
    async fn add_flags(&self, mailbox: &mail::Mailbox, uid: u32, bits: u32) -> mail::StoreFlagsResponse {
        let request = mail::StoreFlagsRequest {
            key: mox_rpc::key(),
            mailbox_id: mailbox.id.clone(),
            uids: range(uid, uid),
            mode: Mode::Add.into(),
            flags: Some(flags(bits, &[])),
            ..Default::default()
        };
        self.mail.do_store_flags(self.account, request).await.unwrap()
    }

    async fn changes(&self, mailbox: &mail::Mailbox, since: u64) -> mail::ListChangesResponse {
        let request = mail::ListChangesRequest {
            mailbox_id: mailbox.id.clone(),
            since_modseq: since,
            columns: 15,
            ..Default::default()
        };
        self.mail.do_list_changes(self.account, &request).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_makes_no_change() {
    let world = World::new().await;
    world.append("Inbox", 0, &message("a", "b")).await.unwrap();
    let inbox = world.mailbox("Inbox").await;
    let first = world.add_flags(&inbox, 1, SEEN).await;
    assert_eq!(first.made, [first.modseq]);
    // Something else happens in the account, and then nothing to the message.
    world.append("Sent", 0, &message("c", "d")).await.unwrap();
    let again = world.add_flags(&inbox, 1, SEEN).await;
    assert!(again.made.is_empty(), "nor is another's change taken for it");
    assert_eq!(unpack(&again.rows.unwrap())[0].3, first.modseq);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_modification_sequence_is_the_mailboxs() {
    let world = World::new().await;
    for name in ["Inbox", "Inbox", "Sent"] {
        world.append(name, 0, &message(name, "b")).await.unwrap();
    }
    let inbox = world.mailbox("Inbox").await;
    let account = world.mail.accounts().state(world.account, 0).await.unwrap().modseq();
    assert!(inbox.highest_modseq < account, "another mailbox changed later");
    let found = world.changes(&inbox, 0).await;
    assert_eq!((found.highest_modseq, found.modseq), (inbox.highest_modseq, account));
    let request = mail::ListRowsRequest {
        mailbox_id: inbox.id.clone(),
        ..Default::default()
    };
    let rows = world.mail.do_list_rows(world.account, &request).await.unwrap();
    assert_eq!(rows.highest_modseq, inbox.highest_modseq);
    // Removing counts as a change.
    world.add_flags(&inbox, 1, DELETED).await;
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id.clone(),
        ..Default::default()
    };
    let gone = world.mail.do_expunge(world.account, request).await.unwrap();
    assert_eq!(world.mailbox("Inbox").await.highest_modseq, gone.modseq);
    let found = world.changes(&inbox, account).await;
    assert_eq!((expand(&found.vanished), found.highest_modseq), (vec![1], gone.modseq));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_the_same_email() {
    let world = World::new().await;
    for body in ["one", "two"] {
        world.append("Inbox", 0, &message("a", body)).await.unwrap();
    }
    let inbox = world.mailbox("Inbox").await;
    let request = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id.clone(),
        uids: range(1, 1),
        destination: "Inbox".into(),
        ..Default::default()
    };
    world.mail.do_copy(world.account, request, false).await.unwrap();
    let request = mail::GetMessagesRequest {
        mailbox_id: inbox.id.clone(),
        uids: range(1, 3),
        parts: mail::MessagePart::EmailId as u32,
        ..Default::default()
    };
    let answer = world.mail.do_get_messages(world.account, &request).await.unwrap();
    let ids: Vec<_> = answer.messages.iter().map(|m| m.email_id.clone()).collect();
    assert_eq!(ids[0].len(), 16);
    assert!(ids[0] != ids[1] && ids[0] == ids[2]);
    assert!(answer.messages[0].computed.is_none(), "nothing else was asked for");
    let search = async |key| {
        let request = mail::SearchRequest {
            mailbox_id: inbox.id.clone(),
            key: Some(mail::SearchKey { key: Some(key) }),
            ..Default::default()
        };
        let found = world.mail.do_search(world.account, request).await.unwrap();
        expand(&found.uids)
    };
    assert_eq!(search(mail::search_key::Key::EmailId(ids[0].clone())).await, [1, 3]);
    let thread = answer.messages[1].thread_id.clone();
    assert!(search(mail::search_key::Key::ThreadId(thread)).await.contains(&2));
    assert!(search(mail::search_key::Key::ThreadId(Bytes::new())).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_copied_all_or_none() {
    let content = message("a", "b");
    let count = 2500;
    let world = World::with_quota(content.len() as u64 * (count + 2100)).await;
    let one = mail::AppendMessage {
        content: Some(inline(&content)),
        ..Default::default()
    };
    for _ in 0..count / 100 {
        let request = mail::AppendRequest {
            key: mox_rpc::key(),
            mailbox: "Inbox".into(),
            messages: vec![one.clone(); 100],
            ..Default::default()
        };
        world.mail.do_append(world.account, request).await.unwrap();
    }
    let request = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: world.mailbox("Inbox").await.id,
        uids: range(1, 0),
        destination: "Sent".into(),
        ..Default::default()
    };
    let refused = world.mail.do_copy(world.account, request, false).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(world.mailbox("Sent").await.messages, 0);
}
