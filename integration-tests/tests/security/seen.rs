//! What became of the messages of cells: where they arrived, what notifications and TLS reports say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, wait};
use serde_json::Value;

use crate::cells::{Cell, From, To};
use crate::mox::{POSTFIX_USER, REPORTS_MAILBOX, World};

/// After so many attempts senders are told that their mail is delayed.
const ATTEMPTS: u64 = 5;
/// A day, and more than TLS reports are spread over.
const LATER_HOURS: u32 = 30;

/// An IMAP session with one of the systems, made when it is needed: hosts limit how many are opened in a minute.
#[derive(Default)]
pub struct Reader(RefCell<Option<Imap>>);

impl Reader {
    fn with<T>(&self, mox: &Mox, work: impl FnOnce(&mut Imap) -> Result<T>) -> Result<T> {
        let mut session = self.0.borrow_mut();
        let mut imap = match session.take() {
            Some(imap) => imap,
            None => mox.login()?,
        };
        let result = work(&mut imap);
        if result.is_ok() {
            *session = Some(imap);
        }
        result
    }

    /// Subjects of INBOX.
    pub fn subjects(&self, mox: &Mox) -> Result<Vec<String>> {
        self.with(mox, |imap| match imap.examine("INBOX")? {
            0 => Ok(Vec::new()),
            _ => Ok(imap.subjects(1)?.into_iter().map(|(_, subject)| subject).collect()),
        })
    }

    /// All messages of a mailbox.
    fn messages(&self, mox: &Mox, mailbox: &str) -> Result<Vec<String>> {
        self.with(mox, |imap| {
            let many = imap.examine(mailbox)?;
            (1..=many).map(|n| imap.message(n)).collect()
        })
    }
}

/// What was seen, in words, by places of cells.
pub struct Seen {
    outcomes: Vec<String>,
    /// By recipients.
    of_mox: BTreeMap<String, String>,
    of_postfix: BTreeMap<String, String>,
    /// By domains.
    reports: BTreeMap<String, String>,
}

impl Seen {
    /// Of a cell: outcome; DSN; TLS report.
    pub fn of(&self, place: usize, cell: &Cell) -> String {
        let notices = match cell.from {
            From::Mox => &self.of_mox,
            From::Postfix => &self.of_postfix,
        };
        let or_none = |found: Option<&String>| found.map_or("–", String::as_str).to_owned();
        let (outcome, dsn) = (&self.outcomes[place], or_none(notices.get(&cell.recipient())));
        match cell.from {
            From::Mox => format!("{outcome}; {dsn}; {}", or_none(self.reports.get(&cell.domain()))),
            From::Postfix => format!("{outcome}; {dsn}"),
        }
    }
}

impl World {
    /// Waits for everything that is to be seen.
    pub fn watch(&mut self, cells: &[Cell]) -> Result<Seen> {
        let waiting = self.tried(1)?;
        let mut outcomes = Vec::with_capacity(cells.len());
        for cell in cells {
            let outcome = match cell.from {
                From::Mox if waiting.contains(&cell.recipient()) => "deferred".to_owned(),
                From::Mox => self.outcome_of_mox(cell)?,
                From::Postfix => self.outcome_of_postfix(cell)?,
            };
            outcomes.push(outcome);
        }
        for attempt in 2..=ATTEMPTS {
            self.sender.command(&["queue", "schedule", "-now", "0"])?;
            self.tried(attempt)?;
        }
        let returned = |from: From| {
            let those = cells.iter().zip(&outcomes);
            those
                .filter(|(c, o)| c.from == from && !o.starts_with("delivered"))
                .count()
        };
        let all = |from: From, what: &str, texts: &dyn Fn() -> Result<Vec<String>>| {
            wait::until(what, wait::DEADLINE, || {
                let notices = notices(&texts()?);
                ensure!(
                    notices.len() >= returned(from),
                    "there are {}: {notices:?}",
                    notices.len()
                );
                Ok(Some(notices))
            })
        };
        let of_mox = all(From::Mox, "notifications of mox", &|| {
            self.sender_mail.messages(&self.sender, "INBOX")
        })?;
        let of_postfix = all(From::Postfix, "notifications of Postfix", &|| {
            Ok(self.postfix.messages(POSTFIX_USER))
        })?;
        self.figures_agree(cells)?;
        let reports = self.reports(cells)?;
        Ok(Seen {
            outcomes,
            of_mox,
            of_postfix,
            reports,
        })
    }

