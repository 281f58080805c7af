//! A DNS of our own: zones signed with ldns-signzone, served by nsd, asked through unbound, which validates them.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Process, run, wait};

/// The signed zone. Everything of the tests is below it.
pub const SIGNED: &str = "example";
/// Delegated out of it without signatures.
pub const UNSIGNED: &str = "plain.example";
/// Where nsd listens; unbound has the usual port.
const AUTHORITY_PORT: u16 = 5300;

/// A running DNS.
pub struct Dns {
    _processes: Vec<Process>,
    /// The recursive server, at port 53.
    pub ip: IpAddr,
    /// The key that is trusted, as a zone file.
    pub anchor: PathBuf,
}

impl Dns {
    /// Serves records at an address, as lines of a zone file with absolute names: those below [`UNSIGNED`] without signatures.
    /// `broken` are replaced after signing: a text, and by what.
    pub fn start(folder: &Path, ip: IpAddr, records: &[String], broken: &[(String, String)]) -> Result<Self> {
        let (unsigned, signed): (Vec<&String>, Vec<&String>) = records.iter().partition(|line| {
            let name = line.split_whitespace().next().unwrap_or_default().trim_end_matches('.');
            name.ends_with(&format!(".{UNSIGNED}")) || name == UNSIGNED
        });
        let zone = |name: &str, lines: &[&String], more: &str| {
            let lines: Vec<&str> = lines.iter().map(|l| l.as_str()).collect();
            format!(
                "$TTL 60\n{name}. SOA ns.{name}. hostmaster.{name}. 1 3600 600 86400 60\n{name}. NS ns.{name}.\n\
                 ns.{name}. A {ip}\n{more}{}\n",
                lines.join("\n")
            )
        };
        let delegation = format!("{UNSIGNED}. NS ns.{UNSIGNED}.\nns.{UNSIGNED}. A {ip}\n");
        fs::write(folder.join("signed.zone"), zone(SIGNED, &signed, &delegation))?;
        fs::write(folder.join("unsigned.zone"), zone(UNSIGNED, &unsigned, ""))?;
        let anchor = sign(folder)?;
        let path = folder.join("signed.zone.signed");
        let mut text = fs::read_to_string(&path)?;
        for (old, new) in broken {
            ensure!(text.contains(old), "the signed zone does not have {old:?}");
            text = text.replace(old, new);
        }
        fs::write(&path, text)?;
        fs::write(folder.join("nsd.conf"), nsd(folder, ip))?;
        fs::write(folder.join("unbound.conf"), unbound(folder, ip, &anchor))?;
        let start = |name: &str, program: &str| {
            let config = folder.join(format!("{name}.conf")).to_string_lossy().into_owned();
            let log = folder.join(format!("{name}.log"));
            ensure!(
                Path::new(program).exists(),
                "{program} is missing: run 'make test', which installs what the tests need"
            );
            Process::start(name, Path::new(program), &["-d", "-c", &config], &log)
        };
        let processes = vec![start("nsd", "/usr/sbin/nsd")?, start("unbound", "/usr/sbin/unbound")?];
        wait::until("DNS to answer", wait::DEADLINE, || {
            answers(ip)?;
            Ok(Some(()))
        })
        .with_context(|| processes.iter().map(Process::log_tail).collect::<String>())?;
        Ok(Self {
            _processes: processes,
            ip,
            anchor,
        })
    }
}

/// Whether the zone's SOA is answered.
fn answers(ip: IpAddr) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(SocketAddr::new(ip, 53))?;
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, SIGNED.len() as u8];
    question.extend(SIGNED.as_bytes());
    question.extend([0, 0, 6, 0, 1]);
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // RFC 1035 §4.1.1: the code, and the count of answers.
    ensure!(
        length > 12 && answer[3] & 0xf == 0 && answer[7] > 0,
        "DNS does not answer yet"
    );
    Ok(())
}

/// Makes a key, signs the zone with it, and gives the file with its DNSKEY.
fn sign(folder: &Path) -> Result<PathBuf> {
    let in_folder = |program: &str, args: &str| {
        let script = format!("cd {} && {program} {args}", folder.display());
        succeed("sh", &["-c", &script], "")
    };
    ensure!(
        run("ldns-keygen", &["-v"], "").is_ok(),
        "ldns-keygen is missing: run 'make test', which installs what the tests need"
    );
    let key = in_folder("ldns-keygen", &format!("-a ECDSAP256SHA256 -k {SIGNED}."))?;
    let key = key
        .lines()
        .next()
        .context("ldns-keygen names no key")?
        .trim()
        .to_owned();
    in_folder("ldns-signzone", &format!("signed.zone {key}"))?;
    Ok(folder.join(format!("{key}.key")))
}

fn nsd(folder: &Path, ip: IpAddr) -> String {
    let folder = folder.display();
    format!(
        "server:\n  ip-address: {ip}@{AUTHORITY_PORT}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{folder}\"\n  \
         database: \"\"\n  pidfile: \"{folder}/nsd.pid\"\n  xfrdfile: \"\"\n  zonelistfile: \"{folder}/nsd.list\"\n  \
         server-count: 1\nremote-control:\n  control-enable: no\n\
         zone:\n  name: {SIGNED}\n  zonefile: signed.zone.signed\n\
         zone:\n  name: {UNSIGNED}\n  zonefile: unsigned.zone\n"
    )
}

fn unbound(folder: &Path, ip: IpAddr, anchor: &Path) -> String {
    let stub = |zone| format!("stub-zone:\n  name: {zone}\n  stub-addr: {ip}@{AUTHORITY_PORT}\n");
    format!(
        "server:\n  interface: {ip}\n  port: 53\n  do-daemonize: no\n  use-syslog: no\n  username: \"\"\n  chroot: \"\"\n  \
         directory: \"{folder}\"\n  pidfile: \"{folder}/unbound.pid\"\n  access-control: 127.0.0.0/8 allow\n  \
         do-not-query-localhost: no\n  trust-anchor-file: \"{anchor}\"\n  num-threads: 1\n  do-ip6: no\n  \
         module-config: \"validator iterator\"\nremote-control:\n  control-enable: no\n{}{}\
         forward-zone:\n  name: \".\"\n  forward-addr: {ip}@{AUTHORITY_PORT}\n",
        stub(SIGNED),
        stub(UNSIGNED),
        folder = folder.display(),
        anchor = anchor.display(),
    )
}
