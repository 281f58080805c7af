//! IMAP, line by line.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use crate::client::Lines;

/// An IMAP session.
#[derive(Debug)]
pub struct Imap {
    /// For sending what no client would.
    pub lines: Lines,
    tag: u32,
}

impl Imap {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    /// If there is none.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let mut lines = Lines::connect(address)?;
        let greeting = lines.line()?;
        if !greeting.starts_with("* OK") {
            bail!("greeted with {greeting:?}");
        }
        Ok(Self { lines, tag: 0 })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// If the login is refused.
    pub fn login(address: SocketAddr, user: &str, password: &str) -> Result<Self> {
        let mut imap = Self::connect(address)?;
        imap.command(&format!("LOGIN \"{user}\" \"{password}\""))?;
        Ok(imap)
    }

    /// Sends a command and gives its untagged responses, with literals in place.
    ///
    /// # Errors
    /// If it is not completed with OK.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>> {
        let (responses, completion) = self.attempt(command)?;
        if !completion.starts_with("OK") {
            bail!("{command:?} was answered with {completion:?}");
        }
        Ok(responses)
    }

    /// Sends a command, and gives its untagged responses and how it was completed.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn attempt(&mut self, command: &str) -> Result<(Vec<String>, String)> {
        self.tag += 1;
        let tag = format!("a{} ", self.tag);
        self.lines.send(format!("{tag}{command}\r\n"))?;
        self.responses(&tag).with_context(|| format!("in {command:?}"))
    }

    fn responses(&mut self, tag: &str) -> Result<(Vec<String>, String)> {
        let mut responses = Vec::new();
        loop {
            let mut response = self.lines.line()?;
            while let Some(length) = literal(&response) {
                let bytes = self.lines.exactly(length)?;
                response.push_str(&String::from_utf8_lossy(&bytes));
                response.push_str(&self.lines.line()?);
            }
            match response.strip_prefix(tag) {
                Some(completion) => return Ok((responses, completion.to_owned())),
                None => responses.push(response),
            }
        }
    }

    /// Opens a mailbox read-only, and gives the number of its messages.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn examine(&mut self, mailbox: &str) -> Result<usize> {
        let responses = self.command(&format!("EXAMINE \"{mailbox}\""))?;
        let exists = responses
            .iter()
            .find_map(|r| r.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
        exists.context("no EXISTS")
    }

    /// A message by its number in the mailbox that is open.
    ///
    /// # Errors
    /// If there is none.
    pub fn message(&mut self, number: usize) -> Result<String> {
        let answer = self.command(&format!("FETCH {number} BODY.PEEK[]"))?.concat();
        // The literal is between its size and the end of the list.
        let text = answer.split_once('}').and_then(|(_, text)| text.strip_suffix(')'));
        text.map(str::to_owned)
            .with_context(|| format!("message {number} is not in {answer:?}"))
    }

    /// UID and subject of the messages from a UID on, in the mailbox that is open.
    ///
    /// # Errors
    /// If they can't be fetched.
    pub fn subjects(&mut self, from_uid: u32) -> Result<Vec<(u32, String)>> {
        let command = format!("UID FETCH {from_uid}:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
        let mut out = Vec::new();
        for response in self.command(&command)? {
            let Some(uid) = response
                .split_once("UID ")
                .and_then(|(_, r)| r.split([' ', ')']).next()?.parse().ok())
            else {
                continue;
            };
            let subject = response
                .split_once("Subject: ")
                .map_or("", |(_, r)| r.lines().next().unwrap_or_default());
            // n:* always has the last message, also when its UID is lower.
            if uid >= from_uid {
                out.push((uid, subject.trim_end_matches([')', ' ']).to_owned()));
            }
        }
        Ok(out)
    }
}

fn literal(line: &str) -> Option<usize> {
    let rest = line.strip_suffix('}')?;
    rest[rest.rfind('{')? + 1..].trim_end_matches('+').parse().ok()
}
