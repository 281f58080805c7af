//! An administrator steers the queue from the command line.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::output;
use mox_integration_tests::{Messages, Mox, Shape, Sink, USER, wait};
use serde_json::Value;

in_both_shapes!(messages_are_held_steered_and_given_up);

/// The lines of a list, each a JSON object.
fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("in {printed:?}")))
        .collect()
}

fn submit(mox: &Mox, to: &[&str]) -> Result<()> {
    let messages = Messages {
        address: mox.submission(),
        login: true,
        from: USER,
        count: to.len(),
        recipients: 1,
        size: 500,
        connections: 1,
    };
    messages.submit(|n| to[n].to_owned())
}

fn recipients(listed: &[Value]) -> Vec<&str> {
    let mut all: Vec<&str> = listed.iter().filter_map(|e| e["recipient"].as_str()).collect();
    all.sort_unstable();
    all
}

fn messages_are_held_steered_and_given_up(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &mox_integration_tests::Options::default())?;
    let sink = Sink::start(mox.ip(), true)?;
    mox.deliver_to(sink.address())?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?.replace(
        "[accounts.mox]\n",
        "[accounts.mox]\nkeep_retired_message_period = \"1h\"\n",
    );
    std::fs::write(&domains, text)?;
    mox.start_all()?;
    if shape == Shape::Pieces {
        mox.command_with_input(
            &["setaccountpassword", "mox"],
            &format!("{}\n", mox_integration_tests::PASSWORD),
        )?;
    }

    // Two of the domains are held by rules.
    ensure!(
        mox.command(&["queue", "holdrules", "add", "-recipientdom", "One.example"])?
            .contains("rule 1 added")
    );
    mox.command(&[
        "queue",
        "holdrules",
        "add",
        "-account",
        "mox",
        "-senderdom",
        "localhost",
        "-recipientdom",
        "two.example",
    ])?;
    ensure!(
        !mox.try_command(&["queue", "holdrules", "add", "-account", "nobody"], "")?
            .status
            .success()
    );
    let rules = json(&mox, &["queue", "holdrules", "list"])?;
    ensure!(
        rules.len() == 2 && rules[0]["recipient_domain"] == "one.example",
        "{rules:?}"
    );
    submit(
        &mox,
        &[
            "a@one.example",
            "b@one.example",
            "c@two.example",
            "d@three.example",
            "e@two.example",
            "f@one.example",
        ],
    )?;
    wait::until("the message that is not held", wait::DEADLINE, || {
        Ok((sink.count() == 1).then_some(()))
    })?;
    wait::until("its retirement", wait::DEADLINE, || {
        Ok((json(&mox, &["queue", "list"])?.len() == 5).then_some(()))
    })?;

    let held = json(
        &mox,
        &[
            "queue",
            "list",
            "-hold",
            "true",
            "-to",
            "@one.example",
            "-sort",
            "queued",
            "-asc",
        ],
    )?;
    ensure!(
        recipients(&held) == ["a@one.example", "b@one.example", "f@one.example"],
        "{held:?}"
    );
    ensure!(json(&mox, &["queue", "list", "-n", "2"])?.len() == 2);
    ensure!(json(&mox, &["queue", "list", "-submitted", "<-1h"])?.is_empty());
    let plain = mox.command(&["queue", "list"])?;
    ensure!(
        plain.lines().count() == 6 && plain.lines().all(|l| l.split('\t').count() == 12),
        "{plain}"
    );
    let first = held[0]["id"].to_string();
    let dumped = mox.command(&["queue", "dump", &first])?;
    ensure!(
        dumped.contains("Subject: n0-x\r\n") && dumped.starts_with("Received: "),
        "{dumped}"
    );

    // One is off hold, but for later; then at once.
    mox.command(&["queue", "schedule", "-ids", &first, "-now", "1h"])?;
    ensure!(
        mox.command(&["queue", "unhold", "-ids", &first])?
            .contains("1 message taken off hold")
    );
    ensure!(json(&mox, &["queue", "list", "-nextattempt", ">30m"])?.len() == 1);
    ensure!(sink.count() == 1);
    let unknown = mox.try_command(&["queue", "transport", "-ids", &first, "none"], "")?;
    let text = output(&unknown);
    ensure!(
        !unknown.status.success() && text.contains("there is no transport \"none\" in mox.toml: it has self"),
        "{text}"
    );
    mox.command(&["queue", "transport", "-ids", &first, "self"])?;
    mox.command(&["queue", "requiretls", "-ids", &first, "no"])?;
    let listed = json(&mox, &["queue", "list", "-transport", "self"])?;
    ensure!(listed.len() == 1 && listed[0]["requiretls"] == false, "{listed:?}");
    mox.command(&["queue", "schedule", "-ids", &first, "-1h"])?;
    wait::until("the message off hold", wait::DEADLINE, || {
        Ok((sink.count() == 2).then_some(()))
    })?;

    // Given up with and without a word.
    ensure!(
        mox.command(&["queue", "fail", "-to", "@two.example"])?
            .contains("2 messages failed")
    );
    mox.wait_for_subject("INBOX", "Mail could not be delivered: n2-x")?;
    mox.wait_for_subject("INBOX", "Mail could not be delivered: n4-x")?;
    let dropped = json(&mox, &["queue", "drop", "-from", "@localhost"])?;
    ensure!(dropped == [serde_json::json!({"changed": 2})], "{dropped:?}");
    ensure!(json(&mox, &["queue", "list"])?.is_empty());

    // What left is known still.
    let retired = wait::until("all to be retired", wait::DEADLINE, || {
        let all = json(&mox, &["queue", "retired", "list"])?;
        Ok((all.len() == 6).then_some(all))
    })?;
    let of = |outcome: &str| retired.iter().filter(|r| r["outcome"] == outcome).count();
    ensure!(
        (of("delivered"), of("canceled"), of("dropped")) == (2, 2, 2),
        "{retired:?}"
    );
    ensure!(json(&mox, &["queue", "retired", "list", "-result", "success"])?.len() == 2);
    ensure!(
        json(
            &mox,
            &[
                "queue",
                "retired",
                "list",
                "-to",
                "c@two.example",
                "-lastactivity",
                ">-1h"
            ]
        )?
        .len()
            == 1
    );
    let printed: Value = serde_json::from_str(&mox.command(&["queue", "retired", "print", &first])?)?;
    ensure!(
        printed["success"] == true && printed["results"][0]["success"] == true,
        "{printed}"
    );

    // Nothing goes to suppressed addresses.
    mox.command(&["queue", "holdrules", "remove", "1"])?;
    mox.command(&["queue", "suppress", "add", "mox", "some.body@one.example"])?;
    let found = json(&mox, &["queue", "suppress", "lookup", "somebody+x@one.example"])?;
    ensure!(
        found.len() == 1 && found[0]["base_address"] == "somebody@one.example",
        "{found:?}"
    );
    let none = mox.try_command(
        &["queue", "suppress", "lookup", "-account", "mox", "other@one.example"],
        "",
    )?;
    ensure!(none.status.code() == Some(1), "{none:?}");
    submit(&mox, &["somebody@one.example"])?;
    wait::until("the suppressed message to fail", wait::DEADLINE, || {
        let all = json(&mox, &["queue", "retired", "list", "-to", "somebody@one.example"])?;
        Ok(all.first().is_some_and(|r| r["outcome"] == "suppressed").then_some(()))
    })?;
    mox.wait_for_subject("INBOX", "Mail could not be delivered: n0-x")?;
    mox.command(&["queue", "suppress", "remove", "mox", "somebody@one.example"])?;
    ensure!(json(&mox, &["queue", "suppress", "list"])?.is_empty());
    submit(&mox, &["somebody@one.example"])?;
    wait::until("the message that is no longer suppressed", wait::DEADLINE, || {
        Ok((sink.count() == 3).then_some(()))
    })
}
