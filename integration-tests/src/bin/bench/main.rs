//! `make bench`: mox, as `mox localserve` in a release build, beside Postfix from Debian that delivers to a virtual
//! maildir, and beside Dovecot, all on this machine, this disk and loopback, under the same load. Prints tables. What
//! takes long is measured by commands of its own: `receive`, `growth`, `push` and `crowd`.
//!
//! The load is mailbench's (`src/bin/mailbench.rs`): 4 KiB messages to one account. mox answers 250 when a message is
//! delivered and synced; Postfix when it is queued and synced, and delivers afterwards.

mod abuse;
mod crowd;
mod dovecot;
mod growth;
mod imap;
mod load;
mod postfix;
mod push;
mod queue;
mod receive;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use mox_integration_tests::{Mox, Shape, USER};

use crate::load::{Load, median};
use crate::postfix::Postfix;
use crate::table::{Row, Table};

/// Measures mox beside Postfix and Dovecot, and prints tables of figures and ratios.
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
    /// Only mox, for machines without Dovecot.
    #[arg(long)]
    without_dovecot: bool,
    /// How Dovecot keeps mail: sdbox, mdbox or maildir. sdbox is the fastest over all.
    #[arg(long, default_value = "sdbox")]
    dovecot_format: String,
    /// What to measure; receiving and reading mail, if not given.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Receiving mail, beside Postfix.
    Smtp,
    /// Reading mail, beside Dovecot.
    Imap,
    /// Receiving mail from the internet: with SPF, DKIM, DMARC and a junk filter, beside plain Postfix. Takes minutes.
    Receive {
        /// How many judged messages the account has in the end.
        #[arg(default_value_t = 100_000)]
        history: usize,
    },
    /// A mailbox of many messages. Takes minutes.
    Growth {
        /// How many.
        #[arg(default_value_t = 1_000_000)]
        count: usize,
    },
    /// mbsync pushes many messages on 8 connections. Takes minutes.
    Push {
        /// How many.
        #[arg(default_value_t = 75_000)]
        count: usize,
    },
    /// Delivering what is in the queue, beside Postfix; and a long queue, unless 0. Takes minutes.
    Queue {
        /// Messages to deliver.
        #[arg(default_value_t = 10_000)]
        count: usize,
        /// Entries of the long queue.
        #[arg(default_value_t = 1_000_000)]
        long: usize,
    },
    /// Many connections idle. Takes minutes.
    Crowd {
        /// How many.
        #[arg(default_value_t = 5000)]
        count: usize,
    },
    /// What nobody should send, while ordinary mail is timed. Takes minutes.
    Abuse {
        /// Less of everything: to see that it works.
        #[arg(long)]
        short: bool,
    },
}

/// What was measured.
#[derive(Default)]
struct Figures {
    memory_mib: f64,
    memory_full_mib: f64,
    one: Rates,
    many: Rates,
    notify_ms: f64,
    start_full: Duration,
    start_killed: Duration,
}

