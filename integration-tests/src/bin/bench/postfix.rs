//! Postfix from Debian: delivering to a virtual maildir, or relaying. Settings that matter for speed are its defaults.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Postfix as Instance, PostfixSettings, free_ip, wait};

use crate::load::Load;

/// Who receives.
pub(crate) const RECIPIENT: &str = "bench@bench.example";
/// Who sends by way of a relay.
pub(crate) const SENDER: &str = "bench@bench.example";
const PORT: u16 = 2525;

/// A running instance.
pub(crate) struct Postfix {
    instance: Instance,
    address: SocketAddr,
}

impl Postfix {
    /// One that delivers to a maildir.
    pub(crate) fn start() -> Result<Self> {
        Self::start_as("")
    }

    /// One that takes messages for everybody, holds them, and has another host to deliver them to.
    pub(crate) fn start_relay(host: SocketAddr) -> Result<Self> {
        Self::start_as(&format!(
            "relayhost = [{}]:{}\n\
             smtpd_relay_restrictions = permit_mynetworks, reject\n\
             smtpd_client_restrictions = check_client_access static:HOLD\n",
            host.ip(),
            host.port()
        ))
    }

    fn start_as(more: &str) -> Result<Self> {
        let address = SocketAddr::new(free_ip(), PORT);
        let main = format!(
            "myhostname = bench.localhost\n\
             inet_interfaces = loopback-only\n\
             virtual_mailbox_domains = bench.example\n\
             virtual_mailbox_maps = inline:{{{RECIPIENT}=bench/}}\n\
             virtual_mailbox_limit = 0\n\
             smtpd_client_connection_count_limit = 0\n\
             {more}"
        );
        let instance = Instance::start(&PostfixSettings {
            main: &main,
            listeners: &[(address, "")],
            ..PostfixSettings::default()
        })?;
        Ok(Self { instance, address })
    }

    /// Accepted messages a second. Returns when all are delivered: what it still delivers would slow the next
    /// measurement.
    pub(crate) fn rate(&self, connections: usize, count: usize) -> Result<f64> {
        self.rate_of(connections, count, &[])
    }

    /// As [`Postfix::rate`], with options of mailbench.
    pub(crate) fn rate_of(&self, connections: usize, count: usize, options: &[&str]) -> Result<f64> {
        let before = self.delivered();
        let load = Load {
            smtp: self.address,
            to: RECIPIENT,
        };
        let rate = load.rate_of(connections, count, options)?;
        wait::until("Postfix to deliver", Duration::from_secs(600), || {
            let delivered = self.delivered() - before;
            ensure!(delivered >= count, "{delivered} of {count} are delivered");
            Ok(Some(()))
        })?;
        Ok(rate)
    }

    /// Removes what was delivered, so that it is as at first.
    pub(crate) fn empty(&self) -> Result<()> {
        let delivered = self.instance.mail().join("bench/new");
        for message in fs::read_dir(delivered).into_iter().flatten() {
            fs::remove_file(message?.path())?;
        }
        Ok(())
    }

    /// Where it receives mail.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets go what it holds.
    pub(crate) fn release(&self) -> Result<()> {
        let config = self.instance.config();
        succeed("postsuper", &["-c", &config, "-H", "ALL"], "")?;
        succeed("postqueue", &["-c", &config, "-f"], "")?;
        Ok(())
    }

    /// How many messages are in the maildir, which is not there before the first.
    fn delivered(&self) -> usize {
        fs::read_dir(self.instance.mail().join("bench/new")).map_or(0, Iterator::count)
    }
}
