//! Looking at webhooks, and steering them.

use mox_proto::hook::v1::change_hooks_request::{Cancel, Change, Schedule};
use mox_proto::hook::v1::{
    ChangeHooksRequest, HookFilter, HookSort, ListHooksRequest, ListRetiredHooksRequest, RetiredHookFilter,
    RetiredHookSort, hook_sort, retired_hook_sort,
};

use super::*;

impl World {
    /// All pages.
    async fn listed(&self, filter: HookFilter, field: hook_sort::Field, ascending: bool) -> Vec<Hook> {
        let mut request = ListHooksRequest {
            filter: Some(filter),
            sort: Some(HookSort {
                field: field.into(),
                ascending,
            }),
            page_token: String::new(),
        };
        let mut hooks = Vec::new();
        loop {
            let page = self.hooks.list(&request).await.unwrap();
            hooks.extend(page.hooks);
            if page.next_page_token.is_empty() {
                return hooks;
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn change(&self, filter: HookFilter, change: Change) -> u64 {
        let mut page_token = String::new();
        let mut changed = 0;
        loop {
            let request = ChangeHooksRequest {
                key: mox_rpc::key(),
                filter: Some(filter.clone()),
                page_token,
                change: Some(change),
            };
            let page = self.hooks.change(&request).await.unwrap();
            assert_eq!(self.hooks.change(&request).await.unwrap(), page, "repeated");
            changed += page.changed;
            if page.next_page_token.is_empty() {
                return changed;
            }
            page_token = page.next_page_token;
        }
    }
}

#[tokio::test]
async fn filters_and_orders() {
    let world = World::new();
    for (n, (account, event)) in [
        ("me", Event::Delivered),
        ("keeps", Event::Failed),
        ("me", Event::Failed),
        ("some", Event::Failed),
    ]
    .into_iter()
    .enumerate()
    {
        world.tell(event, account, 1 + n as u64).await;
        world.advance(1000);
    }
    // The first is tried last.
    let lease = leases(
        &world
            .claim("w", 1, &[world.source("keeps", false), world.source("some", false)])
            .await,
    )[0];
    world.complete(lease, Completed::Retry, START + 100_000).await;
    let messages = async |filter, field, ascending| {
        let hooks = world.listed(filter, field, ascending).await;
        hooks.iter().map(|h| h.queue_id).collect::<Vec<_>>()
    };
    use hook_sort::Field::{NextAttempt, Queued};
    let all = HookFilter::default;
    assert_eq!(messages(all(), Queued, true).await, [1, 2, 3, 4]);
    assert_eq!(messages(all(), Queued, false).await, [4, 3, 2, 1]);
    assert_eq!(messages(all(), NextAttempt, true).await, [2, 3, 4, 1]);
    assert_eq!(messages(all(), NextAttempt, false).await, [1, 4, 3, 2]);
    let ids: Vec<u64> = world.listed(all(), Queued, true).await.iter().map(|h| h.id).collect();
    let table = [
        (
            HookFilter {
                account: "me".into(),
                ..all()
            },
            vec![1, 3],
        ),
        (
            HookFilter {
                event: "failed".into(),
                ..all()
            },
            vec![2, 3, 4],
        ),
        (
            HookFilter {
                ids: vec![ids[3], ids[0], 9999],
                ..all()
            },
            vec![1, 4],
        ),
        (
            HookFilter {
                submitted_before: Some(START + 1000),
                ..all()
            },
            vec![1],
        ),
        (
            HookFilter {
                submitted_after: Some(START + 1000),
                ..all()
            },
            vec![3, 4],
        ),
        (
            HookFilter {
                next_attempt_after: Some(START + 50_000),
                ..all()
            },
            vec![1],
        ),
        (
            HookFilter {
                next_attempt_before: Some(START + 1001),
                ..all()
            },
            vec![2],
        ),
        (
            HookFilter {
                account: "me".into(),
                event: "failed".into(),
                max: 1,
                ..all()
            },
            vec![3],
        ),
        (HookFilter { max: 2, ..all() }, vec![1, 2]),
        (
            HookFilter {
                account: "nobody".into(),
                ..all()
            },
            vec![],
        ),
    ];
    for (filter, expected) in table {
        assert_eq!(messages(filter.clone(), Queued, true).await, expected, "{filter:?}");
    }
    for bad in ["x", "1.2", "1.2.3.4", "a.b.c"] {
        let request = ListHooksRequest {
            page_token: bad.into(),
            ..ListHooksRequest::default()
        };
        assert!(world.hooks.list(&request).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn pages_have_each_webhook_once() {
    let world = World::new();
    for id in 1..=2500 {
        world.tell(Event::Delivered, "me", id).await;
    }
    for (ascending, max) in [(true, 0), (false, 0), (true, 1700), (false, 1)] {
        let filter = HookFilter {
            max,
            ..HookFilter::default()
        };
        let hooks = world.listed(filter, hook_sort::Field::Queued, ascending).await;
        let wanted = if max == 0 { 2500 } else { max as usize };
        assert_eq!(hooks.len(), wanted);
        let ordered = hooks.is_sorted_by_key(|h| if ascending { h.id } else { u64::MAX - h.id });
        assert!(ordered);
    }
}

#[tokio::test]
async fn they_are_scheduled_and_cancelled() {
    let world = World::new();
    for id in 1..=500 {
        world.tell(Event::Delivered, "keeps", id).await;
    }
    world.tell(Event::Delivered, "me", 1000).await;
    let keeps = || HookFilter {
        account: "keeps".into(),
        ..HookFilter::default()
    };
    let later = |from_now, millis| Change::Schedule(Schedule { from_now, millis });
    assert_eq!(world.change(keeps(), later(false, 3_600_000)).await, 500);
    world.check().await;
    let claimed = world.claim("w", 256, &[]).await;
    assert_eq!(claimed.hooks.len(), 1, "those of others");
    assert_eq!(claimed.next_due, Some(START + 3_600_000));
    world.advance(5000);
    assert_eq!(world.change(keeps(), later(true, 10_000)).await, 500);
    world.advance(10_000);
    let lease = leases(&world.claim("w", 1, &[]).await)[0];
    // What is being called keeps its lease.
    assert_eq!(world.change(keeps(), later(true, -1_000_000)).await, 500);
    world.check().await;
    let rest = world.claim("w", 8, &[]).await;
    assert!(!ids(&rest).contains(&lease.id) && rest.hooks.len() == 8);
    let one = HookFilter {
        ids: vec![lease.id],
        ..HookFilter::default()
    };
    assert_eq!(world.change(one, Change::Cancel(Cancel {})).await, 1);
    assert!(world.complete(lease, Completed::Delivered, 0).await, "stale");
    let retired = world.hooks.retired(lease.id).await.unwrap();
    let results = retired.hook.unwrap().results;
    assert_eq!(results[0].error, "canceled by admin");
    assert_eq!(results.len(), 2, "and what came of the call");
    assert_eq!(
        world.change(HookFilter::default(), Change::Cancel(Cancel {})).await,
        500
    );
    world.check().await;
    assert!(world.hooks.list(&Default::default()).await.unwrap().hooks.is_empty());
    let bad = ChangeHooksRequest {
        key: mox_rpc::key(),
        ..ChangeHooksRequest::default()
    };
    assert!(world.hooks.change(&bad).await.is_err(), "no change");
}

#[tokio::test]
async fn what_left_the_queue_is_listed() {
    let world = World::new();
    for id in 1..=3 {
        world
            .tell(if id == 2 { Event::Failed } else { Event::Delivered }, "keeps", id)
            .await;
    }
    let leases = leases(&world.claim("w", 3, &[]).await);
    for lease in leases.iter().rev() {
        world.advance(1000);
        world.complete(*lease, Completed::Delivered, 0).await;
    }
    let listed = async |filter, field: retired_hook_sort::Field, ascending| {
        let request = ListRetiredHooksRequest {
            filter: Some(filter),
            sort: Some(RetiredHookSort {
                field: field.into(),
                ascending,
            }),
            page_token: String::new(),
        };
        let page = world.hooks.list_retired(&request).await.unwrap();
        page.hooks
            .iter()
            .map(|r| r.hook.as_ref().unwrap().queue_id)
            .collect::<Vec<_>>()
    };
    use retired_hook_sort::Field::{LastActivity, Queued};
    let all = RetiredHookFilter::default;
    assert_eq!(listed(all(), LastActivity, false).await, [1, 2, 3]);
    assert_eq!(listed(all(), LastActivity, true).await, [3, 2, 1]);
    assert_eq!(listed(all(), Queued, true).await, [1, 2, 3]);
    let table = [
        (
            RetiredHookFilter {
                event: "failed".into(),
                ..all()
            },
            vec![2],
        ),
        (
            RetiredHookFilter {
                account: "me".into(),
                ..all()
            },
            vec![],
        ),
        (
            RetiredHookFilter {
                last_activity_after: Some(START + 2000),
                ..all()
            },
            vec![1],
        ),
        (
            RetiredHookFilter {
                last_activity_before: Some(START + 2000),
                ..all()
            },
            vec![3],
        ),
        (
            RetiredHookFilter {
                submitted_after: Some(START),
                ..all()
            },
            vec![],
        ),
        (
            RetiredHookFilter {
                ids: vec![leases[0].id],
                ..all()
            },
            vec![1],
        ),
        (RetiredHookFilter { max: 1, ..all() }, vec![1]),
    ];
    for (filter, expected) in table {
        assert_eq!(
            listed(filter.clone(), LastActivity, false).await,
            expected,
            "{filter:?}"
        );
    }
    assert!(
        world
            .hooks
            .retired(12345)
            .await
            .unwrap_err()
            .to_string()
            .contains("12345")
    );
}
