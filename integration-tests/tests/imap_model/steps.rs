//! What happens: one random command after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::Mox;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use crate::model::Mailbox;
use crate::session::{Cache, Kind, Session};
use crate::truth::Truth;

/// The mailboxes. Sessions are most often in the first.
pub const MAILBOXES: [&str; 3] = ["Box", "Box", "Other"];
/// More make no new situations.
pub const MOST_MESSAGES: usize = 40;
/// Lines of what was said that are shown with a failure.
const SHOWN: usize = 60;

/// A client: connected, or with what it remembers.
enum Client {
    Online(Session),
    Offline(usize, Kind, Cache),
}

/// The system, its clients, the model.
pub struct Play<'m> {
    mox: &'m Mox,
    pub random: StdRng,
    clients: Vec<Client>,
    pub truth: Truth,
    pub mailboxes: BTreeMap<&'static str, Mailbox>,
    pub appended: u32,
    said: Vec<String>,
}

/// `1,2,3` as a set.
pub fn set(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

impl<'m> Play<'m> {
    pub fn new(mox: &'m Mox, random: StdRng) -> Result<Self> {
        let mut imap = mox.login()?;
        let can = imap.command("CAPABILITY")?.join(" ");
        let mut mailboxes = BTreeMap::new();
        for name in MAILBOXES {
            if mailboxes.insert(name, Mailbox::new()).is_none() {
                imap.command(&format!("CREATE {name}"))?;
            }
        }
        for name in ["CONDSTORE", "QRESYNC", "UIDONLY", "MOVE", "UIDPLUS", "ESEARCH"] {
            ensure!(can.split(' ').any(|c| c == name), "{name} is not offered");
        }
        let kinds = [
            Kind::Plain,
            Kind::Plain,
            Kind::Condstore,
            Kind::Qresync,
            Kind::Qresync,
            Kind::UidOnly,
        ];
        let mut play = Self {
            mox,
            random,
            clients: Vec::new(),
            truth: Truth { imap },
            mailboxes,
            appended: 0,
            said: Vec::new(),
        };
        for (number, kind) in (1..).zip(kinds) {
            let mut session = Session::start(mox, number, kind)?;
            session.select("Box")?;
            play.clients.push(Client::Online(session));
        }
        play.look()?;
        Ok(play)
    }

    /// The last that was said.
    pub fn transcript(&self) -> String {
        let from = self.said.len().saturating_sub(SHOWN);
        self.said[from..].join("\n")
    }

    fn look(&mut self) -> Result<()> {
        for (name, mailbox) in &mut self.mailboxes {
            self.truth.check(name, mailbox)?;
        }
        Ok(())
    }

    pub fn step(&mut self) -> Result<()> {
        let which = self.random.random_range(0..self.clients.len());
        let client = self.clients.remove(which);
        // Back at its place before anything fails, for the transcript.
        let (client, outcome) = match client {
            Client::Offline(number, kind, cache) => match self.come_back(number, kind, &cache) {
                Ok(session) => (Client::Online(session), Ok(())),
                Err(e) => (Client::Offline(number, kind, cache), Err(e)),
            },
            Client::Online(mut session) => {
                let outcome = self.act(&mut session);
                self.said.append(&mut session.said);
                match outcome {
                    Ok(true) => (Client::Online(session), Ok(())),
                    Ok(false) => {
                        self.said.push(format!("-- {} goes offline", session.number));
                        (Client::Offline(session.number, session.kind, session.cache()), Ok(()))
                    }
                    Err(e) => (Client::Online(session), Err(e)),
                }
            }
        };
        self.clients.insert(which, client);
        outcome?;
        self.look()
    }

    /// In the end all believe what is true.
    pub fn finish(&mut self) -> Result<()> {
        for which in 0..self.clients.len() {
            let (client, outcome) = match self.clients.remove(which) {
                Client::Online(mut session) => {
                    let outcome = self.synchronize(&mut session);
                    self.said.append(&mut session.said);
                    (Client::Online(session), outcome)
                }
                offline @ Client::Offline(..) => (offline, Ok(())),
            };
            self.clients.insert(which, client);
            outcome?;
        }
        Ok(())
    }

    pub fn mailbox(&mut self, name: &str) -> Result<&mut Mailbox> {
        self.mailboxes.get_mut(name).context("no such mailbox")
    }

    /// Learns everything that there is to learn.
    pub fn synchronize(&mut self, session: &mut Session) -> Result<()> {
        let (_, completion) = session.run("NOOP")?;
        ensure!(completion.starts_with("OK"), "{completion}");
        let truth = self.mailboxes.get(session.mailbox.as_str()).context("no mailbox")?;
        session.compare(truth)?;
        // Flags of what is new are asked for, as all clients do.
        let unknown: Vec<u32> = truth
            .messages
            .keys()
            .filter(|u| !session.flags.contains_key(u))
            .copied()
            .collect();
        if !unknown.is_empty() {
            session.run(&format!("UID FETCH {} (FLAGS)", set(&unknown)))?;
            session.compare(truth)?;
        }
        session.modseq = truth.highest_modseq;
        Ok(())
    }

    /// Something by chance. Answers whether the session stays.
    fn act(&mut self, session: &mut Session) -> Result<bool> {
        let synchronized = self.random.random_bool(0.7);
        if synchronized {
            self.synchronize(session)?;
        }
        let is_full = self.mailboxes[session.mailbox.as_str()].messages.len() > MOST_MESSAGES;
        match self.random.random_range(0..24) {
            0..=4 if !is_full => self.append(session)?,
            5..=8 => self.store(session)?,
            9 if session.kind != Kind::Plain => self.store_unchanged_since(session)?,
            10 => self.fetch(session)?,
            11 if synchronized && session.kind != Kind::Plain => {
                self.fetch_changed_since(session)?;
            }
            12 | 13 if synchronized => self.search(session)?,
            14 | 15 if synchronized => self.expunge(session)?,
            16 if synchronized => self.copy(session)?,
            17 if synchronized => self.relocate(session)?,
            18 => {
                let name = MAILBOXES.choose(&mut self.random).copied().unwrap_or("Box");
                session.select(name)?;
            }
            19 => self.wait(session)?,
            20 | 21 if matches!(session.kind, Kind::Qresync | Kind::UidOnly) => return Ok(false),
            22 if self.random.random_bool(0.2) => self.recreate(session)?,
            _ => {
                session.run("NOOP")?;
            }
        }
        Ok(true)
    }

    /// Another session changes something, and this one is told while it waits.
    fn wait(&mut self, session: &mut Session) -> Result<()> {
        self.synchronize(session)?;
        session.said.push(format!("C{}: IDLE", session.number));
        session.imap.lines.send("idle IDLE\r\n")?;
        let line = session.imap.lines.line()?;
        ensure!(line.starts_with('+'), "{line:?} after IDLE");
        let others: Vec<usize> = (0..self.clients.len())
            .filter(|n| matches!(&self.clients[*n], Client::Online(_)))
            .collect();
        if let Some(which) = others.choose(&mut self.random).copied() {
            let Client::Online(mut other) = self.clients.remove(which) else {
                anyhow::bail!("it was online")
            };
            let outcome = self.disturb(&mut other);
            session.said.append(&mut other.said);
            self.clients.insert(which, Client::Online(other));
            outcome?;
        }
        let truth = &self.mailboxes[session.mailbox.as_str()];
        loop {
            let known = session
                .flags
                .iter()
                .all(|(uid, flags)| truth.messages.get(uid).is_some_and(|message| message.flags == *flags));
            if session.view.len() == truth.messages.len() && known {
                break;
            }
            let line = session.imap.lines.line().context("what others changed was not told")?;
            session.said.push(format!("S{}: {line}", session.number));
            if line.starts_with("* ") {
                session
                    .believe(&line, false)
                    .with_context(|| format!("{line:?} in IDLE"))?;
            }
        }
        session.imap.lines.send("DONE\r\n")?;
        loop {
            let line = session.imap.lines.line()?;
            session.said.push(format!("S{}: {line}", session.number));
            if line.starts_with("idle ") {
                ensure!(line.starts_with("idle OK"), "{line}");
                break;
            }
            session
                .believe(&line, false)
                .with_context(|| format!("{line:?} in IDLE"))?;
        }
        session.compare(&self.mailboxes[session.mailbox.as_str()])
    }

    fn disturb(&mut self, other: &mut Session) -> Result<()> {
        for _ in 0..3 {
            match self.random.random_range(0..4) {
                0 | 1 => self.append(other)?,
                2 => self.store(other)?,
                _ => {
                    self.synchronize(other)?;
                    self.expunge(other)?;
                }
            }
        }
        Ok(())
    }

    /// A mailbox goes, and another of its name comes. Nobody may be in it, as they would be thrown out.
    fn recreate(&mut self, session: &mut Session) -> Result<()> {
        const NAME: &str = "Other";
        let is_in = |c: &Client| matches!(c, Client::Online(s) if s.mailbox == NAME);
        if session.mailbox == NAME || self.clients.iter().any(is_in) {
            return Ok(());
        }
        for command in [format!("DELETE {NAME}"), format!("CREATE {NAME}")] {
            let (_, completion) = session.run(&command)?;
            ensure!(completion.starts_with("OK"), "{completion}");
        }
        let mailbox = self.mailbox(NAME)?;
        let before = mailbox.uidvalidity;
        *mailbox = Mailbox::new();
        self.truth
            .check(NAME, self.mailboxes.get_mut(NAME).context("no mailbox")?)?;
        let now = self.mailboxes[NAME].uidvalidity;
        ensure!(now > before, "UIDVALIDITY was {before} and is {now}");
        Ok(())
    }

    /// RFC 7162 §3.2.5: what changed since is told, and nothing else.
    fn come_back(&mut self, number: usize, kind: Kind, cache: &Cache) -> Result<Session> {
        let mut session = Session::start(self.mox, number, kind)?;
        let outcome = self.resume(&mut session, cache);
        self.said.append(&mut session.said);
        outcome?;
        Ok(session)
    }

    fn resume(&mut self, session: &mut Session, cache: &Cache) -> Result<()> {
        let all: Vec<u32> = cache.messages.keys().copied().collect();
        let known = !all.is_empty() && self.random.random_bool(0.5);
        let mut parameters = format!("{} {}", cache.uidvalidity, cache.modseq);
        if known {
            parameters.push_str(&format!(" {}", set(&all)));
            // RFC 7162 §3.2.5.2: pairs of numbers and UIDs, as they were; not with UIDONLY.
            if session.has_numbers() && self.random.random_bool(0.5) {
                let count = all.len().min(3);
                let mut pairs: Vec<usize> = (0..all.len()).choose_multiple(&mut self.random, count);
                pairs.sort_unstable();
                let numbers: Vec<u32> = pairs.iter().filter_map(|p| u32::try_from(p + 1).ok()).collect();
                let uids: Vec<u32> = pairs.iter().map(|p| all[*p]).collect();
                parameters.push_str(&format!(" ({} {})", set(&numbers), set(&uids)));
            }
        }
        let truth = &self.mailboxes[cache.mailbox.as_str()];
        let told = session.resume(cache, truth, &format!(" (QRESYNC ({parameters}))"))?;
        if session.uidvalidity != cache.uidvalidity {
            ensure!(told.is_empty(), "told of {told:?} in another mailbox");
            return session.select(&cache.mailbox);
        }
        let changed = truth
            .messages
            .iter()
            .filter(|(uid, m)| m.modseq > cache.modseq && (!known || cache.messages.contains_key(uid)));
        let changed: BTreeSet<u32> = changed.map(|(uid, _)| *uid).collect();
        ensure!(
            told == changed,
            "told of {told:?}, changed since {} were {changed:?}",
            cache.modseq
        );
        session.compare(truth)?;
        self.synchronize(session)
    }
}
