//! The files of `mox localserve`, made at its first start.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use mox_config::{DYNAMIC_FILE, Source, Static};
use mox_control::{make_private_dir, replace};
use mox_service::Kind;

use crate::context::localserve_dir;
use crate::quickstart::certificate;

/// Name of the account.
pub const ACCOUNT: &str = "mox";
/// Its password, which is no secret.
pub const PASSWORD: &str = "moxmoxmox";
/// Its address.
pub const ADDRESS: &str = "mox@localhost";
/// Added to the usual ports, so that root is not needed.
const PORT_OFFSET: u16 = 1000;
/// Certificates are for this long: browsers and mail programs refuse longer ones.
const CERTIFICATE_DAYS: i64 = 825;

const CERT_FILE: &str = "localhost.crt";
const KEY_FILE: &str = "localhost.key";

/// The configuration, made if it does not exist. Answers its file, and whether it is new.
///
/// # Errors
/// If it cannot be made.
pub fn prepare(dir: &str, ip: &str) -> Result<(PathBuf, bool)> {
    let dir = if dir.is_empty() {
        localserve_dir().context("finding the user's configuration folder: set HOME, or name a folder with -dir")?
    } else {
        PathBuf::from(dir)
    };
    let file = dir.join("mox.toml");
    if file.exists() {
        if !ip.is_empty() {
            eprintln!(
                "mox: -ip has no effect, since {} exists: change ips there",
                file.display()
            );
        }
        return Ok((file, false));
    }
    let ips = if ip.is_empty() {
        loopback()
    } else {
        vec![ip.parse().with_context(|| format!("-ip {ip}"))?]
    };
    write(&dir, &file, &ips)
        .with_context(|| format!("writing the configuration of localserve into {}", dir.display()))?;
    Ok((file, true))
}

/// Loopback addresses that there are.
fn loopback() -> Vec<IpAddr> {
    let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        ips.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    ips
}

fn write(dir: &Path, file: &Path, ips: &[IpAddr]) -> Result<()> {
    make_private_dir(dir)?;
    let dynamic_file = dir.join(DYNAMIC_FILE);
    let fixed_text = fixed_text(ips);
    let source = Source {
        file: file.to_owned(),
        text: fixed_text.clone(),
    };
    let fixed = source.parse_static()?;
    Source {
        file: dynamic_file.clone(),
        text: DOMAINS.to_owned(),
    }
    .parse_dynamic(&fixed)?;
    let names = ["localhost".to_owned()]
        .into_iter()
        .chain(ips.iter().map(ToString::to_string))
        .collect();
    let certificate = certificate::self_signed(names, CERTIFICATE_DAYS)?;
    replace(&dir.join(CERT_FILE), certificate.cert_pem.as_bytes(), 0o644)?;
    replace(&dir.join(KEY_FILE), certificate.key_pem.as_bytes(), 0o600)?;
    if dynamic_file.exists() {
        bail!(
            "{} exists without mox.toml: remove it, or use another folder",
            dynamic_file.display()
        );
    }
    replace(&dynamic_file, DOMAINS.as_bytes(), 0o600)?;
    // Last: with it, the folder counts as complete.
    replace(file, fixed_text.as_bytes(), 0o600)?;
    Ok(())
}

const DOMAINS: &str = r#"# Domains and accounts. Changes take effect at once. See: mox config describe-domains

[domains.localhost]
localpart_catchall_separator = "+"

[accounts.mox]
domain = "localhost"
max_outgoing_messages_per_day = 1000000000
max_first_time_recipients_per_day = 1000000000
no_first_time_sender_delay = true

[accounts.mox.destinations."mox@localhost"]

# Whatever nobody else has.
[accounts.mox.destinations."@localhost"]

# Everything is delivered to localserve itself, whatever its domain.
[[routes]]
transport = "self"
"#;

