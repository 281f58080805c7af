//! What delivers, and what keeps the queue, is killed or stopped at random moments. Every message arrives; one arrives
//! twice only if its end was on its way when what delivered it was killed or stopped.
//!
//! `MOX_QUEUE_MESSAGES` and `MOX_KILL_ROUNDS` set how much.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Messages, Mox, Options, PASSWORD, Process, Shape, Sink, Taken, USER, binary, wait};
use rustix::process::Signal;

in_both_shapes_alone!(nothing_is_lost_when_processes_are_killed);

const MESSAGES: usize = 2000;
const ROUNDS: usize = 4;
/// Between the end of a message and the note of it in the store, on a busy machine.
const WINDOW: Duration = Duration::from_secs(2);
/// Messages that can be on their way to the sink at once: one in each session; and as many that were answered, of which the
/// store is being told.
const ON_THEIR_WAY: usize = 2 * 20;
/// Leases of what was killed end, and more.
const DEADLINE: Duration = Duration::from_secs(300);

fn number(name: &str, usual: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} must be a number")),
        Err(_) => Ok(usual),
    }
}

/// A system with so many messages on hold, that go to a sink.
fn prepared(shape: Shape, count: usize) -> Result<(Mox, Sink)> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let sink = Sink::start(mox.ip(), true)?;
    mox.deliver_to(sink.address())?;
    mox.start_all()?;
    if shape == Shape::Pieces {
        mox.command_with_input(&["setaccountpassword", "mox"], &format!("{PASSWORD}\n"))?;
    }
    mox.command(&["queue", "holdrules", "add"])?;
    let messages = Messages {
        address: mox.submission(),
        login: true,
        from: USER,
        count,
        recipients: 1,
        size: 2000,
        connections: 8,
    };
    messages.submit(|n| format!("u{n}-x@d{}.example", n % 7))?;
    ensure!(sink.count() == 0);
    Ok((mox, sink))
}

/// When each message was taken.
fn times(taken: Vec<Taken>) -> HashMap<String, Vec<Instant>> {
    let mut times: HashMap<String, Vec<Instant>> = HashMap::new();
    for taken in taken {
        times.entry(taken.subject).or_default().push(taken.at);
    }
    times
}

fn wait_for_all(mox: &Mox, sink: &Sink, count: usize) -> Result<HashMap<String, Vec<Instant>>> {
    wait::until("all messages", DEADLINE, || {
        let there = times(sink.taken()).len();
        ensure!(there == count, "{there} of {count} arrived");
        Ok(Some(()))
    })
    .with_context(|| mox.log_tails())?;
    wait::until("an empty queue", DEADLINE, || {
        let listed = mox.command(&["queue", "list", "-n", "3"])?;
        ensure!(listed.lines().count() == 1, "{listed}");
        Ok(Some(()))
    })?;
    Ok(times(sink.taken()))
}

/// Answers how many came twice; all of them must have been on their way at one of these moments.
fn check_doubles(times: &HashMap<String, Vec<Instant>>, moments: &[Instant]) -> Result<usize> {
    let mut doubles = 0;
    for (subject, all) in times.iter().filter(|(_, all)| all.len() > 1) {
        for at in &all[..all.len() - 1] {
            let on_its_way = moments.iter().any(|moment| {
                let apart = moment
                    .checked_duration_since(*at)
                    .or(at.checked_duration_since(*moment));
                apart.is_some_and(|apart| apart < WINDOW)
            });
            ensure!(on_its_way, "{subject} came {} times, and not around a kill", all.len());
            doubles += 1;
        }
    }
    ensure!(
        doubles <= moments.len() * ON_THEIR_WAY,
        "{doubles} messages came twice, more than were on their way at {} moments",
        moments.len()
    );
    Ok(doubles)
}

