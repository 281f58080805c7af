//! What left the queue is kept for as long as its account says; what failed for good is not tried again.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Smtp, base64};
use mox_integration_tests::{Dns, Mox, PASSWORD, Shape, Sink, USER, wait};
use serde_json::Value;

in_both_shapes!(what_left_is_kept_for_a_time, addresses_that_are_gone_are_left_alone);

/// The lines of a list, each a JSON object.
fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn submit(mox: &Mox, user: &str, to: &str) -> Result<()> {
    let mut smtp = Smtp::connect(mox.submission())?;
    let login = base64(&format!("\0{user}\0{PASSWORD}"));
    smtp.command(&format!("AUTH PLAIN {login}"), 235)?;
    smtp.message(
        user,
        to,
        &format!("From: <{user}>\r\nSubject: to {to}\r\n\r\nhello\r\n"),
    )?;
    Ok(())
}

/// A host whose account has more settings, and what it delivers to.
fn prepare(shape: Shape, settings: &str) -> Result<(Mox, Sink, Dns)> {
    let (mox, dns) = Mox::prepare_host(shape, Ipv4Addr::LOCALHOST.into(), "localhost A 127.0.0.1\n")?;
    let sink = Sink::start(mox.ip(), true)?;
    mox.deliver_to(sink.address())?;
    let domains = mox.config_dir().join("domains.toml");
    let text =
        std::fs::read_to_string(&domains)?.replacen("[accounts.mox]\n", &format!("[accounts.mox]\n{settings}"), 1);
    std::fs::write(&domains, text)?;
    Ok((mox, sink, dns))
}

/// Seconds between two times as lists print them, both of one day or of two that follow each other.
fn seconds_between(from: &Value, to: &Value) -> Result<i64> {
    let seconds = |value: &Value| -> Result<i64> {
        let text = value.as_str().context("no time")?;
        let (_, clock) = text.trim_end_matches('Z').split_once('T').context("no time")?;
        let parts: Vec<i64> = clock.split(':').filter_map(|part| part.parse().ok()).collect();
        Ok(parts.iter().fold(0, |sum, part| sum * 60 + part))
    };
    Ok((seconds(to)? - seconds(from)?).rem_euclid(86_400))
}

fn what_left_is_kept_for_a_time(shape: Shape) -> Result<()> {
    // Nobody listens at port 9 (discard).
    let (mut mox, sink, _dns) = prepare(
        shape,
        "keep_retired_message_period = \"1.5h\"\nkeep_retired_webhook_period = \"3h\"\n\
         outgoing_webhook = { url = \"http://127.0.0.1:9/\" }\n",
    )?;
    mox.start_first()?;
    mox.command(&["config", "account", "add", "other", "other@localhost"])?;
    mox.command_with_input(&["setaccountpassword", "other"], &format!("{PASSWORD}\n"))?;
    submit(&mox, USER, "kept@x.example")?;
    wait::until("the second account to be known", wait::DEADLINE, || {
        submit(&mox, "other@localhost", "forgotten@x.example").map(Some)
    })?;
    wait::until("both to be delivered", wait::DEADLINE, || {
        Ok((sink.count() == 2 && json(&mox, &["queue", "list"])?.is_empty()).then_some(()))
    })?;
    let messages = ["queue", "retired", "list"];
    let kept = json(&mox, &messages)?;
    ensure!(kept.len() == 1 && kept[0]["recipient"] == "kept@x.example", "{kept:?}");
    let period = seconds_between(&kept[0]["last_activity"], &kept[0]["keep_until"])?;
    ensure!(period == 5400, "{kept:?}");
    let webhooks = ["queue", "webhook", "retired", "list"];
    wait::until("the webhook to be tried", wait::DEADLINE, || {
        let waiting = json(&mox, &["queue", "webhook", "list"])?;
        Ok(waiting.first().is_some_and(|hook| hook["attempts"] == 1).then_some(()))
    })?;
    mox.command(&["queue", "webhook", "cancel"])?;
    let hooks = json(&mox, &webhooks)?;
    ensure!(hooks.len() == 1 && hooks[0]["event"] == "delivered", "{hooks:?}");
    ensure!(
        seconds_between(&hooks[0]["last_activity"], &hooks[0]["keep_until"])? == 3 * 3600,
        "{hooks:?}"
    );

    // Messages go before webhooks, as their time is shorter, and neither goes before its time.
    for (ahead, kept, hooks) in [(1, 1, 1), (2, 0, 1), (4, 0, 0)] {
        mox.set_ahead(ahead);
        mox.restart()?;
        wait::until(&format!("what is left {ahead} hours later"), wait::DEADLINE, || {
            let left = (json(&mox, &messages)?.len(), json(&mox, &webhooks)?.len());
            ensure!(left == (kept, hooks), "{left:?}");
            Ok(Some(()))
        })
        .with_context(|| mox.log_tails())?;
    }
    Ok(())
}

