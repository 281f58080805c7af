//! Commands, what they must answer, and what they do to the model.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::parse_set;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use crate::keys::{FLAGS, Key};
use crate::model::{Flags, Mode, content};
use crate::session::{Kind, Session, code_number, fetched};
use crate::steps::{MAILBOXES, MOST_MESSAGES, Play, set};

fn code<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let rest = &text[text.find(&format!("[{name} "))? + name.len() + 2..];
    rest.split(']').next()
}

impl Play<'_> {
    fn some_flags(&mut self) -> Flags {
        let count = self.random.random_range(0..3);
        let flags = FLAGS.iter().choose_multiple(&mut self.random, count);
        flags.into_iter().map(|f| f.0.to_owned()).collect()
    }

    pub fn append(&mut self, session: &mut Session) -> Result<()> {
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

    pub fn store(&mut self, session: &mut Session) -> Result<()> {
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
    pub fn store_unchanged_since(&mut self, session: &mut Session) -> Result<()> {
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

    pub fn fetch(&mut self, session: &mut Session) -> Result<()> {
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
            let what = message.subject();
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
    pub fn fetch_changed_since(&mut self, session: &mut Session) -> Result<()> {
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

    pub fn search(&mut self, session: &mut Session) -> Result<()> {
        let mailbox = &self.mailboxes[session.mailbox.as_str()];
        let condstore = session.kind != Kind::Plain;
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

    pub fn expunge(&mut self, session: &mut Session) -> Result<()> {
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

    pub fn copy(&mut self, session: &mut Session) -> Result<()> {
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
    pub fn relocate(&mut self, session: &mut Session) -> Result<()> {
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
}
