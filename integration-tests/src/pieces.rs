//! The system as processes of their own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use toml_edit::{DocumentMut, table, value};

use crate::client::Lines;
use crate::mox::{Mox, text};
use crate::process::{Process, binary};

/// The services, each with a binary `mox-<name>`.
pub(crate) const SERVICES: [&str; 8] = [
    "store",
    "smtp-in",
    "submission",
    "imap",
    "queue-delivery",
    "web",
    "acme",
    "control",
];
/// Where the first of them answers gRPC; the others follow.
const RPC_PORT: u16 = 7001;
/// Where the first of them gives metrics and health; the others follow.
const METRICS_PORT: u16 = 7101;
const NATS_PORT: u16 = 4222;

fn config_file(config_dir: &Path, service: &str) -> PathBuf {
    config_dir.join(format!("{service}.toml"))
}

/// Writes a configuration for each service, from that of the single process.
pub(crate) fn write_configs(mox: &Mox) -> Result<()> {
    let ip = mox.ip();
    let common = std::fs::read_to_string(mox.config_file()).context("reading mox.toml")?;
    for (n, service) in (0..).zip(SERVICES) {
        let mut config: DocumentMut = common.parse().context("reading mox.toml")?;
        let rpc = config["rpc"].or_insert(table());
        rpc["listen"] = value(format!("{ip}:{}", RPC_PORT + n));
        rpc["metrics_listen"] = value(format!("{ip}:{}", METRICS_PORT + n));
        let services = rpc["services"].or_insert(table());
        for (m, other) in (0..).zip(SERVICES) {
            services[other] = value(format!("{ip}:{}", RPC_PORT + m));
        }
        config["events"].or_insert(table())["nats_url"] = value(format!("nats://{ip}:{NATS_PORT}"));
        let path = config_file(mox.config_dir(), service);
        std::fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Where a service gives metrics and health.
pub(crate) fn metrics_port(service: &str) -> u16 {
    let place = (0..).zip(SERVICES).find(|(_, name)| *name == service);
    METRICS_PORT + place.map_or(0, |(n, _)| n)
}

pub(crate) fn start_service(mox: &Mox, service: &str, log: &Path) -> Result<Process> {
    let config = text(&config_file(mox.config_dir(), service));
    let program = binary(&format!("mox-{service}"))?;
    Process::start_ahead(service, &program, &["-config", &config], log, mox.ahead(), None)
}

pub(crate) fn start_nats(ip: IpAddr, log: &Path) -> Result<Process> {
    let found = [
        "/usr/sbin/nats-server",
        "/usr/local/bin/nats-server",
        "/usr/bin/nats-server",
    ]
    .map(Path::new);
    let program = found.into_iter().find(|p| p.exists());
    let program = program.context("nats-server is missing: run 'make test', which installs what the tests need")?;
    Process::start(
        "nats",
        program,
        &["-a", &ip.to_string(), "-p", &NATS_PORT.to_string()],
        log,
    )
}

/// Asks each service whether it is ready.
pub(crate) fn all_ready(ip: IpAddr) -> Result<()> {
    for (n, service) in (0..).zip(SERVICES) {
        let mut lines = Lines::connect(SocketAddr::new(ip, METRICS_PORT + n))?;
        lines.set_timeout(Duration::from_secs(5))?;
        lines.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let status = lines.line()?;
        if !status.contains(" 200 ") {
            bail!("{service} is not ready: {status} {}", lines.rest()?);
        }
    }
    Ok(())
}
