//! Lists, changes by filter, hold rules, what left the queue, and suppressions.

use mox_proto::queue::v1::change_queue_request::{Change, Drop as DropEntries, Fail, Schedule};
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::sort::Field as SortField;
use mox_proto::queue::v1::{
    AttemptResult, ChangeQueueRequest, Entry, Filter, HoldRule, ListQueueRequest, ListRetiredRequest,
    ListSuppressionsRequest, RetiredFilter, Sort,
};
use proptest::prelude::*;

use super::notices::{in_mailbox, with_account};
use super::*;

impl World {
    /// With the account's messages kept for so many seconds after they left the queue.
    fn keeping(mut self, seconds: u64) -> Self {
        let account = self.config.accounts.get_mut("me").unwrap();
        account.keep_retired_message_period = format!("{seconds}s").parse().unwrap();
        let (config, id) = (Arc::new(self.config.clone()), self.sender.id);
        self.queue.configure(Settings {
            config: Arc::new(move || config.clone()),
            accounts: Arc::new(move |name| (name == "me").then_some(id)),
            hostname: "mail.local.example".into(),
        });
        self
    }

    async fn listed(&self, filter: &Filter, sort: Sort) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut request = ListQueueRequest {
            filter: Some(filter.clone()),
            sort: Some(sort),
            page_token: String::new(),
        };
        loop {
            let page = self.queue.list(&request).await.unwrap();
            all.extend(page.entries);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn ids(&self, filter: &Filter) -> Vec<u64> {
        let sort = Sort {
            field: SortField::Queued.into(),
            ascending: true,
        };
        self.listed(filter, sort).await.iter().map(|entry| entry.id).collect()
    }

    /// Changes everything that matches; answers how many.
    async fn change(&self, filter: Filter, change: Change) -> u64 {
        let mut request = ChangeQueueRequest {
            key: mox_rpc::key(),
            filter: Some(filter),
            page_token: String::new(),
            change: Some(change),
        };
        let mut changed = 0;
        loop {
            let answer = self.queue.change(&request).await.unwrap();
            assert_eq!(
                self.queue.change(&request).await.unwrap().next_page_token,
                answer.next_page_token
            );
            changed += answer.changed;
            if answer.next_page_token.is_empty() {
                return changed;
            }
            request.page_token = answer.next_page_token;
            request.key = mox_rpc::key();
        }
    }

    async fn retired(&self, filter: RetiredFilter) -> Vec<(u64, Reason)> {
        let request = ListRetiredRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let page = self.queue.list_retired(&request).await.unwrap();
        page.retired
            .iter()
            .map(|retired| (retired.entry.as_ref().unwrap().id, retired.reason()))
            .collect()
    }

    async fn fail_with(&self, code: u32, enhanced: &str) {
        self.fail_at("mx.one.example", code, enhanced).await;
    }

    async fn fail_at(&self, host: &str, code: u32, enhanced: &str) {
        let claim = self.claim("w", 1, &[]).await;
        let request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(leases(&claim)[0]),
            outcome: Outcome::Failed.into(),
            result: Some(AttemptResult {
                smtp_code: code,
                enhanced_code: enhanced.into(),
                remote_host: host.into(),
                error: "refused".into(),
                ..Default::default()
            }),
            ..CompleteRequest::default()
        };
        self.queue.complete(&request).await.unwrap();
    }

    async fn suppressed(&self) -> Vec<String> {
        let all = self
            .queue
            .list_suppressions(None, &ListSuppressionsRequest::default())
            .await
            .unwrap();
        all.suppressions.into_iter().map(|s| s.base_address).collect()
    }

    /// Nothing is left but what other messages have.
    async fn check_lists(&self) {
        let mut wanted: Vec<Bytes> = Vec::new();
        for key in self.keys(keys::queue_entries()).await {
            let value = self.db.get(key).await.unwrap().unwrap();
            wanted.extend(lists(&record::decode_entry(&value.data).unwrap()));
        }
        wanted.retain(|key| key[1] == b'i');
        wanted.sort();
        assert_eq!(self.keys(keys::prefix(b"qi")).await, wanted);
    }
}

