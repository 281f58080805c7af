//! What happens: one random command after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::Mox;
use mox_integration_tests::client::parse_set;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use crate::keys::{FLAGS, Key};
use crate::model::{Flags, Mailbox, Mode, content};
use crate::session::{Cache, Kind, Session, code_number, fetched};
use crate::truth::Truth;

/// The mailboxes. Sessions are most often in the first.
const MAILBOXES: [&str; 3] = ["Box", "Box", "Other"];
/// More make no new situations.
const MOST_MESSAGES: usize = 40;
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
    truth: Truth,
    pub mailboxes: BTreeMap<&'static str, Mailbox>,
    appended: u32,
    said: Vec<String>,
}

/// `1,2,3` as a set.
fn set(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

fn code<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let rest = &text[text.find(&format!("[{name} "))? + name.len() + 2..];
    rest.split(']').next()
}

impl<'m> Play<'m> {
    pub fn new(mox: &'m Mox, random: StdRng) -> Result<Self> {
        let mut imap = mox.login()?;
        let can = imap.command("CAPABILITY")?.join(" ");
        let has = |name: &str| can.split(' ').any(|c| c == name);
        let mut mailboxes = BTreeMap::new();
        for name in MAILBOXES {
            if mailboxes.insert(name, Mailbox::new()).is_none() {
                imap.command(&format!("CREATE {name}"))?;
            }
        }
        let condstore = has("CONDSTORE");
        let mut kinds = vec![Kind::Plain, Kind::Plain];
        if condstore {
            kinds.push(Kind::Condstore);
        }
        if has("QRESYNC") {
            kinds.extend([Kind::Qresync, Kind::Qresync]);
        }
        if has("UIDONLY") && has("QRESYNC") {
            kinds.push(Kind::UidOnly);
        }
        let mut play = Self {
            mox,
            random,
            clients: Vec::new(),
            truth: Truth { imap, condstore },
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
            if let Client::Online(mut session) = self.clients.remove(which) {
                let outcome = self.synchronize(&mut session);
                self.said.append(&mut session.said);
                self.clients.insert(which, Client::Online(session));
                outcome?;
            }
        }
        Ok(())
    }

    fn mailbox(&mut self, name: &str) -> Result<&mut Mailbox> {
        self.mailboxes.get_mut(name).context("no such mailbox")
    }

