//! `mox-bench growth`: what a mailbox costs when it has a million messages.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, Shape, USER};

use crate::load::{Who, median};
use crate::table::{Row, Table};

const SIZE: usize = 1024;
/// Connections that fill the mailbox.
const FILLING: usize = 64;
/// Messages appended, or changed, in one measurement, one after the other.
const CHANGES: usize = 400;
/// The mailbox that is filled, and the one that stays small.
const FULL: &str = "Full";
const SMALL: &str = "Small";

/// Fills a mailbox with so many messages, and gives the table.
pub(crate) fn measure(messages: usize, rounds: usize, step: &dyn Fn(&str)) -> Result<Table> {
    step("starting");
    let mut mox = Mox::start(Shape::Single)?;
    let who = Who {
        imap: mox.imap(),
        user: USER,
    };
    let mut imap = mox.login()?;
    for mailbox in [FULL, SMALL] {
        imap.command(&format!("CREATE {mailbox}"))?;
    }
    step("filling the mailbox");
    let begin = Instant::now();
    who.append(FULL, FILLING, messages, SIZE)?;
    let filling = begin.elapsed();
    let full = mox.process("mox")?.memory()?;
    step("starting again");
    mox.restart()?;
    let mut imap = mox.login()?;
    let (cold, exists) = select(&mut imap, FULL)?;
    ensure!(exists == messages, "{exists} messages are there of {messages}");
    let warm = (0..9)
        .map(|_| Ok(millis(select(&mut imap, FULL)?.0)))
        .collect::<Result<Vec<_>>>()?;
    let (mut append, mut change) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    who.append(SMALL, 1, CHANGES, SIZE)?;
    for _ in 0..rounds.max(1) {
        for (n, mailbox) in [SMALL, FULL].into_iter().enumerate() {
            step(&format!("changing {mailbox}"));
            rustix::fs::sync();
            append[n].push(who.append(mailbox, 1, CHANGES, SIZE)?);
            rustix::fs::sync();
            change[n].push(flag(&mut imap, mailbox)?);
        }
    }
    step("listing flags");
    who.fetch(FULL, "flags", 3, "msgs_per_s")?;
    let used = mox.process("mox")?.memory()?;
    let [append_small, append_full] = append.map(median);
    let [change_small, change_full] = change.map(median);
    Ok(Table {
        title: format!("{messages} messages of 1 KiB in one mailbox"),
        others: "small",
        rows: vec![
            Row::rate("filling, messages/s", messages as f64 / filling.as_secs_f64()),
            Row::figure("SELECT after start, ms", millis(cold), 1),
            Row::figure("SELECT, ms", median(warm), 1).under(50.0),
            Row::rate("APPEND, messages/s", append_full).beside(Some(append_small), 0.85),
            Row::rate("STORE, messages/s", change_full).beside(Some(change_small), 0.85),
            Row::figure("resident memory when filled, MiB", mib(full), 0).under(400.0),
            Row::figure("resident memory when used, MiB", mib(used), 0).under(400.0),
        ],
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn select(imap: &mut Imap, mailbox: &str) -> Result<(Duration, usize)> {
    let begin = Instant::now();
    let answer = imap.command(&format!("SELECT {mailbox}"))?;
    let took = begin.elapsed();
    let exists = answer
        .iter()
        .find_map(|r| r.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
    imap.command("UNSELECT")?;
    Ok((took, exists.context("no EXISTS")?))
}

/// Changes of flags a second, each of one message and synced before the next, spread over the mailbox.
fn flag(imap: &mut Imap, mailbox: &str) -> Result<f64> {
    let exists = imap.examine(mailbox)?;
    imap.command(&format!("SELECT {mailbox}"))?;
    let begin = Instant::now();
    for n in 0..CHANGES {
        let number = 1 + n * exists / CHANGES;
        let sign = if n % 2 == 0 { '+' } else { '-' };
        imap.command(&format!("STORE {number} {sign}FLAGS (\\Flagged)"))?;
        let back = if n % 2 == 0 { '-' } else { '+' };
        imap.command(&format!("STORE {number} {back}FLAGS (\\Flagged)"))?;
    }
    let rate = 2.0 * CHANGES as f64 / begin.elapsed().as_secs_f64();
    imap.command("UNSELECT")?;
    Ok(rate)
}
