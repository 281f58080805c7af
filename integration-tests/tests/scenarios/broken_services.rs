//! A service dies in the middle of IMAP commands. What was acknowledged is there, once, and sessions go on or end;
//! none hangs, and none lies.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, Shape, lock, wait};

/// How often it is killed.
const DEATHS: usize = 3;
/// Commands behind each death that must succeed before the next.
const PERIOD: usize = 15;

/// What a client knows: subjects of messages that were acknowledged, and whether they were flagged.
#[derive(Default)]
struct Known {
    sure: BTreeMap<String, bool>,
    /// A change that was not answered.
    unsure: Vec<String>,
}

fn append(imap: &mut Imap, known: &mut Known, n: usize) -> Result<()> {
    let subject = format!("m{n}");
    known.unsure.push(subject.clone());
    let message = format!("Subject: {subject}\r\n\r\ntext\r\n");
    imap.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    known.unsure.pop();
    known.sure.insert(subject, false);
    Ok(())
}

fn flag(imap: &mut Imap, known: &mut Known) -> Result<()> {
    let found = imap.command("UID SEARCH RETURN (MAX) UNFLAGGED")?.join(" ");
    let Some(uid) = found.split("MAX ").nth(1).and_then(|r| r.parse::<u32>().ok()) else {
        return Ok(());
    };
    let subjects = imap.subjects(uid)?;
    let subject = subjects.first().context("no subject")?.1.clone();
    known.unsure.push(subject.clone());
    imap.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged)"))?;
    known.unsure.pop();
    known.sure.insert(subject, true);
    Ok(())
}

fn check(mox: &Mox, known: &Known) -> Result<()> {
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let mut is: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for response in imap.command("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")? {
        if let Some((_, rest)) = response.split_once("Subject: ") {
            let subject = rest.lines().next().unwrap_or_default().to_owned();
            is.entry(subject).or_default().push(response.contains("\\Flagged"));
        }
    }
    for (subject, flagged) in &known.sure {
        let found = is
            .get(subject)
            .with_context(|| format!("{subject} was acknowledged, and is gone"))?;
        ensure!(found.len() == 1, "{subject} is there {} times", found.len());
        ensure!(
            found[0] == *flagged || known.unsure.contains(subject),
            "{subject} is flagged: {}, should be {flagged}",
            found[0]
        );
    }
    for (subject, found) in &is {
        ensure!(found.len() == 1, "{subject} is there {} times", found.len());
        let is_known = known.sure.contains_key(subject) || known.unsure.contains(subject);
        ensure!(is_known, "{subject} was never sent");
    }
    Ok(())
}

/// A client that works without pause, and comes back whenever it is thrown out.
fn work(mox: &mut Mox, service: &str) -> Result<()> {
    let mut known = Known::default();
    let mut n = 0;
    for death in 0..=DEATHS {
        let mut imap = wait::until("a login after the death", wait::DEADLINE, || {
            let mut imap = mox.login()?;
            imap.command("SELECT INBOX")?;
            Ok(Some(imap))
        })?;
        for _ in 0..PERIOD {
            n += 1;
            append(&mut imap, &mut known, n)?;
            flag(&mut imap, &mut known)?;
        }
        if death == DEATHS {
            break;
        }
        // A change that is under way when the service dies: its outcome is unknown.
        n += 1;
        let subject = format!("m{n}");
        known.unsure.push(subject.clone());
        let message = format!("Subject: {subject}\r\n\r\ntext\r\n");
        imap.lines
            .send(format!("x APPEND INBOX {{{}+}}\r\n{message}\r\n", message.len()))?;
        mox.kill(service)?;
        mox.start_one(service)?;
        // Answered, or thrown out: not left waiting.
        loop {
            match imap.lines.line() {
                Ok(line) if line.starts_with("x OK") => {
                    known.unsure.pop();
                    known.sure.insert(subject, false);
                    break;
                }
                Ok(line) if line.starts_with("x ") => break,
                Ok(_) => {}
                Err(e) => {
                    ensure!(
                        !format!("{e:#}").contains("temporarily unavailable"),
                        "the session hangs: {e:#}"
                    );
                    break;
                }
            }
        }
        mox.wait_until_ready()?;
    }
    check(mox, &known)
}

#[test]
fn imap_dies() -> Result<()> {
    let _lock = lock::shared()?;
    work(&mut Mox::start(Shape::Pieces)?, "imap")
}

#[test]
fn store_dies() -> Result<()> {
    let _lock = lock::shared()?;
    work(&mut Mox::start(Shape::Pieces)?, "store")
}

/// What happens while NATS is away is told when it was polled, and at once when it is back.
#[test]
fn events_die() -> Result<()> {
    let _lock = lock::shared()?;
    let mut mox = Mox::start(Shape::Pieces)?;
    let mut waiting = mox.login()?;
    waiting.command("SELECT INBOX")?;
    waiting.lines.send("i IDLE\r\n")?;
    ensure!(waiting.lines.line()?.starts_with('+'));
    mox.kill("nats")?;
    let mut acting = mox.login()?;
    acting.command("APPEND INBOX {7+}\r\nA: b\r\n\r\n")?;
    // Within the polling interval of 30 s.
    ensure!(waiting.lines.line()? == "* 1 EXISTS");
    mox.start_one("nats")?;
    acting.command("APPEND INBOX {7+}\r\nA: b\r\n\r\n")?;
    let mut line = waiting.lines.line()?;
    while line.contains("RECENT") {
        line = waiting.lines.line()?;
    }
    ensure!(line == "* 2 EXISTS", "{line}");
    Ok(())
}