fn schedule(from_now: bool, millis: i64) -> Change {
    Change::Schedule(Schedule { from_now, millis })
}

#[tokio::test]
async fn held_entries_are_not_given_out_until_released() {
    let world = World::new();
    let ids = world.send(&["a@one.example", "b@two.example"]).await;
    let to = |to: &str| Filter {
        to: to.into(),
        ..Filter::default()
    };
    assert_eq!(world.change(to("A@ONE.example"), Change::Hold(true)).await, 1);
    let claim = world.claim("w", 10, &[]).await;
    assert_eq!(leases(&claim).iter().map(|l| l.id).collect::<Vec<_>>(), [ids[1]]);
    let held = Filter {
        hold: Some(true),
        ..Filter::default()
    };
    assert_eq!(world.ids(&held).await, [ids[0]]);
    // On hold while it is being tried: what becomes of the attempt counts, and there is no other.
    assert_eq!(world.change(to("@two.example"), Change::Hold(true)).await, 1);
    assert!(
        !world
            .complete(leases(&claim)[0], Outcome::Retry, world.now())
            .await
            .stale
    );
    world.advance(100_000);
    assert!(world.claim("w", 10, &[]).await.entries.is_empty());
    assert_eq!(world.change(held, Change::Hold(false)).await, 2);
    assert_eq!(world.claim("w", 10, &[]).await.entries.len(), 2);
    world.check_tickets().await;
    world.check_lists().await;
}

#[tokio::test]
async fn schedules_move_what_nobody_is_trying() {
    let world = World::new();
    let ids = world.send(&["a@one.example", "b@one.example"]).await;
    let lease = leases(&world.claim("w", 1, &[]).await)[0];
    assert_eq!(world.change(Filter::default(), schedule(false, 3_600_000)).await, 2);
    assert!(world.claim("w", 10, &[]).await.entries.is_empty());
    // The lease holds, so the entry under it is not taken by another however soon it is to be tried.
    assert_eq!(world.change(Filter::default(), schedule(true, 0)).await, 2);
    let other = leases(&world.claim("w2", 10, &[]).await);
    assert_eq!(other.len(), 1);
    assert_ne!(other[0].id, lease.id);
    assert!(!world.complete(lease, Outcome::Delivered, 0).await.stale);
    assert_eq!(world.ids(&Filter::default()).await.len(), ids.len() - 1);
    world.check_lists().await;
}

#[tokio::test]
async fn transports_and_tls_requirements_are_set_and_found() {
    let world = World::new();
    let ids = world.send(&["a@one.example", "b@one.example", "c@two.example"]).await;
    let one = Filter {
        to: "@one.example".into(),
        max: 1,
        ..Filter::default()
    };
    assert_eq!(world.change(one.clone(), Change::Transport("relay".into())).await, 1);
    assert_eq!(world.change(one, Change::Requiretls(RequireTls::No.into())).await, 1);
    let with = |name: &str| Filter {
        transport: Some(name.into()),
        ..Filter::default()
    };
    assert_eq!(world.ids(&with("relay")).await, [ids[0]]);
    assert_eq!(world.ids(&with("")).await, [ids[1], ids[2]]);
    let entry = &world.listed(&with("relay"), Sort::default()).await[0];
    assert_eq!(entry.requiretls(), RequireTls::No);
    assert_eq!(world.change(with("relay"), Change::Transport(String::new())).await, 1);
    assert!(world.ids(&with("relay")).await.is_empty());
    world.check_lists().await;
}

#[tokio::test]
async fn failing_tells_the_sender_and_dropping_does_not() {
    let world = with_account().await.keeping(3600);
    let ids = world.send(&["a@one.example", "b@one.example", "c@two.example"]).await;
    let mut quiet = world.request(&["d@one.example"]);
    quiet.recipients[0].dsn_notify = "NEVER".into();
    let silent = world.try_send(&quiet).await.unwrap()[0];
    let to = |to: &str| Filter {
        to: to.into(),
        ..Filter::default()
    };
    assert_eq!(world.change(to("@one.example"), Change::Fail(Fail {})).await, 3);
    assert_eq!(in_mailbox(&world, "Inbox").await, 2);
    assert_eq!(world.change(to("@two.example"), Change::Drop(DropEntries {})).await, 1);
    assert_eq!(in_mailbox(&world, "Inbox").await, 2);
    assert!(world.ids(&Filter::default()).await.is_empty());
    assert!(world.claim("w", 10, &[]).await.entries.is_empty());
    let mut retired = world.retired(RetiredFilter::default()).await;
    retired.sort_unstable();
    assert_eq!(
        retired,
        [
            (ids[0], Reason::Canceled),
            (ids[1], Reason::Canceled),
            (ids[2], Reason::Dropped),
            (silent, Reason::Canceled),
        ]
    );
    world.check_lists().await;
}

