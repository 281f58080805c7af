//! Who holds what, and for how long.

use std::collections::{BTreeMap, BTreeSet};

use mox_proto::queue::v1::{Filter, ListQueueRequest, RenewRequest, Sort};
use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn an_entry_is_leased_to_one_worker_until_the_lease_ends() {
    let world = World::new();
    let ids = world.send(&["a@one.example", "b@one.example", "c@two.example"]).await;
    let first = world.claim("w1", 10, &[]).await;
    assert_eq!(
        leases(&first).iter().map(|l| l.id).collect::<BTreeSet<_>>(),
        ids.iter().copied().collect()
    );
    let second = world.claim("w2", 10, &[]).await;
    assert!(second.entries.is_empty());
    assert_eq!(second.next_due, Some(world.now() + 60_000), "the end of the leases");
    world.advance(60_000);
    let third = world.claim("w2", 10, &[]).await;
    assert_eq!(third.entries.len(), 3);
    assert!(third.entries.iter().all(|c| c.attempt == 2));

    let stale = leases(&first)[0];
    let retry = world.complete(stale, Outcome::Retry, world.now()).await;
    assert!(retry.stale, "a lost lease decides nothing");
    let renew = RenewRequest {
        worker: "w1".into(),
        leases: vec![stale],
        lease_seconds: 60,
    };
    assert_eq!(world.queue.renew(&renew).await.unwrap(), [false]);
    assert!(world.complete(stale, Outcome::Delivered, 0).await.stale);
    let renew = RenewRequest {
        worker: "w2".into(),
        leases: leases(&third),
        lease_seconds: 60,
    };
    let held = world.queue.renew(&renew).await.unwrap();
    assert_eq!(
        held.iter().filter(|held| !**held).count(),
        1,
        "what was delivered is gone"
    );
}

#[tokio::test]
async fn renewing_keeps_an_entry() {
    let world = World::new();
    world.send(&["a@one.example"]).await;
    let claim = world.claim("w1", 10, &[]).await;
    for _ in 0..5 {
        world.advance(50_000);
        let renew = RenewRequest {
            worker: "w1".into(),
            leases: leases(&claim),
            lease_seconds: 60,
        };
        assert_eq!(world.queue.renew(&renew).await.unwrap(), [true]);
        assert!(world.claim("w2", 10, &[]).await.entries.is_empty());
        world.check_tickets().await;
    }
    assert!(!world.complete(leases(&claim)[0], Outcome::Delivered, 0).await.stale);
    world.advance(100_000);
    assert!(world.claim("w2", 10, &[]).await.entries.is_empty());
}

#[tokio::test]
async fn a_retry_waits_and_keeps_its_results() {
    let world = World::new();
    let ids = world.send(&["a@one.example"]).await;
    for n in 1..=25 {
        let claim = world.claim("w", 1, &[]).await;
        let request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(leases(&claim)[0]),
            outcome: Outcome::Retry.into(),
            result: Some(mox_proto::queue::v1::AttemptResult {
                error: format!("failure {n}"),
                ..Default::default()
            }),
            next_attempt: world.now() + 1000,
            ..CompleteRequest::default()
        };
        let answer = world.queue.complete(&request).await.unwrap();
        assert_eq!(
            world.queue.complete(&request).await.unwrap(),
            answer,
            "repeating it changes nothing"
        );
        let waiting = world.claim("w", 1, &[]).await;
        assert!(waiting.entries.is_empty());
        assert_eq!(waiting.next_due, Some(world.now() + 1000));
        world.advance(1000);
    }
    let stored = record::load(world.db.as_ref(), &ids)
        .await
        .unwrap()
        .pop()
        .flatten()
        .unwrap();
    assert_eq!(stored.entry.attempts, 25);
    assert_eq!(stored.entry.results.len(), 20);
    assert_eq!(stored.entry.results[19].error, "failure 25");
}

