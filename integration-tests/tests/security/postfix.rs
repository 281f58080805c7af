//! Postfix from Debian: receiving with and without TLS, and sending with DANE.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::{Lines, succeed};
use mox_integration_tests::{Process, free_ip, wait};
use rustix::process::Signal;

use crate::certificates::{Authority, Certificate};

/// Where Debian puts the programs that are not for users.
const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// "smtp" runs in the queue's folder, whose etc/resolv.conf names the DNS of the test.
const MASTER: &str = "
TLS:25    inet  n       -       n       -       -       smtpd
PLAIN:25  inet  n       -       n       -       -       smtpd -o smtpd_tls_security_level=none
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
smtp      unix  -       -       y       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// A running instance.
pub struct Postfix {
    master: Process,
    folder: PathBuf,
}

impl Postfix {
    /// Where it is to offer TLS, and where not, before it is started: DNS needs them.
    pub fn addresses() -> (IpAddr, IpAddr) {
        (free_ip(), free_ip())
    }

    /// Starts it, to receive for some domains, and with TLS policies for others.
    pub fn start(
        folder: &Path,
        (tls, plain): (IpAddr, IpAddr),
        dns: IpAddr,
        authority: &Authority,
        certificate: &Certificate,
        domains: &[String],
        policies: &[(String, String)],
    ) -> Result<Self> {
        let program = Path::new(DAEMONS).join("master");
        ensure!(
            program.exists(),
            "Postfix is missing: run 'make test', which installs what the tests need"
        );
        let folder = folder.join("postfix");
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.join(name);
        for name in ["config", "spool", "spool/etc", "data", "mail"] {
            fs::create_dir(at(name))?;
        }
        fs::write(
            at("spool/etc/resolv.conf"),
            format!("nameserver {dns}\noptions edns0 trust-ad\n"),
        )?;
        // What the C library needs within the folder.
        for file in ["services", "nsswitch.conf", "hosts"] {
            let _ = fs::copy(format!("/etc/{file}"), at("spool/etc").join(file));
        }
        let mut main = main_cf(&folder, authority, certificate, domains);
        let policies: Vec<String> = policies.iter().map(|(d, p)| format!("{{{d}={p}}}")).collect();
        if !policies.is_empty() {
            main.push_str(&format!(
                "smtp_tls_policy_maps = inline:{{ {} }}\n",
                policies.join(", ")
            ));
        }
        fs::write(at("config/main.cf"), main)?;
        let master = MASTER
            .replace("TLS:", &format!("{tls}:"))
            .replace("PLAIN:", &format!("{plain}:"));
        fs::write(at("config/master.cf"), master)?;
        succeed("chown", &["postfix", &text(&at("data")), &text(&at("mail"))], "")?;
        succeed("postfix", &["-c", &text(&at("config")), "check"], "")?;
        let master = Process::start("postfix", &program, &["-c", &text(&at("config")), "-d"], &at("log"))?;
        let mut this = Self { master, folder };
        wait::until("Postfix to answer", wait::DEADLINE, || {
            if let Some(status) = this.master.exited()? {
                bail!("Postfix ended with {status}:\n{}", this.master.log());
            }
            let line = Lines::connect(SocketAddr::new(tls, 25))?.line()?;
            ensure!(line.starts_with("220 "), "it greets with {line:?}");
            Ok(Some(()))
        })?;
        Ok(this)
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("maillog")).unwrap_or_default()
    }

    /// Puts a message into its queue.
    pub fn send(&self, from: &str, to: &str, message: &str) -> Result<()> {
        let config = text(&self.folder.join("config"));
        succeed("sendmail", &["-C", &config, "-i", "-f", from, to], message).map(drop)
    }

    /// What became of the message for a recipient: the end of its line in the log, and what it says of TLS with the
    /// host.
    pub fn outcome(&self, to: &str) -> Result<String> {
        let what = format!("Postfix to try {to}");
        wait::until(&what, wait::DEADLINE, || {
            let log = self.log();
            let line = log
                .lines()
                .rev()
                .find(|l| l.contains(&format!("to=<{to}>")) && l.contains("status="));
            Ok(line.map(|l| l[l.find("dsn=").unwrap_or(0)..].to_owned()))
        })
        .with_context(|| self.log())
    }

    /// The message with this subject, if it arrived for a recipient.
    pub fn message(&self, to: &str, subject: &str) -> Option<String> {
        let subject = format!("Subject: {subject}\n");
        self.messages(to).into_iter().find(|text| text.contains(&subject))
    }

    /// What arrived for a recipient.
    pub fn messages(&self, to: &str) -> Vec<String> {
        let (local, domain) = to.split_once('@').unwrap_or_default();
        let folder = self.folder.join("mail").join(format!("{local}-{domain}")).join("new");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // On SIGTERM the master ends its children; on SIGKILL they would notice only later.
        if self.master.signal(Signal::TERM).is_ok() {
            let _ = self.master.wait(std::time::Duration::from_secs(20));
        }
    }
}

fn main_cf(folder: &Path, authority: &Authority, certificate: &Certificate, domains: &[String]) -> String {
    let folder = text(folder);
    let maps: Vec<String> = domains.iter().map(|d| format!("{{x@{d}=x-{d}/}}")).collect();
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
         myhostname = postfix.example\n\
         mydestination =\n\
         inet_interfaces = all\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         alias_maps =\n\
         virtual_transport = virtual\n\
         virtual_mailbox_domains = {domains}\n\
         virtual_mailbox_base = {folder}/mail\n\
         virtual_mailbox_maps = inline:{{ {maps} }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:{uid}\n\
         virtual_gid_maps = static:{gid}\n\
         smtpd_tls_cert_file = {cert}\n\
         smtpd_tls_key_file = {key}\n\
         smtpd_tls_security_level = may\n\
         smtp_tls_security_level = dane\n\
         smtp_dns_support_level = dnssec\n\
         smtp_host_lookup = dns\n\
         smtp_tls_CAfile = {ca}\n\
         maximal_queue_lifetime = 0\n\
         smtp_tls_loglevel = 1\n",
        domains = domains.join(", "),
        maps = maps.join(", "),
        cert = certificate.cert.display(),
        key = certificate.key.display(),
        ca = authority.pem().display(),
        uid = id("-u"),
        gid = id("-g"),
    )
}

fn id(option: &str) -> String {
    succeed("id", &[option, "postfix"], "")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
