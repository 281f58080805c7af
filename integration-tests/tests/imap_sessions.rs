//! What IMAP sessions tell each other, and what they do with clients that break the rules.
//!
//! The protocol is spoken line by line here, as no real client makes these mistakes. Run with
//! `cargo test -p mox-integration-tests --test imap_sessions`.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, lock};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// A session that believes what it is told, and nothing else.
struct Believer {
    imap: Imap,
    /// By sequence number; None where the UID was not told yet.
    uids: Vec<Option<u32>>,
    flags: HashMap<u32, BTreeSet<String>>,
}

impl Believer {
    fn new(mox: &Mox) -> Result<Self> {
        Ok(Self {
            imap: mox.login()?,
            uids: Vec::new(),
            flags: HashMap::new(),
        })
    }

    fn select(&mut self, mailbox: &str) -> Result<()> {
        self.uids.clear();
        self.flags.clear();
        self.run(&format!("SELECT {mailbox}"))
    }

    /// Runs a command that may be answered with OK or NO, and believes its responses.
    fn run(&mut self, command: &str) -> Result<()> {
        let (responses, completion) = self.imap.attempt(command)?;
        ensure!(
            !completion.starts_with("BAD"),
            "{command:?} was answered with {completion:?}"
        );
        let uses_numbers = ["FETCH", "STORE", "SEARCH"]
            .iter()
            .any(|name| command.starts_with(name));
        for response in &responses {
            self.believe(response, uses_numbers)
                .with_context(|| format!("{response:?} in {command:?}"))?;
        }
        Ok(())
    }

