//! MTA-STS policies over time: kept while their host is away, fetched again, over; and hosts that never finish.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Dns, Mox, Options, Shape, Sink, USER, free_ip, lock, wait};
use serde_json::Value;
use toml_edit::{Array, table, value};

use crate::certificates::{Authority, Certificate};
use crate::mox::submit;
use crate::policies::{self, Answer, Policies};

/// Two days, in seconds.
const MAX_AGE: u32 = 2 * 24 * 3600;
/// A day and a bit: a policy in use is fetched again.
const DAY_HOURS: u32 = 25;
/// More than the two days of the policy, from when it was fetched again.
const OVER_HOURS: u32 = DAY_HOURS + 49;
/// Domains whose policies come byte by byte.
const SLOW: usize = 5;
/// A policy is waited for no longer than a minute (RFC 8461 §3.3).
const FETCH: Duration = Duration::from_secs(60);

fn policy(mode: &str) -> Answer {
    Answer::text(&format!(
        "version: STSv1\r\nmode: {mode}\r\nmx: mx.kept.example\r\nmax_age: {MAX_AGE}\r\n"
    ))
}

/// A sender that delivers directly, with a host that takes mail without TLS, and a DNS that can be changed.
struct World {
    sender: Mox,
    sink: Sink,
    _dns: Dns,
    folder: tempfile::TempDir,
    policy_ip: IpAddr,
    policies: Option<Policies>,
}

impl World {
    fn start(domains: &[String], answer: impl Fn(&str) -> Option<Answer>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("keeping-").tempdir()?;
        let path = folder.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let sink = Sink::start_on((free_ip(), 25).into(), true)?;
        let policy_ip = free_ip();
        let dns = Dns::serve(free_ip(), &records(domains, sink.address().ip(), policy_ip))?;
        let authority = Authority::new(path)?;
        let hosts: Vec<String> = domains.iter().map(|domain| format!("mta-sts.{domain}")).collect();
        let certificate = authority.issue("policies", &hosts)?;
        let served: Vec<(String, Answer)> = domains
            .iter()
            .zip(hosts)
            .filter_map(|(domain, host)| Some((host, answer(domain)?)))
            .collect();
        let policies = policies::serve(path, policy_ip, &certificate, &served)?;
        let mut sender = Mox::prepare(
            Shape::Single,
            &Options {
                host_with_dns: Some(dns.address()),
                ..Options::default()
            },
        )?;
        directly(&sender, &authority.pem())?;
        sender.start_first()?;
        Ok(Self {
            sender,
            sink,
            _dns: dns,
            folder,
            policy_ip,
            policies: Some(policies),
        })
    }

    fn send(&self, domain: &str, subject: &str) -> Result<()> {
        let message = format!(
            "From: <{USER}>\nTo: <x@{domain}>\nSubject: {subject}\nMessage-ID: <{subject}@{domain}>\n\
             Date: Mon, 23 Nov 2026 09:00:00 +0000\n\nhello\n"
        );
        submit(&self.sender, &format!("x@{domain}"), &message)
    }

    fn arrived(&self, subject: &str) -> bool {
        self.sink.taken().iter().any(|taken| taken.subject == subject)
    }

    /// Waits until the only message of the queue was tried so often, and gives what became of that.
    fn tried(&self, times: u64) -> Result<String> {
        wait::until("an attempt", wait::DEADLINE, || {
            let list = self.sender.command(&["queue", "list", "-json"])?;
            let line = list
                .lines()
                .find(|line| line.starts_with('{'))
                .context("the queue is empty")?;
            let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let results = entry["results"].as_array().map_or(0, Vec::len);
            Ok((results as u64 >= times && entry["attempts"].as_u64() >= Some(times))
                .then(|| entry["results"].to_string()))
        })
    }

    fn fetches(&self, result: &str) -> Result<u64> {
        let name = format!("mox_queue_delivery_mtasts_fetches_total{{result=\"{result}\"}}");
        let figure = self.sender.figure("queue-delivery", &name)?;
        Ok(figure.map_or(Ok(0), |figure| figure.parse())?)
    }
}

fn records(domains: &[String], sink: IpAddr, policies: IpAddr) -> String {
    let of = |domain: &String| {
        format!(
            "{domain} MX 10 mx.{domain}\nmx.{domain} A {sink}\n_mta-sts.{domain} TXT v=STSv1; id=1;\n\
             mta-sts.{domain} A {policies}\n"
        )
    };
    domains.iter().map(of).collect()
}

