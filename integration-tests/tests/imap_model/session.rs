//! A session that believes what it is told, and checks that it is told by the rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::Mox;
use mox_integration_tests::client::{Imap, Node, parse_response, parse_set};

use crate::model::{Flags, Mailbox};

/// What a session enables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Condstore,
    Qresync,
    UidOnly,
}

impl Kind {
    /// What is enabled by it.
    pub fn capabilities(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Condstore => "CONDSTORE",
            Self::Qresync => "QRESYNC",
            Self::UidOnly => "UIDONLY QRESYNC",
        }
    }

    fn sees_modseq(self) -> bool {
        self != Self::Plain
    }

    /// Whether removals come as VANISHED.
    fn sees_vanished(self) -> bool {
        matches!(self, Self::Qresync | Self::UidOnly)
    }
}

/// What a client keeps of a mailbox while it is offline.
#[derive(Debug, Clone)]
pub struct Cache {
    pub mailbox: String,
    pub uidvalidity: u32,
    pub modseq: u64,
    pub messages: BTreeMap<u32, Flags>,
}

/// A session.
pub struct Session {
    pub number: usize,
    pub imap: Imap,
    pub kind: Kind,
    pub mailbox: String,
    pub uidvalidity: u32,
    /// By sequence number; None where the UID was not told yet. Those are all at the end.
    pub view: Vec<Option<u32>>,
    pub flags: BTreeMap<u32, Flags>,
    /// Everything up to this is known. With what is told between, it counts when the session is at one with the server.
    pub modseq: u64,
    pub said: Vec<String>,
    /// The command asked for flags, and not for MODSEQ.
    asked: bool,
}

/// What a FETCH response says.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The UID with UIDFETCH.
    pub number: u32,
    pub by_uid: bool,
    pub uid: Option<u32>,
    pub flags: Option<Flags>,
    pub modseq: Option<u64>,
}

/// The number of `* OK [CODE 5] text`, or of `OK [CODE 5]`.
pub fn code_number(response: &str, code: &str) -> Option<u64> {
    let rest = &response[response.find(&format!("[{code} "))? + code.len() + 2..];
    rest.split(']').next()?.parse().ok()
}

/// The number of `* 5 EXISTS`.
pub fn told_number(response: &str, what: &str) -> Option<usize> {
    response
        .strip_prefix("* ")?
        .strip_suffix(what)?
        .strip_suffix(' ')?
        .parse()
        .ok()
}

/// Reads a FETCH response, or gives nothing if it is another.
pub fn fetched(response: &str) -> Result<Option<Fetched>> {
    let mut words = response.splitn(4, ' ').skip(1);
    let (number, what) = (words.next(), words.next());
    let (Some(Ok(number)), Some("FETCH" | "UIDFETCH")) = (number.map(str::parse), what) else {
        return Ok(None);
    };
    let by_uid = what == Some("UIDFETCH");
    let mut out = Fetched {
        number,
        by_uid,
        uid: by_uid.then_some(number),
        ..Fetched::default()
    };
    let nodes = parse_response(response).with_context(|| format!("reading {response:?}"))?;
    let items = nodes.get(2).and_then(Node::list).context("FETCH without a list")?;
    for pair in items.chunks(2) {
        let [name, value] = pair else {
            bail!("an item without its value in {response:?}")
        };
        match name.atom() {
            Some("UID") => out.uid = Some(u32::try_from(value.number().context("UID")?)?),
            Some("FLAGS") => {
                let flags = value.list().context("FLAGS without a list")?;
                let flags: BTreeSet<String> = flags.iter().filter_map(Node::atom).map(str::to_owned).collect();
                out.flags = Some(flags);
            }
            Some("MODSEQ") => {
                let number = value.list().and_then(|l| l.first()).and_then(Node::number);
                out.modseq = Some(number.context("MODSEQ without a number")?);
            }
            _ => {}
        }
    }
    Ok(Some(out))
}

impl Session {
    pub fn start(mox: &Mox, number: usize, kind: Kind) -> Result<Self> {
        let mut session = Self {
            number,
            imap: mox.login()?,
            kind,
            mailbox: String::new(),
            uidvalidity: 0,
            view: Vec::new(),
            flags: BTreeMap::new(),
            modseq: 0,
            said: Vec::new(),
            asked: false,
        };
        if kind != Kind::Plain {
            let enabled = session.imap.command(&format!("ENABLE {}", kind.capabilities()))?;
            ensure!(
                enabled.iter().any(|r| r.contains(kind.capabilities())),
                "ENABLE {} gave {enabled:?}",
                kind.capabilities()
            );
        }
        Ok(session)
    }

