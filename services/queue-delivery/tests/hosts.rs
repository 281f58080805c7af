//! Hosts that share sessions, and hosts that misbehave, beside good ones.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use mox_proto::queue::v1::Entry;
use mox_proto::queue::v1::complete_request::Outcome;
use support::Scene;
use support::hosts::Manner;

const ZONE: &str = "
good.example   MX 10 mx.good.example
mx.good.example A 192.0.2.1
bad.example    MX 10 mx.bad.example
mx.bad.example A 192.0.2.2
";

fn commands(scene: &Scene, start: &str) -> usize {
    scene
        .hosts
        .commands
        .lock()
        .iter()
        .filter(|c| c.starts_with(start))
        .count()
}

#[tokio::test(start_paused = true)]
async fn messages_to_one_host_share_its_sessions() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.good("192.0.2.1");
    for n in 0..50 {
        scene.store.send(&[&format!("u{n}@good.example")]);
    }
    scene.worker().await;
    scene.drained().await;
    assert_eq!(scene.hosts.taken().len(), 50);
    let dialed = scene.hosts.dialed("192.0.2.1");
    assert!(dialed <= 20, "{dialed} connections for 50 messages");
    // Sessions that nobody needs any more are ended before long, and properly.
    scene
        .wait("the end of all sessions", |s| {
            commands(s, "QUIT") == s.hosts.dialed("192.0.2.1")
        })
        .await;
    let waited = tokio::time::Instant::now();
    scene.store.send(&["later@good.example"]);
    scene.tell();
    scene.drained().await;
    assert_eq!(scene.hosts.dialed("192.0.2.1"), dialed + 1);
    assert!(waited.elapsed() < Duration::from_secs(60));
    scene.end().await;
}

/// Domains that have one host.
fn hosted(count: usize) -> String {
    let mut zone = ZONE.to_owned();
    for n in 0..count {
        zone.push_str(&format!("h{n}.example MX 10 mx.good.example\n"));
    }
    zone
}

#[tokio::test(start_paused = true)]
async fn domains_of_one_host_share_its_sessions() {
    let mut scene = Scene::new(&hosted(40));
    scene.hosts.good("192.0.2.1");
    scene.worker().await;
    for n in 0..40 {
        scene.store.send(&[&format!("u@h{n}.example")]);
        scene.tell();
        scene.drained().await;
    }
    assert_eq!(scene.hosts.taken().len(), 40);
    assert_eq!(scene.hosts.dialed("192.0.2.1"), 1);
    // Those that have demands of their own for the host do not.
    let like = Entry {
        mail_from: "me@ours.example".into(),
        requiretls: 2,
        ..Entry::default()
    };
    scene.store.send_as(&like, &["u@h0.example"]);
    scene.tell();
    scene.drained().await;
    assert_eq!(scene.hosts.dialed("192.0.2.1"), 2);
    scene.end().await;
}

/// Whatever domains it takes mail for, a host has few sessions of ours; and when it is slow, others do not wait.
#[tokio::test(start_paused = true)]
async fn a_host_of_many_domains_is_not_overrun() {
    let mut scene = Scene::new(&format!("{}other.example A 192.0.2.3\n", hosted(300)));
    scene.hosts.set(
        "192.0.2.1",
        Manner {
            extensions: &["PIPELINING", "8BITMIME"],
            data_delay: Duration::from_secs(4),
            ..Manner::default()
        },
    );
    scene.hosts.good("192.0.2.3");
    for n in 0..300 {
        scene
            .store
            .send(&[&format!("u@h{n}.example"), &format!("v@h{n}.example")]);
    }
    let hand = scene.hand.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            hand.advance(Duration::from_millis(100));
        }
    });
    scene.worker().await;
    scene.wait("sessions", |s| s.hosts.most_open("192.0.2.1") >= 20).await;
    let before = tokio::time::Instant::now();
    let id = scene.store.send(&["x@other.example"])[0];
    scene.tell();
    scene
        .wait("the other message", |s| !s.store.told_of(id).is_empty())
        .await;
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    scene.drained().await;
    assert_eq!(scene.hosts.most_open("192.0.2.1"), 20);
    assert_eq!(scene.hosts.taken().len(), 301);
    // 300 messages of 4 seconds each, 20 at a time, are a minute.
    assert!(before.elapsed() < Duration::from_secs(100), "{:?}", before.elapsed());
    let failed = scene.store.told().into_iter().find(|t| t.outcome != Outcome::Delivered);
    assert!(failed.is_none(), "waiting is no attempt: {failed:?}");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_are_not_shared_by_messages_of_other_requirements() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.good("192.0.2.1");
    scene.store.send(&["a@good.example"]);
    scene.worker().await;
    scene.drained().await;
    let like = Entry {
        mail_from: "me@ours.example".into(),
        requiretls: 2,
        ..Entry::default()
    };
    scene.store.send_as(&like, &["b@good.example"]);
    scene.tell();
    scene.drained().await;
    assert_eq!(scene.hosts.dialed("192.0.2.1"), 2);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_host_closed_meanwhile_is_replaced() {
    let mut scene = Scene::new(ZONE);
    // Closes after its first message, without a word.
    scene.hosts.good("192.0.2.1");
    scene.store.send(&["a@good.example"]);
    scene.worker().await;
    scene.drained().await;
    scene.hosts.close_all();
    let id = scene.store.send(&["b@good.example"])[0];
    scene.tell();
    scene.drained().await;
    let told = scene.store.told_of(id);
    assert_eq!((told.len(), told[0].outcome), (1, Outcome::Delivered));
    assert_eq!(told[0].result.dialed, ["192.0.2.1:25"]);
    assert_eq!(scene.hosts.taken().len(), 2);
    scene.end().await;
}

