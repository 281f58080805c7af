//! `mox dns lookup`

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_dns::{RecordType, Resolver, Status};

use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::resolver::{block_on, dnssec, resolver, with_options};

pub const LOOKUP: Command = Command {
    words: &["dns", "lookup"],
    parameters: "[ptr | mx | cname | ips | a | aaaa | ns | txt | srv | tlsa] name",
    help: "Look up the DNS records of a name.\n\n\
           The records are printed one a line, as in a zone file, with the name that has them if CNAMEs led there, and \
           whether DNSSEC protects the answer. With ptr, the name may be an IP address. Without a type, IP addresses are \
           looked up. The exit code is 1 if there is no such record.\n\n\
           Examples:\n  mox dns lookup ptr 192.0.2.1\n  mox dns lookup mx example.org\n  \
           mox dns lookup txt _dmarc.example.org\n  mox dns lookup tlsa _25._tcp.mail.example.org",
    arguments: || {
        with_options(vec![
            parameter("type"),
            parameter("name").required(false),
            flag("json", "print a JSON object"),
        ])
    },
    run: lookup,
};

/// What is asked for.
enum Question {
    /// Of one type.
    Of(RecordType),
    /// A and AAAA.
    Ips,
}

fn question(word: &str) -> Option<Question> {
    Some(Question::Of(match word {
        "ptr" => RecordType::Ptr,
        "mx" => RecordType::Mx,
        "cname" => RecordType::Cname,
        "ips" => return Some(Question::Ips),
        "a" => RecordType::A,
        "aaaa" => RecordType::Aaaa,
        "ns" => RecordType::Ns,
        "txt" => RecordType::Txt,
        "srv" => RecordType::Srv,
        "tlsa" => RecordType::Tlsa,
        _ => return None,
    }))
}

fn lookup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (first, second) = (text(matches, "type"), text(matches, "name"));
    let (kind, name) = match (question(first), second) {
        (Some(kind), name) if !name.is_empty() => (kind, name),
        (_, "") => (Question::Ips, first),
        (None, _) => bail!("{first:?} is no type of records that is known; see mox help dns lookup"),
        (Some(_), _) => bail!("say which name to look up"),
    };
    let resolver = resolver(context, matches)?;
    let name = wire_name(&kind, name)?;
    let answer = block_on(async {
        match kind {
            Question::Of(kind) => {
                let answer = resolver.lookup(&name, kind).await;
                Ok(answer.map(|a| {
                    let mut records: Vec<String> = a.records.iter().map(ToString::to_string).collect();
                    records.sort();
                    (records, a.canonical, a.status)
                }))
            }
            Question::Ips => {
                let answer = resolver.addresses(&name).await;
                Ok(answer.map(|a| {
                    (
                        a.records.iter().map(ToString::to_string).collect(),
                        a.canonical,
                        a.status,
                    )
                }))
            }
        }
    })?;
    let (records, canonical, status) = match answer {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            print(matches, &name, &[], &name, error.status);
            eprintln!("{error} ({})", dnssec(error.status));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    print(matches, &name, &records, &canonical, status);
    Ok(ExitCode::SUCCESS)
}

fn print(matches: &ArgMatches, name: &str, records: &[String], canonical: &str, status: Status) {
    if matches.get_flag("json") {
        let answer = serde_json::json!({
            "name": name,
            "canonical": canonical,
            "records": records,
            "dnssec": status == Status::Secure,
        });
        println!("{answer}");
        return;
    }
    if records.is_empty() {
        return;
    }
    if !canonical.eq_ignore_ascii_case(name.trim_end_matches('.')) {
        println!("{name} is {canonical}");
    }
    for record in records {
        println!("{record}");
    }
    println!("({})", dnssec(status));
}

/// The name that is asked for: of an address with ptr; otherwise as A-labels.
fn wire_name(kind: &Question, given: &str) -> Result<String> {
    if let (Question::Of(RecordType::Ptr), Ok(ip)) = (kind, given.parse::<IpAddr>()) {
        return Ok(mox_dns::reverse_name(ip));
    }
    ascii_name(given)
}

/// A name as A-labels. Service labels such as `_dmarc` stay.
pub fn ascii_name(given: &str) -> Result<String> {
    if given.is_ascii() {
        return Ok(given.to_owned());
    }
    let domain: mox_types::Domain = given.parse().with_context(|| format!("{given:?} is no domain name"))?;
    Ok(domain.ascii().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_as_dns_has_them() {
        let ptr = Question::Of(RecordType::Ptr);
        assert_eq!(wire_name(&ptr, "192.0.2.1").unwrap(), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            wire_name(&Question::Ips, "_dmarc.example.org.").unwrap(),
            "_dmarc.example.org."
        );
        assert_eq!(
            wire_name(&Question::Ips, "m\u{fc}nchen.example").unwrap(),
            "xn--mnchen-3ya.example"
        );
        assert!(question("any").is_none());
    }
}