    fn believe(&mut self, response: &str, uses_numbers: bool) -> Result<()> {
        let mut words = response.splitn(4, ' ').skip(1);
        let (Some(number), Some(what)) = (words.next(), words.next()) else {
            return Ok(());
        };
        let Ok(number) = number.parse::<usize>() else {
            return Ok(());
        };
        match what {
            "EXISTS" => {
                ensure!(number >= self.uids.len(), "EXISTS took messages away");
                self.uids.resize(number, None);
            }
            "EXPUNGE" => {
                ensure!(!uses_numbers, "EXPUNGE while numbers are used");
                ensure!((1..=self.uids.len()).contains(&number), "EXPUNGE of what there is not");
                self.uids.remove(number - 1);
            }
            "FETCH" => {
                let known = self
                    .uids
                    .get_mut(number.wrapping_sub(1))
                    .context("FETCH of what there is not")?;
                if let Some(uid) = after(response, "UID ").and_then(|r| r.split([' ', ')']).next()?.parse().ok()) {
                    ensure!(known.is_none_or(|known| known == uid), "it was {known:?}");
                    *known = Some(uid);
                }
                let flags = after(response, "FLAGS (").and_then(|r| r.split(')').next());
                if let (Some(flags), Some(uid)) = (flags, *known) {
                    self.flags
                        .insert(uid, flags.split_whitespace().map(str::to_owned).collect());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    Some(&text[text.find(mark)? + mark.len()..])
}

/// Some change or question, by chance.
fn step(who: &mut Believer, random: &mut StdRng, appended: &mut u32) -> Result<()> {
    let count = who.uids.len();
    let some = |random: &mut StdRng| random.random_range(1..=count);
    let kind = random.random_range(0..16);
    if count == 0 || kind < 4 {
        *appended += 1;
        let flags = ["", "work", "\\Seen", "\\Draft play"]
            .choose(random)
            .copied()
            .unwrap_or_default();
        let mailbox = ["Box", "Box", "Other"].choose(random).copied().unwrap_or_default();
        let message = format!("Subject: {appended}\r\n\r\ntext of {appended}\r\n");
        return who.run(&format!(
            "APPEND {mailbox} ({flags}) {{{}+}}\r\n{message}",
            message.len()
        ));
    }
    let uid = || who.uids.iter().flatten().next_back().copied().unwrap_or(1);
    let command = match kind {
        4 => format!("FETCH {}:* (UID FLAGS)", some(random)),
        5 => "UID FETCH 1:* (FLAGS RFC822.SIZE)".to_owned(),
        6 => format!("FETCH {} (UID BODY[HEADER.FIELDS (Subject)])", some(random)),
        7 => format!("STORE {}:{} +FLAGS (\\Deleted)", some(random), some(random)),
        8 => format!("STORE {} -FLAGS (\\Seen work)", some(random)),
        9 => format!("UID STORE {} FLAGS (\\Flagged \\Answered)", uid()),
        10 => "SEARCH UNSEEN".to_owned(),
        11 => "UID SEARCH RETURN (COUNT ALL) NOT DELETED".to_owned(),
        12 => "EXPUNGE".to_owned(),
        13 => format!("COPY {} Other", some(random)),
        14 => format!("MOVE {} Other", some(random)),
        _ => "NOOP".to_owned(),
    };
    who.run(&command)
}

/// Several sessions change one mailbox in random ways. Each learns of it by responses only, at moments at which they are
/// allowed, and in the end all believe what is true.
#[test]
fn sessions_agree_in_the_end() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut all: Vec<Believer> = (0..4).map(|_| Believer::new(&mox)).collect::<Result<_>>()?;
    all[0].imap.command("CREATE Box")?;
    all[0].imap.command("CREATE Other")?;
    for who in &mut all {
        who.select("Box")?;
    }
    let mut appended = 0;
    for n in 0..600 {
        let who = random.random_range(0..all.len());
        step(&mut all[who], &mut random, &mut appended).with_context(|| format!("seed {seed}, step {n}"))?;
    }
    let mut truth = Believer::new(&mox)?;
    truth.select("Box")?;
    truth.run("UID FETCH 1:* (FLAGS)")?;
    for who in &mut all {
        who.run("NOOP")?;
        ensure!(
            who.uids.len() == truth.uids.len(),
            "seed {seed}: {:?} for {:?}",
            who.uids,
            truth.uids
        );
        for (believed, is) in who.uids.iter().zip(&truth.uids) {
            ensure!(
                believed.is_none() || believed == is,
                "seed {seed}: {:?} for {:?}",
                who.uids,
                truth.uids
            );
            let Some(flags) = believed.and_then(|uid| who.flags.get(&uid)) else {
                continue;
            };
            let is = is
                .and_then(|uid| truth.flags.get(&uid))
                .context("a message without flags")?;
            ensure!(
                flags == is,
                "seed {seed}: UID {believed:?} has {is:?}, and was believed to have {flags:?}"
            );
        }
    }
    Ok(())
}

/// What happens to a mailbox reaches sessions that wait, without their asking.
#[test]
fn idle_sessions_are_told_at_once() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let mut waiting = mox.login()?;
    waiting.command("SELECT INBOX")?;
    waiting.lines.send("x IDLE\r\n")?;
    ensure!(waiting.lines.line()?.starts_with('+'));
    let mut acting = mox.login()?;
    acting.command("SELECT INBOX")?;
    let mut expect = |command: &str, told: &str| -> Result<()> {
        acting.command(command)?;
        let begin = Instant::now();
        let line = waiting.lines.line()?;
        ensure!(line == told, "told {line:?} of {command:?}");
        // Ten times what it takes on a busy machine; not a measurement.
        ensure!(
            begin.elapsed() < Duration::from_secs(2),
            "told of {command:?} after {:?}",
            begin.elapsed()
        );
        Ok(())
    };
    expect("APPEND INBOX {7+}\r\nA: b\r\n\r\n", "* 1 EXISTS")?;
    expect("STORE 1 +FLAGS (\\Deleted)", "* 1 FETCH (UID 1 FLAGS (\\Deleted))")?;
    expect("EXPUNGE", "* 1 EXPUNGE")?;
    waiting.lines.send("done\r\n")?;
    ensure!(waiting.lines.line()?.starts_with("x OK"));
    Ok(())
}

/// Commands that were sent at once are answered one after the other.
#[test]
fn pipelined_commands_are_answered_in_order() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let mut imap = Imap::connect(mox.imap())?;
    let message = "Subject: x\r\n\r\ny\r\n";
    imap.lines.send(format!(
        "a LOGIN {USER} {PASSWORD}\r\nb CREATE P\r\nc APPEND P {{{}+}}\r\n{message}\r\nd SELECT P\r\n\
         e FETCH 1 BODY[]\r\nf IDLE\r\nDONE\r\ng STORE 1 +FLAGS \\Deleted\r\nh CLOSE\r\ni LOGOUT\r\n",
        message.len()
    ))?;
    let rest = imap.lines.rest()?;
    let tagged: Vec<&str> = rest
        .lines()
        .filter_map(|l| l.split_once(" OK").map(|(tag, _)| tag))
        .collect();
    let tags: String = tagged.into_iter().filter(|tag| *tag != "*").collect();
    ensure!(tags == "abcdefghi", "{rest}");
    ensure!(
        rest.contains(&format!("BODY[] {{{}}}\r\n{message} FLAGS (\\Seen))", message.len())),
        "{rest}"
    );
    Ok(())
}

/// Who breaks the rules is told so, and nobody else suffers.
#[test]
fn broken_rules_have_ends() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let mut imap = Imap::connect(mox.imap())?;
    // Nothing but a login before the login.
    for command in [
        "SELECT INBOX",
        "LIST \"\" *",
        "IDLE",
        "FETCH 1 FLAGS",
        "ENABLE X",
        "NAMESPACE",
    ] {
        let (_, completion) = imap.attempt(command)?;
        ensure!(completion.starts_with("BAD"), "{command}: {completion}");
    }
    // A literal that is declined is not sent.
    let (_, completion) = imap.attempt("LOGIN {1000000}")?;
    ensure!(completion.starts_with("BAD [TOOBIG]"), "{completion}");
    imap.command(&format!(
        "LOGIN {{{}+}}\r\n{USER} {{{}+}}\r\n{PASSWORD}",
        USER.len(),
        PASSWORD.len()
    ))?;

