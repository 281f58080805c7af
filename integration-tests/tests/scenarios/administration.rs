//! The `mox` command administers a running system.

use anyhow::{Result, ensure};
use mox_integration_tests::client::{Imap, output, swaks};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, binary, run, wait};

in_both_shapes!(
    accounts_domains_and_addresses_come_and_go,
    passwords_are_set,
    log_levels_change,
    the_queue_is_listed,
    options_have_two_spellings
);

fn accounts_domains_and_addresses_come_and_go(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    mox.command(&["config", "domain", "add", "example.test", "mox"])?;
    mox.command(&["config", "account", "add", "other", "other@example.test"])?;
    mox.command(&["config", "address", "add", "second@example.test", "other"])?;
    mox.command_with_input(&["setaccountpassword", "other"], "other password\n")?;
    mox.command(&["config", "test"])?;
    let domains = std::fs::read_to_string(mox.config_dir().join("domains.toml"))?;
    ensure!(domains.contains("second@example.test"), "{domains}");

    let login = || Imap::login(mox.imap(), "other@example.test", "other password");
    let arrives = |to: &str, subject: &str| -> Result<()> {
        let header = format!("Subject: {subject}");
        swaks(&[
            "--server",
            &mox.smtp().to_string(),
            "--to",
            to,
            "--from",
            "a@example.org",
            "--header",
            &header,
        ])?;
        let mut imap = login()?;
        wait::until("the message of another account", wait::DEADLINE, || {
            Ok((imap.examine("INBOX")? > 0 && imap.subjects(1)?.iter().any(|(_, s)| s == subject)).then_some(()))
        })
    };
    // The services are told of the change, in their own time.
    wait::until("the new account's login", wait::DEADLINE, || login().map(Some))?;
    arrives("other@example.test", "first address")?;
    arrives("second@example.test", "second address")?;

    // Without its address, it is one that localserve does not know.
    mox.command(&["config", "address", "rm", "second@example.test"])?;
    swaks(&[
        "--server",
        &mox.smtp().to_string(),
        "--to",
        "second@example.test",
        "--header",
        "Subject: removed",
    ])?;
    mox.wait_for_subject("INBOX", "removed")?;

    for (args, why) in [
        (
            &["config", "account", "add", "other", "again@example.test"][..],
            "other",
        ),
        (
            &["config", "address", "add", "x@not-there.test", "mox"],
            "not-there.test",
        ),
        (&["config", "account", "rm", "nobody"], "nobody"),
        (&["config", "domain", "rm", "not-there.test"], "not-there.test"),
    ] {
        let done = mox.try_command(args, "")?;
        ensure!(
            !done.status.success() && output(&done).contains(why),
            "{args:?}: {}",
            output(&done)
        );
    }
    mox.command(&["config", "account", "rm", "other"])?;
    wait::until("the removed account's login to fail", wait::DEADLINE, || {
        Ok(login().is_err().then_some(()))
    })?;
    mox.command(&["config", "domain", "rm", "example.test"])?;
    mox.command(&["config", "test"])?;
    Ok(())
}

fn passwords_are_set(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    mox.command_with_input(&["setaccountpassword", "mox"], "a new password\n")?;
    Imap::login(mox.imap(), USER, "a new password")?;
    ensure!(
        Imap::login(mox.imap(), USER, PASSWORD).is_err(),
        "the old password still works"
    );
    let done = mox.try_command(&["setaccountpassword", "nobody"], "some password\n")?;
    ensure!(
        !done.status.success() && output(&done).contains("nobody"),
        "{}",
        output(&done)
    );
    mox.command_with_input(&["setadminpassword"], "admin password\n")?;
    let hash = std::fs::read_to_string(mox.config_dir().join("adminpasswd"))?;
    ensure!(!hash.contains("admin password") && hash.len() > 20, "{hash}");
    Ok(())
}

fn log_levels_change(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let before = mox.command(&["loglevels"])?;
    ensure!(
        before.contains("info") || before.contains("debug") || before.contains("trace"),
        "{before}"
    );
    mox.command(&["loglevels", "error"])?;
    mox.command(&["loglevels", "trace", "smtp-in"])?;
    let after = mox.command(&["loglevels"])?;
    ensure!(after.contains("error") && after.contains("smtp-in"), "{after}");
    // Protocol transcripts are in the log now.
    let name = if shape == Shape::Single { "mox" } else { "smtp-in" };
    wait::until("a transcript in the log", wait::DEADLINE, || {
        mox.session()?.command("NOOP", 250)?;
        Ok(mox.process(name)?.log().contains("NOOP").then_some(()))
    })?;
    mox.command(&["loglevels", "", "smtp-in"])?;
    let cleared = mox.command(&["loglevels"])?;
    ensure!(!cleared.contains("smtp-in"), "{cleared}");
    let done = mox.try_command(&["loglevels", "loud"], "")?;
    ensure!(
        !done.status.success() && output(&done).contains("loud"),
        "{}",
        output(&done)
    );
    Ok(())
}

fn the_queue_is_listed(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    // The queue delivers to itself, which refuses this for now: it stays in the queue.
    let login = ["--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD];
    let server = mox.submission().to_string();
    swaks(
        &[
            &["--server", &server, "--from", USER, "--to", "later-temperror@localhost"],
            &login[..],
        ]
        .concat(),
    )?;
    let listed = wait::until("an attempt in the queue's list", wait::DEADLINE, || {
        let list = mox.command(&["queue", "list"])?;
        ensure!(list.contains("later-temperror@localhost"), "{list}");
        // After the attempt, its error is shown.
        Ok(list.contains("4.").then_some(list))
    })?;
    ensure!(listed.contains(USER) || listed.contains("mox"), "{listed}");
    let none = mox.command(&["queue", "list", "-to", "nobody@localhost"])?;
    ensure!(!none.contains("later-temperror"), "{none}");
    Ok(())
}

fn options_have_two_spellings(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    for args in [
        ["queue", "list", "-account", "mox"],
        ["queue", "list", "--account", "mox"],
    ] {
        mox.command(&args)?;
    }
    let mox_binary = binary("mox")?.display().to_string();
    let config = mox.config_file().display().to_string();
    for option in ["-config", "--config"] {
        let done = run(&mox_binary, &[option, &config, "config", "test"], "")?;
        ensure!(done.status.success(), "{}", output(&done));
    }
    let help = run(&mox_binary, &["help", "queue", "list"], "")?;
    ensure!(output(&help).contains("usage"), "{}", output(&help));
    let version = run(&mox_binary, &["version"], "")?;
    ensure!(
        version.status.success() && !version.stdout.is_empty(),
        "{}",
        output(&version)
    );
    let unknown = run(&mox_binary, &["no-such-command"], "")?;
    ensure!(!unknown.status.success(), "{}", output(&unknown));
    Ok(())
}
