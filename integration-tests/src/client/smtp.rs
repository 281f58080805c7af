//! SMTP, line by line.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use crate::client::Lines;

/// A reply with all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// Its lines, without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether any line begins so, in any case: for EHLO's keywords.
    #[must_use]
    pub fn has(&self, keyword: &str) -> bool {
        self.lines
            .iter()
            .any(|l| l.get(..keyword.len()).is_some_and(|l| l.eq_ignore_ascii_case(keyword)))
    }
}

/// An SMTP session.
#[derive(Debug)]
pub struct Smtp {
    /// For sending what no client would.
    pub lines: Lines,
}

impl Smtp {
    /// Connects, reads the greeting, and says EHLO.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Self::begin(Lines::connect(address)?)
    }

    /// As [`Smtp::connect`], from an address of this host.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        Self::begin(Lines::connect_from(from, address)?)
    }

    fn begin(lines: Lines) -> Result<Self> {
        let mut smtp = Self { lines };
        smtp.expect(220)?;
        smtp.command("EHLO client.example", 250)?;
        Ok(smtp)
    }

    /// The next reply.
    ///
    /// # Errors
    /// If the connection is gone, or what comes is no reply.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.line()?;
            let code = line
                .get(..3)
                .and_then(|c| c.parse().ok())
                .with_context(|| format!("{line:?} is no reply"))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// The next reply, which must have this code.
    ///
    /// # Errors
    /// If it has another.
    pub fn expect(&mut self, code: u16) -> Result<Reply> {
        let reply = self.reply()?;
        if reply.code != code {
            bail!("expected {code}, got {} {}", reply.code, reply.lines.join(" / "));
        }
        Ok(reply)
    }

    /// Sends a command, and reads its reply, which must have this code.
    ///
    /// # Errors
    /// If it has another.
    pub fn command(&mut self, command: &str, code: u16) -> Result<Reply> {
        self.lines.send(format!("{command}\r\n"))?;
        self.expect(code).with_context(|| format!("after {command:?}"))
    }

    /// Everything up to and with DATA.
    ///
    /// # Errors
    /// If a reply is not as it should be.
    pub fn start_data(&mut self, from: &str, to: &str) -> Result<()> {
        self.command(&format!("MAIL FROM:<{from}>"), 250)?;
        self.command(&format!("RCPT TO:<{to}>"), 250)?;
        self.command("DATA", 354)?;
        Ok(())
    }

    /// Sends a message, which must have CRLF as line ends, end with one, and have no line that starts with a dot.
    /// Gives the reply to its end.
    ///
    /// # Errors
    /// If it does not get that far.
    pub fn message(&mut self, from: &str, to: &str, message: &str) -> Result<Reply> {
        self.start_data(from, to)?;
        self.lines.send(format!("{message}.\r\n"))?;
        self.reply()
    }
}
