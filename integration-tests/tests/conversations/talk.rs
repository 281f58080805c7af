//! One connection of a conversation: whole responses, with their literals.

use anyhow::{Result, ensure};
use mox_integration_tests::Mox;
use mox_integration_tests::client::Lines;

/// Longer than any response takes to come, also in a debug build on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Talk {
    pub lines: Lines,
}

impl Talk {
    pub fn connect(mox: &Mox, tls: bool) -> Result<Self> {
        let lines = if tls {
            Lines::connect_tls(mox.imaps())?
        } else {
            Lines::connect(mox.imap())?
        };
        lines.set_timeout(PATIENCE)?;
        Ok(Self { lines })
    }

    /// The next response, with literals in place, without its last CRLF.
    pub fn response(&mut self) -> Result<Vec<u8>> {
        let mut response = self.lines.line_bytes()?;
        while let Some(length) = literal(&response) {
            response.extend_from_slice(b"\r\n");
            response.extend(self.lines.exactly(length)?);
            response.extend(self.lines.line_bytes()?);
        }
        Ok(response)
    }

    /// Sends a command that must succeed.
    pub fn command(&mut self, command: &str) -> Result<()> {
        self.lines.send(format!("~ {command}\r\n"))?;
        loop {
            let response = self.response()?;
            if response.starts_with(b"~ ") {
                let text = String::from_utf8_lossy(&response).into_owned();
                ensure!(text.starts_with("~ OK"), "{command:?} was answered with {text:?}");
                return Ok(());
            }
        }
    }
}

fn literal(line: &[u8]) -> Option<usize> {
    let rest = line.strip_suffix(b"}")?;
    let start = rest.iter().rposition(|b| *b == b'{')? + 1;
    std::str::from_utf8(&rest[start..]).ok()?.parse().ok()
}
