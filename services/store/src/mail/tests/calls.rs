//! What single calls promise.

use futures::future::join_all;
use mox_proto::mail::v1::store_flags_request::Mode;

use super::*;
use crate::account::SEEN;

fn store(mailbox: &mail::Mailbox, uids: Vec<mail::UidRange>, bits: u32) -> mail::StoreFlagsRequest {
    mail::StoreFlagsRequest {
        key: mox_rpc::key(),
        mailbox_id: mailbox.id.clone(),
        uids,
        mode: Mode::Add.into(),
        flags: Some(flags(bits, &[])),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_the_same_key_is_made_once() {
    let world = World::new().await;
    let message = mail::AppendMessage {
        content: Some(inline(&message("a", "b"))),
        ..Default::default()
    };
    let request = mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: "inbox".into(),
        messages: vec![message],
        session: Bytes::from_static(b"one"),
        ..Default::default()
    };
    let other_session = mail::AppendRequest {
        session: Bytes::from_static(b"two"),
        ..request.clone()
    };
    let at_once = join_all((0..10).map(|_| world.mail.do_append(world.account, request.clone()))).await;
    let first = at_once[0].as_ref().unwrap();
    for again in &at_once {
        assert_eq!(again.as_ref().unwrap(), first);
    }
    let world = world.reopen().await;
    assert_eq!(
        &world
            .mail
            .do_append(world.account, other_session.clone())
            .await
            .unwrap(),
        first
    );
    assert_eq!(world.mailbox("INBOX").await.messages, 1);
    let changed = mail::AppendRequest {
        mailbox: "Sent".into(),
        ..request
    };
    let error = world.mail.do_append(world.account, changed).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_fail_leave_the_others_of_their_batch_alone() {
    let world = World::with_quota(400).await;
    let small = message("a", "b");
    let large = message("large", &"x".repeat(2000));
    let inbox = world.mailbox("Inbox").await;
    let results = join_all((0..40).map(|n| {
        let (small, large, world) = (&small, &large, &world);
        async move {
            match n % 4 {
                0 => world.append("Inbox", 0, small).await.map(|_| ()),
                1 => world.append("Inbox", 0, large).await.map(|_| ()),
                2 => world.append("missing", 0, small).await.map(|_| ()),
                _ => {
                    let request = mail::CreateMailboxRequest {
                        key: mox_rpc::key(),
                        name: "same".into(),
                        ..Default::default()
                    };
                    world.mail.do_create_mailbox(world.account, request).await.map(|_| ())
                }
            }
        }
    }))
    .await;
    let fits = 400 / small.len();
    let code = |n: usize| results[n].as_ref().err().map(|e| (e.code(), e.message().to_owned()));
    assert_eq!((0..40).step_by(4).filter(|n| code(*n).is_none()).count(), fits);
    assert_eq!((3..40).step_by(4).filter(|n| code(*n).is_none()).count(), 1);
    for n in (1..40).step_by(4) {
        assert_eq!(code(n), Some((tonic::Code::ResourceExhausted, "overquota".into())));
        assert_eq!(code(n + 1).unwrap().0, tonic::Code::NotFound);
    }
    let after = world.mailbox("Inbox").await;
    assert_eq!((after.messages as usize, after.uid_next as usize), (fits, fits + 1));
    assert_eq!(after.size as usize, fits * small.len());
    assert_eq!(world.mail.rows(world.account, &inbox.id).await.unwrap().len(), fits);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_come_back_in_any_range() {
    let world = World::new().await;
    let inbox = world.mailbox("Inbox").await;
    // Larger than what is kept in one piece.
    let body: String = (0..60_000).map(|n| format!("{n:08}\r\n")).collect();
    let large = message("large", &body);
    let uploaded = world
        .mail
        .contents
        .upload(
            Box::pin(futures::stream::iter([
                Ok(large.slice(..300_000)),
                Ok(large.slice(300_000..)),
            ])),
            1 << 30,
        )
        .await
        .unwrap();
    let content = mail::Content {
        r#where: Some(mail::content::Where::UploadId(uploaded.id.to_bytes())),
    };
    let request = mail::AppendRequest {
        key: mox_rpc::key(),
        mailbox: "Inbox".into(),
        messages: vec![mail::AppendMessage {
            content: Some(content),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = world.mail.do_append(world.account, request.clone()).await.unwrap();
    // The upload is used up; what was answered is not lost.
    assert_eq!(
        world.mail.do_append(world.account, request.clone()).await.unwrap(),
        answer
    );
    let again = mail::AppendRequest {
        key: mox_rpc::key(),
        ..request
    };
    assert_eq!(
        world.mail.do_append(world.account, again).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    for (offset, length) in [
        (0, 0),
        (5, 100),
        (262_000, 1000),
        (large.len() as u64 - 3, 50),
        (large.len() as u64, 9),
    ] {
        let read = world
            .mail
            .content(world.account, &inbox.id, 1, offset, length)
            .await
            .unwrap();
        let start = (offset as usize).min(large.len());
        let end = if length == 0 {
            large.len()
        } else {
            (start + length as usize).min(large.len())
        };
        assert!(read == large[start..end], "{offset} {length}: {} bytes", read.len());
    }
    assert_eq!(world.mail.content(world.account, &inbox.id, 2, 0, 0).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_behave_as_the_rfc_says() {
    let world = World::new().await;
    let (mail, account) = (&world.mail, world.account);
    let create = async |name: &str, special_use: &[&str]| {
        let special_use = special_use.iter().map(|s| (*s).to_owned()).collect();
        let key = mox_rpc::key();
        let request = mail::CreateMailboxRequest {
            key,
            name: name.into(),
            special_use,
            subscribe: true,
            ..Default::default()
        };
        mail.do_create_mailbox(account, request).await
    };
    let subscribe = async |name: &str, subscribed: bool| {
        let request = mail::SetSubscribedRequest {
            key: mox_rpc::key(),
            name: name.into(),
            subscribed,
            ..Default::default()
        };
        mail.do_set_subscribed(account, request).await.unwrap()
    };
    let list = async || {
        let list = mail
            .do_list_mailboxes(account, &mail::ListMailboxesRequest::default())
            .await
            .unwrap();
        list.mailboxes
            .into_iter()
            .map(|m| (m.name, m.exists, m.subscribed))
            .collect::<Vec<_>>()
    };
    assert_eq!(create("a/b/", &[]).await.unwrap().created, ["a", "a/b"]);
    assert_eq!(
        create("inbox", &[]).await.unwrap_err().code(),
        tonic::Code::AlreadyExists
    );
    assert_eq!(
        create("x\u{7}", &[]).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    assert_eq!(
        create("More sent", &["\\sent"]).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    assert_eq!(
        create("Trash", &["\\trash"])
            .await
            .unwrap()
            .mailbox
            .unwrap()
            .special_use,
        ["\\Trash"]
    );
    subscribe("ghost", true).await;
    subscribe("a/b", false).await;
    let all = |list: &[(&str, bool, bool)]| {
        list.iter()
            .map(|(name, exists, subscribed)| ((*name).to_owned(), *exists, *subscribed))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list().await,
        all(&[
            ("Inbox", true, true),
            ("Sent", true, true),
            ("Trash", true, true),
            ("a", true, true),
            ("a/b", true, false),
            ("ghost", false, true),
        ])
    );
    let delete = async |name: &str| {
        let request = mail::DeleteMailboxRequest {
            key: mox_rpc::key(),
            name: name.into(),
            ..Default::default()
        };
        mail.do_delete_mailbox(account, request)
            .await
            .map_err(|e| e.message().to_owned())
    };
    assert_eq!(delete("a").await.unwrap_err(), "haschildren");
    delete("a/b").await.unwrap();
    let before = world.mailbox("a").await.uid_validity;
    delete("a").await.unwrap();
    // RFC 9051 §6.3.5: a subscription outlives its mailbox.
    assert!(list().await.contains(&("a".into(), false, true)));
    create("a", &[]).await.unwrap();
    assert!(world.mailbox("a").await.uid_validity > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_gives_its_messages_away_and_stays() {
    let world = World::new().await;
    let content = message("a", "b");
    for _ in 0..3 {
        world.append("Inbox", SEEN, &content).await.unwrap();
    }
    let before = world.mailbox("Inbox").await;
    let key = mox_rpc::key();
    let request = mail::RenameMailboxRequest {
        key,
        from: "inbox".into(),
        to: "old/2026".into(),
        ..Default::default()
    };
    world.mail.do_rename_mailbox(world.account, request).await.unwrap();
    let inbox = world.mailbox("Inbox").await;
    let old = world.mailbox("old/2026").await;
    assert_eq!((inbox.messages, inbox.uid_next, old.messages), (0, 1, 3));
    assert!(inbox.uid_validity > before.uid_validity);
    assert_eq!(world.mail.rows(world.account, &old.id).await.unwrap().len(), 3);
    assert_eq!(world.append("Inbox", 0, &content).await.unwrap().uids, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_are_changed_in_steps_and_listed_in_pages() {
    let world = World::new().await;
    let content = message("a", "b");
    let one = mail::AppendMessage {
        content: Some(inline(&content)),
        ..Default::default()
    };
    join_all((0..50).map(|_| {
        let messages = vec![one.clone(); 100];
        let request = mail::AppendRequest {
            key: mox_rpc::key(),
            mailbox: "Inbox".into(),
            messages,
            ..Default::default()
        };
        world.mail.do_append(world.account, request)
    }))
    .await
    .into_iter()
    .for_each(|answer| drop(answer.unwrap()));
    let inbox = world.mailbox("Inbox").await;
    let before = world.mail.accounts().state(world.account, 0).await.unwrap().modseq();
    let request = store(&inbox, range(1, 0), SEEN);
    let answer = world.mail.do_store_flags(world.account, request.clone()).await.unwrap();
    let rows = unpack(&answer.rows.clone().unwrap());
    assert_eq!(
        rows.iter().map(|r| r.0).collect::<Vec<_>>(),
        (1..=5000).collect::<Vec<_>>()
    );
    assert!(rows.iter().all(|r| r.1 == SEEN && r.3 > before));
    assert_eq!(world.mail.do_store_flags(world.account, request).await.unwrap(), answer);
    let copy = mail::CopyRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id.clone(),
        uids: range(1, 0),
        destination: "Sent".into(),
        ..Default::default()
    };
    let copied = world.mail.do_copy(world.account, copy.clone(), false).await.unwrap();
    assert_eq!(world.mail.do_copy(world.account, copy, false).await.unwrap(), copied);
    let sent = world.mailbox("Sent").await;
    assert_eq!((sent.messages, sent.unseen), (5000, 0));
    assert_eq!(
        world.mail.content(world.account, &sent.id, 4321, 0, 0).await.unwrap(),
        content
    );
    let changes = mail::ListChangesRequest {
        mailbox_id: inbox.id.clone(),
        since_modseq: before,
        columns: 15,
        ..Default::default()
    };
    let page = world.mail.do_list_changes(world.account, &changes).await.unwrap();
    assert_eq!(unpack(&page.rows.unwrap()).len(), 5000);
    world
        .mail
        .do_store_flags(world.account, store(&inbox, range(1, 0), crate::account::DELETED))
        .await
        .unwrap();
    let request = mail::ExpungeRequest {
        key: mox_rpc::key(),
        mailbox_id: inbox.id.clone(),
        ..Default::default()
    };
    let gone = world.mail.do_expunge(world.account, request).await.unwrap();
    assert_eq!(expand(&gone.uids).len(), 5000);
    assert_eq!(world.mailbox("Inbox").await.messages, 0);
    assert_eq!(
        world.mail.content(world.account, &sent.id, 4321, 0, 0).await.unwrap(),
        content
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_shown_with_what_was_asked_for() {
    let world = World::new().await;
    let content = message("hello", "b");
    world.append("Inbox", SEEN, &content).await.unwrap();
    let reply = Bytes::from_static(b"Message-ID: <r@x>\r\nIn-Reply-To: <HELLO@x>\r\nSubject: Re: hello\r\n\r\nc\r\n");
    world.append("Inbox", 0, &reply).await.unwrap();
    let inbox = world.mailbox("Inbox").await;
    let get = async |parts: u32| {
        let request = mail::GetMessagesRequest {
            mailbox_id: inbox.id.clone(),
            uids: range(1, 5),
            parts,
            ..Default::default()
        };
        world
            .mail
            .do_get_messages(world.account, &request)
            .await
            .unwrap()
            .messages
    };
    let bare = get(0).await;
    assert_eq!(bare.iter().map(|m| m.uid).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bare[0].size, content.len() as u64);
    assert_eq!((bare[0].received, bare[0].saved), (NOW, NOW));
    assert!(bare[0].computed.is_none());
    assert_eq!(
        bare[1].thread_id, bare[0].thread_id,
        "a reply belongs to the thread of what it answers"
    );
    let whole = get(mail::MessagePart::Computed as u32).await;
    let computed = whole[0].computed.as_ref().unwrap();
    assert_eq!(
        computed.envelope.as_ref().unwrap().subject.as_deref(),
        Some(&b"hello"[..])
    );
    assert!(computed.structure.is_some() && computed.preview.is_some());
    let envelope = get(mail::MessagePart::Envelope as u32).await[0]
        .computed
        .clone()
        .unwrap();
    assert!(envelope.envelope.is_some() && envelope.structure.is_none() && envelope.preview.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_trimmed_asks_for_reading_again() {
    let world = World::new().await;
    let inbox = world.mailbox("Inbox").await;
    // As if many changes had been made.
    let key = crate::keys::account(world.account);
    let value = world.db.get(key.clone()).await.unwrap().unwrap();
    let mut record: mox_proto::record::v1::Account = prost::Message::decode(value.data).unwrap();
    record.modseq = 1_000_000;
    let mut commit = Commit::new();
    commit.put(key, prost::Message::encode_to_vec(&record));
    world.db.commit(commit).await.unwrap();
    world.append("Inbox", 0, &message("a", "b")).await.unwrap();
    let changes = async |since| {
        let request = mail::ListChangesRequest {
            mailbox_id: inbox.id.clone(),
            since_modseq: since,
            columns: 15,
            ..Default::default()
        };
        world.mail.do_list_changes(world.account, &request).await
    };
    assert!(changes(1).await.unwrap().resync);
    assert!(changes(1_000_001 - crate::account::LOG_KEPT - 1).await.unwrap().resync);
    let found = changes(1_000_001 - crate::account::LOG_KEPT).await.unwrap();
    assert!(!found.resync);
    assert_eq!(unpack(&found.rows.unwrap()).len(), 1);
    assert_eq!(changes(2_000_000).await.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_watch_are_told() {
    use mox_proto::mail::v1::mail_service_client::MailServiceClient;
    use mox_proto::mail::v1::mail_service_server::MailServiceServer;
    use mox_proto::mail::v1::watch_request::{Request as Step, Subscribe};

    let world = World::new().await;
    let caller = mox_rpc::Identity::new("imap");
    let info = crate::auth::SessionInfo {
        account: world.account,
        name: "a".into(),
        login_address: "a@example.org".into(),
    };
    let session = world.mail.sessions.begin(info, caller.clone()).unwrap();
    let routes = tonic::service::Routes::new(MailServiceServer::new(world.mail.clone()));
    let mut client = MailServiceClient::new(mox_rpc::Channel::in_process(routes, caller));
    let (requests, receiver) = tokio::sync::mpsc::channel(4);
    let mut answers = client
        .watch(tokio_stream::wrappers::ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    let subscribe = |id, session: &Bytes| mail::WatchRequest {
        request: Some(Step::Subscribe(Subscribe {
            id,
            session: session.clone(),
        })),
    };
    requests.send(subscribe(7, &session)).await.unwrap();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!((first.id, first.modseq, first.revoked), (7, 1, false));
    requests
        .send(subscribe(8, &Bytes::from_static(b"no session")))
        .await
        .unwrap();
    let refused = answers.message().await.unwrap().unwrap();
    assert!(refused.revoked && refused.id == 8);
    let change = world.append("Inbox", 0, &message("a", "b")).await.unwrap();
    let told = answers.message().await.unwrap().unwrap();
    assert_eq!((told.id, told.modseq), (7, change.modseq));
    world.mail.sessions.revoke(world.account);
    let ended = answers.message().await.unwrap().unwrap();
    assert!(ended.revoked && ended.id == 7);
    let gone = client
        .list_mailboxes(mail::ListMailboxesRequest {
            session,
            ..Default::default()
        })
        .await;
    assert_eq!(gone.unwrap_err().code(), tonic::Code::Unauthenticated);
}
