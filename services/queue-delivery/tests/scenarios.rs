//! Messages on their way, with hosts of every kind.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use mox_config::{Route, Transport, TransportAuth, TransportFail, TransportSmtp};
use mox_proto::queue::v1::Entry;
use mox_proto::queue::v1::complete_request::Outcome;
use support::Scene;
use support::hosts::Manner;
use support::store::{MESSAGE, PREFIX};

const ZONE: &str = "
    one.example     MX 10 a.one.example
    one.example     MX 20 b.one.example
    a.one.example   A  192.0.2.1
    b.one.example   A  192.0.2.2
    two.example     A  192.0.2.3
    null.example    MX 0 .
    slow.example    MX 1 host.slow.example
    host.slow.example A 192.0.2.4
    lost.example    MX 1 nowhere.lost.example
    broken.example  FAIL servfail
";

fn manner(extensions: &'static [&'static str]) -> Manner {
    Manner {
        extensions,
        ..Manner::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_the_recipients_of_a_domain_in_one_transaction() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.good("192.0.2.1");
    scene.hosts.good("192.0.2.3");
    let like = Entry {
        mail_from: "me@ours.example".into(),
        dsn_ret: "HDRS".into(),
        dsn_notify: "FAILURE".into(),
        ..Entry::default()
    };
    let ids = scene
        .store
        .send_as(&like, &["x@one.example", "y@two.example", "z@one.example"]);
    scene.worker().await;
    scene.drained().await;
    let taken = scene.hosts.taken();
    assert_eq!(taken.len(), 2);
    let one = taken.iter().find(|t| t.host.to_string() == "192.0.2.1").unwrap();
    assert!(
        one.mail.starts_with("MAIL FROM:<me@ours.example>") && one.mail.contains(" RET=HDRS"),
        "{}",
        one.mail
    );
    assert_eq!(
        one.recipients,
        [
            "RCPT TO:<x@one.example> NOTIFY=FAILURE",
            "RCPT TO:<z@one.example> NOTIFY=FAILURE"
        ]
    );
    assert_eq!(one.data, format!("{PREFIX}{MESSAGE}"));
    assert_eq!(scene.hosts.dialed("192.0.2.1"), 1);
    for id in ids {
        let told = scene.store.told_of(id);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].outcome, told[0].result.smtp_code), (Outcome::Delivered, 250));
        assert!(told[0].dsn.is_empty() && told[0].result.dialed.len() == 1);
    }
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_host_is_tried_when_one_is_of_no_use() {
    for bad in [
        Manner {
            refuse: true,
            ..Manner::default()
        },
        Manner {
            hang: true,
            ..Manner::default()
        },
        Manner {
            answers: vec![("EHLO", "421 4.3.2 closing"), ("HELO", "421 4.3.2 closing")],
            ..Manner::default()
        },
        Manner {
            answers: vec![("MAIL", "421 4.3.2 closing")],
            ..Manner::default()
        },
    ] {
        let mut scene = Scene::new(ZONE);
        scene.hosts.set("192.0.2.1", bad.clone());
        scene.hosts.good("192.0.2.2");
        let id = scene.store.send(&["x@one.example"])[0];
        scene.worker().await;
        scene.drained().await;
        assert_eq!(scene.hosts.taken().len(), 1, "{bad:?}");
        let result = scene.store.told_of(id)[0].result.clone();
        assert_eq!(result.dialed, ["192.0.2.1:25", "192.0.2.2:25"]);
        assert_eq!(result.remote_host, "b.one.example");
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_delivered_fails_at_once() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set(
        "192.0.2.3",
        Manner {
            answers: vec![("RCPT", "550 5.1.1 no such user")],
            ..Manner::default()
        },
    );
    scene.fixed.transports.insert(
        "no".into(),
        Transport {
            fail: Some(TransportFail {
                smtp_code: 550,
                smtp_message: "not from here".into(),
            }),
            ..Transport::default()
        },
    );
    let refused = scene.store.send(&["x@two.example"])[0];
    let null = scene.store.send(&["x@null.example"])[0];
    let none = scene.store.send(&["x@none.example"])[0];
    let lost = scene.store.send(&["x@lost.example"])[0];
    let like = Entry {
        mail_from: "me@ours.example".into(),
        transport: "no".into(),
        ..Entry::default()
    };
    let fail = scene.store.send_as(&like, &["x@one.example"])[0];
    scene.worker().await;
    scene.drained().await;
    for (id, code, status, text) in [
        (refused, 550, "5.1.1", "no such user"),
        (null, 556, "5.1.10", "null MX"),
        (none, 0, "5.1.2", "no such name"),
        (lost, 0, "5.4.4", "no such name"),
        (fail, 550, "5.7.0", "not from here"),
    ] {
        let told = scene.store.told_of(id);
        assert_eq!((told.len(), told[0].outcome), (1, Outcome::Failed), "{text}");
        assert_eq!(
            (told[0].result.smtp_code, told[0].result.enhanced_code.as_str()),
            (code, status),
            "{text}"
        );
        assert!(told[0].result.error.contains(text), "{}", told[0].result.error);
        let dsn = &told[0].dsn;
        assert!(
            dsn.contains(&format!("Status: {status}")) && dsn.contains("Action: failed"),
            "{dsn}"
        );
        assert!(
            dsn.contains("To: <me@ours.example>") || dsn.contains("To: me@ours.example"),
            "{dsn}"
        );
        assert!(dsn.contains("Subject: hello"), "the header comes back: {dsn}");
        assert!(!dsn.contains("body"), "not all of it: {dsn}");
        // RFC 3464 §2.3.5 and §2.3.6: of another host only if one said something, and then as it said it.
        let said = "Remote-MTA: dns; two.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n";
        assert_eq!(dsn.contains(said), id == refused, "{dsn}");
        assert_eq!(dsn.contains("Remote-MTA"), id == refused, "{dsn}");
        assert_eq!(dsn.contains("Diagnostic-Code: x-mox;"), id != refused, "{dsn}");
    }
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn starttls_that_fails_is_gone_without() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set("192.0.2.3", manner(&["STARTTLS", "8BITMIME"]));
    let id = scene.store.send(&["x@two.example"])[0];
    scene.worker().await;
    scene.drained().await;
    assert_eq!(scene.store.told_of(id)[0].outcome, Outcome::Delivered);
    assert_eq!(scene.hosts.dialed("192.0.2.3"), 2);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_requiretls_nothing_goes_in_the_clear() {
    // TLS that fails may work later; hosts that nothing says are the domain's, or that have none, never do.
    for (secure, extensions, outcome) in [
        (true, &["STARTTLS", "8BITMIME"][..], Outcome::Retry),
        (true, &["8BITMIME"], Outcome::Failed),
        (false, &["STARTTLS", "8BITMIME"], Outcome::Failed),
    ] {
        let zone = if secure {
            format!("{ZONE}\n two.example STATUS secure")
        } else {
            ZONE.to_owned()
        };
        let mut scene = Scene::new(&zone);
        scene.hosts.set("192.0.2.3", manner(extensions));
        let like = Entry {
            mail_from: "me@ours.example".into(),
            requiretls: 1,
            ..Entry::default()
        };
        let id = scene.store.send_as(&like, &["x@two.example"])[0];
        scene.worker().await;
        scene.wait("an outcome", |s| !s.store.told_of(id).is_empty()).await;
        let told = scene.store.told_of(id)[0].clone();
        assert_eq!(told.outcome, outcome, "{told:?}");
        let code = if outcome == Outcome::Failed { "5.7.30" } else { "4.7.5" };
        assert_eq!(told.result.enhanced_code, code);
        assert!(scene.hosts.taken().is_empty());
        assert!(!scene.hosts.commands.lock().iter().any(|c| c.starts_with("MAIL")));
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_require_tls_goes_without() {
    let zone = format!("{ZONE}\n two.example STATUS secure\n _25._tcp.two.example TLSA 3 1 1 00");
    for (requiretls, goes) in [(0, false), (2, true)] {
        let mut scene = Scene::new(&zone);
        scene.hosts.set("192.0.2.3", manner(&["8BITMIME"]));
        let like = Entry {
            mail_from: "me@ours.example".into(),
            requiretls,
            ..Entry::default()
        };
        let id = scene.store.send_as(&like, &["x@two.example"])[0];
        scene.worker().await;
        scene.wait("an outcome", |s| !s.store.told_of(id).is_empty()).await;
        assert_eq!(scene.hosts.taken().len(), usize::from(goes));
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_recipients_go_in_several_transactions() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set(
        "192.0.2.3",
        Manner {
            extensions: &["PIPELINING"],
            recipients_max: Some(7),
            ..Manner::default()
        },
    );
    let to: Vec<String> = (0..20).map(|n| format!("u{n}@two.example")).collect();
    scene.store.send(&to.iter().map(String::as_str).collect::<Vec<_>>());
    scene.worker().await;
    scene.drained().await;
    let taken: Vec<usize> = scene.hosts.taken().iter().map(|t| t.recipients.len()).collect();
    assert_eq!(taken, [7, 7, 6]);
    assert_eq!(scene.hosts.dialed("192.0.2.3"), 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_its_own_outcome() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set(
        "192.0.2.3",
        Manner {
            answers: vec![("RCPT TO:<BAD", "550 5.1.1 no"), ("RCPT TO:<LATER", "450 4.2.1 later")],
            ..Manner::default()
        },
    );
    let ids = scene
        .store
        .send(&["good@two.example", "bad@two.example", "later@two.example"]);
    scene.worker().await;
    scene.wait("outcomes", |s| s.store.told().len() == 3).await;
    let outcomes: Vec<Outcome> = ids.iter().map(|id| scene.store.told_of(*id)[0].outcome).collect();
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Failed, Outcome::Retry]);
    assert_eq!(scene.hosts.taken()[0].recipients.len(), 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn five_days_of_failures_have_one_notice_and_an_end() {
    let mut scene = Scene::new(ZONE);
    // Nobody answers at any of the hosts.
    let id = scene.store.send(&["x@one.example"])[0];
    let broken = scene.store.send(&["x@broken.example"])[0];
    scene.worker().await;
    while !scene.store.is_empty() {
        scene
            .wait("rest", |s| {
                s.store.is_empty() || s.store.idle_until() > Some(s.clock.unix_millis())
            })
            .await;
        if let Some(due) = scene.store.idle_until() {
            scene.hand.set(UNIX_EPOCH + Duration::from_millis(due as u64));
        }
    }
    for id in [id, broken] {
        let told = scene.store.told_of(id);
        let gaps: Vec<i64> = told.windows(2).map(|two| (two[1].at - two[0].at) / 1000).collect();
        for (n, gap) in gaps.iter().enumerate() {
            let plain = (450 << n).min(16 * 3600);
            assert!(
                (plain..=plain + plain / 16).contains(gap),
                "with a little jitter: {gaps:?}"
            );
        }
        let hours = gaps.iter().sum::<i64>() / 3600;
        assert!((104..=120).contains(&hours), "{hours}");
        assert_eq!(told.len(), 14);
        let (last, before) = told.split_last().unwrap();
        assert!(before.iter().all(|t| t.outcome == Outcome::Retry));
        let notices: Vec<usize> = (0..before.len()).filter(|n| !before[*n].dsn.is_empty()).collect();
        assert_eq!(notices, [4], "after the fifth failure");
        assert!(before[4].dsn.contains("Action: delayed") && before[4].dsn.contains("Will-Retry-Until:"));
        assert_eq!(last.outcome, Outcome::Failed);
        assert!(last.dsn.contains("Action: failed") && last.dsn.contains("Status: 5."));
    }
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_who_does_not_want_to_be() {
    let mut scene = Scene::new(ZONE);
    let null = scene.store.send_as(
        &Entry {
            dsn: true,
            ..Entry::default()
        },
        &["x@none.example"],
    )[0];
    let me = Entry {
        mail_from: "me@ours.example".into(),
        ..Entry::default()
    };
    let never = Entry {
        dsn_notify: "NEVER".into(),
        ..me.clone()
    };
    let never = scene.store.send_as(&never, &["x@none.example"])[0];
    let success = Entry {
        dsn_notify: "SUCCESS".into(),
        ..me.clone()
    };
    let failed = scene.store.send_as(&success, &["x@none.example"])[0];
    let full = Entry {
        dsn_ret: "FULL".into(),
        ..me
    };
    let full = scene.store.send_as(&full, &["x@none.example"])[0];
    scene.hosts.set("192.0.2.3", manner(&["8BITMIME"]));
    let relayed = scene.store.send_as(&success, &["x@two.example"])[0];
    scene.worker().await;
    scene.drained().await;
    for id in [null, never, failed] {
        let told = scene.store.told_of(id);
        assert_eq!(told[0].outcome, Outcome::Failed);
        assert_eq!(told[0].dsn, "");
    }
    assert!(scene.store.told_of(full)[0].dsn.contains("body"));
    assert!(
        scene.store.told_of(relayed)[0].dsn.contains("Action: relayed"),
        "the host sends no notifications"
    );
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn hosts_that_hang_delay_no_others() {
    for bad in [
        Manner {
            hang: true,
            ..Manner::default()
        },
        Manner {
            slow: true,
            ..Manner::default()
        },
    ] {
        let mut scene = Scene::new(ZONE);
        scene.hosts.set("192.0.2.4", bad);
        scene.hosts.good("192.0.2.3");
        for n in 0..300 {
            scene.store.send(&[&format!("u{n}@slow.example")]);
        }
        let good: Vec<u64> = (0..50)
            .map(|n| scene.store.send(&[&format!("u{n}@two.example")])[0])
            .collect();
        let before = tokio::time::Instant::now();
        scene.worker().await;
        scene
            .wait("the others", |s| good.iter().all(|id| !s.store.told_of(*id).is_empty()))
            .await;
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
        let more = scene.store.send(&["later@two.example"])[0];
        scene.tell();
        scene.wait("another", |s| !s.store.told_of(more).is_empty()).await;
        assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
        assert!(
            scene.hosts.dialed("192.0.2.4") <= 3,
            "few sessions with a host of which nothing is known"
        );
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_workers_deliver_everything_once() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.good("192.0.2.1");
    scene.hosts.good("192.0.2.3");
    scene.worker().await;
    scene.worker().await;
    for n in 0..200 {
        let domain = if n % 3 == 0 { "one" } else { "two" };
        scene.store.send(&[&format!("u{n}@{domain}.example")]);
        if n % 20 == 0 {
            scene.tell();
            tokio::task::yield_now().await;
        }
    }
    scene.tell();
    scene.drained().await;
    let mut recipients: Vec<String> = scene.hosts.taken().into_iter().flat_map(|t| t.recipients).collect();
    assert_eq!(recipients.len(), 200);
    recipients.sort();
    recipients.dedup();
    assert_eq!(recipients.len(), 200);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_a_delivery_before_its_end() {
    let mut scene = Scene::new(ZONE);
    // Longer than it takes to learn that the lease is lost.
    scene.hosts.set(
        "192.0.2.3",
        Manner {
            data_delay: Duration::from_secs(40),
            ..Manner::default()
        },
    );
    scene.store.send(&["x@two.example"]);
    scene.worker().await;
    scene
        .wait("a session", |s| s.hosts.commands.lock().iter().any(|c| c == "DATA"))
        .await;
    scene.store.lose_leases.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(scene.hosts.taken().is_empty(), "another has the lease");
    assert!(scene.store.told().is_empty());
    scene.store.lose_leases.store(false, Ordering::SeqCst);
    scene.drained().await;
    assert_eq!(scene.hosts.taken().len(), 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_its_end_a_message_is_not_given_to_the_next_host() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set(
        "192.0.2.1",
        Manner {
            drop_at_end: true,
            ..Manner::default()
        },
    );
    scene.hosts.good("192.0.2.2");
    let id = scene.store.send(&["x@one.example"])[0];
    scene.worker().await;
    scene.wait("an outcome", |s| !s.store.told_of(id).is_empty()).await;
    assert_eq!(scene.store.told_of(id)[0].outcome, Outcome::Retry);
    assert_eq!(scene.hosts.dialed("192.0.2.2"), 0);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn routes_lead_to_transports_that_log_in() {
    let mut scene = Scene::new("relay.example A 192.0.2.9");
    scene.hosts.set(
        "192.0.2.9",
        Manner {
            extensions: &["AUTH PLAIN"],
            answers: vec![("AUTH PLAIN", "235 2.7.0 welcome")],
            ..Manner::default()
        },
    );
    let smtp = TransportSmtp {
        host: "relay.example".into(),
        port: Some(2525),
        starttls_insecure_skip_verify: false,
        no_starttls: true,
        auth: Some(TransportAuth {
            username: "user".into(),
            password: mox_config::Secret::new("secret"),
            mechanisms: vec![mox_config::Mechanism::Plain],
        }),
    };
    scene.fixed.transports.insert(
        "relay".into(),
        Transport {
            smtp: Some(smtp),
            ..Transport::default()
        },
    );
    scene.dynamic.routes = vec![Route {
        from_domain: vec!["ours.example".into()],
        to_domain: Vec::new(),
        minimum_attempts: 0,
        transport: "relay".into(),
    }];
    let ids = scene.store.send(&["x@one.example", "y@elsewhere.example"]);
    scene.worker().await;
    scene.drained().await;
    let taken = scene.hosts.taken();
    assert_eq!(
        (taken.len(), taken[0].recipients.len()),
        (1, 2),
        "one transaction for all that goes one way"
    );
    assert_eq!(scene.store.told_of(ids[0])[0].result.dialed, ["192.0.2.9:2525"]);
    assert_eq!(
        scene
            .hosts
            .commands
            .lock()
            .iter()
            .filter(|c| c.starts_with("AUTH"))
            .count(),
        1
    );
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_back_what_was_not_sent() {
    let mut scene = Scene::new(ZONE);
    scene.hosts.set(
        "192.0.2.4",
        Manner {
            hang: true,
            ..Manner::default()
        },
    );
    for n in 0..30 {
        scene.store.send(&[&format!("u{n}@slow.example")]);
    }
    scene.worker().await;
    scene.wait("sessions", |s| s.hosts.dialed("192.0.2.4") > 0).await;
    let before = tokio::time::Instant::now();
    let store = scene.end().await;
    assert!(before.elapsed() < Duration::from_secs(9), "{:?}", before.elapsed());
    assert_eq!(store.leased(), 0);
    assert!(store.told().is_empty());
}
