//! IMAP: mox, in one process and as processes of their own, beside Dovecot, on mailboxes with the same messages.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, wait};

use crate::dovecot::{self, Dovecot};
use crate::load::{Who, median};
use crate::table::{Row, Table};

/// Messages in the mailbox.
const MESSAGES: usize = 6000;
/// Bytes of each.
const SIZE: usize = 4096;
/// Connections that append at once, each waiting for its answers.
const APPENDING: usize = 4;
/// Messages that they append in one measurement.
const APPENDED: usize = 2000;
/// What is looked for: a word that many messages have, and that subjects have too.
const WORD: &str = "invoice";
/// Idle connections.
const IDLE: usize = 1000;
/// Connections that select in one measurement.
const SELECTS: usize = 25;
/// Times that each command is given in one measurement.
const REPEATS: usize = 9;

/// What is measured, how much of Dovecot is wanted, and whether less is better.
#[derive(Clone, Copy)]
struct What {
    name: &'static str,
    kind: Kind,
    share: f64,
    decimals: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    /// `mailbench fetch --what`, and which figure counts.
    Fetch(&'static str, &'static str),
    Append,
    Search(&'static str),
    Select,
}

const fn what(name: &'static str, kind: Kind, share: f64, decimals: usize) -> What {
    What {
        name,
        kind,
        share,
        decimals,
    }
}

const WHAT: [What; 7] = [
    what("UID FLAGS, messages/s", Kind::Fetch("flags", "msgs_per_s"), 1.0, 0),
    what(
        "ENVELOPE BODYSTRUCTURE, messages/s",
        Kind::Fetch("envelope", "msgs_per_s"),
        1.2,
        0,
    ),
    what("BODY.PEEK[], MB/s", Kind::Fetch("body", "MB_per_s"), 1.0, 0),
    what("APPEND on 4 connections, messages/s", Kind::Append, 1.0, 0),
    what("SEARCH TEXT, searches/s", Kind::Search("TEXT"), 30.0, 1),
    what("SEARCH SUBJECT, searches/s", Kind::Search("SUBJECT"), 5.0, 1),
    what("SELECT, per second", Kind::Select, 1.0, 0),
];

/// A server, and whose mailbox.
struct Server<'a> {
    address: SocketAddr,
    user: &'a str,
}

impl Server<'_> {
    fn login(&self) -> Result<Imap> {
        Imap::login(self.address, self.user, PASSWORD)
    }

    fn who(&self) -> Who<'_> {
        Who {
            imap: self.address,
            user: self.user,
        }
    }

    /// Makes the mailbox, over one connection, so that all have the same message at the same place.
    fn fill(&self) -> Result<()> {
        self.who().append("INBOX", 1, MESSAGES, SIZE)?;
        self.login()?.command("CREATE Appended")?;
        Ok(())
    }

    fn measure(&self, what: &What) -> Result<f64> {
        match what.kind {
            Kind::Fetch(items, figure) => self.who().fetch("INBOX", items, REPEATS, figure),
            Kind::Append => self.who().append("Appended", APPENDING, APPENDED, SIZE),
            Kind::Search(key) => {
                let items = format!("search:{key} {WORD}");
                Ok(1e3 / self.who().fetch("INBOX", &items, REPEATS, "median_ms")?)
            }
            Kind::Select => Ok(1.0 / self.select()?.as_secs_f64()),
        }
    }

    /// How long SELECT takes, at the median: the first of a connection, as clients have it. What a server keeps of a
    /// mailbox that was just open is not measured.
    fn select(&self) -> Result<Duration> {
        let mut took = Vec::new();
        for _ in 0..SELECTS {
            let mut imap = self.login()?;
            let begin = Instant::now();
            imap.command("SELECT INBOX")?;
            took.push(begin.elapsed());
            imap.command("LOGOUT")?;
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }

    fn found(&self, key: &str) -> Result<Vec<String>> {
        let mut imap = self.login()?;
        imap.command("EXAMINE INBOX")?;
        let found = imap.command(&format!("UID SEARCH {key} {WORD}"))?;
        let numbers = found
            .iter()
            .find_map(|line| line.strip_prefix("* SEARCH"))
            .context("SEARCH found nothing")?;
        Ok(numbers.split_whitespace().map(str::to_owned).collect())
    }
}

/// Which figures of a row belong to whom.
struct Figures {
    single: Vec<f64>,
    pieces: Vec<f64>,
    dovecot: Vec<f64>,
}

