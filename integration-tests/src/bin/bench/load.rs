//! Runs mailbench.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{PASSWORD, USER, binary};

/// Of a message, in bytes.
const SIZE: usize = 4096;

/// Where messages go.
pub(crate) struct Load<'a> {
    pub(crate) smtp: SocketAddr,
    pub(crate) to: &'a str,
}

impl Load<'_> {
    /// Accepted messages a second.
    pub(crate) fn rate(&self, connections: usize, count: usize) -> Result<f64> {
        self.rate_of(connections, count, &[])
    }

    /// As [`Load::rate`], with options of mailbench.
    pub(crate) fn rate_of(&self, connections: usize, count: usize, options: &[&str]) -> Result<f64> {
        // What was written before, by whomever, is not to be written while this is measured.
        rustix::fs::sync();
        let (smtp, size) = (self.smtp.to_string(), SIZE.to_string());
        let (connections, total) = (connections.to_string(), count.to_string());
        let mut args = vec!["smtp", "--addr", &smtp, "--to", self.to, "--conns", &connections];
        args.extend(["--count", &total, "--size", &size]);
        args.extend(options);
        let printed = mailbench(&args)?;
        ensure!(
            value(&printed, "ok")? as usize == count,
            "not all messages were accepted: {printed}"
        );
        // Its own division, as it prints whole messages only.
        Ok(count as f64 / value(&printed, "secs")?)
    }

    /// Milliseconds from the end of DATA to EXISTS on an idle IMAP connection, at the median.
    pub(crate) fn notify_ms(&self, imap: SocketAddr, count: usize) -> Result<f64> {
        let (smtp, imap, count) = (self.smtp.to_string(), imap.to_string(), count.to_string());
        let printed = mailbench(&[
            "e2e", "--smtp", &smtp, "--imap", &imap, "--user", USER, "--pass", PASSWORD, "--to", self.to, "--count",
            &count,
        ])?;
        value(&printed, "notify_p50_ms")
    }
}

/// Whose mailbox.
pub(crate) struct Who<'a> {
    pub(crate) imap: SocketAddr,
    pub(crate) user: &'a str,
}

impl Who<'_> {
    fn run(&self, mode: &str, mailbox: &str, options: &[(&str, &str)]) -> Result<String> {
        let address = self.imap.to_string();
        let mut args = vec![mode, "--addr", &address, "--user", self.user, "--pass", PASSWORD];
        args.extend(["--mailbox", mailbox]);
        for (name, value) in options {
            args.extend([*name, *value]);
        }
        mailbench(&args)
    }

    /// Messages appended a second, each synced before the next of its connection.
    pub(crate) fn append(&self, mailbox: &str, connections: usize, count: usize, size: usize) -> Result<f64> {
        let (connections, total, size) = (connections.to_string(), count.to_string(), size.to_string());
        let printed = self.run(
            "append",
            mailbox,
            &[("--conns", &connections), ("--count", &total), ("--size", &size)],
        )?;
        // Its own division, as it prints whole messages only.
        Ok(count as f64 / value(&printed, "secs")?)
    }

    /// A figure of fetching, or searching: at the median of so many times.
    pub(crate) fn fetch(&self, mailbox: &str, what: &str, repeats: usize, figure: &str) -> Result<f64> {
        let repeats = repeats.to_string();
        let printed = self.run("fetch", mailbox, &[("--what", what), ("--repeat", &repeats)])?;
        value(&printed, figure)
    }
}

/// Measurements take longer than a client may in a scenario, so this has no limit of time.
fn mailbench(args: &[&str]) -> Result<String> {
    let done = std::process::Command::new(binary("mailbench")?)
        .args(args)
        .output()
        .context("starting mailbench")?;
    // Errors first: what was refused is said there.
    let printed = [done.stderr, done.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let printed = printed.concat();
    ensure!(done.status.success(), "mailbench {args:?} failed: {printed}");
    Ok(printed)
}

fn value(printed: &str, key: &str) -> Result<f64> {
    let found = printed
        .split_whitespace()
        .find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    found
        .with_context(|| format!("mailbench printed no {key}: {printed}"))?
        .parse()
        .context("reading a figure")
}

/// The middle one of several measurements.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
