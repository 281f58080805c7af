//! Senders whose DNS answers slowly, or never.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Abuse, PATIENCE};
use crate::client::Smtp;

impl Abuse<'_> {
    /// Mail of senders whose names [`crate::Dns`] never answers for, each another one.
    ///
    /// # Errors
    /// If it is not put off.
    pub fn silent_dns(&self) -> Result<String> {
        let started = Instant::now();
        let mut sessions = self.ask(|n| format!("MAIL FROM:<a@u{n}.silent.example>\r\n"))?;
        for session in &mut sessions {
            let reply = session.expect(451).context("a sender that DNS tells nothing about")?;
            ensure!(reply.lines.concat().starts_with("4.4.3"), "{reply:?}");
        }
        Ok(format!("451 4.4.3 after {}", seconds(started)))
    }

    /// Mail of senders whose names [`crate::Dns`] is slow to answer for, each another one.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn slow_dns(&self) -> Result<String> {
        let started = Instant::now();
        let to = &self.ordinary.1;
        let mut sessions = self.ask(|n| {
            format!(
                "MAIL FROM:<a@u{n}.slow.example>\r\nRCPT TO:<{to}>\r\nDATA\r\nFrom: <a@u{n}.slow.example>\r\n\
                 Subject: slow {n}\r\n\r\nhello\r\n.\r\n"
            )
        })?;
        for session in &mut sessions {
            for code in [250, 250, 354, 250] {
                session.expect(code).context("a sender whose DNS is slow")?;
            }
        }
        Ok(format!("250 after {}", seconds(started)))
    }

    fn ask(&self, commands: impl Fn(usize) -> String) -> Result<Vec<Smtp>> {
        let sessions = (0..self.sizes.askers).map(|n| {
            let mut session = Smtp::connect(self.smtp)?;
            session.lines.set_timeout(PATIENCE)?;
            session.lines.send(commands(n))?;
            Ok(session)
        });
        sessions.collect()
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", Duration::as_secs_f64(&since.elapsed()))
}