#[tokio::test]
async fn a_domain_that_is_busy_delays_no_other() {
    let world = World::new();
    let many: Vec<String> = (0..900).map(|n| format!("u{n}@busy.example")).collect();
    for part in many.chunks(100) {
        world.send(&part.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.advance(1);
    }
    world.send(&["a@other.example"]).await;
    let claim = world.claim("w", 10, &["busy.example"]).await;
    assert_eq!(claim.entries.len(), 1);
    assert_eq!(claim.entries[0].entry.as_ref().unwrap().recipient, "a@other.example");
    let tickets = world.keys(keys::queue_tickets(0, world.now())).await;
    assert_eq!(tickets.len(), 1, "those of the busy domain are merged");
    let claim = world.claim("w", 10, &[]).await;
    assert_eq!(claim.entries.len(), 10);
    assert_eq!(claim.next_due, Some(world.now()), "there is more");
    world.check_tickets().await;
}

#[tokio::test]
async fn the_list_comes_in_stable_pages() {
    let world = World::new();
    let mut sent = Vec::new();
    for n in 0..25 {
        let to: Vec<String> = (0..100).map(|i| format!("u{i}@d{n}.example")).collect();
        sent.extend(world.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await);
        world.advance(10);
    }
    for (ascending, max) in [(true, 0), (false, 0), (true, 1700)] {
        let mut seen = Vec::new();
        let mut request = ListQueueRequest {
            sort: Some(Sort {
                ascending,
                ..Sort::default()
            }),
            filter: Some(Filter {
                from: "@LOCAL.example".into(),
                max,
                ..Filter::default()
            }),
            ..ListQueueRequest::default()
        };
        loop {
            let page = world.queue.list(&request).await.unwrap();
            seen.extend(page.entries.iter().map(|e| e.id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            // What is added meanwhile does not move what is there.
            world.send(&["new@new.example"]).await;
        }
        seen.retain(|id| sent.contains(id));
        let mut wanted = sent.clone();
        if !ascending {
            wanted.reverse();
        }
        if max > 0 {
            wanted.truncate(max as usize);
        }
        assert_eq!(seen, wanted);
    }
    let filter = Filter {
        to: "u7@d3.example".into(),
        ..Filter::default()
    };
    let one = world
        .queue
        .list(&ListQueueRequest {
            filter: Some(filter),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(one.entries.len(), 1);
    let bad = ListQueueRequest {
        page_token: "1.2".into(),
        ..Default::default()
    };
    assert!(world.queue.list(&bad).await.is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Send(u8),
    Advance(u16),
    Claim { worker: bool, max: u32, busy: u8 },
    Renew { worker: bool },
    Complete { worker: bool, outcome: u8, delay: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Send),
        (0..40_000u16).prop_map(Step::Advance),
        (any::<bool>(), 1..4u32, 0..6u8).prop_map(|(worker, max, busy)| Step::Claim { worker, max, busy }),
        any::<bool>().prop_map(|worker| Step::Renew { worker }),
        (any::<bool>(), 0..4u8, any::<u16>()).prop_map(|(worker, outcome, delay)| Step::Complete {
            worker,
            outcome,
            delay
        }),
    ]
}

/// What should be true of the entries.
#[derive(Default)]
struct Model {
    /// When each is due, and who holds it with which attempt.
    entries: BTreeMap<u64, (i64, Option<(bool, u64)>)>,
    /// Leases as each worker remembers them, oldest first.
    remembered: [Vec<Lease>; 2],
}

async fn run(steps: Vec<Step>) {
    let world = World::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Send(domain) => {
                let id = world.send(&[&format!("u@d{domain}.example")]).await[0];
                model.entries.insert(id, (world.now(), None));
            }
            Step::Advance(millis) => world.advance(i64::from(millis)),
            Step::Claim { worker, max, busy } => {
                let busy = format!("d{busy}.example");
                let claim = world.claim(if worker { "one" } else { "two" }, max, &[&busy]).await;
                for claimed in &claim.entries {
                    let entry = claimed.entry.as_ref().unwrap();
                    assert!(!entry.recipient.ends_with(&busy));
                    let known = model.entries.get_mut(&entry.id).expect("an entry of the queue");
                    assert!(known.0 <= world.now(), "entry {} is not due, or leased", entry.id);
                    *known = (world.now() + 60_000, Some((worker, claimed.attempt)));
                    model.remembered[usize::from(worker)].push(Lease {
                        id: entry.id,
                        attempt: claimed.attempt,
                    });
                }
            }
            Step::Renew { worker } => {
                let leases = model.remembered[usize::from(worker)].clone();
                let name = if worker { "one" } else { "two" };
                let request = RenewRequest {
                    worker: name.into(),
                    leases: leases.clone(),
                    lease_seconds: 60,
                };
                let held = world.queue.renew(&request).await.unwrap();
                for (lease, held) in leases.iter().zip(held) {
                    let known = model.entries.get_mut(&lease.id);
                    let current = known.filter(|k| k.1 == Some((worker, lease.attempt)));
                    assert_eq!(held, current.is_some());
                    if let Some(known) = current {
                        known.0 = world.now() + 60_000;
                    }
                }
            }
            Step::Complete { worker, outcome, delay } => {
                let Some(lease) = model.remembered[usize::from(worker)].pop() else {
                    continue;
                };
                let current = model
                    .entries
                    .get(&lease.id)
                    .is_some_and(|k| k.1 == Some((worker, lease.attempt)));
                let next = world.now() + i64::from(delay);
                let outcome =
                    [Outcome::Delivered, Outcome::Retry, Outcome::Failed, Outcome::Released][usize::from(outcome)];
                let answer = world.complete(lease, outcome, next).await;
                assert_eq!(answer.stale, !current);
                match outcome {
                    Outcome::Delivered => drop(model.entries.remove(&lease.id)),
                    _ if !current => {}
                    Outcome::Failed => drop(model.entries.remove(&lease.id)),
                    _ => drop(model.entries.insert(lease.id, (next, None))),
                }
            }
        }
        world.check_tickets().await;
    }
    // Whatever happened: all that is in the queue is found once it is due, and each once.
    world.advance(200_000);
    let mut found = BTreeSet::new();
    loop {
        let claim = world.claim("last", 2, &[]).await;
        if claim.entries.is_empty() {
            break;
        }
        for lease in leases(&claim) {
            assert!(found.insert(lease.id));
            world.complete(lease, Outcome::Delivered, 0).await;
        }
    }
    assert_eq!(found, model.entries.into_keys().collect());
    assert!(world.keys(keys::queue_entries()).await.is_empty());
    let references = keys::prefix(&[keys::REFERENCE]);
    assert!(world.keys(references).await.is_empty(), "contents are released");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn leases_hold_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_claim_at_once_get_different_entries() {
    let world = World::new();
    for n in 0..10 {
        let to: Vec<String> = (0..20).map(|i| format!("u{i}@d{}.example", (i + n) % 5)).collect();
        world.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let tasks: Vec<_> = (0..4)
        .map(|n| {
            let queue = world.queue.clone();
            tokio::spawn(async move {
                let request = ClaimRequest {
                    worker: format!("w{n}"),
                    max: 7,
                    lease_seconds: 60,
                    ..ClaimRequest::default()
                };
                let mut mine = Vec::new();
                loop {
                    let claim = queue.claim(&request).await.unwrap();
                    if claim.entries.is_empty() && claim.next_due.is_some_and(|due| due > START + 1000) {
                        return mine;
                    }
                    mine.extend(leases(&claim).iter().map(|l| l.id));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
}
