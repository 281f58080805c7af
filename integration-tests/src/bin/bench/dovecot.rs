//! Dovecot from Debian, as an instance of its own in a temporary folder: own configuration and port; loopback only; IMAP
//! only, without TLS. Settings that matter for speed are Dovecot's defaults, but for the two that are named in [`conf`].

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mox_integration_tests::client::{Lines, succeed};
use mox_integration_tests::{PASSWORD, Process, free_ip, wait};
use rustix::process::Signal;
use tempfile::TempDir;

/// Whose mailbox it is.
pub(crate) const USER: &str = "bench";
const PORT: u16 = 1143;
const PROGRAM: &str = "/usr/sbin/dovecot";

/// A running instance.
pub(crate) struct Dovecot {
    // Before the folder, so that it is stopped when the folder is removed.
    master: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Dovecot {
    /// Starts it with mail in this format: `sdbox`, `mdbox` or `maildir`.
    pub(crate) fn start(format: &str) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "Dovecot only runs as root: use sudo, or --without-dovecot"
        );
        let program = Path::new(PROGRAM);
        ensure!(
            program.exists(),
            "Dovecot is missing: apt-get install dovecot-imapd, or use --without-dovecot"
        );
        let folder = tempfile::Builder::new().prefix("dovecot-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.path().join(name);
        for name in ["run", "mail"] {
            fs::create_dir(at(name))?;
        }
        succeed("chown", &["mail:mail", &at("mail").to_string_lossy()], "")?;
        let address = SocketAddr::new(free_ip(), PORT);
        fs::write(at("dovecot.conf"), conf(folder.path(), address, format))?;
        let config = at("dovecot.conf").to_string_lossy().into_owned();
        let mut master = Process::start("dovecot", program, &["-F", "-c", &config], &at("output"))?;
        let log = at("log");
        wait::until("Dovecot to answer", wait::DEADLINE, || {
            if let Some(status) = master.exited()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("Dovecot ended with {status}:\n{}{said}", master.log());
            }
            let line = Lines::connect(address)?.line()?;
            ensure!(line.starts_with("* OK "), "it greets with {line:?}");
            Ok(Some(()))
        })?;
        Ok(Self {
            master,
            address,
            _folder: folder,
        })
    }

    pub(crate) fn imap(&self) -> SocketAddr {
        self.address
    }

    /// Of all its processes, as their share of what several have in common.
    pub(crate) fn memory(&self) -> Result<u64> {
        let mut bytes = 0;
        let mut parents = vec![self.master.id()];
        while let Some(parent) = parents.pop() {
            bytes += proportional(parent).unwrap_or(0);
            let path = format!("/proc/{parent}/task/{parent}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            parents.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        ensure!(bytes > 0, "Dovecot has ended");
        Ok(bytes)
    }
}

/// The memory of a process, that which it shares with others divided among them.
fn proportional(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // On SIGTERM the master ends its children; on SIGKILL they would notice only later.
        if self.master.signal(Signal::TERM).is_ok() {
            let _ = self.master.wait(Duration::from_secs(20));
        }
    }
}

/// `mail_fsync=optimized` syncs each message that is appended. Login processes serve many connections each, as else
/// thousands of idle ones would count theirs too.
fn conf(folder: &Path, address: SocketAddr, format: &str) -> String {
    let folder = folder.to_string_lossy();
    let (ip, port) = (address.ip(), address.port());
    format!(
        "protocols = imap\n\
         listen = {ip}\n\
         base_dir = {folder}/run\n\
         state_dir = {folder}/run\n\
         log_path = {folder}/log\n\
         ssl = no\n\
         disable_plaintext_auth = no\n\
         mail_location = {format}:~/{format}\n\
         mail_fsync = optimized\n\
         mail_max_userip_connections = 0\n\
         first_valid_uid = 1\n\
         default_client_limit = 8000\n\
         default_vsz_limit = 0\n\
         passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
         userdb {{\n  driver = static\n  args = uid=mail gid=mail home={folder}/mail/%u\n}}\n\
         service imap-login {{\n  service_count = 0\n  inet_listener imap {{\n    port = {port}\n  }}\n  \
         inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service imap {{\n  process_limit = 4000\n}}\n\
         service anvil {{\n  client_limit = 16000\n}}\n\
         namespace inbox {{\n  inbox = yes\n}}\n"
    )
}
