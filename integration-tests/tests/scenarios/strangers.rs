//! Mail from the internet: who is told what about whom, and a DNS that does not answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mox_integration_tests::abuse::{Abuse, Sizes};
use mox_integration_tests::client::Smtp;
use mox_integration_tests::{Dns, Mox, Shape, USER, free_ip, wait};

in_both_shapes!(
    nobody_learns_who_exists,
    senders_are_told_of_who_got_nothing,
    lists_are_kept_by_command,
    a_silent_dns_holds_up_nobody_else,
    large_messages_do_not_fill_the_memory
);

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
other.example TXT v=spf1 -all
other.example MX 10 mx.sender.example
null.example MX 0 .
bare.example TXT nothing
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
";

fn start(shape: Shape) -> Result<(Mox, Dns)> {
    let (mut mox, dns) = Mox::prepare_host(shape, free_ip(), RECORDS)?;
    mox.start_first()?;
    // So that there are addresses that nobody has.
    mox.command(&["config", "address", "rm", "@localhost"])?;
    Ok((mox, dns))
}

fn letter(from: &str, subject: &str) -> String {
    format!(
        "From: <{from}>\r\nTo: <{USER}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@{from}>\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\nhello\r\n"
    )
}

fn send(session: &mut Smtp, from: &str, subject: &str) -> Result<(u16, String)> {
    session.command("DATA", 354)?;
    session.lines.send(format!("{}.\r\n", letter(from, subject)))?;
    let reply = session.reply()?;
    Ok((reply.code, reply.lines.concat()))
}

fn nobody_learns_who_exists(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape)?;
    let mut session = mox.session()?;
    for (from, start) in [
        ("a@null.example", "5.7.27"),
        ("a@bare.example", "5.7.27"),
        ("a@gone.example", "5.7.27"),
    ] {
        let reply = session.command(&format!("MAIL FROM:<{from}>"), 550)?;
        ensure!(reply.lines.concat().starts_with(start), "{from}: {reply:?}");
    }
    // SPF does not pass, so there is one recipient, whoever the others are.
    session.command("MAIL FROM:<a@other.example>", 250)?;
    session.command("RCPT TO:<nobody@localhost>", 250)?;
    session.command(&format!("RCPT TO:<{USER}>"), 452)?;
    session.command("RCPT TO:<x@elsewhere.example>", 550)?;
    let started = Instant::now();
    let (code, text) = send(&mut session, "a@other.example", "nobody")?;
    ensure!(code == 550 && text.starts_with("5.1.1"), "{code} {text}");
    ensure!(started.elapsed() >= Duration::from_secs(5), "it came at once");
    let started = Instant::now();
    session.command("NOOP", 250)?;
    ensure!(started.elapsed() >= Duration::from_secs(1), "suspicious clients wait");
    Ok(())
}

fn senders_are_told_of_who_got_nothing(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape)?;
    // So that the notification is still there when it is looked for.
    mox.command(&["queue", "holdrules", "add", "-recipientdom", "sender.example"])?;
    let mut session = mox.session()?;
    session.command("MAIL FROM:<joe@sender.example>", 250)?;
    session.command(&format!("RCPT TO:<{USER}>"), 250)?;
    session.command("RCPT TO:<nobody@localhost> ORCPT=rfc822;no+2Bbody@localhost", 250)?;
    let (code, text) = send(&mut session, "joe@sender.example", "partly")?;
    ensure!(code == 250, "{code} {text}");
    mox.wait_for_subject("INBOX", "partly")?;
    let queue = mox.command(&["queue", "list"])?;
    ensure!(queue.contains("joe@sender.example"), "{queue}");
    ensure!(
        queue.lines().filter(|line| line.contains("joe@sender.example")).count() == 1,
        "{queue}"
    );
    Ok(())
}

fn lists_are_kept_by_command(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape)?;
    mox.command(&["config", "address", "add", "second@localhost", "mox"])?;
    mox.command(&["config", "account", "add", "friend", "friend@localhost"])?;
    mox.command(&[
        "config",
        "alias",
        "add",
        "team@localhost",
        USER,
        "second@localhost",
        "friend@localhost",
    ])?;
    let listed = mox.command(&["config", "alias", "list", "localhost"])?;
    ensure!(listed.contains("team@localhost\t3\tfalse\tfalse\tfalse"), "{listed}");
    let wrong = mox.try_command(&["config", "alias", "add", "new@localhost", "x@elsewhere.example"], "")?;
    ensure!(!wrong.status.success(), "an address elsewhere was taken");
    let to_team = |subject: &str| -> Result<(u16, String)> {
        let mut session = mox.session()?;
        session.command("MAIL FROM:<joe@sender.example>", 250)?;
        session.command("RCPT TO:<team@localhost>", 250)?;
        send(&mut session, "joe@sender.example", subject)
    };
    wait::until("the alias to be in force", wait::DEADLINE, || {
        let (code, text) = to_team("not a member")?;
        Ok((code == 550 && text.starts_with("5.7.2")).then_some(()))
    })?;
    mox.command(&["config", "alias", "update", "team@localhost", "-postpublic", "true"])?;
    wait::until("anybody to be let in", wait::DEADLINE, || {
        Ok((to_team("to all")?.0 == 250).then_some(()))
    })?;
    // Two of the members are one account, which has one copy.
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let copies = imap.subjects(1)?.iter().filter(|(_, s)| s == "to all").count();
    ensure!(copies == 1, "{copies} copies");
    mox.command(&["config", "alias", "rmaddr", "team@localhost", "second@localhost"])?;
    mox.command(&["config", "alias", "addaddr", "team@localhost", "second@localhost"])?;
    let printed = mox.command(&["config", "alias", "print", "Team@localhost"])?;
    ensure!(
        printed.contains("# postpublic true") && printed.contains("second@localhost"),
        "{printed}"
    );
    mox.command(&["config", "alias", "rm", "team@localhost"])?;
    let json = mox.command(&["config", "alias", "list", "localhost", "-json"])?;
    ensure!(!json.contains("team"), "{json}");
    Ok(())
}

fn a_silent_dns_holds_up_nobody_else(shape: Shape) -> Result<()> {
    bears(shape, "a DNS that never answers", &|abuse| abuse.silent_dns())
}

fn large_messages_do_not_fill_the_memory(shape: Shape) -> Result<()> {
    bears(shape, "large messages at once", &|abuse| abuse.large_messages())
}

/// Memory is bounded, and other mail goes through.
fn bears(shape: Shape, what: &str, abuse: &dyn Fn(&Abuse<'_>) -> Result<String>) -> Result<()> {
    let (mut mox, _dns) = start(shape)?;
    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let server = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("joe@sender.example".into(), USER.into()),
        abusive: ("joe@sender.example".into(), USER.into()),
        sizes: Sizes::short(),
    };
    let outcome = server.watched(what, abuse)?;
    println!("{outcome:?}");
    ensure!(
        outcome.slowest < Duration::from_secs(5) && outcome.memory < 300 << 20,
        "{outcome:?}"
    );
    Ok(())
}