fn addresses_that_are_gone_are_left_alone(shape: Shape) -> Result<()> {
    let (mut mox, sink, _dns) = prepare(shape, "keep_retired_message_period = \"1h\"\n")?;
    mox.start_first()?;
    let outcome = |to: &str| {
        wait::until(&format!("the message to {to} to leave"), wait::DEADLINE, || {
            let found = json(&mox, &["queue", "retired", "list", "-to", to])?;
            Ok(found.into_iter().next())
        })
        .with_context(|| mox.log_tails())
    };
    submit(&mox, USER, "gone.away+shop@x.example")?;
    let failed = outcome("gone.away+shop@x.example")?;
    ensure!(
        failed["outcome"] == "failed" && failed["results"][0]["enhanced_code"] == "5.1.1",
        "{failed}"
    );
    let listed = json(&mox, &["queue", "suppress", "list", "-account", "mox"])?;
    ensure!(
        listed.len() == 1
            && listed[0]["base_address"] == "goneaway@x.example"
            && listed[0]["address"] == "gone.away+shop@x.example"
            && listed[0]["manual"] == false
            && listed[0]["reason"]
                .as_str()
                .is_some_and(|r| r.contains("no such mailbox")),
        "{listed:?}"
    );
    // Whatever an address of that mailbox looks like; nobody is asked.
    for to in ["goneaway@x.example", "Gone.Away@x.example", "goneaway-list+x@X.example"] {
        let found = json(&mox, &["queue", "suppress", "lookup", to])?;
        ensure!(found.len() == 1, "{to}: {found:?}");
        submit(&mox, USER, to)?;
        let stopped = outcome(to)?;
        ensure!(
            stopped["outcome"] == "suppressed"
                && stopped["results"][0]["enhanced_code"] == "5.7.1"
                && stopped["results"][0]["remote_host"] == ""
                && stopped["results"][0]["dialed"] == serde_json::json!([]),
            "{to}: {stopped}"
        );
        mox.wait_for_subject("INBOX", &format!("Mail could not be delivered: to {to}"))?;
    }
    ensure!(sink.count() == 0);
    // Other mailboxes, and other accounts, are not concerned.
    for to in ["goneawa@x.example", "goneaway@y.example"] {
        let done = mox.try_command(&["queue", "suppress", "lookup", to], "")?;
        ensure!(done.status.code() == Some(1), "{to}");
    }
    mox.command(&["config", "account", "add", "other", "other@localhost"])?;
    mox.command_with_input(&["setaccountpassword", "other"], &format!("{PASSWORD}\n"))?;
    let done = mox.try_command(
        &["queue", "suppress", "lookup", "-account", "other", "goneaway@x.example"],
        "",
    )?;
    ensure!(done.status.code() == Some(1), "{done:?}");
    // Taken off the list by another of its names, it is asked about again.
    mox.command(&["queue", "suppress", "remove", "mox", "goneaway+anything@x.example"])?;
    submit(&mox, USER, "goneaway+again@x.example")?;
    let failed = outcome("goneaway+again@x.example")?;
    ensure!(
        failed["outcome"] == "failed" && failed["results"][0]["smtp_code"] == 550,
        "{failed}"
    );
    Ok(())
}
