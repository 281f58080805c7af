//! Processes are killed at random moments under load. What was acknowledged is there exactly once; what was not may be
//! there, once, if it was on its way at a kill: at most one message of each connection.
//!
//! `MOX_KILL_ROUNDS` sets the number of rounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::{Smtp, base64};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, wait};

in_both_shapes_alone!(nothing_acknowledged_is_lost_or_doubled);

const ROUNDS: usize = 20;
/// Connections that deliver, as other servers do.
const DELIVERING: usize = 8;
/// Connections that submit to the queue, which delivers back.
const SUBMITTING: usize = 2;
/// Acknowledged in each round before the kill, so that it strikes under load.
const WARM_UP: usize = 40;

/// What one connection knows of its messages, by their subjects.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    /// On the way when the connection broke, or refused for now because the outcome was not known.
    uncertain: Vec<String>,
    /// Refused for good, which nothing here should be.
    rejected: Vec<String>,
}

/// A reply, and whether it answers the end of a message.
struct Answer {
    code: u16,
    to_message: bool,
}

struct Load {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    delivered: Vec<Mutex<Sent>>,
    submitted: Vec<Mutex<Sent>>,
}

impl Load {
    fn new() -> Self {
        let new = |count| (0..count).map(|_| Mutex::default()).collect();
        Self {
            stop: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            delivered: new(DELIVERING),
            submitted: new(SUBMITTING),
        }
    }

    fn subjects(sent: &[Mutex<Sent>], which: impl Fn(&Sent) -> &Vec<String>) -> BTreeSet<String> {
        sent.iter()
            .flat_map(|s| which(&s.lock().expect("no thread panics with it")).clone())
            .collect()
    }

    /// Sends one message after the other until told to stop, over as many connections as it takes.
    fn run(&self, worker: usize, address: SocketAddr) {
        let submits = worker >= DELIVERING;
        let sent = if submits {
            &self.submitted[worker - DELIVERING]
        } else {
            &self.delivered[worker]
        };
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut smtp) = connect(address, submits) else {
                // The process is being restarted.
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            while !self.stop.load(Ordering::Relaxed) {
                number += 1;
                let subject = format!("w{worker}-{number}");
                let outcome = self.send(&mut smtp, &subject, submits, number);
                let mut sent = sent.lock().expect("no thread panics with it");
                match outcome {
                    Ok(Answer { code: 250, .. }) => {
                        sent.acknowledged.push(subject);
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Answer { code: 500.., .. }) => sent.rejected.push(subject),
                    Ok(Answer { to_message: true, .. }) => sent.uncertain.push(subject),
                    // Refused before it was sent: it can't be there.
                    Ok(_) => {}
                    Err(_) => {
                        sent.uncertain.push(subject);
                        break;
                    }
                }
            }
        }
    }

    /// Gives the reply that decides.
    fn send(&self, smtp: &mut Smtp, subject: &str, submits: bool, number: usize) -> Result<Answer> {
        // The recipient is what the queue's list shows. It must not end in a number, which localserve takes for a reply.
        let queued = format!("{subject}-x@elsewhere.example");
        let (from, to) = if submits {
            (USER, queued.as_str())
        } else {
            ("a@example.org", "mox@localhost")
        };
        for command in [
            format!("MAIL FROM:<{from}>"),
            format!("RCPT TO:<{to}>"),
            "DATA".to_owned(),
        ] {
            smtp.lines.send(format!("{command}\r\n"))?;
            let code = smtp.reply()?.code;
            if code >= 400 {
                smtp.command("RSET", 250)?;
                return Ok(Answer {
                    code,
                    to_message: false,
                });
            }
        }
        // Most are small; some are over what is kept in the commit, some over what is kept in memory.
        let lines = match number % 50 {
            49 => 20_000,
            24 => 5_000,
            _ => 50,
        };
        let text = "some words that fill a line of the message up to here\r\n".repeat(lines);
        smtp.lines
            .send(format!("From: <{from}>\r\nSubject: {subject}\r\n\r\n{text}.\r\n"))?;
        let code = smtp.reply()?.code;
        Ok(Answer { code, to_message: true })
    }
}

fn connect(address: SocketAddr, submits: bool) -> Result<Smtp> {
    let mut smtp = Smtp::connect(address)?;
    if submits {
        smtp.command(&format!("AUTH PLAIN {}", base64(&format!("\0{USER}\0{PASSWORD}"))), 235)?;
    }
    Ok(smtp)
}

/// Everything that is in the inbox: how often each subject.
fn inbox(mox: &Mox) -> Result<BTreeMap<String, usize>> {
    let mut imap = mox.login()?;
    let mut found = BTreeMap::new();
    if imap.examine("INBOX")? > 0 {
        for (uid, subject) in imap.subjects(1)? {
            if !subject.starts_with('w') {
                // A notification that the queue gave a message up: nothing here is to be refused for good.
                let text = imap.command(&format!("UID FETCH {uid} BODY.PEEK[TEXT]"))?.join("\n");
                bail!("{subject:?} arrived:\n{text}");
            }
            *found.entry(subject).or_default() += 1;
        }
    }
    Ok(found)
}

