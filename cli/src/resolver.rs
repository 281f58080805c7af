//! Asking DNS from the command line: as the configuration says, or as the options do.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches};
use mox_dns::{Settings, Status, SystemResolver};

use crate::command::{option, text};
use crate::context::{Context, folder_of};

/// DNS' port.
const PORT: u16 = 53;

/// The options of every command that asks DNS, behind its own arguments.
pub fn with_options(mut arguments: Vec<Arg>) -> Vec<Arg> {
    arguments.push(option(
        "resolver",
        "ip[:port]",
        "ask this recursive server in place of those of the configuration or the system",
    ));
    arguments.push(option(
        "trustanchor",
        "file",
        "validate DNSSEC with the DNSKEY records of this zone file in place of the root's",
    ));
    arguments
}

/// The resolver that the options and the configuration ask for. Without a configuration, the system's servers are asked,
/// and DNSSEC is validated here.
///
/// # Errors
/// If an option is misformed, or its file can't be read.
pub fn resolver(context: &Context, matches: &ArgMatches) -> Result<SystemResolver> {
    let mut settings = match context.load_static() {
        Ok((file, fixed)) => Settings {
            servers: fixed.dns.servers.clone(),
            validate: fixed.dns.validate && !fixed.dns.trust_ad,
            trust_ad: fixed.dns.trust_ad,
            trust_anchor_file: fixed
                .dns
                .trust_anchor_file
                .as_ref()
                .map(|anchor| folder_of(&file).join(anchor)),
        },
        // These commands are also for machines without a mox of their own.
        Err(_) => Settings {
            validate: true,
            ..Settings::default()
        },
    };
    let server = text(matches, "resolver");
    if !server.is_empty() {
        settings.servers = vec![address(server)?];
        // Another server is not known to be trusted.
        settings.trust_ad = false;
        settings.validate = true;
    }
    let anchor = text(matches, "trustanchor");
    if !anchor.is_empty() {
        settings.trust_anchor_file = Some(PathBuf::from(anchor));
        settings.trust_ad = false;
        settings.validate = true;
    }
    Ok(SystemResolver::new(&settings)?)
}

fn address(given: &str) -> Result<SocketAddr> {
    if let Ok(ip) = given.parse::<IpAddr>() {
        return Ok((ip, PORT).into());
    }
    given.parse().with_context(|| {
        format!("option -resolver: {given:?} is no address; say 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53")
    })
}

/// A DNSSEC status in words.
pub fn dnssec(status: Status) -> &'static str {
    match status {
        Status::Secure => "with dnssec",
        Status::Insecure => "without dnssec (proven to be unsigned)",
        Status::Indeterminate => "without dnssec (not validated)",
        Status::Bogus => "with bogus dnssec",
    }
}

/// Runs what asks DNS.
///
/// # Errors
/// Those of what it runs.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A read of standard input that nobody answers any more does not hold up the end.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses() {
        assert_eq!(address("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(address("127.0.0.1:5353").unwrap().port(), 5353);
        assert_eq!(address("2001:db8::1").unwrap().to_string(), "[2001:db8::1]:53");
        assert!(address("dns.example").unwrap_err().to_string().contains("-resolver"));
    }
}
