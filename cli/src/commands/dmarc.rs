//! `mox dmarc lookup|verify|checkreportaddrs`

use std::io::Read as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_dns::Resolver;
use mox_mailauth::{dmarc, message, results::Results, spf};

use crate::command::{Command, parameter, text};
use crate::commands::dns::ascii_name;
use crate::context::Context;
use crate::resolver::{block_on, dnssec, resolver, with_options};

/// Octets of a message that is read. The server takes no larger ones.
pub const MESSAGE_BYTES: u64 = 100 << 20;

pub const LOOKUP: Command = Command {
    words: &["dmarc", "lookup"],
    parameters: "domain",
    help: "Look up the DMARC policy that applies to a domain, check it, and print it.\n\n\
           The policy is a TXT record at _dmarc and the domain, or a domain above it (RFC 9989).",
    arguments: || with_options(vec![parameter("domain")]),
    run: lookup,
};

pub const VERIFY: Command = Command {
    words: &["dmarc", "verify"],
    parameters: "remoteip mailfromaddress helodomain < message",
    help: "Evaluate a message from standard input against the DMARC policy of the domain in its From field.\n\n\
           The remote IP address, MAIL FROM address and HELO domain are those of the SMTP transaction that brought the \
           message, and are needed for SPF; its Received fields have them. The address of a delivery status notification \
           is empty: \"\". If address and HELO domain both are, SPF is left out.",
    arguments: || {
        with_options(vec![
            parameter("remoteip"),
            parameter("mailfromaddress"),
            parameter("helodomain"),
        ])
    },
    run: verify,
};

pub const CHECK_REPORT_ADDRESSES: Command = Command {
    words: &["dmarc", "checkreportaddrs"],
    parameters: "domain",
    help: "Check for each address for reports in a domain's DMARC policy whether it agrees to get them.\n\n\
           Who gets reports about another organization's domain must agree, by a record at \
           <policydomain>._report._dmarc.<addressdomain>. The exit code is 1 if an address does not.",
    arguments: || with_options(vec![parameter("domain")]),
    run: check_report_addresses,
};

fn lookup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let resolver = resolver(context, matches)?;
    let policy = block_on(async { Ok(dmarc::lookup(&resolver, &domain).await?) })?;
    let Some(policy) = policy else {
        bail!("{domain} has no DMARC policy, and no domain above it has one for it");
    };
    println!("policy of {}: {}", policy.domain, policy.policy.as_str());
    println!("record: {}", policy.text);
    println!("({})", dnssec(policy.status));
    Ok(ExitCode::SUCCESS)
}

fn check_report_addresses(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let resolver = resolver(context, matches)?;
    let checked = block_on(async { Ok(dmarc::check_report_addresses(&resolver, &domain).await?) })?;
    if checked.is_empty() {
        println!("the policy asks for no reports");
    }
    let mut all = true;
    for (address, agreed) in checked {
        println!("{address}: {}", if agreed { "agrees" } else { "does not agree" });
        all &= agreed;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let ip = text(matches, "remoteip");
    let ip: IpAddr = ip.parse().with_context(|| format!("{ip:?} is no IP address"))?;
    let helo = ascii_name(text(matches, "helodomain"))?;
    let address = text(matches, "mailfromaddress");
    let (localpart, domain) = match address {
        "" => ("postmaster".to_owned(), helo.clone()),
        address => {
            let address: mox_types::Address = address.parse().with_context(|| format!("{address:?} is no address"))?;
            (address.localpart.as_str().to_owned(), address.domain.ascii().to_owned())
        }
    };
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MESSAGE_BYTES)
        .read_to_end(&mut bytes)
        .context("reading a message from standard input")?;
    // Files often have the line ends of the system; signatures are over those of the network.
    let bytes = mox_message::to_crlf(&bytes).into_owned();
    let resolver: Arc<dyn Resolver> = Arc::new(resolver(context, matches)?);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let query = spf::Query {
        ip,
        helo: &helo,
        localpart: &localpart,
        domain: &domain,
        receiver: "localhost",
        now: i64::try_from(now.as_secs()).unwrap_or_default(),
    };
    let (checked, verdicts) = block_on(async {
        let checked = match domain.is_empty() {
            true => None,
            false => Some(spf::check_host(&*resolver, &query).await),
        };
        let spf = checked.clone().unwrap_or_default();
        let verdicts = message::verify(Arc::clone(&resolver), bytes.into(), &domain, &spf).await?;
        Ok((checked, verdicts))
    })?;
    let results = Results {
        authserv_id: "localhost",
        ip,
        iprev: None,
        helo: checked
            .as_ref()
            .filter(|_| address.is_empty())
            .map(|v| (v, helo.as_str())),
        mail_from: checked.as_ref().filter(|_| !address.is_empty()).map(|v| (v, address)),
        message: &verdicts,
    };
    let text = results.to_string().replace("\r\n", "\n");
    print!("{text}");
    let dmarc = &verdicts.dmarc;
    println!(
        "dmarc of {}: {}, policy {} of {} ({})",
        or_none(&dmarc.domain),
        dmarc.outcome.as_str(),
        dmarc.policy.as_str(),
        or_none(&dmarc.policy_domain),
        dnssec(dmarc.status)
    );
    Ok(ExitCode::SUCCESS)
}

fn or_none(domain: &str) -> &str {
    if domain.is_empty() { "no domain" } else { domain }
}