    /// Figures count the failures that reports are to tell of, also those that stopped nothing.
    fn figures_agree(&self, cells: &[Cell]) -> Result<()> {
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in cells.iter().filter(|c| c.from == From::Mox && c.is_reported()) {
            let words: Vec<&str> = cell
                .expected()
                .split([' ', ',', ';'])
                .filter(|w| !w.is_empty())
                .collect();
            for pair in words.windows(2).filter(|pair| pair[1] != "ok") {
                if let Ok(many) = pair[0].parse::<u64>() {
                    *wanted.entry(pair[1]).or_default() += many;
                }
            }
        }
        for (result, many) in wanted {
            let name = format!("mox_queue_delivery_tls_failures_total{{result=\"{result}\"}}");
            let figure = self.sender.figure("queue-delivery", &name)?;
            ensure!(figure == Some(many.to_string()), "{name} is {figure:?}, not {many}");
        }
        Ok(())
    }

    /// Recipients of what is in the queue still, when all of it was tried so often.
    fn tried(&self, attempts: u64) -> Result<Vec<String>> {
        wait::until(&format!("mox to try all {attempts} times"), wait::DEADLINE, || {
            let list = self.sender.command(&["queue", "list", "-json"])?;
            let mut waiting = Vec::new();
            for line in list.lines().filter(|l| l.starts_with('{')) {
                let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(entry["attempts"].as_u64() >= Some(attempts), "not yet: {entry}");
                waiting.push(entry["recipient"].as_str().unwrap_or_default().to_owned());
            }
            Ok(Some(waiting))
        })
    }

    /// Of a message that has left the queue.
    fn outcome_of_mox(&self, cell: &Cell) -> Result<String> {
        let recipient = cell.recipient();
        wait::until(
            &format!("the end of the message to {recipient}"),
            wait::DEADLINE,
            || {
                if let Some(received) = self.received(cell)? {
                    return Ok(Some(received));
                }
                let notices = notices(&self.sender_mail.messages(&self.sender, "INBOX")?);
                Ok(notices.contains_key(&recipient).then(|| "failed".to_owned()))
            },
        )
    }

    fn outcome_of_postfix(&self, cell: &Cell) -> Result<String> {
        if !self.postfix.outcome(&cell.recipient())?.contains("status=sent") {
            return Ok("failed".to_owned());
        }
        wait::until("the message of Postfix", wait::DEADLINE, || self.received(cell))?;
        let log = self.postfix.log();
        let with = |kind: &str| {
            [cell.mx(), cell.base()]
                .iter()
                .any(|host| log.contains(&format!("{kind} TLS connection established to {host}[")))
        };
        Ok(if with("Verified") {
            "delivered with TLS, verified"
        } else if with("Untrusted") || with("Trusted") || with("Anonymous") {
            "delivered with TLS"
        } else {
            "delivered without TLS"
        }
        .to_owned())
    }

    /// How the message of a cell arrived, if it did.
    pub fn received(&self, cell: &Cell) -> Result<Option<String>> {
        let subject = cell.subject();
        let header = match cell.to {
            To::Postfix => self.postfix.message(&cell.recipient(), &subject),
            To::Mox => self.receiver_mail.with(&self.receiver, |imap| {
                let uid = match imap.examine("INBOX")? {
                    0 => None,
                    _ => imap.subjects(1)?.into_iter().find(|(_, s)| *s == subject),
                };
                uid.map(|(uid, _)| Ok(imap.command(&format!("UID FETCH {uid} BODY.PEEK[HEADER]"))?.join("")))
                    .transpose()
            })?,
        };
        let Some(header) = header else { return Ok(None) };
        // The first one is of the host that received it.
        let at = header.find("Received: ").context("the message has no Received field")?;
        let mut lines = header[at..].split('\n');
        let first = lines.next().unwrap_or_default().to_owned();
        let field = lines
            .take_while(|l| l.starts_with([' ', '\t']))
            .fold(first, |field, line| field + line);
        let tls = ["with ESMTPS", "with UTF8SMTPS"]
            .iter()
            .any(|with| field.contains(with));
        let mut text = if tls {
            "delivered with TLS"
        } else {
            "delivered without TLS"
        }
        .to_owned();
        if cell.to == To::Mox && self.receiver_saw_requiretls(cell)? {
            text.push_str(" and REQUIRETLS");
        }
        Ok(Some(text))
    }