/// Compares what is there with what must and may be, after so many kills.
fn check(found: &BTreeMap<String, usize>, load: &Load, kills: usize) -> Result<()> {
    let acknowledged = Load::subjects(&load.delivered, |s| &s.acknowledged);
    let uncertain = Load::subjects(&load.delivered, |s| &s.uncertain);
    let submitted = Load::subjects(&load.submitted, |s| &s.acknowledged);
    let maybe_submitted = Load::subjects(&load.submitted, |s| &s.uncertain);
    let lost: Vec<_> = acknowledged.iter().filter(|s| !found.contains_key(*s)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged messages are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    for (subject, count) in found {
        // The queue delivers at least once: a kill between its delivery and the note of it doubles a message.
        if submitted.contains(subject) || maybe_submitted.contains(subject) {
            continue;
        }
        ensure!(*count == 1, "{subject} is there {count} times");
        if !acknowledged.contains(subject) && !uncertain.contains(subject) {
            bail!("{subject} is there, and was neither acknowledged nor on its way");
        }
    }
    for sent in load.delivered.iter().chain(&load.submitted) {
        let sent = sent.lock().expect("no thread panics with it");
        ensure!(sent.rejected.is_empty(), "refused for good: {:?}", sent.rejected);
        let kept = sent.uncertain.iter().filter(|s| found.contains_key(*s)).count();
        ensure!(
            kept <= kills,
            "one connection has {kept} unacknowledged messages after {kills} kills"
        );
    }
    Ok(())
}

fn nothing_acknowledged_is_lost_or_doubled(shape: Shape) -> Result<()> {
    let rounds = match std::env::var("MOX_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().context("MOX_KILL_ROUNDS must be a number")?,
        Err(_) => ROUNDS,
    };
    let mut mox = Mox::start(shape)?;
    let load = Load::new();
    let (smtp, submission) = (mox.smtp(), mox.submission());
    // The store every other time, and between that each other process in turn.
    let others: Vec<_> = mox.names().into_iter().filter(|name| *name != "store").collect();
    let victim = |round: usize| match shape {
        Shape::Pieces if round.is_multiple_of(2) => "store",
        Shape::Pieces => others[(round / 2) % others.len()],
        Shape::Single => "mox",
    };
    let mut killed: HashMap<&str, usize> = HashMap::new();
    std::thread::scope(|threads| -> Result<()> {
        for worker in 0..DELIVERING + SUBMITTING {
            let address = if worker < DELIVERING { smtp } else { submission };
            let load = &load;
            threads.spawn(move || load.run(worker, address));
        }
        // Without this, a failure would wait for the threads forever.
        let outcome = (|| -> Result<()> {
            for round in 0..rounds {
                let name = victim(round);
                let before = load.acknowledged.load(Ordering::Relaxed);
                wait::until("messages to be acknowledged", wait::DEADLINE, || {
                    Ok((load.acknowledged.load(Ordering::Relaxed) >= before + WARM_UP).then_some(()))
                })
                .with_context(|| format!("in round {round}\n{}", mox.log_tails()))?;
                // The random moment.
                std::thread::sleep(Duration::from_millis(rand::random::<u64>() % 700));
                mox.kill(name)?;
                mox.start_one(name)?;
                mox.wait_until_ready()
                    .with_context(|| format!("round {round}: after {name} was killed"))?;
                *killed.entry(name).or_default() += 1;
            }
            Ok(())
        })();
        load.stop.store(true, Ordering::Relaxed);
        outcome
    })?;

    // What was submitted came back, or waits in the queue for its next attempt. In this order: it may come back now.
    let queued = mox.command(&["queue", "list"])?;
    let found = inbox(&mox)?;
    check(&found, &load, rounds).with_context(|| mox.log_tails())?;
    let submitted = Load::subjects(&load.submitted, |s| &s.acknowledged);
    let lost: Vec<_> = submitted
        .iter()
        .filter(|s| !found.contains_key(*s) && !queued.contains(&format!("{s}-x@")))
        .collect();
    ensure!(
        lost.is_empty(),
        "{} of {} submitted messages are lost: {lost:?}",
        lost.len(),
        submitted.len()
    );
    let back = submitted.iter().filter(|s| found.contains_key(*s)).count();
    ensure!(back > 0, "nothing that was submitted came back");

    // And all of it survives everything being killed at once.
    for name in mox.names() {
        mox.kill(name)?;
    }
    mox.start_all()?;
    check(&inbox(&mox)?, &load, rounds + 1).context("after all was killed at rest")?;
    let total = load.acknowledged.load(Ordering::Relaxed);
    println!(
        "{total} acknowledged, {back} of {} submitted are back, killed: {killed:?}",
        submitted.len()
    );
    Ok(())
}
