//! What is told of what, and what takes the place of what.

use super::*;

#[tokio::test]
async fn each_event_is_told_with_all_there_is_to_it() {
    let world = World::new();
    // Event, from a notification, suppressing, code, enhanced code, error.
    let table = [
        (Event::Delivered, false, false, 250, "", ""),
        (
            Event::Suppressed,
            false,
            false,
            0,
            "",
            "address is on the suppression list",
        ),
        (Event::Delayed, false, false, 451, "4.7.1", "come back later"),
        (Event::Failed, false, true, 550, "5.1.1", "no such user"),
        (Event::Failed, true, false, 554, "5.0.0", "quota"),
        (Event::Relayed, true, false, 0, "", ""),
        (Event::Expanded, true, false, 0, "", ""),
        (Event::Canceled, false, false, 0, "", "canceled by admin"),
        (Event::Unrecognized, true, false, 0, "", ""),
    ];
    for (n, (event, dsn, suppressing, smtp_code, enhanced_code, error)) in table.into_iter().enumerate() {
        let entry = world.entry("me", 100 + n as u64);
        let outcome = Outcome {
            event,
            entry: &entry,
            dsn,
            suppressing,
            smtp_code,
            enhanced_code,
            error,
        };
        assert!(world.tell_of(&outcome).await);
        let claimed = world.claim("w", 10, &[]).await;
        assert_eq!(claimed.hooks.len(), 1, "{event}");
        let payload: serde_json::Value = serde_json::from_slice(&claimed.hooks[0].payload).unwrap();
        let expected = serde_json::json!({
            "Version": 0, "Event": event.name(), "DSN": dsn, "Suppressing": suppressing, "QueueMsgID": 100 + n,
            "FromID": "abc", "MessageID": "<one@local.example>", "Subject": "grüße",
            "WebhookQueued": "2023-11-14T22:13:20.123Z", "SMTPCode": smtp_code, "SMTPEnhancedCode": enhanced_code,
            "Error": error, "Extra": { "order": "7" },
        });
        assert_eq!(payload, expected);
        let hook = claimed.hooks[0].hook.as_ref().unwrap();
        assert_eq!(
            (hook.url.as_str(), hook.trace_id.as_str()),
            ("http://me.example/out", "t")
        );
        assert_eq!(world.hooks.payload_of(hook.id).await.unwrap(), claimed.hooks[0].payload);
    }
    world.check().await;
}

#[tokio::test]
async fn only_what_is_wanted_is_told() {
    let world = World::new();
    assert!(!world.tell(Event::Delivered, "some", 1).await);
    assert!(world.tell(Event::Failed, "some", 1).await);
    assert!(!world.tell(Event::Failed, "silent", 2).await);
    let mut entry = world.entry("me", 3);
    entry.account = "gone".into();
    let outcome = Outcome {
        event: Event::Failed,
        entry: &entry,
        dsn: false,
        suppressing: false,
        smtp_code: 0,
        enhanced_code: "",
        error: "",
    };
    assert!(!world.tell_of(&outcome).await);
    world.check().await;
}

#[tokio::test]
async fn a_later_event_takes_the_place_of_one_that_is_not_told_yet() {
    let world = World::new();
    for account in ["keeps", "me"] {
        assert!(world.tell(Event::Delayed, account, 1).await);
        let before = ids(&world.claim("w", 1, &[]).await);
        let lease = Lease {
            id: before[0],
            attempt: 1,
        };
        world.tell(Event::Delivered, account, 2).await;
        world.tell(Event::Delivered, account, 1).await;
        world.check().await;
        let after = world.claim("w", 10, &[]).await;
        assert_eq!(after.hooks.len(), 2, "the other message's is left alone");
        let event = |id| {
            let hook = after
                .hooks
                .iter()
                .map(|c| c.hook.as_ref().unwrap())
                .find(|h| h.queue_id == id);
            hook.map(|h| (h.id, h.event.clone())).unwrap()
        };
        let (by, name) = event(1);
        assert_eq!(name, "delivered");
        // It was being told at that moment: what came of it is added to what is kept.
        for _ in 0..2 {
            assert!(world.complete(lease, Completed::Delivered, 0).await, "stale");
        }
        if account == "keeps" {
            let retired = world.hooks.retired(lease.id).await.unwrap();
            assert_eq!((retired.superseded_by, retired.success), (by, false));
            assert!(retired.authorization);
            let hook = retired.hook.unwrap();
            assert_eq!(
                (hook.event.as_str(), hook.results.len(), hook.attempts),
                ("delayed", 1, 1)
            );
        } else {
            assert!(world.hooks.retired(lease.id).await.is_err());
        }
        for lease in leases(&after) {
            assert!(!world.complete(lease, Completed::Delivered, 0).await);
        }
        world.check().await;
        assert!(world.claim("w", 10, &[]).await.hooks.is_empty());
        // With nothing left to be told, a next event is told by itself.
        assert!(world.tell(Event::Failed, account, 1).await);
        assert_eq!(world.claim("w", 10, &[]).await.hooks.len(), 1);
        world.check().await;
    }
}

#[tokio::test]
async fn events_of_one_message_at_once_leave_one() {
    let world = World::new();
    let entry = world.entry("keeps", 1);
    let tell = async |event| {
        let outcome = Outcome {
            event,
            entry: &entry,
            dsn: false,
            suppressing: false,
            smtp_code: 0,
            enhanced_code: "",
            error: "",
        };
        loop {
            let mut commit = Commit::new();
            world.hooks.on_outcome(&mut commit, &outcome).await.unwrap();
            match world.db.commit(commit).await {
                Ok(_) => return,
                Err(crate::engine::EngineError::Conflict { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
    };
    futures::future::join_all((0..20).map(|_| tell(Event::Delayed))).await;
    world.check().await;
    assert_eq!(world.claim("w", 100, &[]).await.hooks.len(), 1);
    let retired = world.hooks.list_retired(&Default::default()).await.unwrap();
    assert_eq!(retired.hooks.len(), 19);
    assert!(retired.hooks.iter().all(|r| r.superseded_by != 0));
}