    /// Learns everything that there is to learn.
    fn synchronize(&mut self, session: &mut Session) -> Result<()> {
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
            9 if self.truth.condstore && session.kind != Kind::Plain => self.store_unchanged_since(session)?,
            10 => self.fetch(session)?,
            11 if synchronized && self.truth.condstore && session.kind != Kind::Plain => {
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

    fn some_flags(&mut self) -> Flags {
        let count = self.random.random_range(0..3);
        let flags = FLAGS.iter().choose_multiple(&mut self.random, count);
        flags.into_iter().map(|f| f.0.to_owned()).collect()
    }

    fn append(&mut self, session: &mut Session) -> Result<()> {
        let flags = self.some_flags();
        let day = self.random.random_range(1..29);
        let name = MAILBOXES.choose(&mut self.random).copied().unwrap_or("Box");
        self.appended += 1;
        let number = self.appended;
        let message = content(number);
        let list: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (_, completion) = session.run(&format!(
            "APPEND {name} ({}) \"{day:02}-Jan-2020 12:00:00 +0000\" {{{}+}}\r\n{message}",
            list.join(" "),
            message.len()
        ))?;
        let mailbox = self.mailbox(name)?;
        let uid = mailbox.add(number, flags, day);
        let expected = format!("{} {uid}", mailbox.uidvalidity);
        ensure!(
            code(&completion, "APPENDUID") == Some(&expected),
            "{completion}, expected {expected}"
        );
        Ok(())
    }

    /// A command's numbers, and the UIDs that they mean, as the session knows them.
    fn some_messages(&mut self, session: &Session) -> (bool, String, Vec<u32>) {
        let known: Vec<(u32, u32)> = (1..).zip(&session.view).filter_map(|(n, u)| Some((n, (*u)?))).collect();
        let count = self.random.random_range(1..4);
        let mut chosen = known.into_iter().choose_multiple(&mut self.random, count);
        chosen.sort_unstable();
        let uids: Vec<u32> = chosen.iter().map(|c| c.1).collect();
        let by_uid = !session.has_numbers() || self.random.random_bool(0.5);
        let numbers: Vec<u32> = if by_uid {
            uids.clone()
        } else {
            chosen.iter().map(|c| c.0).collect()
        };
        (by_uid, set(&numbers), uids)
    }

    fn store(&mut self, session: &mut Session) -> Result<()> {
        let (by_uid, numbers, uids) = self.some_messages(session);
        if uids.is_empty() {
            return Ok(());
        }
        let flags = self.some_flags();
        let (sign, mode) = [("", Mode::Set), ("+", Mode::Add), ("+", Mode::Add), ("-", Mode::Remove)]
            .choose(&mut self.random)
            .copied()
            .unwrap_or(("", Mode::Set));
        let silent = if self.random.random_bool(0.3) { ".SILENT" } else { "" };
        let list: Vec<&str> = flags.iter().map(String::as_str).collect();
        let uid = if by_uid { "UID " } else { "" };
        let (_, completion) = session.run(&format!(
            "{uid}STORE {numbers} {sign}FLAGS{silent} ({})",
            list.join(" ")
        ))?;
        // RFC 2180 §4.2: what is gone may be answered with NO, what is there changes anyway.
        let mailbox = self.mailbox(&session.mailbox.clone())?;
        let gone = uids.iter().any(|u| !mailbox.messages.contains_key(u));
        ensure!(gone || completion.starts_with("OK"), "{completion}");
        for uid in &uids {
            mailbox.store(*uid, mode, &flags);
        }
        if !silent.is_empty() {
            // It knows what it did.
            for uid in &uids {
                match mailbox.messages.get(uid) {
                    Some(message) => session.flags.insert(*uid, message.flags.clone()),
                    None => session.flags.remove(uid),
                };
            }
        }
        Ok(())
    }

    /// RFC 7162 §3.1.3.
    fn store_unchanged_since(&mut self, session: &mut Session) -> Result<()> {
        self.synchronize(session)?;
        let (by_uid, numbers, uids) = self.some_messages(session);
        if uids.is_empty() {
            return Ok(());
        }
        let flags = self.some_flags();
        let list: Vec<&str> = flags.iter().map(String::as_str).collect();
        let uid = if by_uid { "UID " } else { "" };
        let highest = self.mailboxes[session.mailbox.as_str()].highest_modseq;
        let since = highest.saturating_sub(self.random.random_range(0..12));
        let (_, completion) = session.run(&format!(
            "{uid}STORE {numbers} (UNCHANGEDSINCE {since}) +FLAGS ({})",
            list.join(" ")
        ))?;
        let mailbox = self.mailbox(&session.mailbox.clone())?;
        let mut modified = Vec::new();
        for (n, uid) in (1..).zip(mailbox.uids()) {
            if !uids.contains(&uid) {
                continue;
            }
            if mailbox.messages[&uid].modseq > since {
                modified.push(if by_uid { uid } else { n });
            } else {
                mailbox.store(uid, Mode::Add, &flags);
            }
        }
        let told = code(&completion, "MODIFIED")
            .map(parse_set)
            .transpose()?
            .unwrap_or_default();
        ensure!(told == modified, "{completion}, expected {modified:?} to be modified");
        Ok(())
    }

    fn fetch(&mut self, session: &mut Session) -> Result<()> {
        let (by_uid, numbers, uids) = self.some_messages(session);
        if uids.is_empty() {
            return Ok(());
        }
        let uid = if by_uid { "UID " } else { "" };
        let marks = self.random.random_bool(0.3);
        let item = if marks {
            "BODY[TEXT]"
        } else {
            "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"
        };
        let (responses, completion) = session.run(&format!("{uid}FETCH {numbers} (UID {item})"))?;
        let mailbox = self.mailbox(&session.mailbox.clone())?;
        let gone = uids.iter().any(|u| !mailbox.messages.contains_key(u));
        ensure!(gone || completion.starts_with("OK"), "{completion}");
        for uid in uids {
            let Some(message) = mailbox.messages.get(&uid) else {
                continue;
            };
            let what = format!("{}", message.subject());
            let text = if marks {
                format!("text of {what}")
            } else {
                format!("Subject: {what}\r\n")
            };
            let of_this =
                |r: &&String| r.contains(&format!("UID {uid} ")) || r.starts_with(&format!("* {uid} UIDFETCH"));
            ensure!(
                responses.iter().filter(of_this).any(|r| r.contains(&text)),
                "{responses:?} without {text:?} of {uid}"
            );
            if marks {
                mailbox.store(uid, Mode::Add, &Flags::from(["\\Seen".to_owned()]));
            }
        }
        Ok(())
    }

    /// RFC 7162 §3.1.4.1 and §3.2.6.
    fn fetch_changed_since(&mut self, session: &mut Session) -> Result<()> {
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let since = self.random.random_range(0..=mailbox.highest_modseq);
        let vanished = session.kind != Kind::Condstore && self.random.random_bool(0.5);
        let more = if vanished { " VANISHED" } else { "" };
        let (responses, completion) = session.run(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since}{more})"))?;
        ensure!(completion.starts_with("OK"), "{completion}");
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let mut told = BTreeSet::new();
        for response in &responses {
            if let Some(fetched) = fetched(response)? {
                let uid = fetched.uid.context("no UID")?;
                let is = mailbox.messages.get(&uid).context("FETCH of what is gone")?;
                ensure!(fetched.modseq == Some(is.modseq), "{response:?}, true is {}", is.modseq);
                told.insert(uid);
            }
        }
        let changed = mailbox.messages.iter().filter(|(_, m)| m.modseq > since);
        let changed: BTreeSet<u32> = changed.map(|(uid, _)| *uid).collect();
        ensure!(told == changed, "told of {told:?}, changed were {changed:?}");
        session.compare(mailbox)
    }

    fn search(&mut self, session: &mut Session) -> Result<()> {
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let condstore = self.truth.condstore && session.kind != Kind::Plain;
        let key = Key::random(&mut self.random, mailbox, session.has_numbers(), condstore, 3);
        let by_uid = !session.has_numbers() || self.random.random_bool(0.5);
        let extended = self.random.random_bool(0.5);
        let uid = if by_uid { "UID " } else { "" };
        let options = if extended { "RETURN (MIN MAX COUNT ALL) " } else { "" };
        let (responses, completion) = session.run(&format!("{uid}SEARCH {options}{}", key.text))?;
        ensure!(completion.starts_with("OK"), "{completion}");
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let mut found: Vec<u32> = key
            .find(mailbox)
            .iter()
            .map(|f| if by_uid { f.1 } else { f.0 })
            .collect();
        found.sort_unstable();
        let modseq = key.find(mailbox).iter().map(|f| mailbox.messages[&f.1].modseq).max();
        let with_modseq = key.text.contains("MODSEQ");
        let mark = if extended { "* ESEARCH" } else { "* SEARCH" };
        let told = responses.iter().find(|r| r.starts_with(mark)).context("no answer")?;
        if extended {
            let words: Vec<&str> = told.split(' ').collect();
            let value = |name: &str| {
                words
                    .iter()
                    .position(|w| *w == name)
                    .and_then(|i| words.get(i + 1).copied())
            };
            let all = value("ALL").map(parse_set).transpose()?.unwrap_or_default();
            let number = |name: &str| value(name).and_then(|v| v.parse::<u64>().ok());
            ensure!(all == found, "{told:?}, expected {found:?}");
            ensure!(number("COUNT") == Some(found.len() as u64), "{told:?}");
            ensure!(number("MIN") == found.first().map(|n| u64::from(*n)), "{told:?}");
            ensure!(number("MAX") == found.last().map(|n| u64::from(*n)), "{told:?}");
            ensure!(words.contains(&"UID") == by_uid, "{told:?}");
            ensure!(
                !with_modseq || number("MODSEQ") == modseq,
                "{told:?}, expected MODSEQ {modseq:?}"
            );
        } else {
            let (numbers, tail) = told.split_once(" (MODSEQ ").unwrap_or((told, ""));
            let numbers: Vec<u32> = numbers.split(' ').skip(2).filter_map(|n| n.parse().ok()).collect();
            ensure!(numbers == found, "{told:?}, expected {found:?}");
            let told_modseq = tail.strip_suffix(')').and_then(|t| t.parse::<u64>().ok());
            ensure!(
                !with_modseq || told_modseq == modseq,
                "{told:?}, expected MODSEQ {modseq:?}"
            );
        }
        Ok(())
    }

    fn expunge(&mut self, session: &mut Session) -> Result<()> {
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let marked = mailbox.messages.iter().filter(|(_, m)| m.flags.contains("\\Deleted"));
        let mut gone: Vec<u32> = marked.map(|(uid, _)| *uid).collect();
        let largest = mailbox.uidnext;
        let command = if !session.has_numbers() || self.random.random_bool(0.4) {
            let (a, b) = (
                self.random.random_range(1..=largest),
                self.random.random_range(1..=largest),
            );
            gone.retain(|uid| (a.min(b)..=a.max(b)).contains(uid));
            format!("UID EXPUNGE {a}:{b}")
        } else {
            "EXPUNGE".to_owned()
        };
        let before = mailbox.highest_modseq;
        let (_, completion) = session.run(&command)?;
        ensure!(completion.starts_with("OK"), "{completion}");
        let mailbox = self.mailbox(&session.mailbox.clone())?;
        mailbox.remove(&gone);
        // RFC 7162 §3.2.7 and §3.2.8.
        if !gone.is_empty() && matches!(session.kind, Kind::Qresync | Kind::UidOnly) {
            let highest = code_number(&completion, "HIGHESTMODSEQ");
            ensure!(highest.is_some_and(|h| h > before), "{completion}: it was {before}");
            session.modseq = highest.unwrap_or_default();
        }
        session.compare(mailbox)
    }

    fn check_copied(&mut self, target: &str, uids: &[u32], from: &str, text: &str) -> Result<()> {
        let source = self.mailbox(from)?.clone();
        let target = self.mailbox(target)?;
        let mut new = Vec::new();
        for uid in uids {
            let message = &source.messages[uid];
            new.push(target.add(message.number, message.flags.clone(), message.day));
        }
        let told = code(text, "COPYUID").with_context(|| format!("{text:?} without COPYUID"))?;
        let words: Vec<&str> = told.split(' ').collect();
        let [validity, old, copies] = words[..] else {
            anyhow::bail!("{told:?}")
        };
        ensure!(
            validity == target.uidvalidity.to_string() && parse_set(old)? == uids && parse_set(copies)? == new,
            "{text:?}, expected {uids:?} to become {new:?}"
        );
        Ok(())
    }

    fn copy(&mut self, session: &mut Session) -> Result<()> {
        let (by_uid, numbers, uids) = self.some_messages(session);
        let target = MAILBOXES.choose(&mut self.random).copied().unwrap_or("Box");
        if uids.is_empty() || self.mailboxes[target].messages.len() > MOST_MESSAGES {
            return Ok(());
        }
        let uid = if by_uid { "UID " } else { "" };
        let (_, completion) = session.run(&format!("{uid}COPY {numbers} {target}"))?;
        ensure!(completion.starts_with("OK"), "{completion}");
        self.check_copied(target, &uids, &session.mailbox.clone(), &completion)
    }

    /// RFC 6851; with QRESYNC, VANISHED and HIGHESTMODSEQ.
    fn relocate(&mut self, session: &mut Session) -> Result<()> {
        let (by_uid, numbers, uids) = self.some_messages(session);
        let target = MAILBOXES.into_iter().find(|m| *m != session.mailbox).unwrap_or("Other");
        if uids.is_empty() {
            return Ok(());
        }
        let uid = if by_uid { "UID " } else { "" };
        let (responses, completion) = session.run(&format!("{uid}MOVE {numbers} {target}"))?;
        ensure!(completion.starts_with("OK"), "{completion}");
        let told = responses
            .iter()
            .find(|r| r.contains("[COPYUID "))
            .unwrap_or(&completion);
        self.check_copied(target, &uids, &session.mailbox.clone(), &told.clone())?;
        let mailbox = self.mailbox(&session.mailbox.clone())?;
        mailbox.remove(&uids);
        if matches!(session.kind, Kind::Qresync | Kind::UidOnly) {
            let highest = code_number(&completion, "HIGHESTMODSEQ");
            ensure!(
                highest > Some(mailbox.highest_modseq),
                "{completion}: it was {}",
                mailbox.highest_modseq
            );
        }
        session.compare(mailbox)
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
            // RFC 7162 §3.2.5.2: pairs of numbers and UIDs, as they were.
            if self.random.random_bool(0.5) {
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