#[tokio::test]
async fn rules_hold_what_they_match() {
    let world = World::new();
    let rule = |account: &str, from: &str, to: &str| HoldRule {
        id: 0,
        account: account.into(),
        sender_domain: from.into(),
        recipient_domain: to.into(),
    };
    let first = world
        .queue
        .add_hold_rule(&rule("me", "", "Bücher.example"))
        .await
        .unwrap();
    let second = world.queue.add_hold_rule(&rule("", "other.example", "")).await.unwrap();
    assert_eq!((first.id, second.id), (1, 2));
    assert!(world.queue.add_hold_rule(&rule("", "", "a b")).await.is_err());
    let held = Filter {
        hold: Some(true),
        ..Filter::default()
    };
    let ids = world.send(&["a@xn--bcher-kva.example", "a@one.example"]).await;
    assert_eq!(world.ids(&held).await, [ids[0]]);
    world.queue.remove_hold_rule(first.id).await.unwrap();
    assert!(world.queue.remove_hold_rule(first.id).await.is_err());
    world.send(&["b@xn--bcher-kva.example"]).await;
    assert_eq!(world.ids(&held).await, [ids[0]], "what was held stays so");
    let all = world.queue.add_hold_rule(&rule("", "", "")).await.unwrap();
    assert_eq!(all.id, 3, "numbers are not used again");
    world.send(&["c@one.example"]).await;
    assert_eq!(world.ids(&held).await.len(), 2);
}

#[tokio::test]
async fn what_left_is_kept_for_its_time() {
    let world = World::new().keeping(60);
    let mut request = world.request(&["a@one.example", "b@one.example"]);
    request.fromid = "abc".into();
    let ids = world.try_send(&request).await.unwrap();
    let claim = world.claim("w", 10, &[]).await;
    let result = |error: &str, success| AttemptResult {
        error: error.into(),
        success,
        ..AttemptResult::default()
    };
    for (lease, outcome, result) in [
        (leases(&claim)[0], Outcome::Delivered, result("", true)),
        (leases(&claim)[1], Outcome::Failed, result("no", false)),
    ] {
        let request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(lease),
            outcome: outcome.into(),
            result: Some(result),
            ..CompleteRequest::default()
        };
        world.queue.complete(&request).await.unwrap();
        world.advance(1000);
    }
    let both = [(ids[1], Reason::Failed), (ids[0], Reason::Delivered)];
    assert_eq!(world.retired(RetiredFilter::default()).await, both);
    let success = RetiredFilter {
        success: Some(true),
        to: "A@one.EXAMPLE".into(),
        ..RetiredFilter::default()
    };
    assert_eq!(world.retired(success).await, [(ids[0], Reason::Delivered)]);
    let since = RetiredFilter {
        last_activity_after: Some(world.now() - 1500),
        ..RetiredFilter::default()
    };
    assert_eq!(world.retired(since).await, [(ids[1], Reason::Failed)]);
    let one = world.queue.retired(ids[1]).await.unwrap();
    assert_eq!(one.entry.unwrap().results[0].error, "no");
    let sent = world.queue.by_fromid(world.sender.id, "abc").await.unwrap();
    assert!(sent.iter().all(|s| matches!(s, Sent::Retired(_))) && sent.len() == 2);
    assert!(world.queue.by_fromid(AccountId::new(), "abc").await.unwrap().is_empty());
    assert_eq!(world.queue.clean_retired().await.unwrap(), 0);
    world.advance(58_000);
    assert_eq!(world.queue.clean_retired().await.unwrap(), 1);
    world.advance(2_000);
    assert_eq!(world.queue.clean_retired().await.unwrap(), 1);
    for table in *b"rjkcw" {
        assert!(
            world.keys(keys::prefix(&[b'q', table])).await.is_empty(),
            "{}",
            table as char
        );
    }
}