/// However a host misbehaves, messages to others arrive at once, its own are tried again later, and little of what it
/// says is listened to.
#[tokio::test(start_paused = true)]
async fn no_misbehaviour_delays_others() {
    let extensions: &[&str] = &["PIPELINING", "8BITMIME"];
    let plain: &[&str] = &["8BITMIME"];
    let base = |extensions| Manner {
        extensions,
        ..Manner::default()
    };
    let mut manners = vec![
        Manner {
            hang: true,
            ..base(plain)
        },
        Manner {
            slow: true,
            ..base(plain)
        },
        Manner {
            data_delay: Duration::from_secs(4000),
            ..base(plain)
        },
        Manner {
            drop_at_end: true,
            ..base(plain)
        },
    ];
    for start in ["", "EHLO", "MAIL", "RCPT", "DATA"] {
        for extensions in [plain, extensions] {
            manners.push(Manner {
                drop_at: Some(start),
                ..base(extensions)
            });
        }
    }
    for start in ["EHLO", "MAIL", "RCPT", "DATA"] {
        for text in [
            "250-and so on\r\n",
            "250 without an end of the line and without an end of it all",
            "no reply\r\n",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            manners.push(Manner {
                flood: Some((start, text)),
                ..base(plain)
            });
        }
    }
    for manner in manners {
        let mut scene = Scene::new(ZONE);
        scene.hosts.set("192.0.2.2", manner.clone());
        scene.hosts.good("192.0.2.1");
        let mut bad = Vec::new();
        for n in 0..60 {
            bad.extend(scene.store.send(&[&format!("u{n}@bad.example")]));
        }
        scene.worker().await;
        scene
            .wait("the bad host to be tried", |s| s.hosts.dialed("192.0.2.2") > 0)
            .await;
        let before = tokio::time::Instant::now();
        let good: Vec<u64> = (0..20)
            .flat_map(|n| scene.store.send(&[&format!("u{n}@good.example")]))
            .collect();
        scene.tell();
        scene
            .wait("what goes to the good host", |s| {
                good.iter().all(|id| !s.store.told_of(*id).is_empty())
            })
            .await;
        let took = before.elapsed();
        assert!(took < Duration::from_secs(2), "{manner:?}: others took {took:?}");
        // A byte a second is slow, but gets there.
        scene
            .wait("an outcome for the bad host", |s| {
                !s.store.told().iter().all(|t| good.contains(&t.id))
            })
            .await;
        let told = scene.store.told();
        let first = told.iter().find(|t| bad.contains(&t.id)).unwrap();
        let expected = if manner.slow {
            Outcome::Delivered
        } else {
            Outcome::Retry
        };
        assert_eq!(first.outcome, expected, "{manner:?}: {}", first.result.error);
        let flooded = scene.hosts.flooded.load(Ordering::Relaxed);
        let sessions = scene.hosts.dialed("192.0.2.2").max(1);
        assert!(flooded / sessions < 2 << 20, "{manner:?}: listened to {flooded} octets");
        scene.end().await;
    }
}

/// More hosts that hang than anything: what can't get on goes back to the queue, and there is room for others.
#[tokio::test(start_paused = true)]
async fn a_hundred_hosts_that_hang_leave_room() {
    let mut zone = ZONE.to_owned();
    for n in 0..100 {
        zone.push_str(&format!(
            "d{n}.example MX 10 mx.d{n}.example\nmx.d{n}.example A 198.51.100.{n}\n"
        ));
    }
    let mut scene = Scene::new(&zone);
    scene.hosts.good("192.0.2.1");
    for n in 0..100 {
        let hang = Manner {
            hang: true,
            ..Manner::default()
        };
        scene.hosts.set(&format!("198.51.100.{n}"), hang);
        for m in 0..60 {
            scene.store.send(&[&format!("u{m}@d{n}.example")]);
        }
    }
    scene.worker().await;
    scene
        .wait("sessions with many of them", |s| {
            (0..100)
                .filter(|n| s.hosts.dialed(&format!("198.51.100.{n}")) > 0)
                .count()
                > 20
        })
        .await;
    let before = tokio::time::Instant::now();
    let id = scene.store.send(&["x@good.example"])[0];
    scene.tell();
    scene
        .wait("the other message", |s| !s.store.told_of(id).is_empty())
        .await;
    let took = before.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_suppressed_fails_without_an_attempt() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.good("192.0.2.1");
    let like = Entry {
        mail_from: "me@ours.example".into(),
        suppressed: true,
        ..Entry::default()
    };
    let id = scene.store.send_as(&like, &["x@good.example"])[0];
    scene.worker().await;
    scene.drained().await;
    let told = scene.store.told_of(id);
    assert_eq!(told[0].outcome, Outcome::Failed);
    assert!(
        told[0].dsn.contains("Status: 5.7.1") && told[0].dsn.contains("suppression list"),
        "{}",
        told[0].dsn
    );
    assert_eq!(scene.hosts.dialed("192.0.2.1"), 0);
    scene.end().await;
}