/// Accepted messages a second, at the median of the rounds.
#[derive(Default)]
struct Rates {
    empty: f64,
    full: f64,
    postfix: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(dir) = &arguments.dir {
        // Everything that is temporary goes there.
        tempfile::env::override_temp_dir(dir)
            .ok()
            .context("setting the temporary folder")?;
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {msg}")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let tables = tables(&arguments, &bar)?;
    bar.finish_and_clear();
    for table in tables {
        println!("{table}");
    }
    Ok(())
}

fn tables(arguments: &Arguments, bar: &ProgressBar) -> Result<Vec<Table>> {
    let at = |what: &str| step(bar, what);
    let smtp = || Ok::<_, anyhow::Error>(table(arguments, &measure(arguments, bar)?));
    let imap = || {
        let format = (!arguments.without_dovecot).then_some(arguments.dovecot_format.as_str());
        imap::measure(arguments.rounds, format, &at)
    };
    Ok(match arguments.what {
        None => {
            let smtp = smtp()?;
            let (beside, pieces) = imap()?;
            vec![smtp, beside, pieces]
        }
        Some(What::Smtp) => vec![smtp()?],
        Some(What::Imap) => imap().map(|(beside, pieces)| vec![beside, pieces])?,
        Some(What::Receive { history }) => {
            let scale = receive::Scale {
                rounds: arguments.rounds.max(1),
                messages: arguments.messages,
                history,
            };
            vec![receive::measure(&scale, !arguments.without_postfix, &at)?]
        }
        Some(What::Growth { count }) => vec![growth::measure(count, arguments.rounds, &at)?],
        Some(What::Push { count }) => vec![push::measure(count, &at)?],
        Some(What::Queue { count, long }) => {
            let mut tables = Vec::new();
            if count > 0 {
                tables.push(queue::deliver(
                    count,
                    arguments.rounds,
                    !arguments.without_postfix,
                    &at,
                )?);
            }
            if long > 0 {
                tables.push(queue::long(long, &at)?);
            }
            tables
        }
        Some(What::Crowd { count }) => vec![crowd::measure(count, &at)?],
        Some(What::Abuse { short }) => vec![abuse::measure(short, &at)?],
    })
}

fn step(bar: &ProgressBar, what: &str) {
    bar.set_message(what.to_owned());
}

fn measure(arguments: &Arguments, bar: &ProgressBar) -> Result<Figures> {
    step(bar, "starting");
    let postfix = if arguments.without_postfix {
        None
    } else {
        Some(Postfix::start()?)
    };
    let mut mox = Mox::start(Shape::Single)?;
    let mut figures = Figures {
        memory_mib: mib(mox.process("mox")?.memory()?),
        ..Figures::default()
    };
    step(bar, "filling the mailbox");
    load(&mox).rate(32, arguments.full)?;
    figures.one = rates(arguments, bar, &mox, postfix.as_ref(), 1, arguments.messages)?;
    figures.many = rates(arguments, bar, &mox, postfix.as_ref(), 32, 2 * arguments.messages)?;
    drop(postfix);
    step(bar, "telling an idle client");
    figures.notify_ms = load(&mox).notify_ms(mox.imap(), 300)?;
    step(bar, "starting again");
    mox.terminate()?;
    figures.start_full = timed(|| mox.start_all())?;
    step(bar, "starting after a kill");
    mox.kill("mox")?;
    figures.start_killed = timed(|| mox.start_all())?;
    mox.login()?.examine("INBOX")?;
    figures.memory_full_mib = mib(mox.process("mox")?.memory()?);
    Ok(figures)
}

fn load(mox: &Mox) -> Load<'static> {
    Load {
        smtp: mox.smtp(),
        to: USER,
    }
}

/// Measures all in turn, so that whatever else the machine does befalls all alike.
fn rates(
    arguments: &Arguments,
    bar: &ProgressBar,
    full: &Mox,
    postfix: Option<&Postfix>,
    connections: usize,
    count: usize,
) -> Result<Rates> {
    let (mut of_postfix, mut of_empty, mut of_full) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        if let Some(postfix) = postfix {
            step(bar, &format!("Postfix, connections: {connections}"));
            of_postfix.push(postfix.rate(connections, count)?);
        }
        step(bar, &format!("mox, connections: {connections}, mailbox empty"));
        let empty = Mox::start(Shape::Single)?;
        of_empty.push(load(&empty).rate(connections, count)?);
        drop(empty);
        step(bar, &format!("mox, connections: {connections}, mailbox full"));
        of_full.push(load(full).rate(connections, count)?);
    }
    Ok(Rates {
        empty: median(of_empty),
        full: median(of_full),
        postfix: postfix.map(|_| median(of_postfix)),
    })
}

fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    what()?;
    Ok(begin.elapsed())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn table(arguments: &Arguments, figures: &Figures) -> Table {
    let full = arguments.full;
    let (one, many) = (&figures.one, &figures.many);
    let full_rate = |connections: &str, rates: &Rates| {
        let what = format!("accepted/s, {connections}, {full} messages");
        Row::rate(&what, rates.full).share_of(rates.empty, 0.9)
    };
    let rows = vec![
        Row::rate("accepted/s, 1 connection, empty mailbox", one.empty).beside(one.postfix, 1.0),
        Row::rate("accepted/s, 32 connections, empty mailbox", many.empty).beside(many.postfix, 1.0),
        full_rate("1 connection", one),
        full_rate("32 connections", many),
        Row::figure("DATA to EXISTS on idle IMAP, median, ms", figures.notify_ms, 1).under(5.0),
        Row::figure("resident memory after start, MiB", figures.memory_mib, 1).under(80.0),
        Row::figure(
            &format!("resident memory after start, {full} messages, MiB"),
            figures.memory_full_mib,
            1,
        ),
        Row::seconds(&format!("start on {full} messages, s"), figures.start_full).under(1.0),
        Row::seconds(
            &format!("start after a kill on {full} messages, s"),
            figures.start_killed,
        )
        .under(1.0),
    ];
    Table {
        title: "4 KiB messages, one account".into(),
        others: "Postfix",
        rows,
    }
}
