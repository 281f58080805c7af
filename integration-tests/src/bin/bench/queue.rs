//! `mox-bench queue`: messages that wait in the queue go to a host that takes everything, beside Postfix with the same
//! host; and what a queue of very many entries costs.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mox_integration_tests::{Messages, Mox, Options, Shape, Sink, USER, free_ip, wait};

use crate::load::median;
use crate::postfix::{Postfix, SENDER};
use crate::table::{Row, Table};

/// Of a message, in bytes.
const SIZE: usize = 4096;
/// Connections that submit.
const CONNECTIONS: usize = 8;
/// Recipients of a message of those that fill the long queue, and their domains.
const RECIPIENTS: usize = 100;
const DOMAINS: usize = 1000;
/// Everything is to be delivered by then.
const DEADLINE: Duration = Duration::from_secs(1800);
/// A page of the long queue, in milliseconds.
const PAGE_MILLIS: f64 = 50.0;
/// How often each page is asked for.
const REPEATS: usize = 9;

/// A system that delivers to a sink.
fn prepared(sink: &Sink) -> Result<Mox> {
    let mut mox = Mox::prepare(Shape::Single, &Options::default())?;
    mox.deliver_to(sink.address())?;
    mox.start_all()?;
    mox.command(&["queue", "holdrules", "add"])?;
    Ok(mox)
}