    /// Whether the session may use sequence numbers.
    pub fn has_numbers(&self) -> bool {
        self.kind != Kind::UidOnly
    }

    /// Runs a command that is answered with OK or NO, and believes its responses.
    pub fn run(&mut self, command: &str) -> Result<(Vec<String>, String)> {
        self.said.push(format!("C{}: {command}", self.number));
        let (responses, completion) = self.imap.attempt(command)?;
        for response in responses.iter().chain([&completion]) {
            self.said.push(format!("S{}: {response}", self.number));
        }
        ensure!(!completion.starts_with("BAD"), "{command:?} got {completion:?}");
        self.believe_all(command, &responses)?;
        Ok((responses, completion))
    }

    pub fn believe_all(&mut self, command: &str, responses: &[String]) -> Result<()> {
        let uses_numbers = ["FETCH", "STORE", "SEARCH"]
            .iter()
            .any(|name| command.starts_with(name));
        // RFC 7162 §3.2.10: VANISHED too must not come in the middle of these, nor with their UID forms' numbers in use.
        self.asked = command.contains("FETCH");
        for response in responses {
            self.believe(response, uses_numbers)
                .with_context(|| format!("{response:?} in {command:?}"))?;
        }
        self.asked = false;
        Ok(())
    }

    pub fn believe(&mut self, response: &str, uses_numbers: bool) -> Result<()> {
        if let Some(count) = told_number(response, "EXISTS") {
            ensure!(count >= self.view.len(), "EXISTS took messages away");
            self.view.resize(count, None);
        } else if let Some(number) = told_number(response, "EXPUNGE") {
            ensure!(!uses_numbers, "EXPUNGE while numbers are used");
            ensure!(!self.kind.sees_vanished(), "EXPUNGE instead of VANISHED");
            ensure!((1..=self.view.len()).contains(&number), "EXPUNGE of what there is not");
            if let Some(uid) = self.view.remove(number - 1) {
                self.flags.remove(&uid);
            }
        } else if let Some(set) = response.strip_prefix("* VANISHED ") {
            ensure!(self.kind.sees_vanished(), "VANISHED without QRESYNC");
            match set.strip_prefix("(EARLIER) ") {
                // Of what was removed long ago, more may be named than was there.
                Some(set) => self.vanished(&parse_set(set)?, true)?,
                None => {
                    ensure!(!uses_numbers, "VANISHED while numbers are used");
                    self.vanished(&parse_set(set)?, false)?;
                }
            }
        } else if let Some(fetched) = fetched(response)? {
            self.believe_fetch(&fetched)?;
        }
        Ok(())
    }

    fn vanished(&mut self, uids: &[u32], earlier: bool) -> Result<()> {
        for uid in uids {
            self.flags.remove(uid);
            if let Some(at) = self.view.iter().position(|u| *u == Some(*uid)) {
                ensure!(!earlier || !self.view.is_empty(), "nothing to vanish");
                self.view.remove(at);
            } else if !earlier {
                // One of those of which the UID is not known.
                ensure!(
                    self.view.pop_if(|u| u.is_none()).is_some(),
                    "VANISHED of {uid}, which was not there"
                );
            }
        }
        Ok(())
    }

    fn believe_fetch(&mut self, fetched: &Fetched) -> Result<()> {
        ensure!(fetched.by_uid != self.has_numbers(), "FETCH and UIDFETCH confused");
        ensure!(
            fetched.modseq.is_none() || self.kind.sees_modseq(),
            "MODSEQ was not asked for"
        );
        // RFC 7162 §3.1: once enabled, with every change of flags; §3.2: with QRESYNC, with the UID.
        ensure!(
            self.asked || fetched.flags.is_none() || !self.kind.sees_modseq() || fetched.modseq.is_some(),
            "flags without MODSEQ"
        );
        ensure!(
            fetched.flags.is_none() || self.kind != Kind::Qresync || fetched.uid.is_some(),
            "flags without UID"
        );
        let uid = if fetched.by_uid {
            // It may be one that was told of by EXISTS only: which of those is not known yet.
            ensure!(
                self.view.contains(&fetched.uid) || self.view.contains(&None),
                "UIDFETCH of what there is not"
            );
            fetched.uid
        } else {
            let known = self
                .view
                .get_mut(fetched.number.wrapping_sub(1) as usize)
                .context("FETCH of what there is not")?;
            if let Some(uid) = fetched.uid {
                ensure!(known.is_none_or(|known| known == uid), "it was {known:?}");
                *known = Some(uid);
            }
            *known
        };
        if let (Some(uid), Some(flags)) = (uid, &fetched.flags) {
            self.flags.insert(uid, flags.clone());
        }
        Ok(())
    }

