//! Postfix from Debian, as an instance of its own in a temporary folder: own configuration, queue and addresses.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Lines, succeed};
use crate::{Process, wait};

/// Where Debian puts the programs that are not for users.
const DAEMONS: &str = "/usr/lib/postfix/sbin";
/// How long it has to end its processes.
const STOPPING: Duration = Duration::from_secs(20);

/// The services of every instance, as Debian has them, without those that listen. SMTP is without a chroot.
const SERVICES: &str = "
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
smtp      unix  -       -       CHROOT  -       -       smtp
relay     unix  -       -       CHROOT  -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// How an instance differs from others.
#[derive(Debug, Default)]
pub struct PostfixSettings<'a> {
    /// Lines of main.cf, after those that every instance has.
    pub main: &'a str,
    /// Where it receives mail, each with options of its smtpd. The first is waited for.
    pub listeners: &'a [(SocketAddr, &'a str)],
    /// Its etc/resolv.conf: then it asks that DNS, from within the folder of the queue.
    pub resolv_conf: Option<&'a str>,
}

/// A running instance. It ends, and its folder is removed, when this is dropped.
pub struct Postfix {
    master: Process,
    folder: TempDir,
}

impl Postfix {
    /// Starts one.
    ///
    /// # Errors
    /// If it is missing, does not take the settings, or does not answer; or if this is not run as root, without which it
    /// does nothing.
    pub fn start(settings: &PostfixSettings<'_>) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "Postfix only runs as root: use sudo"
        );
        let program = Path::new(DAEMONS).join("master");
        ensure!(
            program.exists(),
            "Postfix is missing: run 'tools/deps test', which installs what the tests need"
        );
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.path().join(name);
        for name in ["config", "spool", "data", "mail"] {
            fs::create_dir(at(name))?;
        }
        if let Some(resolv_conf) = settings.resolv_conf {
            fs::create_dir(at("spool/etc"))?;
            fs::write(at("spool/etc/resolv.conf"), resolv_conf)?;
            // What the C library needs within the folder.
            for file in ["services", "nsswitch.conf", "hosts"] {
                let _ = fs::copy(format!("/etc/{file}"), at("spool/etc").join(file));
            }
        }
        fs::write(
            at("config/main.cf"),
            format!("{}{}\n", main_cf(folder.path()), settings.main),
        )?;
        let chroot = if settings.resolv_conf.is_some() { "y" } else { "n" };
        let listeners = settings
            .listeners
            .iter()
            .map(|(address, options)| format!("{address} inet n - n - - smtpd {options}\n"));
        let master = format!(
            "{}{}",
            listeners.collect::<String>(),
            SERVICES.trim_start().replace("CHROOT", chroot)
        );
        fs::write(at("config/master.cf"), master)?;
        succeed("chown", &["postfix", &text(&at("data")), &text(&at("mail"))], "")?;
        let config = text(&at("config"));
        // Makes the folders of the queue.
        succeed("postfix", &["-c", &config, "check"], "")?;
        let mut master = Process::start("postfix", &program, &["-c", &config, "-d"], &at("log"))?;
        if let Some((address, _)) = settings.listeners.first() {
            wait::until("Postfix to answer", wait::DEADLINE, || {
                if let Some(status) = master.exited()? {
                    bail!("Postfix ended with {status}:\n{}", master.log());
                }
                let line = Lines::connect(*address)?.line()?;
                ensure!(line.starts_with("220 "), "it greets with {line:?}");
                Ok(Some(()))
            })?;
        }
        Ok(Self { master, folder })
    }

    /// The folder with its configuration, for its commands.
    #[must_use]
    pub fn config(&self) -> String {
        text(&self.folder.path().join("config"))
    }

    /// The folder under which its virtual mailboxes are.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// Everything that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("maillog")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // On SIGTERM the master ends its children; on SIGKILL they would notice only later.
        if self.master.signal(Signal::TERM).is_ok() {
            let _ = self.master.wait(STOPPING);
        }
    }
}

/// What every instance has. Settings that matter for speed are Postfix's defaults.
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
         mydestination =\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         alias_maps =\n\
         virtual_transport = virtual\n\
         virtual_mailbox_base = {folder}/mail\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:{uid}\n\
         virtual_gid_maps = static:{gid}\n",
        uid = id("-u"),
        gid = id("-g"),
    )
}

/// The user that Postfix's package made, who owns the mailboxes.
fn id(option: &str) -> String {
    succeed("id", &[option, "postfix"], "")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