fn nothing_is_lost_when_processes_are_killed(shape: Shape) -> Result<()> {
    let count = number("MOX_QUEUE_MESSAGES", MESSAGES)?;
    let rounds = number("MOX_KILL_ROUNDS", ROUNDS)?;
    let (mut mox, sink) = prepared(shape, count)?;
    sink.set_delay(Duration::from_millis(30));
    mox.command(&["queue", "unhold"])?;
    let mut moments = Vec::new();
    let mut killed: HashMap<&str, usize> = HashMap::new();
    for round in 0..rounds {
        let before = sink.count();
        let moves = wait::until("messages to arrive", DEADLINE, || {
            let now = sink.count();
            Ok((now > before + 10 || times(sink.taken()).len() >= count).then_some(now))
        });
        moves.with_context(|| format!("in round {round}\n{}", mox.log_tails()))?;
        // The random moment.
        std::thread::sleep(Duration::from_millis(rand::random::<u64>() % 300));
        let name = match shape {
            Shape::Single => "mox",
            Shape::Pieces => ["queue-delivery", "store"][round % 2],
        };
        mox.kill(name)?;
        // What the store alone forgets is told to it again.
        if name != "store" {
            moments.push(Instant::now());
        }
        mox.start_one(name)?;
        mox.wait_until_ready()?;
        *killed.entry(name).or_default() += 1;
    }
    let times = wait_for_all(&mox, &sink, count)?;
    let doubles = check_doubles(&times, &moments)?;
    println!("{count} messages arrived, {doubles} of them twice, killed: {killed:?}");
    Ok(())
}

/// A second process of queue-delivery, with a configuration of its own.
fn second(mox: &Mox, log: &Path) -> Result<Process> {
    let from = mox.config_dir().join("queue-delivery.toml");
    let text = std::fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
    let mut config: toml_edit::DocumentMut = text.parse().context("reading a configuration")?;
    config["rpc"]["listen"] = toml_edit::value(format!("{}:7021", mox.ip()));
    config["rpc"]["metrics_listen"] = toml_edit::value(format!("{}:7121", mox.ip()));
    let file = mox.config_dir().join("queue-delivery-2.toml");
    std::fs::write(&file, config.to_string())?;
    let args = ["-config".to_owned(), file.to_string_lossy().into_owned()];
    Process::start("queue-delivery-2", &binary("mox-queue-delivery")?, &args, log)
}

/// Two processes share a queue; one of them is stopped for longer than its leases last, and then goes on.
#[test]
fn a_process_that_was_stopped_delivers_nothing_twice() -> Result<()> {
    let _lock = crate::lock::alone()?;
    let count = number("MOX_QUEUE_MESSAGES", MESSAGES)?;
    let (mut mox, sink) = prepared(Shape::Pieces, count)?;
    let log = mox.folder().join("queue-delivery-2.log");
    let other = second(&mox, &log)?;
    sink.set_delay(Duration::from_millis(100));
    mox.command(&["queue", "unhold"])?;
    wait::until("messages to arrive", DEADLINE, || {
        Ok((sink.count() > count / 10).then_some(()))
    })?;
    mox.process("queue-delivery")?.signal(Signal::STOP)?;
    let stopped = Instant::now();
    // The other one takes over what the stopped one holds, when its leases have ended.
    let arrived = wait::until("all messages", DEADLINE, || {
        let there = times(sink.taken()).len();
        ensure!(there == count, "{there} of {count} arrived");
        Ok(Some(()))
    });
    arrived.with_context(|| other.log_tail())?;
    let before = sink.count();
    mox.process("queue-delivery")?.signal(Signal::CONT)?;
    let continued = Instant::now();
    let all = wait_for_all(&mox, &sink, count)?;
    // It finds that it has lost its leases, and gives up what it was about to send.
    wait::until("a look at what it does", DEADLINE, || {
        Ok((continued.elapsed() > Duration::from_secs(5)).then_some(()))
    })?;
    ensure!(
        sink.count() == before,
        "{} messages came when it went on",
        sink.count() - before
    );
    let doubles = check_doubles(&all, &[stopped])?;
    println!("{count} messages arrived, {doubles} of them twice");
    Ok(())
}
