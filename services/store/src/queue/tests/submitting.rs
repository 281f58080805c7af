//! Who may put what into the queue.

use mox_config::Alias;
use mox_events::{Event, Notice, Subject};

use super::*;

#[tokio::test]
async fn one_submission_is_one_commit_and_safe_to_repeat() {
    let world = World::new();
    let mut due = world.bus.subscribe(Subject::Queue);
    assert_eq!(due.next().await, Some(Notice::Resubscribed));
    let request = world.request(&["a@one.example", "b@two.example"]);
    let ids = world.try_send(&request).await.unwrap();
    assert_eq!(due.next().await, Some(Notice::Event(Event::QueueDue)));
    assert_eq!(ids, [1, 2]);
    let again = EnqueueRequest {
        session: Bytes::from_static(b"another session"),
        ..request.clone()
    };
    assert_eq!(world.try_send(&again).await.unwrap(), ids);
    let other = EnqueueRequest {
        subject: "other".into(),
        ..request
    };
    assert!(world.try_send(&other).await.is_err(), "the key is used");
    let stored = record::load(world.db.as_ref(), &ids).await.unwrap();
    assert!(stored.iter().flatten().all(|s| s.entry.base_id == 1));
    assert_eq!(world.keys(keys::queue_entries()).await.len(), 2);
    assert_eq!(world.send(&["c@three.example"]).await, [3]);
}

#[tokio::test]
async fn only_own_addresses_are_senders() {
    let mut world = World::new();
    for from in ["other@local.example", "me@else.example", "nonsense"] {
        let request = EnqueueRequest {
            mail_from: from.into(),
            ..world.request(&["a@one.example"])
        };
        assert!(world.try_send(&request).await.is_err(), "{from}");
        let request = EnqueueRequest {
            msg_from: from.into(),
            ..world.request(&["a@one.example"])
        };
        assert!(world.try_send(&request).await.is_err(), "{from}");
    }
    let null = EnqueueRequest {
        mail_from: String::new(),
        ..world.request(&["a@one.example"])
    };
    let ids = world.try_send(&null).await.unwrap();
    let stored = record::load(world.db.as_ref(), &ids)
        .await
        .unwrap()
        .pop()
        .flatten()
        .unwrap();
    assert!(stored.entry.dsn, "the null sender is never notified");

    let me = world.config.accounts.get_mut("me").unwrap();
    me.destinations
        .insert("@local.example".parse().unwrap(), Destination::default());
    let other: mox_types::Address = "other@local.example".parse().unwrap();
    world.config = world.config.clone();
    assert!(
        may_send_as(&world.config, "me", &other).unwrap(),
        "the catch-all is the account's"
    );
    assert!(!may_send_as(&world.config, "you", &other).unwrap());
}

#[tokio::test]
async fn members_send_as_their_list_only_if_it_lets_them() {
    let mut config = config();
    let list: mox_types::Address = "list@local.example".parse().unwrap();
    for allow_msg_from in [false, true] {
        let alias = Alias {
            addresses: vec!["me@local.example".parse().unwrap()],
            post_public: false,
            list_members: false,
            allow_msg_from,
        };
        let domain = config.domains.get_mut(&list.domain).unwrap();
        domain.aliases.insert(list.localpart.clone(), alias);
        config = config.clone();
        assert_eq!(may_send_as(&config, "me", &list).unwrap(), allow_msg_from);
        assert!(!may_send_as(&config, "you", &list).unwrap());
    }
    config.domains.get_mut(&list.domain).unwrap().disabled = true;
    assert!(may_send_as(&config.clone(), "me", &list).is_err(), "put off");
}

#[tokio::test]
async fn limits_of_a_day_hold_and_pass() {
    let mut world = World::new();
    let me = world.config.accounts.get_mut("me").unwrap();
    (me.max_outgoing_messages_per_day, me.max_first_time_recipients_per_day) = (5, 3);
    world.send(&["a@one.example", "b@one.example", "c@one.example"]).await;
    let error = world.try_send(&world.request(&["d@one.example"])).await.unwrap_err();
    assert!(
        matches!(&error, QueueError::Limit(text) if text.contains("3 new recipients")),
        "{error}"
    );
    world.send(&["A@one.example", "b@one.example"]).await;
    let error = world.try_send(&world.request(&["a@one.example"])).await.unwrap_err();
    assert!(
        matches!(&error, QueueError::Limit(text) if text.contains("5 messages a day")),
        "{error}"
    );
    // What counts together is counted until the last of it is a day ago.
    world.advance(24 * 3600 * 1000 + 10 * 60 * 1000);
    world.send(&["a@one.example", "d@one.example"]).await;
}

#[tokio::test]
async fn recipients_are_remembered_and_are_new_once() {
    let mut world = World::new();
    let me = world.config.accounts.get_mut("me").unwrap();
    me.max_first_time_recipients_per_day = 2;
    world.send(&["New@One.example", "b@one.example"]).await;
    world.send(&["new@one.example"]).await;
    let known = |text: &str| {
        let (db, id, address) = (world.db.clone(), world.sender.id, text.parse().unwrap());
        async move { crate::account::find_recipient(&db, id, &address).await.unwrap() }
    };
    let first = known("new@one.example").await.unwrap();
    assert_eq!((first.messages, first.first), (2, START / 1000));
    assert_eq!(known("b@one.example").await.unwrap().messages, 1);
    assert_eq!(known("c@one.example").await, None);
    // A notification is written to nobody, but counts.
    let notification = EnqueueRequest {
        mail_from: String::new(),
        ..world.request(&["c@one.example"])
    };
    assert!(world.try_send(&notification).await.is_err());
    world.advance(25 * 3600 * 1000);
    world.try_send(&notification).await.unwrap();
    assert_eq!(known("c@one.example").await, None);
}