    /// Opens a mailbox, and asks for all flags.
    pub fn select(&mut self, name: &str) -> Result<()> {
        let (responses, completion) = self.open(name, "")?;
        ensure!(completion.starts_with("OK"), "{completion}");
        self.opened(&responses)?;
        self.run("UID FETCH 1:* (FLAGS)")?;
        Ok(())
    }

    fn open(&mut self, name: &str, parameters: &str) -> Result<(Vec<String>, String)> {
        self.view.clear();
        self.flags.clear();
        name.clone_into(&mut self.mailbox);
        self.run(&format!("SELECT {name}{parameters}"))
    }

    fn opened(&mut self, responses: &[String]) -> Result<()> {
        let number = |code: &str| responses.iter().find_map(|r| code_number(r, code));
        self.uidvalidity = u32::try_from(number("UIDVALIDITY").context("no UIDVALIDITY")?)?;
        self.modseq = number("HIGHESTMODSEQ").unwrap_or_default();
        Ok(())
    }

    /// What is kept while offline.
    pub fn cache(&self) -> Cache {
        Cache {
            mailbox: self.mailbox.clone(),
            uidvalidity: self.uidvalidity,
            modseq: self.modseq,
            messages: self.flags.clone(),
        }
    }

    /// Opens a mailbox of which something is known, and gives the UIDs of which flags were told.
    pub fn resume(&mut self, cache: &Cache, exists: &Mailbox, parameters: &str) -> Result<BTreeSet<u32>> {
        // Removals come first, and are of the mailbox as it was known.
        self.view.clear();
        self.flags.clear();
        cache.mailbox.clone_into(&mut self.mailbox);
        let command = format!("SELECT {}{parameters}", cache.mailbox);
        self.said.push(format!("C{}: {command}", self.number));
        let (responses, completion) = self.imap.attempt(&command)?;
        for response in responses.iter().chain([&completion]) {
            self.said.push(format!("S{}: {response}", self.number));
        }
        ensure!(completion.starts_with("OK"), "{completion}");
        self.opened(&responses)?;
        let is_same = self.uidvalidity == cache.uidvalidity;
        if is_same {
            self.flags.clone_from(&cache.messages);
        }
        // Numbers are those of now: the truth is taken for granted here, and told flags must fit it.
        self.view = exists.uids().into_iter().map(Some).collect();
        let mut told = BTreeSet::new();
        for response in &responses {
            if let Some(set) = response.strip_prefix("* VANISHED ") {
                let set = set.strip_prefix("(EARLIER) ").context("VANISHED of now in SELECT")?;
                ensure!(is_same, "VANISHED of another mailbox");
                for uid in parse_set(set)? {
                    ensure!(!exists.messages.contains_key(&uid), "VANISHED of {uid}, which is there");
                    self.flags.remove(&uid);
                }
            } else if let Some(fetched) = fetched(response)? {
                told.insert(fetched.uid.context("no UID")?);
                self.believe_fetch(&fetched)?;
            }
        }
        Ok(told)
    }

    /// Compares with the truth, all of which must have been told by now.
    pub fn compare(&mut self, mailbox: &Mailbox) -> Result<()> {
        let uids = mailbox.uids();
        ensure!(
            self.view.len() == uids.len(),
            "session {} believes in {:?}, true is {uids:?}",
            self.number,
            self.view
        );
        for (believed, is) in self.view.iter_mut().zip(&uids) {
            ensure!(
                believed.is_none_or(|b| b == *is),
                "session {} believes in {believed:?} for {is}",
                self.number
            );
            *believed = Some(*is);
        }
        for (uid, flags) in &self.flags {
            let is = mailbox.messages.get(uid).context("flags of what is gone")?;
            ensure!(
                *flags == is.flags,
                "session {} believes that {uid} has {flags:?}, true is {:?}",
                self.number,
                is.flags
            );
        }
        Ok(())
    }
}
