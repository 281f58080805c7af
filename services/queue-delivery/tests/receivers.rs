//! Webhooks on their way, with receivers of every kind.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use mox_config::{Account, IncomingWebhook, OutgoingWebhook, Secret};
use mox_events::Event;
use mox_proto::hook::v1::complete_hook_request::Outcome;
use support::Scene;
use support::receivers::{Answer, Receivers};

/// Accounts "a0", "a1", … each with a receiver of its own at 192.0.2.n, or at one that is given.
fn scene(accounts: usize, same: bool) -> (Scene, Arc<Receivers>) {
    let mut scene = Scene::new("");
    let receivers = Arc::new(Receivers::default());
    scene.dialer = Some(receivers.clone());
    for n in 0..accounts {
        let mut account = Account::new("ours.example".parse().unwrap());
        account.outgoing_webhook = Some(OutgoingWebhook {
            url: url(if same { 0 } else { n }),
            authorization: Some(Secret::new("Bearer secret")),
            events: Vec::new(),
        });
        account.incoming_webhook = Some(IncomingWebhook {
            url: format!("{}in", url(n)),
            authorization: None,
        });
        scene.dynamic.accounts.insert(format!("a{n}"), account);
    }
    (scene, receivers)
}

/// Lets the clock go with tokio's time.
fn let_time_pass(scene: &Scene) {
    let hand = scene.hand.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            hand.advance(Duration::from_millis(100));
        }
    });
}

fn ip(n: usize) -> String {
    format!("192.0.{}.{}", 2 + n / 200, n % 200 + 1)
}

