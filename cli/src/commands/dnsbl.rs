//! `mox dnsbl check|checkhealth`

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_mailauth::dnsbl::{self, Verdict};

use crate::command::{Command, parameter, text};
use crate::context::Context;
use crate::resolver::{block_on, resolver, with_options};

pub const CHECK: Command = Command {
    words: &["dnsbl", "check"],
    parameters: "zone ip",
    help: "Check whether an IP address is in a DNS blocklist.\n\n\
           The list's reason is printed if it is, which often names a page with more. A list is named by its zone.",
    arguments: || with_options(vec![parameter("zone"), parameter("ip")]),
    run: check,
};

pub const CHECK_HEALTH: Command = Command {
    words: &["dnsbl", "checkhealth"],
    parameters: "zone",
    help: "Check whether a DNS blocklist works.\n\n\
           A list must have the address 127.0.0.2, and must not have 127.0.0.1 (RFC 5782): one that has gone out of \
           service often has nothing, or everything.",
    arguments: || with_options(vec![parameter("zone")]),
    run: |context, matches| {
        let resolver = resolver(context, matches)?;
        let zone = text(matches, "zone");
        block_on(async { Ok(dnsbl::check_health(&resolver, zone).await?) })?;
        println!("healthy");
        Ok(ExitCode::SUCCESS)
    },
};

fn check(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (zone, ip) = (text(matches, "zone"), text(matches, "ip"));
    let ip: IpAddr = ip.parse().with_context(|| format!("{ip:?} is no IP address"))?;
    let resolver = resolver(context, matches)?;
    match block_on(async { Ok(dnsbl::look_up(&resolver, zone, ip).await) })? {
        Verdict::Clear => println!("not listed"),
        Verdict::Listed(reason) => println!("listed: {reason}"),
        Verdict::TempError(problem) => bail!("it could not be found out: {problem}"),
    }
    Ok(ExitCode::SUCCESS)
}
