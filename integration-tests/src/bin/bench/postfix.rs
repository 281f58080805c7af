//! Postfix from Debian, as an instance of its own in a temporary folder: own configuration, queue and ports; loopback
//! only; delivering to a virtual maildir. Settings that matter for speed are Postfix's defaults.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mox_integration_tests::client::{Lines, succeed};
use mox_integration_tests::{Process, free_ip, wait};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::load::Load;

/// Who receives.
pub(crate) const RECIPIENT: &str = "bench@bench.example";
const PORT: u16 = 2525;
/// Where Debian puts the programs that are not for users.
const DAEMONS: &str = "/usr/lib/postfix/sbin";

const MASTER: &str = "
ADDRESS   inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// What a relay has besides.
const RELAYING: &str = "
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
";

/// Who sends by way of a relay.
pub(crate) const SENDER: &str = "bench@bench.example";

/// A running instance.
pub(crate) struct Postfix {
    // Before the folder, so that it is stopped when the folder is removed.
    master: Process,
    address: SocketAddr,
    maildir: PathBuf,
    folder: TempDir,
}

impl Postfix {
    /// One that delivers to a maildir.
    pub(crate) fn start() -> Result<Self> {
        Self::start_as(main_cf, MASTER)
    }

    /// One that takes messages for everybody, holds them, and has another host to deliver them to.
    pub(crate) fn start_relay(host: SocketAddr) -> Result<Self> {
        let main = |folder: &Path| {
            let host = format!("[{}]:{}", host.ip(), host.port());
            format!(
                "{}relayhost = {host}\n\
                 smtpd_relay_restrictions = permit_mynetworks, reject\n\
                 smtpd_client_restrictions = check_client_access static:HOLD\n",
                main_cf(folder)
            )
        };
        Self::start_as(main, &format!("{}{RELAYING}", MASTER.trim_start()))
    }

    fn start_as(main: impl Fn(&Path) -> String, services: &str) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "Postfix only runs as root: use sudo, or --without-postfix"
        );
        let program = Path::new(DAEMONS).join("master");
        ensure!(
            program.exists(),
            "Postfix is missing: apt-get install postfix, or use --without-postfix"
        );
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.path().join(name);
        for name in ["config", "spool", "data", "mail"] {
            fs::create_dir(at(name))?;
        }
        let address = SocketAddr::new(free_ip(), PORT);
        fs::write(at("config/main.cf"), main(folder.path()))?;
        fs::write(
            at("config/master.cf"),
            services.replace("ADDRESS", &address.to_string()),
        )?;
        succeed("chown", &["postfix", &text(&at("data")), &text(&at("mail"))], "")?;
        let config = text(&at("config"));
        // Makes the folders of the queue.
        succeed("postfix", &["-c", &config, "check"], "")?;
        let log = at("log");
        let mut master = Process::start("postfix", &program, &["-c", &config, "-d"], &log)?;
        wait::until("Postfix to answer", wait::DEADLINE, || {
            if let Some(status) = master.exited()? {
                bail!("Postfix ended with {status}:\n{}", master.log());
            }
            let line = Lines::connect(address)?.line()?;
            ensure!(line.starts_with("220 "), "it greets with {line:?}");
            Ok(Some(()))
        })?;
        Ok(Self {
            master,
            address,
            maildir: at("mail").join("bench/new"),
            folder,
        })
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

    /// Where it receives mail.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets go what it holds.
    pub(crate) fn release(&self) -> Result<()> {
        let config = text(&self.folder.path().join("config"));
        succeed("postsuper", &["-c", &config, "-H", "ALL"], "")?;
        succeed("postqueue", &["-c", &config, "-f"], "")?;
        Ok(())
    }

    /// How many messages are in the maildir, which is not there before the first.
    fn delivered(&self) -> usize {
        fs::read_dir(&self.maildir).map_or(0, Iterator::count)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // On SIGTERM the master ends its children; on SIGKILL they would notice only later.
        if self.master.signal(Signal::TERM).is_ok() {
            let _ = self.master.wait(Duration::from_secs(20));
        }
    }
}

fn main_cf(folder: &Path) -> String {
    let folder = text(folder);
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {folder}/spool\n\
         data_directory = {folder}/data\n\
         maillog_file = {folder}/maillog\n\
         maillog_file_prefixes = {folder}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         daemon_directory = {DAEMONS}\n\
         command_directory = /usr/sbin\n\
         myhostname = bench.localhost\n\
         mydestination =\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         alias_maps =\n\
         virtual_transport = virtual\n\
         virtual_mailbox_domains = bench.example\n\
         virtual_mailbox_base = {folder}/mail\n\
         virtual_mailbox_maps = inline:{{{RECIPIENT}=bench/}}\n\
         virtual_mailbox_limit = 0\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:{uid}\n\
         virtual_gid_maps = static:{gid}\n\
         smtpd_client_connection_count_limit = 0\n",
        uid = id("-u"),
        gid = id("-g"),
    )
}

/// The user that Postfix's package made, who owns the maildir.
fn id(option: &str) -> String {
    succeed("id", &[option, "postfix"], "")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