fn url(n: usize) -> String {
    format!("http://{}:8080/hook?a=b&", ip(n))
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_posted_with_all_that_belongs_to_it() {
    let (mut scene, receivers) = scene(1, false);
    receivers.set(&ip(0), Answer::Status("200 OK", "thanks"));
    let id = scene.hooks.queue("a0", &url(0), 1)[0];
    let incoming = scene.hooks.queue_incoming("a0", &format!("{}in", url(0)));
    scene.worker().await;
    scene.wait("all told", |scene| scene.hooks.is_empty()).await;
    let posts = receivers.posts();
    assert_eq!(posts.len(), 2);
    let out = posts.iter().find(|p| p.body.contains("QueueMsgID")).unwrap();
    assert!(out.head.starts_with("POST /hook?a=b& HTTP/1.1\r\n"), "{}", out.head);
    assert_eq!(out.body, format!("{{\"QueueMsgID\":{id}}}"));
    for (name, value) in [
        ("host", "192.0.2.1:8080"),
        ("content-type", "application/json; charset=utf-8"),
        ("x-mox-webhook-id", &id.to_string()),
        ("x-mox-webhook-attempt", "1"),
        ("authorization", "Bearer secret"),
        ("user-agent", &format!("mox/{} (webhook)", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(out.field(name), Some(value), "{name}");
    }
    let arrived = posts.iter().find(|p| p.body.contains("Incoming")).unwrap();
    assert_eq!(arrived.body, format!("{{\"Incoming\":{incoming}}}"));
    assert_eq!(arrived.field("authorization"), None);
    let told = scene.hooks.told_of(id);
    assert_eq!((told.len(), told[0].outcome), (1, Outcome::Delivered));
    let result = &told[0].result;
    assert!(result.success && result.code == 200 && result.error.is_empty() && result.response == "thanks");
    assert_eq!(result.url, url(0));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_whole_schedule_is_gone_through() {
    let (mut scene, receivers) = scene(1, false);
    receivers.set(&ip(0), Answer::Status("403 Forbidden", "no"));
    let id = scene.hooks.queue("a0", &url(0), 1)[0];
    scene.worker().await;
    let minutes = [1.0, 2.0, 4.0, 7.5, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0];
    for (n, minutes) in minutes.into_iter().enumerate() {
        scene
            .wait("an attempt", |scene| {
                scene.hooks.told_of(id).len() == n + 1 && !scene.hooks.is_leased()
            })
            .await;
        let told = scene.hooks.told_of(id).pop().unwrap();
        assert_eq!(told.outcome, Outcome::Retry, "attempt {n}");
        assert_eq!(told.result.code, 403);
        assert!(told.result.error.contains("403"), "{}", told.result.error);
        let delay = (told.next_attempt - scene.clock.unix_millis()) as f64 / 60_000.0;
        assert!((minutes..=minutes * 1.02).contains(&delay), "{delay} is {minutes}");
        // Not a millisecond sooner.
        let at = |millis: i64| UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap());
        scene.hand.set(at(told.next_attempt - 1));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(scene.hooks.told_of(id).len(), n + 1);
        scene.hand.set(at(told.next_attempt));
    }
    scene.wait("the end", |scene| scene.hooks.is_empty()).await;
    let told = scene.hooks.told_of(id);
    assert_eq!((told.len(), told[11].outcome), (12, Outcome::Failed));
    let attempts: Vec<String> = receivers
        .posts()
        .iter()
        .map(|p| p.field("x-mox-webhook-attempt").unwrap().to_owned())
        .collect();
    assert_eq!(attempts, (1..=12).map(|n| n.to_string()).collect::<Vec<_>>());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_answered_but_200_is_a_failure_in_bounded_time() {
    let table = [
        (Answer::Status("204 No Content", ""), 204, "204"),
        (Answer::Status("500 Oops", "broken"), 500, "500"),
        (Answer::Redirect("http://192.0.2.9/"), 307, "307"),
        (Answer::Hang, 0, "60 seconds"),
        (Answer::EndlessHeader, 0, "posting"),
        (Answer::Close, 0, "posting"),
        (Answer::Babble, 0, "posting"),
    ];
    for (answer, code, error) in table {
        let (mut scene, receivers) = scene(1, false);
        receivers.set(&ip(0), answer.clone());
        receivers.set("192.0.2.9", Answer::Status("200 OK", ""));
        let id = scene.hooks.queue("a0", &url(0), 1)[0];
        let begun = tokio::time::Instant::now();
        scene.worker().await;
        scene
            .wait("an attempt", |scene| !scene.hooks.told_of(id).is_empty())
            .await;
        assert!(begun.elapsed() < Duration::from_secs(62), "{answer:?}");
        let told = scene.hooks.told_of(id).pop().unwrap();
        assert_eq!((told.outcome, told.result.code), (Outcome::Retry, code), "{answer:?}");
        assert!(told.result.error.contains(error), "{answer:?}: {}", told.result.error);
        assert_eq!(receivers.posts().len(), 1, "not followed");
        scene.end().await;
    }
    // Nobody there, and no URL.
    let (mut scene, _) = scene(1, false);
    let id = scene.hooks.queue("a0", &url(0), 1)[0];
    scene.worker().await;
    scene
        .wait("an attempt", |scene| !scene.hooks.told_of(id).is_empty())
        .await;
    let told = scene.hooks.told_of(id).pop().unwrap();
    assert!(
        told.result.error.contains("connecting to 192.0.2.1:8080"),
        "{}",
        told.result.error
    );
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_has_to_say_is_kept_short() {
    for answer in [Answer::Endless, Answer::Slow] {
        let (mut scene, receivers) = scene(1, false);
        receivers.set(&ip(0), answer.clone());
        let id = scene.hooks.queue("a0", &url(0), 1)[0];
        let begun = tokio::time::Instant::now();
        scene.worker().await;
        scene
            .wait("an attempt", |scene| !scene.hooks.told_of(id).is_empty())
            .await;
        let told = scene.hooks.told_of(id).pop().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(62));
        assert_eq!(told.outcome, Outcome::Delivered, "{answer:?} said 200");
        assert!(told.result.response.len() <= 512);
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn receivers_that_hang_do_not_keep_others_waiting() {
    let (mut scene, receivers) = scene(60, false);
    for n in 0..59 {
        let answer = [Answer::Hang, Answer::Slow, Answer::Endless, Answer::EndlessHeader][n % 4].clone();
        receivers.set(&ip(n), answer);
        scene.hooks.queue(&format!("a{n}"), &url(n), 40);
    }
    receivers.set(&ip(59), Answer::Status("200 OK", ""));
    let begun = tokio::time::Instant::now();
    let_time_pass(&scene);
    scene.worker().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let good = scene.hooks.queue("a59", &url(59), 50);
    scene.bus.publish(&Event::HookDue);
    let told = |scene: &Scene| scene.hooks.told().iter().filter(|t| good.contains(&t.id)).count();
    scene.wait("the good one", |scene| told(scene) == 50).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_receiver_is_not_overrun() {
    let (mut scene, receivers) = scene(100, true);
    receivers.set(&ip(0), Answer::Hang);
    for n in 0..100 {
        scene.hooks.queue(&format!("a{n}"), &url(0), 5);
    }
    let_time_pass(&scene);
    scene.worker().await;
    scene.wait("attempts", |scene| scene.hooks.told().len() > 20).await;
    assert!(receivers.most_open() <= 20, "{}", receivers.most_open());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_account_says_where_webhooks_go() {
    let (mut scene, receivers) = scene(1, false);
    receivers.set(&ip(0), Answer::Status("200 OK", ""));
    // Queued for an older URL, and for an account that is gone: both long ago.
    let old = scene.hooks.queue("a0", "http://192.0.2.77/", 1)[0];
    let gone = scene.hooks.queue("a7", &url(0), 1)[0];
    scene.hand.advance(Duration::from_secs(3600));
    // Just now: the settings are about to arrive.
    let new = scene.hooks.queue("a0", "http://192.0.2.78/", 1)[0];
    scene.worker().await;
    scene.wait("two of them", |scene| scene.hooks.told().len() == 2).await;
    assert_eq!(scene.hooks.told_of(old)[0].result.url, url(0));
    let told = &scene.hooks.told_of(gone)[0];
    assert_eq!(told.outcome, Outcome::Failed);
    assert!(told.result.error.contains("outgoing_webhook"), "{}", told.result.error);
    assert!(scene.hooks.told_of(new).is_empty());
    for _ in 0..70 {
        scene.hand.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    scene.wait("the new one", |scene| scene.hooks.is_empty()).await;
    assert_eq!(scene.hooks.told_of(new)[0].result.url, url(0), "they did not arrive");
    scene.end().await;
}
