//! Who calls what, and what the store keeps of it.

use mox_proto::queue::v1::RenewRequest;

use super::*;

#[tokio::test]
async fn who_has_much_to_tell_does_not_keep_others_waiting() {
    let world = World::new();
    for id in 0..100 {
        world.tell(Event::Delivered, "me", 1000 + id).await;
    }
    world.tell(Event::Delivered, "keeps", 1).await;
    world.tell(Event::Failed, "some", 2).await;
    let mut accounts = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let claimed = world.claim("w", 20, &[]).await;
        assert!(claimed.next_due.is_some_and(|due| due <= world.now()), "there is more");
        for hook in claimed.hooks.iter().map(|c| c.hook.as_ref().unwrap()) {
            assert!(seen.insert(hook.id), "given twice");
            accounts.push(hook.account.clone());
        }
    }
    for account in ["keeps", "some"] {
        assert!(accounts.iter().any(|a| a == account), "{account} in {accounts:?}");
    }
    let busy = [world.source("me", false)];
    let claimed = world.claim("w", 20, &busy).await;
    assert!(claimed.hooks.is_empty() && claimed.next_due.is_some());
    world.check().await;
}

#[tokio::test]
async fn a_webhook_is_leased_to_one_at_a_time() {
    let world = World::new();
    world.tell(Event::Delivered, "me", 1).await;
    let first = world.claim("a", 10, &[]).await;
    let lease = leases(&first)[0];
    let none = world.claim("b", 10, &[]).await;
    assert!(none.hooks.is_empty());
    assert_eq!(none.next_due, Some(world.now() + i64::from(LEASE_SECONDS) * 1000));
    let renew = |worker: &str| RenewRequest {
        worker: worker.into(),
        leases: vec![lease],
        lease_seconds: LEASE_SECONDS,
    };
    world.advance(50_000);
    assert_eq!(world.hooks.renew(&renew("a")).await.unwrap(), [true]);
    assert_eq!(world.hooks.renew(&renew("b")).await.unwrap(), [false]);
    world.advance(50_000);
    assert!(world.claim("b", 10, &[]).await.hooks.is_empty(), "it was renewed");
    world.advance(10_001);
    let second = leases(&world.claim("b", 10, &[]).await)[0];
    assert_eq!((second.id, second.attempt), (lease.id, 2));
    assert_eq!(world.hooks.renew(&renew("a")).await.unwrap(), [false]);
    assert!(world.complete(lease, Completed::Retry, world.now() + 1).await, "stale");
    assert!(!world.complete(second, Completed::Retry, world.now() + 60_000).await);
    world.check().await;
    // A late success counts: the receiver has it.
    assert!(world.complete(lease, Completed::Delivered, 0).await);
    world.check().await;
    assert!(world.keys().await.is_empty());
}

#[tokio::test]
async fn attempts_are_counted_and_their_last_results_kept() {
    let world = World::new();
    world.tell(Event::Failed, "keeps", 1).await;
    let id = ids(&world.claim("w", 1, &[]).await)[0];
    let released = Lease { id, attempt: 1 };
    assert!(!world.complete(released, Completed::Released, world.now()).await);
    for attempt in 1..=25 {
        let claimed = world.claim("w", 1, &[]).await;
        assert_eq!(claimed.hooks[0].hook.as_ref().unwrap().attempts, attempt - 1);
        let lease = leases(&claimed)[0];
        let next = world.now() + 1000;
        assert!(!world.complete(lease, Completed::Retry, next).await);
        assert!(world.complete(lease, Completed::Retry, next).await, "repeated");
        assert!(world.claim("w", 1, &[]).await.hooks.is_empty());
        world.advance(1000);
    }
    let lease = leases(&world.claim("w", 1, &[]).await)[0];
    assert!(!world.complete(lease, Completed::Failed, 0).await);
    let retired = world.hooks.retired(id).await.unwrap();
    assert!(!retired.success && retired.authorization && retired.superseded_by == 0);
    assert_eq!(
        (retired.last_activity, retired.keep_until),
        (world.now(), world.now() + KEEP)
    );
    let hook = retired.hook.unwrap();
    assert_eq!((hook.attempts, hook.results.len()), (26, 20));
    world.check().await;
    world.advance(KEEP - 1);
    assert_eq!(world.hooks.clean_retired().await.unwrap(), 0);
    world.advance(1);
    assert_eq!(world.hooks.clean_retired().await.unwrap(), 1);
    assert!(world.keys().await.is_empty());
}

#[tokio::test]
async fn nothing_of_a_removed_account_stays() {
    let world = World::new();
    for id in 0..600 {
        world.tell(Event::Delayed, "keeps", id % 300 + 1).await;
    }
    world.tell(Event::Delivered, "me", 1000).await;
    world.hooks.remove_account(world.ids["keeps"]).await.unwrap();
    world.check().await;
    let left = world.hooks.list(&Default::default()).await.unwrap().hooks;
    assert_eq!(left.iter().map(|h| h.account.as_str()).collect::<Vec<_>>(), ["me"]);
    assert!(
        world
            .hooks
            .list_retired(&Default::default())
            .await
            .unwrap()
            .hooks
            .is_empty()
    );
    world.hooks.remove_account(world.ids["me"]).await.unwrap();
    assert!(world.keys().await.is_empty());
}