/// Measures all, in turn, and gives the tables: beside Dovecot, and the pieces beside one process.
pub(crate) fn measure(rounds: usize, format: Option<&str>, step: &dyn Fn(&str)) -> Result<(Table, Table)> {
    step("starting");
    let mut single = Mox::start(Shape::Single)?;
    let pieces = Mox::start(Shape::Pieces)?;
    let dovecot = format.map(Dovecot::start).transpose()?;
    let ours = Server {
        address: single.imap(),
        user: USER,
    };
    let apart = Server {
        address: pieces.imap(),
        user: USER,
    };
    let theirs = dovecot.as_ref().map(|d| Server {
        address: d.imap(),
        user: dovecot::USER,
    });
    for (name, server) in [
        ("mox", Some(&ours)),
        ("mox in pieces", Some(&apart)),
        ("Dovecot", theirs.as_ref()),
    ] {
        if let Some(server) = server {
            step(&format!("filling the mailbox of {name}"));
            server
                .fill()
                .with_context(|| format!("filling the mailbox of {name}"))?;
        }
    }
    if let Some(theirs) = &theirs {
        for key in ["TEXT", "SUBJECT"] {
            ensure!(
                ours.found(key)? == theirs.found(key)?,
                "SEARCH {key} {WORD} finds other messages than Dovecot's"
            );
        }
    }
    let mut beside = Vec::new();
    let mut within = Vec::new();
    for what in &WHAT {
        let mut figures = Figures {
            single: Vec::new(),
            pieces: Vec::new(),
            dovecot: Vec::new(),
        };
        for _ in 0..rounds.max(1) {
            step(what.name);
            rustix::fs::sync();
            figures.single.push(ours.measure(what)?);
            if let Some(theirs) = &theirs {
                rustix::fs::sync();
                figures.dovecot.push(theirs.measure(what)?);
            }
            rustix::fs::sync();
            figures.pieces.push(apart.measure(what)?);
        }
        let single = median(figures.single);
        let of_dovecot = (!figures.dovecot.is_empty()).then(|| median(figures.dovecot));
        beside.push(Row::figure(what.name, single, what.decimals).beside(of_dovecot, what.share));
        within.push(Row::figure(what.name, median(figures.pieces), what.decimals).beside(Some(single), 0.5));
    }
    drop(pieces);
    step("idle connections");
    let kib = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1024.0 / IDLE as f64;
    let address = single.imap();
    let process = single.process("mox")?;
    let each = idle(&ours_at(address), || process.memory())?;
    let row = Row::figure("memory of an idle connection, KiB", kib(each.0, each.1), 1).under(24.0);
    let row = match (&dovecot, &theirs) {
        (Some(dovecot), Some(theirs)) => {
            let each = idle(theirs, || dovecot.memory())?;
            row.theirs(kib(each.0, each.1))
        }
        _ => row,
    };
    beside.push(row);
    let title = format!("IMAP, {MESSAGES} messages of 4 KiB");
    Ok((
        Table {
            title: title.clone(),
            others: "Dovecot",
            rows: beside,
        },
        Table {
            title: format!("{title}, pieces"),
            others: "one",
            rows: within,
        },
    ))
}

fn ours_at(address: SocketAddr) -> Server<'static> {
    Server { address, user: USER }
}

/// Memory before and with [`IDLE`] connections that idle in the mailbox. Some were there before, so that what is made
/// once is not counted.
fn idle(server: &Server<'_>, memory: impl Fn() -> Result<u64>) -> Result<(u64, u64)> {
    let mut held = connections(server, IDLE / 10)?;
    let before = settled(&memory)?;
    held.extend(connections(server, IDLE)?);
    let after = settled(&memory)?;
    drop(held);
    Ok((before, after))
}

/// Memory once it stays the same.
fn settled(memory: &impl Fn() -> Result<u64>) -> Result<u64> {
    let mut last = (Instant::now(), memory()?);
    wait::until("memory to stay the same", wait::DEADLINE, || {
        let now = memory()?;
        if now.abs_diff(last.1) > 256 << 10 {
            last = (Instant::now(), now);
        }
        Ok((last.0.elapsed() > Duration::from_secs(2)).then_some(now))
    })
}

/// Connections that idle in INBOX.
fn connections(server: &Server<'_>, count: usize) -> Result<Vec<Imap>> {
    (0..count)
        .map(|_| {
            let mut imap = server.login()?;
            imap.command("SELECT INBOX")?;
            imap.lines.send("i IDLE\r\n")?;
            while !imap.lines.line()?.starts_with('+') {}
            Ok(imap)
        })
        .collect()
}
