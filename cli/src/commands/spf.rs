//! `mox spf check|lookup|parse`

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use mox_mailauth::spf::{self, Outcome, Query, Record};

use crate::command::{Command, flag, parameter, text};
use crate::commands::dns::ascii_name;
use crate::context::Context;
use crate::resolver::{block_on, dnssec, resolver, with_options};

pub const CHECK: Command = Command {
    words: &["spf", "check"],
    parameters: "domain ip",
    help: "Check whether a host may send mail for a domain, by the SPF policy of the domain in DNS.\n\n\
           Printed are the result (pass, fail, softfail, neutral, none, temperror or permerror), the mechanism of the \
           policy that matched, the explanation that a domain may have for whom it refuses, and whether DNSSEC protects \
           the policy. The exit code is 0 for every result but temperror and permerror.",
    arguments: || {
        with_options(vec![
            parameter("domain"),
            parameter("ip"),
            flag("json", "print a JSON object"),
        ])
    },
    run: check,
};

pub const LOOKUP: Command = Command {
    words: &["spf", "lookup"],
    parameters: "domain",
    help: "Look up the SPF policy of a domain in DNS, and print it.\n\n\
           The policy is checked for mistakes, too.",
    arguments: || with_options(vec![parameter("domain")]),
    run: lookup,
};

pub const PARSE: Command = Command {
    words: &["spf", "parse"],
    parameters: "txtrecord",
    help: "Check the text of an SPF policy for mistakes.\n\n\
           Nothing is printed if there are none. It must begin with \"v=spf1\".",
    arguments: || vec![parameter("txtrecord")],
    run: |_, matches| {
        Record::parse(text(matches, "txtrecord").as_bytes()).context("the text is no valid SPF policy")?;
        Ok(ExitCode::SUCCESS)
    },
};

fn check(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let ip: IpAddr = text(matches, "ip")
        .parse()
        .with_context(|| format!("{:?} is no IP address", text(matches, "ip")))?;
    let resolver = resolver(context, matches)?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let query = Query {
        ip,
        helo: &domain,
        localpart: "postmaster",
        domain: &domain,
        receiver: "localhost",
        now: i64::try_from(now.as_secs()).unwrap_or_default(),
    };
    let verdict = block_on(async { Ok(spf::check_host(&resolver, &query).await) })?;
    if matches.get_flag("json") {
        let answer = serde_json::json!({
            "result": verdict.outcome.as_str(),
            "mechanism": verdict.mechanism,
            "explanation": verdict.explanation,
            "problem": verdict.problem,
            "dnssec": verdict.status == mox_dns::Status::Secure,
        });
        println!("{answer}");
    } else {
        println!("result: {} ({})", verdict.outcome, dnssec(verdict.status));
        let lines = [
            ("mechanism", &verdict.mechanism),
            ("explanation", &verdict.explanation),
            ("problem", &verdict.problem),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                println!("{name}: {value}");
            }
        }
    }
    Ok(match verdict.outcome {
        Outcome::TempError | Outcome::PermError => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn lookup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let resolver = resolver(context, matches)?;
    match block_on(async { Ok(spf::lookup(&resolver, &domain).await) })? {
        Ok((text, _, status)) => {
            println!("{text}");
            println!("({})", dnssec(status));
            Ok(ExitCode::SUCCESS)
        }
        Err((outcome, problem)) => anyhow::bail!("{outcome}: {problem}"),
    }
}