/// Has mail go to the hosts of its recipients.
pub fn directly(sender: &Mox, authority: &Path) -> Result<()> {
    sender.edit_config(|config| {
        config.remove("transports");
        let ca = config["tls"].or_insert(table())["ca"].or_insert(table());
        ca["cert_files"] = value(Array::from_iter([authority.display().to_string()]));
    })?;
    let path = sender.config_dir().join("domains.toml");
    let mut domains: toml_edit::DocumentMut = fs::read_to_string(&path)?.parse()?;
    domains.remove("routes");
    Ok(fs::write(&path, domains.to_string())?)
}

#[test]
fn a_policy_is_kept_refreshed_and_over() -> Result<()> {
    let _lock = lock::shared()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the ports 25 and 443 need root");
        return Ok(());
    }
    let domain = "kept.example".to_owned();
    let mut world = World::start(std::slice::from_ref(&domain), |_| Some(policy("enforce")))?;
    // The host has no TLS: as long as the policy is known, it gets nothing.
    world.send(&domain, "first")?;
    let result = world.tried(1)?;
    ensure!(
        result.contains("the MTA-STS policy of kept.example demands it"),
        "{result}"
    );
    ensure!(world.fetches("ok")? == 1);

    // The policy's host goes, and with it what this process remembers.
    world.policies = None;
    world.sender.restart()?;
    world.sender.command(&["queue", "schedule", "-now", "0"])?;
    let result = world.tried(2)?;
    ensure!(
        result.matches("the MTA-STS policy of kept.example demands it").count() == 2,
        "{result}"
    );
    ensure!((world.fetches("ok")?, world.fetches("sts-policy-fetch-error")?) == (0, 0));

    // A day later it can't be fetched again, which changes nothing.
    world.sender.set_ahead(DAY_HOURS);
    world.sender.restart()?;
    wait::until("the policy to be asked for", wait::DEADLINE, || {
        Ok((world.fetches("sts-policy-fetch-error")? == 1).then_some(()))
    })?;
    let result = world.tried(3)?;
    ensure!(
        result.matches("the MTA-STS policy of kept.example demands it").count() == 3,
        "{result}"
    );

    // Its host is back, and an hour after the failure it is fetched, and good for two days more.
    let path = world.folder.path();
    let certificate = Certificate {
        cert: path.join("policies.crt"),
        key: path.join("policies.key"),
    };
    let served = ("mta-sts.kept.example".to_owned(), policy("enforce"));
    world.policies = Some(policies::serve(path, world.policy_ip, &certificate, &[served])?);
    world.sender.set_ahead(DAY_HOURS + 2);
    world.sender.restart()?;
    wait::until("the policy to be fetched again", wait::DEADLINE, || {
        Ok((world.fetches("ok")? == 1).then_some(()))
    })?;

    // Two days later, without its host, it is over: mail goes, as if there were none.
    world.policies = None;
    world.sender.set_ahead(OVER_HOURS + 2);
    world.sender.restart()?;
    wait::until("the message", wait::DEADLINE, || {
        Ok(world.arrived("first").then_some(()))
    })
    .with_context(|| world.sender.log_tails())?;
    Ok(())
}

#[test]
fn policies_that_never_end_hold_up_nobody_else() -> Result<()> {
    let _lock = lock::shared()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the ports 25 and 443 need root");
        return Ok(());
    }
    let slow: Vec<String> = (0..SLOW).map(|n| format!("slow{n}.example")).collect();
    let all: Vec<String> = slow.iter().cloned().chain(["quick.example".to_owned()]).collect();
    let world = World::start(&all, |domain| {
        // A policy by which the host would get nothing.
        let enforce = policy("enforce");
        domain.starts_with("slow").then(|| enforce.with_more("slowly"))
    })?;
    let begun = Instant::now();
    for domain in &slow {
        world.send(domain, domain)?;
    }
    world.send("quick.example", "quick")?;
    wait::until("the message to who answers", wait::DEADLINE, || {
        Ok(world.arrived("quick").then_some(()))
    })?;
    ensure!(
        begun.elapsed() < FETCH / 2 && !slow.iter().any(|domain| world.arrived(domain)),
        "it took {:?}, and {:?} arrived",
        begun.elapsed(),
        world.sink.taken()
    );
    // The others go when the minute is over, as if there were no policy.
    wait::until("the messages to who does not", 2 * FETCH, || {
        Ok(slow.iter().all(|domain| world.arrived(domain)).then_some(()))
    })
    .with_context(|| world.sender.log_tails())?;
    ensure!(begun.elapsed() >= FETCH, "{:?}", begun.elapsed());
    let failed = world.fetches("sts-policy-fetch-error")?;
    ensure!(failed == SLOW as u64 + 1, "{failed} fetches failed");
    Ok(())
}