    /// Whether the host of mox that received a message was told REQUIRETLS.
    fn receiver_saw_requiretls(&self, cell: &Cell) -> Result<bool> {
        let log = fs::read_to_string(self.receiver.folder().join("mox.log"))?;
        let recipient = cell.recipient();
        // Lines of one connection have the same cid.
        let cid = |line: &str| {
            line.split_whitespace()
                .find(|w| w.starts_with("cid="))
                .map(str::to_owned)
        };
        let rcpt = log.lines().find(|l| l.contains("RCPT TO") && l.contains(&recipient));
        let connection = rcpt
            .and_then(cid)
            .context("the transcript does not have the recipient")?;
        Ok(log
            .lines()
            .any(|line| line.contains("MAIL FROM") && line.contains(" REQUIRETLS") && line.contains(&connection)))
    }

    /// What TLS reports say, by domains: those that the receiver gets a day later, recognizes, and keeps if they are about
    /// its own domains.
    fn reports(&mut self, cells: &[Cell]) -> Result<BTreeMap<String, String>> {
        let reported = |to| {
            let those = cells.iter().filter(|c| c.from == From::Mox && c.is_reported());
            those.filter(|c| to == c.to).count()
        };
        let (own, others) = (reported(To::Mox), reported(To::Postfix));
        self.sender.set_ahead(LATER_HOURS);
        self.receiver.set_ahead(LATER_HOURS);
        self.receiver.restart()?;
        self.sender.restart()?;
        self.receiver_mail = Reader::default();
        // Trouble with DNS puts a report off for a minute.
        wait::until("TLS reports", 3 * wait::DEADLINE, || {
            // The mailbox is made with the first message.
            let many = self
                .receiver_mail
                .with(&self.receiver, |imap| Ok(imap.examine(REPORTS_MAILBOX).unwrap_or(0)))?;
            ensure!(many >= own + others, "{many} reports of {}", own + others);
            Ok(Some(()))
        })?;
        let mut reports = BTreeMap::new();
        for message in self.receiver_mail.messages(&self.receiver, REPORTS_MAILBOX)? {
            let (domain, text) = self.report(&message)?;
            let twice = reports.insert(domain, text);
            ensure!(twice.is_none(), "there are two reports: {twice:?}, {message}");
        }
        wait::until("reports to be kept", wait::DEADLINE, || {
            let kept = self.receiver.figure(
                "store",
                "mox_store_reports_received_total{kind=\"tls\",result=\"kept\"}",
            )?;
            ensure!(kept == Some(own.to_string()), "{kept:?} reports are kept of {own}");
            Ok(Some(()))
        })?;
        Ok(reports)
    }

    /// The domain that a report is about, and what it says, in short.
    fn report(&self, message: &str) -> Result<(String, String)> {
        for needed in [
            "X-Mox-Reason: tls-report",
            "dkim=pass",
            "dmarc=pass",
            "Submitter: mail.a.example",
        ] {
            ensure!(message.contains(needed), "{needed} is not in {message}");
        }
        let file = self.receiver.folder().join("report.eml");
        fs::write(&file, message)?;
        let json = self
            .receiver
            .command(&["tlsrpt", "parsereportmsg", &file.display().to_string()])?;
        let report: Value = serde_json::from_str(&json).with_context(|| json.clone())?;
        let domain = message
            .split("TLS-Report-Domain: ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .context("the report has no TLS-Report-Domain")?;
        let mut policies: Vec<String> = report["policies"]
            .as_array()
            .into_iter()
            .flatten()
            .map(in_short)
            .collect();
        policies.sort();
        Ok((domain.to_owned(), policies.join(", ")))
    }
}

/// A policy of a report: its type, and how many sessions had which results.
fn in_short(policy: &Value) -> String {
    let mut results = Vec::new();
    let succeeded = policy["summary"]["total-successful-session-count"].as_u64();
    if let Some(succeeded) = succeeded.filter(|many| *many > 0) {
        results.push(format!("{succeeded} ok"));
    }
    for failure in policy["failure-details"].as_array().into_iter().flatten() {
        let name = failure["result-type"].as_str().unwrap_or("?");
        results.push(format!("{} {name}", failure["failed-session-count"]));
    }
    let name = policy["policy"]["policy-type"].as_str().unwrap_or("?");
    format!("{name}: {}", results.join(" and "))
}

/// Recipients that notifications are about, with action and status.
fn notices(messages: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for message in messages {
        let field = |name: &str| {
            let mut lines = message.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(|value| value.trim().to_owned())
        };
        let (Some(recipient), Some(action), Some(status)) =
            (field("Final-Recipient"), field("Action"), field("Status"))
        else {
            continue;
        };
        let recipient = recipient.rsplit(';').next().unwrap_or_default().trim().to_owned();
        found.insert(recipient, format!("{action} {status}"));
    }
    found
}