fn fixed_text(ips: &[IpAddr]) -> String {
    let port = |usual: u16| usual + PORT_OFFSET;
    let list: Vec<String> = ips.iter().map(|ip| format!("\"{ip}\"")).collect();
    // What is unspecified is every address of the host, so also this one.
    let own = match ips.first() {
        Some(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        Some(ip) => ip.to_string(),
        None => "127.0.0.1".to_owned(),
    };
    format!(
        r#"# Configuration of mox localserve, for developing software that uses email. Changes take effect at the next start.
# See: mox config describe-static

data_dir = "data"
log_level = "info"
hostname = "localhost"

# No limits on rates, and mail for unknown addresses is kept too.
[localserve]
address = "{ADDRESS}"

[postmaster]
account = "{ACCOUNT}"
mailbox = "Postmaster"

[dns]
validate = false

[listeners.local]
ips = [{ips}]

[listeners.local.tls]
key_certs = [{{ cert_file = "{CERT_FILE}", key_file = "{KEY_FILE}" }}]

[listeners.local.smtp]
enabled = true
port = {smtp}
first_time_sender_delay = "0s"

[listeners.local.submission]
enabled = true
port = {submission}
no_require_starttls = true

[listeners.local.submissions]
enabled = true
port = {submissions}

[listeners.local.imap]
enabled = true
port = {imap}
no_require_starttls = true

[listeners.local.imaps]
enabled = true
port = {imaps}

[listeners.local.metrics_http]
enabled = true
port = {metrics}

# Where the queue delivers everything: see the route in domains.toml.
[transports.self.smtp]
host = "{own}"
port = {smtp}
no_starttls = true
"#,
        ips = list.join(", "),
        smtp = port(25),
        submission = port(587),
        submissions = port(465),
        imap = port(143),
        imaps = port(993),
        metrics = port(8010),
    )
}

/// What is printed when it serves: where, and how to log in.
pub fn banner(file: &Path, fixed: &Static, new: bool) -> String {
    let mut out = String::new();
    if new {
        let _ = writeln!(
            out,
            "Configuration, data and certificate were made in {}",
            file.parent().unwrap_or(file).display()
        );
    }
    let _ = writeln!(out, "mox {} localserve", env!("CARGO_PKG_VERSION"));
    for listener in fixed.listeners.values() {
        let ips: Vec<String> = listener.ips.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "\n  on {}", ips.join(" and "));
        for (kind, text) in [
            (Kind::Smtp, "SMTP, for mail from other servers: no login needed"),
            (Kind::Submission, "submission, for sending: plain, or STARTTLS"),
            (Kind::Submissions, "submission over TLS"),
            (Kind::Imap, "IMAP, for reading: plain, or STARTTLS"),
            (Kind::Imaps, "IMAP over TLS"),
            (Kind::Metrics, "metrics, at /metrics over HTTP"),
        ] {
            if let Some(port) = kind.port(listener) {
                let _ = writeln!(out, "    {port:>5}  {text}");
            }
        }
    }
    let _ = write!(
        out,
        "\n  Log in as {ADDRESS} with password {PASSWORD} (unless you changed it).\n  \
         The certificate is signed by itself: {}\n  \
         Mail for any address arrives in the account {ACCOUNT}; what is submitted is delivered here too.\n  \
         To stop: Ctrl-C, or mox -config {} stop\n\n",
        file.with_file_name(CERT_FILE).display(),
        file.display(),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_good_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("new/folder");
        let place = place.to_str().unwrap();
        let (file, new) = prepare(place, "127.0.0.9").unwrap();
        assert!(new);
        let (fixed, config) = mox_config::load(&file).unwrap();
        assert_eq!(fixed.listeners["local"].ips, ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(fixed.transports["self"].smtp.as_ref().unwrap().host, "127.0.0.9");
        assert_eq!(config.accounts[ACCOUNT].destinations.len(), 2);
        assert!(file.with_file_name(CERT_FILE).exists() && file.with_file_name(KEY_FILE).exists());
        let text = banner(&file, &fixed, true);
        assert!(text.contains(" 1587 ") && text.contains(PASSWORD), "{text}");
        let before = std::fs::read(&file).unwrap();
        assert!(!prepare(place, "").unwrap().1);
        assert_eq!(std::fs::read(&file).unwrap(), before);
        assert!(prepare(dir.path().join("x").to_str().unwrap(), "no-ip").is_err());
    }
}