fn wait_for(sink: &Sink, count: usize) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while sink.count() < count {
        ensure!(Instant::now() < end, "{} of {count} messages arrived", sink.count());
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Messages delivered a second: they are submitted, `from` whom, to a host that holds them, and then let go.
fn rate(
    sink: &Sink,
    count: usize,
    (address, login, from): (SocketAddr, bool, &str),
    let_go: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let messages = Messages {
        address,
        login,
        from,
        count,
        recipients: 1,
        size: SIZE,
        connections: CONNECTIONS,
    };
    messages.submit(|n| format!("u{n}-x@d{}.example", n % 10))?;
    ensure!(sink.count() == 0, "messages were not held");
    rustix::fs::sync();
    let begin = Instant::now();
    let_go()?;
    wait_for(sink, count)?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Ours, with nothing left in the queue.
fn ours(count: usize) -> Result<f64> {
    let sink = Sink::start(free_ip(), false)?;
    let mox = prepared(&sink)?;
    let rate = rate(&sink, count, (mox.submission(), true, USER), || {
        mox.command(&["queue", "unhold"]).map(drop)
    })?;
    wait::until("an empty queue", DEADLINE, || {
        Ok((mox.command(&["queue", "list", "-n", "1"])?.lines().count() == 1).then_some(()))
    })?;
    ensure!(sink.count() == count, "{} messages arrived of {count}", sink.count());
    Ok(rate)
}

/// The same of Postfix.
fn theirs(count: usize) -> Result<f64> {
    let sink = Sink::start(free_ip(), false)?;
    let postfix = Postfix::start_relay(sink.address())?;
    rate(&sink, count, (postfix.address(), false, SENDER), || postfix.release())
}

/// Delivers so many messages, beside Postfix unless that is not wanted.
pub(crate) fn deliver(count: usize, rounds: usize, postfix: bool, step: &dyn Fn(&str)) -> Result<Table> {
    let (mut of_postfix, mut of_mox) = (Vec::new(), Vec::new());
    for round in 1..=rounds.max(1) {
        if postfix {
            step(&format!("Postfix delivers, round {round}"));
            of_postfix.push(theirs(count)?);
        }
        step(&format!("mox delivers, round {round}"));
        of_mox.push(ours(count)?);
    }
    let theirs = postfix.then(|| median(of_postfix));
    Ok(Table {
        title: format!("{count} messages of 4 KiB in the queue"),
        others: "Postfix",
        rows: vec![Row::rate("delivered/s to a host on loopback", median(of_mox)).beside(theirs, 1.0)],
    })
}

/// Milliseconds that a command takes, with starting it, at the median.
fn millis(mox: &Mox, args: &[&str], lines: usize) -> Result<f64> {
    let mut all = Vec::new();
    for _ in 0..REPEATS {
        let begin = Instant::now();
        let printed = mox.command(args)?;
        all.push(begin.elapsed().as_secs_f64() * 1000.0);
        let found = printed.lines().count();
        ensure!(found == lines, "mox {args:?} printed {found} lines:\n{printed}");
    }
    Ok(median(all))
}

/// A queue of so many entries.
pub(crate) fn long(count: usize, step: &dyn Fn(&str)) -> Result<Table> {
    let sink = Sink::start(free_ip(), false)?;
    let mut mox = prepared(&sink)?;
    step(&format!("filling the queue with {count} entries"));
    let messages = Messages {
        address: mox.submission(),
        login: true,
        from: USER,
        count: count.div_ceil(RECIPIENTS),
        recipients: RECIPIENTS,
        size: SIZE,
        connections: CONNECTIONS,
    };
    let begin = Instant::now();
    messages.submit(|n| format!("u{}-x@d{}.example", n / DOMAINS, n % DOMAINS))?;
    let filled = count as f64 / begin.elapsed().as_secs_f64();
    let mib = |mox: &mut Mox| Ok::<f64, anyhow::Error>(mox.process("mox")?.memory()? as f64 / f64::from(1 << 20));
    let mut peak = mib(&mut mox)?;

    step("listing");
    let mut rows = vec![Row::rate("entries submitted/s", filled)];
    let idle = millis(&mox, &["queue", "holdrules", "list"], 2)?;
    rows.push(Row::figure("a command that does next to nothing, ms", idle, 1));
    let page = |what: &str, args: &[&str], found: usize| -> Result<Row> {
        let all = [&["queue", "list", "-n", "100"], args].concat();
        Ok(Row::figure(what, millis(&mox, &all, found + 1)?, 1).under(PAGE_MILLIS))
    };
    let last = count - 1;
    let one = format!("u{}-x@d{}.example", last / DOMAINS, last % DOMAINS);
    rows.push(page("list a page, ms", &[], 100)?);
    rows.push(page(
        "the same, ascending by submission",
        &["-sort", "queued", "-asc"],
        100,
    )?);
    rows.push(page("of an account", &["-account", "mox"], 100)?);
    rows.push(page("to a domain", &["-to", "@d7.example"], 100.min(count / DOMAINS))?);
    rows.push(page("to an address", &["-to", &one], 1)?);
    rows.push(page(
        "from an address, on hold",
        &["-from", USER, "-hold", "true"],
        100,
    )?);
    rows.push(page("by times, none matches", &["-submitted", "<-1h"], 0)?);
    rows.push(page("by times of the next attempt", &["-nextattempt", "<1h"], 100)?);
    rows.push(page("not on hold, none matches", &["-hold", "false"], 0)?);
    rows.push(page("by transport, none matches", &["-transport", "other"], 0)?);
    peak = peak.max(mib(&mut mox)?);

    step("changing all");
    mox.command(&["queue", "holdrules", "remove", "1"])?;
    let begin = Instant::now();
    mox.command(&["queue", "schedule", "24h"])?;
    mox.command(&["queue", "unhold"])?;
    let changed = 2.0 * count as f64 / begin.elapsed().as_secs_f64();
    rows.push(Row::rate("entries changed/s", changed));
    peak = peak.max(mib(&mut mox)?);

    step("delivering beside them");
    let mut through = Vec::new();
    for n in 0..REPEATS {
        let before = sink.count();
        let one = Messages {
            count: 1,
            recipients: 1,
            connections: 1,
            ..messages
        };
        one.submit(|_| format!("new{n}-x@d7.example"))?;
        let begin = Instant::now();
        wait_for(&sink, before + 1)?;
        through.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let what = "from 250 to a new message to its delivery: claimed among all, ms";
    rows.push(Row::figure(what, median(through), 1).under(PAGE_MILLIS));
    // All become due: claims of pages, each among what is left, while the rest changes.
    let before = sink.count();
    let some = (count / 20).div_ceil(RECIPIENTS);
    let begin = Instant::now();
    let taken = std::thread::scope(|scope| {
        // With many entries it is given up before all are due, which does not matter here.
        scope.spawn(|| mox.try_command(&["queue", "schedule", "-now", "0"], ""));
        wait_for(&sink, before + some).map(|()| begin.elapsed())
    })?;
    rows.push(Row::seconds(
        "until a twentieth is delivered while all become due, s",
        taken,
    ));
    peak = peak.max(mib(&mut mox)?);
    rows.push(Row::figure("resident memory at most, MiB", peak, 1).under(300.0));
    Ok(Table {
        title: format!("{count} entries in the queue"),
        others: "",
        rows,
    })
}
