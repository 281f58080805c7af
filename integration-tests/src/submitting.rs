//! Many messages into a queue.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

use crate::client::{Smtp, base64};
use crate::mox::{PASSWORD, USER};

/// Messages to submit.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// Where to.
    pub address: SocketAddr,
    /// Whether to log in.
    pub login: bool,
    /// Sender.
    pub from: &'a str,
    /// How many.
    pub count: usize,
    /// Recipients of each.
    pub recipients: usize,
    /// Bytes of each, about.
    pub size: usize,
    /// Connections at the same time.
    pub connections: usize,
}

impl Messages<'_> {
    /// Submits all of them. Message number `n`, from 0, has the subject `nN-x`, and goes to `to(n * recipients)` and what
    /// follows.
    ///
    /// # Errors
    /// If one is not taken.
    pub fn submit(&self, to: impl Fn(usize) -> String + Sync) -> Result<()> {
        let next = AtomicUsize::new(0);
        let line = "some words that fill a line of the message up to here\r\n";
        let text = line.repeat(self.size / line.len());
        std::thread::scope(|threads| {
            let all: Vec<_> = (0..self.connections.max(1))
                .map(|_| {
                    threads.spawn(|| -> Result<()> {
                        let mut smtp = Smtp::connect(self.address)?;
                        if self.login {
                            let login = base64(&format!("\0{USER}\0{PASSWORD}"));
                            smtp.command(&format!("AUTH PLAIN {login}"), 235)?;
                        }
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= self.count {
                                return Ok(());
                            }
                            self.one(&mut smtp, n, &text, &to)?;
                        }
                    })
                })
                .collect();
            for thread in all {
                thread.join().map_err(|_| anyhow!("a submitting thread panicked"))??;
            }
            Ok(())
        })
    }

    fn one(&self, smtp: &mut Smtp, n: usize, text: &str, to: &impl Fn(usize) -> String) -> Result<()> {
        let mut envelope = format!("MAIL FROM:<{}>\r\n", self.from);
        let first = n * self.recipients;
        for recipient in first..first + self.recipients {
            envelope.push_str(&format!("RCPT TO:<{}>\r\n", to(recipient)));
        }
        smtp.lines.send(format!("{envelope}DATA\r\n"))?;
        for _ in 0..=self.recipients {
            smtp.expect(250)?;
        }
        smtp.expect(354)?;
        smtp.lines
            .send(format!("From: <{}>\r\nSubject: n{n}-x\r\n\r\n{text}.\r\n", self.from))?;
        smtp.expect(250)?;
        Ok(())
    }
}