    for (command, code) in [
        ("SELECT None", "NO [NONEXISTENT]"),
        ("APPEND None {10}", "NO [TRYCREATE]"),
        ("APPEND INBOX {999999999999}", "NO [TOOBIG]"),
        ("CREATE INBOX", "NO [ALREADYEXISTS]"),
        ("DELETE INBOX", "NO [CANNOT]"),
        ("FETCH 1 FLAGS", "BAD"),
    ] {
        let (_, completion) = imap.attempt(command)?;
        ensure!(completion.starts_with(code), "{command}: {completion}");
    }
    imap.command("SELECT INBOX")?;
    for (command, code) in [
        ("FETCH 1 FLAGS", "BAD"),
        ("COPY 1:* None", "OK"),
        ("SEARCH CHARSET koi8-r TEXT x", "NO [BADCHARSET"),
        ("STORE 1 +FLAGS (\\Recent)", "BAD"),
    ] {
        let (_, completion) = imap.attempt(command)?;
        ensure!(completion.starts_with(code), "{command}: {completion}");
    }
    imap.command("EXAMINE INBOX")?;
    let (_, completion) = imap.attempt("EXPUNGE")?;
    ensure!(completion.starts_with("NO"), "{completion}");

    // A client that does not speak IMAP is not listened to for long.
    for n in 0.. {
        imap.lines.send("GET / HTTP/1.1\r\n")?;
        let Ok(line) = imap.lines.line() else { break };
        ensure!(n < 20, "still listened to: {line}");
        if line.starts_with("* BYE") {
            break;
        }
    }

    // Neither is one that sends without end.
    let mut imap = Imap::connect(mox.imap())?;
    imap.lines.send(vec![b'x'; 70_000])?;
    ensure!(imap.lines.rest()?.contains("* BYE"));
    Ok(())
}

/// Bytes that were sent behind STARTTLS in the clear are never taken for commands: the connection ends.
#[test]
fn nothing_is_smuggled_into_tls() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let mut imap = Imap::connect(mox.imap())?;
    imap.lines
        .send(format!("a STARTTLS\r\nb LOGIN {USER} {PASSWORD}\r\n"))?;
    let rest = imap.lines.rest()?;
    ensure!(rest.starts_with("* BYE") && !rest.contains(" OK"), "{rest}");
    Ok(())
}

/// When the selected mailbox goes, its sessions end; the others go on.
#[test]
fn a_deleted_mailbox_ends_its_sessions() -> Result<()> {
    let _lock = lock::shared()?;
    let mox = Mox::start(Shape::Single)?;
    let (mut one, mut other) = (mox.login()?, mox.login()?);
    one.command("CREATE Gone")?;
    other.command("SELECT Gone")?;
    one.command("DELETE Gone")?;
    match other.attempt("NOOP") {
        Ok((responses, completion)) => bail!("{responses:?} {completion:?}"),
        Err(_) => one.command("NOOP")?,
    };
    Ok(())
}