#[tokio::test]
async fn addresses_that_fail_for_good_are_not_tried_again() {
    let world = World::new().keeping(3600);
    world.send(&["no.body+x@one.example"]).await;
    world.fail_with(550, "5.1.1").await;
    assert_eq!(world.suppressed().await, ["nobody@one.example"]);
    let ids = world.send(&["nobody@one.example", "somebody@one.example"]).await;
    let claim = world.claim("w", 10, &[]).await;
    let marked: Vec<bool> = claim
        .entries
        .iter()
        .map(|c| c.entry.as_ref().unwrap().suppressed)
        .collect();
    assert_eq!(marked, [true, false]);
    world.complete(leases(&claim)[0], Outcome::Failed, 0).await;
    assert_eq!(
        world.retired(RetiredFilter::default()).await[0],
        (ids[0], Reason::Suppressed)
    );
    world.complete(leases(&claim)[1], Outcome::Delivered, 0).await;
    // What may have another reason needs three failures in a row.
    for n in 0..3 {
        assert_eq!(world.suppressed().await.len(), 1, "{n}");
        world.send(&["spam@one.example"]).await;
        world.fail_with(554, "5.7.1").await;
        world.advance(1);
    }
    assert_eq!(world.suppressed().await.len(), 2);
    // Nor does what a transport of ours says, whatever its code, now or before.
    for (code, enhanced) in [(551, "5.7.0"), (554, "5.7.0"), (556, "5.7.0")] {
        world.send(&["ours@one.example"]).await;
        world.fail_at("", code, enhanced).await;
        world.advance(1);
    }
    world.send(&["ours@one.example"]).await;
    world.fail_with(554, "5.7.1").await;
    assert_eq!(world.suppressed().await.len(), 2);
    // A domain that takes no mail says so in DNS.
    world.send(&["anybody@null.example"]).await;
    world.fail_at("", 556, "5.1.10").await;
    assert_eq!(world.suppressed().await.len(), 3);
    // What only was put off does not count, nor do notifications.
    world.send(&["later@one.example"]).await;
    world.fail_with(451, "4.1.1").await;
    let mut report = world.request(&["gone@one.example"]);
    report.mail_from.clear();
    world.try_send(&report).await.unwrap();
    world.fail_with(550, "5.1.1").await;
    assert_eq!(world.suppressed().await.len(), 3);
    let me = world.sender.id;
    assert!(
        world
            .queue
            .add_suppression(me, "me", "no-body@one.example", "")
            .await
            .is_ok()
    );
    assert!(
        world
            .queue
            .add_suppression(me, "me", "n.o@one.example", "")
            .await
            .is_err()
    );
    world
        .queue
        .remove_suppression(me, "me", "NoBody@one.example")
        .await
        .unwrap();
    assert!(
        world
            .queue
            .remove_suppression(me, "me", "nobody@one.example")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn removing_an_account_leaves_nothing() {
    let world = World::new().keeping(3600);
    let mut request = world.request(&["a@one.example"]);
    request.fromid = "abc".into();
    world.try_send(&request).await.unwrap();
    world.fail_with(550, "5.1.1").await;
    world.send(&["b@one.example"]).await;
    world.queue.remove_account(world.sender.id).await.unwrap();
    for table in *b"esdaofmirjkcuw" {
        assert!(
            world.keys(keys::prefix(&[b'q', table])).await.is_empty(),
            "{}",
            table as char
        );
    }
}

fn sorts() -> impl Iterator<Item = Sort> {
    [SortField::NextAttempt, SortField::Queued]
        .into_iter()
        .flat_map(|field| {
            [true, false].map(|ascending| Sort {
                field: field.into(),
                ascending,
            })
        })
}

#[derive(Debug, Clone)]
struct Wanted {
    to: usize,
    from: usize,
    account: usize,
    hold: usize,
    transport: usize,
    queued: usize,
    next: usize,
    max: u32,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (
        0..5usize,
        0..4usize,
        0..3usize,
        0..3usize,
        0..3usize,
        0..4usize,
        0..4usize,
        0..3u32,
    )
        .prop_map(|(to, from, account, hold, transport, queued, next, max)| Wanted {
            to,
            from,
            account,
            hold,
            transport,
            queued,
            next,
            max: max * 700,
        })
}

/// However the page is found, it is what looking at everything finds.
#[test]
fn lists_are_those_of_a_scan() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = World::new();
    // More than are few, for some values.
    let entries: Vec<Entry> = runtime.block_on(async {
        let mut all = Vec::new();
        for n in 0..1500u64 {
            let entry = Entry {
                id: n + 1,
                account_id: world.sender.id.to_bytes(),
                account: ["me", "other"][usize::from(n % 10 == 0)].into(),
                mail_from: ["me@local.example", "You@local.example", "x@else.example"][n as usize % 3].into(),
                recipient: format!(
                    "u{}@{}.example",
                    n % 2,
                    ["one", "two", "rare"][if n % 100 == 0 { 2 } else { n as usize % 2 }]
                ),
                content_id: mox_types::ContentId::new().to_bytes(),
                hold: n % 5 == 0,
                transport: ["", "", "relay"][n as usize % 3].into(),
                queued: START + (n as i64 * 7919) % 1000,
                next_attempt: START + (n as i64 * 104_729) % 5000,
                ..Entry::default()
            };
            let mut commit = crate::engine::Commit::new();
            record::insert(&mut commit, &entry).unwrap();
            world.db.commit(commit).await.unwrap();
            all.push(entry);
        }
        all
    });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let tested = runner.run(&wanted(), |w| {
        let filter = Filter {
            to: ["", "@one.example", "@rare.example", "U1@two.example", "@none.example"][w.to].into(),
            from: ["", "@local.example", "x@else.example", "me@local.example"][w.from].into(),
            account: ["", "me", "other"][w.account].into(),
            hold: [None, Some(true), Some(false)][w.hold],
            transport: [None, Some(String::new()), Some("relay".into())][w.transport].clone(),
            submitted_before: [None, None, Some(START + 100), Some(START + 900)][w.queued],
            submitted_after: [None, Some(START + 500), None, Some(START + 10)][w.queued],
            next_attempt_before: [None, None, Some(START + 300), Some(START + 4000)][w.next],
            next_attempt_after: [None, Some(START + 2500), None, Some(START + 100)][w.next],
            max: w.max,
            ..Filter::default()
        };
        let address = |pattern: &str, address: &str| {
            let (pattern, address) = (pattern.to_lowercase(), address.to_lowercase());
            pattern.is_empty() || address == pattern || (pattern.starts_with('@') && address.ends_with(&pattern))
        };
        for sort in sorts() {
            let time = |e: &Entry| match sort.field() {
                SortField::NextAttempt => e.next_attempt,
                SortField::Queued => e.queued,
            };
            let mut expected: Vec<(i64, u64)> = entries
                .iter()
                .filter(|e| {
                    address(&filter.to, &e.recipient)
                        && address(&filter.from, &e.mail_from)
                        && (filter.account.is_empty() || filter.account == e.account)
                        && filter.hold.is_none_or(|hold| hold == e.hold)
                        && filter.transport.as_ref().is_none_or(|name| *name == e.transport)
                        && filter.submitted_before.is_none_or(|at| e.queued < at)
                        && filter.submitted_after.is_none_or(|at| e.queued > at)
                        && filter.next_attempt_before.is_none_or(|at| e.next_attempt < at)
                        && filter.next_attempt_after.is_none_or(|at| e.next_attempt > at)
                })
                .map(|e| (time(e), e.id))
                .collect();
            expected.sort_unstable();
            if !sort.ascending {
                expected.reverse();
            }
            if w.max > 0 {
                expected.truncate(w.max as usize);
            }
            let found = runtime.block_on(world.listed(&filter, sort));
            let found: Vec<(i64, u64)> = found.iter().map(|e| (time(e), e.id)).collect();
            prop_assert_eq!(found, expected, "{:?} {:?}", filter, sort);
        }
        Ok(())
    });
    tested.unwrap();
}