#[tokio::test]
async fn senders_have_ids_for_logins_that_want_them() {
    let mut world = World::new();
    let domain = world.config.domains.values_mut().next().unwrap();
    domain.localpart_catchall_separators = vec!["+".into()];
    let me = world.config.accounts.get_mut("me").unwrap();
    me.from_id_login_addresses = vec!["me+ids@local.example".into()];
    let entries = async |world: &World, ids: &[u64]| -> Vec<(String, String)> {
        let stored = record::load(world.db.as_ref(), ids).await.unwrap();
        stored
            .into_iter()
            .map(|s| s.unwrap().entry)
            .map(|e| (e.mail_from, e.fromid))
            .collect()
    };
    let ids = world.send(&["a@one.example"]).await;
    assert_eq!(
        entries(&world, &ids).await,
        [("me@local.example".to_owned(), String::new())]
    );

    world.sender.login = "Me+IDs@local.example".into();
    let request = world.request(&["a@one.example", "b@one.example"]);
    let answer = world
        .queue
        .submit(&world.sender, &world.config, &request)
        .await
        .unwrap();
    let sent = entries(&world, &answer.ids).await;
    assert_eq!(answer.fromids.len(), 2);
    for ((mail_from, fromid), told) in sent.iter().zip(&answer.fromids) {
        assert_eq!((fromid, fromid.len()), (told, 16));
        assert_eq!(*mail_from, format!("me+{fromid}@local.example"));
    }
    assert_ne!(sent[0].1, sent[1].1);
    let again = world
        .queue
        .submit(&world.sender, &world.config, &request)
        .await
        .unwrap();
    assert_eq!(again, answer);

    let own = |to: &[&str]| EnqueueRequest {
        mail_from: "me+mine@local.example".into(),
        ..world.request(to)
    };
    let ids = world.try_send(&own(&["a@one.example"])).await.unwrap();
    assert_eq!(
        entries(&world, &ids).await,
        [("me+mine@local.example".to_owned(), "mine".to_owned())]
    );
    assert!(world.try_send(&own(&["a@one.example", "b@one.example"])).await.is_err());
    let null = EnqueueRequest {
        mail_from: String::new(),
        ..world.request(&["a@one.example"])
    };
    let ids = world.try_send(&null).await.unwrap();
    assert_eq!(entries(&world, &ids).await, [(String::new(), String::new())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_for_those_who_send_at_once() {
    let mut world = World::new();
    world
        .config
        .accounts
        .get_mut("me")
        .unwrap()
        .max_outgoing_messages_per_day = 10;
    let world = Arc::new(world);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move {
                world
                    .try_send(&world.request(&[&format!("u{n}@one.example")]))
                    .await
                    .is_ok()
            })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += usize::from(task.await.unwrap());
    }
    assert_eq!(sent, 10);
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let world = World::new();
    let good = world.request(&["a@one.example"]);
    let many: Vec<String> = (0..1001).map(|n| format!("u{n}@one.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for bad in [
        world.request(&[]),
        world.request(&many),
        world.request(&["no address"]),
        EnqueueRequest {
            key: Bytes::new(),
            ..good.clone()
        },
        EnqueueRequest {
            content: None,
            ..good.clone()
        },
        EnqueueRequest {
            prefix: vec![b'x'; 70_000].into(),
            ..good.clone()
        },
        EnqueueRequest {
            dsn_envid: "x".repeat(601),
            ..good.clone()
        },
        EnqueueRequest {
            size: 1,
            ..good.clone()
        },
    ] {
        assert!(world.try_send(&bad).await.is_err());
    }
    assert!(world.keys(keys::queue_entries()).await.is_empty());
}

#[tokio::test]
async fn a_message_can_be_released_in_the_future() {
    let world = World::new();
    let at = world.now() / 1000 + 3600;
    world
        .try_send(&EnqueueRequest {
            release_at: Some(at),
            ..world.request(&["a@one.example"])
        })
        .await
        .unwrap();
    let claim = world.claim("w", 1, &[]).await;
    assert!(claim.entries.is_empty());
    assert_eq!(claim.next_due, Some(at * 1000));
    world.advance(3_600_000);
    assert_eq!(world.claim("w", 1, &[]).await.entries.len(), 1);
}

#[tokio::test]
async fn removing_an_account_removes_all_of_it() {
    let world = World::new();
    let many: Vec<String> = (0..300).map(|n| format!("u{n}@d{}.example", n % 7)).collect();
    world.send(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let claim = world.claim("w", 50, &[]).await;
    world.queue.remove_account(world.sender.id).await.unwrap();
    assert!(world.keys(keys::queue_entries()).await.is_empty());
    assert!(world.keys(keys::prefix(&[keys::REFERENCE])).await.is_empty());
    for range in keys::queue_history(world.sender.id) {
        assert!(world.keys(range).await.is_empty());
    }
    assert!(world.complete(leases(&claim)[0], Outcome::Delivered, 0).await.stale);
    world.advance(100_000);
    assert!(world.claim("w", 50, &[]).await.entries.is_empty());
}
