//! `mox-bench crowd`: thousands of connections idle, and each is told of the one message that its account gets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Imap, Lines};
use mox_integration_tests::{Mox, PASSWORD, Shape};

use crate::table::{Row, Table};

/// Accounts that share the connections.
const ACCOUNTS: usize = 100;

/// Opens so many connections, delivers one message to each account, and gives the table.
pub(crate) fn measure(connections: usize, step: &dyn Fn(&str)) -> Result<Table> {
    step("starting");
    let mut mox = Mox::start(Shape::Single)?;
    let accounts = ACCOUNTS.min(connections);
    let sessions = connections.div_ceil(accounts);
    for n in 0..accounts {
        step(&format!("making accounts: {n}"));
        mox.command(&["config", "account", "add", &format!("crowd{n}"), &address(n)])?;
        mox.command_with_input(&["setaccountpassword", &format!("crowd{n}")], &format!("{PASSWORD}\n"))?;
    }
    let before = mox.process("mox")?.memory()?;
    let begin = Instant::now();
    let mut idle: Vec<Lines> = Vec::new();
    for n in 0..accounts {
        step(&format!("connecting: {}", idle.len()));
        for _ in 0..sessions {
            let mut imap = Imap::login(mox.imap(), &address(n), PASSWORD)?;
            imap.command("SELECT INBOX")?;
            imap.lines.send("i IDLE\r\n")?;
            while !imap.lines.line()?.starts_with('+') {}
            idle.push(imap.lines);
        }
    }
    let connecting = begin.elapsed();
    // What is made for a while gives its memory back.
    std::thread::sleep(Duration::from_secs(2));
    let after = mox.process("mox")?.memory()?;
    step("delivering");
    let begin = Instant::now();
    let mut smtp = mox.session()?;
    smtp.command("EHLO bench.example", 250)?;
    for n in 0..accounts {
        smtp.message(
            "bench@sender.example",
            &address(n),
            &format!("Subject: to all {n}\r\nMessage-ID: <{n}@bench.example>\r\n\r\nHello.\r\n"),
        )?;
    }
    let delivering = begin.elapsed();
    for (n, lines) in idle.iter_mut().enumerate() {
        lines.set_timeout(Duration::from_secs(30))?;
        loop {
            let line = lines.line().with_context(|| format!("connection {n} was not told"))?;
            if line == "* 1 EXISTS" {
                break;
            }
            ensure!(!line.starts_with("* BYE"), "connection {n} was ended: {line}");
        }
    }
    let told = begin.elapsed();
    let count = idle.len();
    Ok(Table {
        title: format!("{count} idle connections, {accounts} accounts"),
        others: "",
        rows: vec![
            Row::rate("connections/s", count as f64 / connecting.as_secs_f64()),
            Row::figure(
                "memory of one, KiB",
                after.saturating_sub(before) as f64 / 1024.0 / count as f64,
                1,
            )
            .under(24.0),
            Row::seconds("delivering to all accounts, s", delivering),
            Row::seconds("until all connections are told, s", told),
        ],
    })
}

fn address(n: usize) -> String {
    format!("crowd{n}@localhost")
}
