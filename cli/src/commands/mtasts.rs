//! `mox mtasts lookup`

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use clap::ArgMatches;
use mox_dns::Resolver;
use mox_tlspolicy::mtasts::{Connect, Fetcher, Stream, find_record, host_of};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Command, flag, parameter, text};
use crate::commands::dane::trust;
use crate::commands::dns::ascii_name;
use crate::context::Context;
use crate::resolver::{block_on, resolver, with_options};

/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

pub const LOOKUP: Command = Command {
    words: &["mtasts", "lookup"],
    parameters: "domain",
    help: "Look up the MTA-STS record and policy of a domain, and print them.\n\n\
           With MTA-STS, a domain says which hosts take its mail, and that they do so with verified TLS (RFC 8461). A TXT \
           record at _mta-sts and the domain says that there is a policy; the policy is fetched from \
           https://mta-sts.<domain>/.well-known/mta-sts.txt. It has a mode (enforce, testing or none), the hosts, and how \
           long it may be kept. The exit code is 1 if either is missing or not valid.",
    arguments: || with_options(vec![parameter("domain"), flag("json", "print a JSON object")]),
    run: lookup,
};

/// Directly.
struct Tcp;

#[async_trait]
impl Connect for Tcp {
    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await;
        Ok(Box::new(
            stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?,
        ))
    }
}

fn lookup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    let trust = trust(context)?;
    let resolver: Arc<dyn Resolver> = Arc::new(resolver(context, matches)?);
    let fetcher = Fetcher::new(Arc::clone(&resolver), Arc::new(Tcp), trust.verified());
    let json = matches.get_flag("json");
    block_on(async {
        let (record, record_text, _) = match find_record(&*resolver, &domain).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => bail!("{domain} does not use MTA-STS: {error}"),
            Err(error) => return Err(error.into()),
        };
        if !json {
            println!("record: {record_text}");
        }
        let fetched = fetcher.fetch(&domain).await?;
        let policy = &fetched.policy;
        if json {
            let answer = serde_json::json!({
                "domain": domain,
                "record": record_text,
                "id": record.id,
                "mode": policy.mode.as_str(),
                "max_age": policy.max_age.as_secs(),
                "mx": policy.mx,
            });
            println!("{answer}");
        } else {
            println!("policy of https://{}/.well-known/mta-sts.txt:", host_of(&domain));
            for line in policy.lines() {
                println!("{line}");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
