//! `make bench`: mox, as `mox localserve` in a release build, beside Postfix from Debian that delivers to a virtual
//! maildir, both on this machine, this disk and loopback, under the same load. Prints one table.
//!
//! The load is mailbench's (`src/bin/mailbench.rs`): 4 KiB messages to one account. mox answers 250 when a message is
//! delivered and synced; Postfix when it is queued and synced, and delivers afterwards.

mod load;
mod postfix;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use mox_integration_tests::{Mox, Options, Shape, USER};

use crate::load::{Load, median};
use crate::postfix::Postfix;
use crate::table::{Row, Table};

/// Measures mox beside Postfix, and prints one table of figures and ratios.
#[derive(Debug, Parser)]
#[command(name = "mox-bench")]
struct Arguments {
    /// How often each rate is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Messages of one measurement over one connection; over 32 it is twice as many.
    #[arg(long, default_value_t = 2000)]
    messages: usize,
    /// How many messages are in the mailbox that counts as full.
    #[arg(long, default_value_t = 20_000)]
    full: usize,
    /// Folder for the data of both, so that they use the same disk. The system's temporary folder if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only mox, for machines without Postfix.
    #[arg(long)]
    without_postfix: bool,
}

/// What was measured of mox.
struct Ours {
    memory_mib: f64,
    memory_full_mib: f64,
    one: f64,
    many: f64,
    one_full: f64,
    many_full: f64,
    notify_ms: f64,
    start_full: Duration,
    start_killed: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(dir) = &arguments.dir {
        // Everything that is temporary goes there: this process has no other threads yet, and children inherit it.
        tempfile::env::override_temp_dir(dir)
            .ok()
            .context("setting the temporary folder")?;
    }
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_length(if arguments.without_postfix { 8 } else { 11 });

    let theirs = if arguments.without_postfix {
        None
    } else {
        Some(measure_postfix(&arguments, &bar)?)
    };
    let ours = measure_mox(&arguments, &bar)?;
    bar.finish_and_clear();
    print!("{}", table(&arguments, &ours, theirs));
    Ok(())
}

fn step(bar: &ProgressBar, what: &str) {
    bar.set_message(what.to_owned());
    bar.inc(1);
}

fn measure_postfix(arguments: &Arguments, bar: &ProgressBar) -> Result<(f64, f64)> {
    step(bar, "Postfix: starting");
    let postfix = Postfix::start()?;
    let load = Load {
        smtp: postfix.address(),
        to: postfix::RECIPIENT,
    };
    let mut expected = 0;
    let mut rate = |connections: usize, count: usize| {
        median(arguments.rounds, || {
            expected += count;
            let rate = load.rate(connections, count)?;
            // What it still delivers would slow the next measurement.
            postfix.wait_for_delivered(expected)?;
            Ok(rate)
        })
    };
    step(bar, "Postfix: accepting on 1 connection");
    let one = rate(1, arguments.messages)?;
    step(bar, "Postfix: accepting on 32 connections");
    let many = rate(32, 2 * arguments.messages)?;
    Ok((one, many))
}

fn measure_mox(arguments: &Arguments, bar: &ProgressBar) -> Result<Ours> {
    let (memory_mib, one, many) = measure_empty(arguments, bar)?;
    step(bar, "mox: starting");
    let mut mox = Mox::start_with(Shape::Single, &Options::default())?;
    let load = Load {
        smtp: mox.smtp(),
        to: USER,
    };
    step(bar, "mox: filling the mailbox");
    load.rate(32, arguments.full)?;
    step(bar, "mox: accepting on 1 connection, mailbox full");
    let one_full = median(arguments.rounds, || load.rate(1, arguments.messages))?;
    step(bar, "mox: accepting on 32 connections, mailbox full");
    let many_full = median(arguments.rounds, || load.rate(32, 2 * arguments.messages))?;
    step(bar, "mox: telling an idle client");
    let notify_ms = load.notify_ms(mox.imap(), 300)?;
    step(bar, "mox: starting again");
    mox.terminate()?;
    let start_full = timed(|| mox.start_all())?;
    mox.kill("mox")?;
    let start_killed = timed(|| mox.start_all())?;
    mox.login()?.examine("INBOX")?;
    let memory_full_mib = mib(mox.process("mox")?.memory()?);
    Ok(Ours {
        memory_mib,
        memory_full_mib,
        one,
        many,
        one_full,
        many_full,
        notify_ms,
        start_full,
        start_killed,
    })
}

/// Rates in a mailbox that is empty at the start of each measurement, and memory before the first.
fn measure_empty(arguments: &Arguments, bar: &ProgressBar) -> Result<(f64, f64, f64)> {
    let mut memory = Vec::new();
    let mut empty = |connections: usize, count: usize| {
        median(arguments.rounds, || {
            let mut mox = Mox::start(Shape::Single)?;
            memory.push(mib(mox.process("mox")?.memory()?));
            Load {
                smtp: mox.smtp(),
                to: USER,
            }
            .rate(connections, count)
        })
    };
    step(bar, "mox: accepting on 1 connection, mailbox empty");
    let one = empty(1, arguments.messages)?;
    step(bar, "mox: accepting on 32 connections, mailbox empty");
    let many = empty(32, 2 * arguments.messages)?;
    memory.sort_by(f64::total_cmp);
    Ok((memory[memory.len() / 2], one, many))
}

fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    what()?;
    Ok(begin.elapsed())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn table(arguments: &Arguments, ours: &Ours, theirs: Option<(f64, f64)>) -> Table {
    let full = arguments.full;
    let seconds = |d: Duration| d.as_secs_f64();
    let mut rows = vec![
        Row::rate("accepted/s, 1 connection, empty mailbox", ours.one).beside(theirs.map(|t| t.0), 1.0),
        Row::rate("accepted/s, 32 connections, empty mailbox", ours.many).beside(theirs.map(|t| t.1), 1.0),
    ];
    rows.extend([
        Row::rate(&format!("accepted/s, 1 connection, {full} messages"), ours.one_full).share_of(ours.one, 0.9),
        Row::rate(&format!("accepted/s, 32 connections, {full} messages"), ours.many_full).share_of(ours.many, 0.9),
        Row::figure("DATA to EXISTS on idle IMAP, median, ms", ours.notify_ms, 1).under(5.0),
        Row::figure("resident memory after start, MiB", ours.memory_mib, 1).under(80.0),
        Row::figure(
            &format!("resident memory after start, {full} messages, MiB"),
            ours.memory_full_mib,
            1,
        ),
        Row::figure(&format!("start on {full} messages, s"), seconds(ours.start_full), 2).under(1.0),
        Row::figure(
            &format!("start after a kill on {full} messages, s"),
            seconds(ours.start_killed),
            2,
        )
        .under(1.0),
    ]);
    Table { rows }
}
