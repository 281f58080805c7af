//! `mox dmarc parsereportmsg`, `mox tlsrpt lookup|parsereportmsg`

use std::io::Read as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use mox_dns::Resolver as _;
use mox_proto::report::v1::{DmarcReport, DmarcRow};
use mox_reports::find::{Found, find, read};
use mox_reports::uris::{self, Destination};
use mox_reports::{dmarc, limits, tls, unpack};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::command::{Command, flag, parameter, text};
use crate::commands::dmarc::MESSAGE_BYTES;
use crate::commands::dns::ascii_name;
use crate::context::Context;
use crate::resolver::{block_on, dnssec, resolver, with_options};

pub const DMARC_PARSE: Command = Command {
    words: &["dmarc", "parsereportmsg"],
    parameters: "message ...",
    help: "Read the DMARC aggregate reports in messages, and print what they say.\n\n\
           Receivers send such reports to the addresses that a domain's DMARC record names: which hosts sent mail in its \
           name, and whether SPF and DKIM showed that they may. A file can also be the report alone, packed or not; \"-\" \
           is standard input. Whether the message is from who it says is not looked at.",
    arguments: || vec![files(), flag("json", "print JSON")],
    run: parse_dmarc,
};

pub const TLS_PARSE: Command = Command {
    words: &["tlsrpt", "parsereportmsg"],
    parameters: "message ...",
    help: "Read the TLS reports in messages, and print them as JSON (RFC 8460).\n\n\
           Senders tell so how many connections to a domain's hosts used TLS as its policy asks, and why others did not. A \
           file can also be the report alone, packed or not; \"-\" is standard input.",
    arguments: || vec![files()],
    run: parse_tls,
};

pub const TLS_LOOKUP: Command = Command {
    words: &["tlsrpt", "lookup"],
    parameters: "domain",
    help: "Look up the TLSRPT record of a domain, check it, and print it.\n\n\
           It is a TXT record at _smtp._tls and the domain, and says where others send their reports about TLS when they \
           deliver mail to the domain (RFC 8460).",
    arguments: || with_options(vec![parameter("domain")]),
    run: lookup_tls,
};

fn files() -> Arg {
    Arg::new("message").num_args(1..).required(true).value_name("message")
}

/// The report in a message, or in a file that is one.
fn report(file: &str) -> Result<Found> {
    let mut bytes = Vec::new();
    let read_to_end = match file {
        "-" => std::io::stdin().lock().take(MESSAGE_BYTES).read_to_end(&mut bytes),
        file => std::fs::File::open(file).and_then(|f| f.take(MESSAGE_BYTES).read_to_end(&mut bytes)),
    };
    read_to_end.with_context(|| format!("reading {file}"))?;
    let start = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if unpack::is_packed(&bytes) || matches!(start, Some(b'<' | b'{')) {
        return read(&bytes).with_context(|| format!("reading {file}"));
    }
    let message = mox_message::to_crlf(&bytes);
    find(&message)
        .with_context(|| format!("reading the report in {file}"))?
        .ok_or_else(|| anyhow!("{file} has no part that could be a report"))
}

fn all(matches: &ArgMatches) -> impl Iterator<Item = &String> {
    matches.get_many::<String>("message").into_iter().flatten()
}

fn parse_dmarc(_: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    for file in all(matches) {
        let Found::Dmarc(report) = report(file)? else {
            bail!("{file} has a TLS report: see mox tlsrpt parsereportmsg");
        };
        match matches.get_flag("json") {
            true => println!("{}", serde_json::to_string_pretty(&as_json(&report))?),
            false => print(&report),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_tls(_: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    for file in all(matches) {
        let Found::Tls(report) = report(file)? else {
            bail!("{file} has a DMARC report: see mox dmarc parsereportmsg");
        };
        println!("{}", tls::json(&report));
        if report.policies_omitted > 0 {
            eprintln!(
                "{} policies are left out: at most {} are read",
                report.policies_omitted,
                limits::POLICIES
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn when(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

pub(super) fn print(report: &DmarcReport) {
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            println!("{name}: {value}");
        }
    };
    line("organization", &report.org_name);
    line("contact", &report.email);
    line("more contact", &report.extra_contact_info);
    line("report", &report.report_id);
    line("made by", &report.generator);
    println!("period: {} to {}", when(report.begin), when(report.end));
    for error in &report.errors {
        line("error", error);
    }
    let policy = report.policy.clone().unwrap_or_default();
    let tags = [
        ("p", policy.p.as_str()),
        ("sp", &policy.sp),
        ("np", &policy.np),
        ("adkim", &policy.adkim),
        ("aspf", &policy.aspf),
        ("fo", &policy.fo),
        ("t", if policy.testing { "y" } else { "" }),
    ];
    let tags = tags.iter().filter(|(_, value)| !value.is_empty());
    let tags: Vec<String> = tags.map(|(name, value)| format!("{name}={value}")).collect();
    println!("policy of {}: {}", policy.domain, tags.join(" "));
    let (passed, failed) = dmarc::counts(report);
    println!("messages: {passed} passed, {failed} failed");
    for row in &report.rows {
        println!();
        print_row(row);
    }
    if report.rows_omitted > 0 {
        println!(
            "\n{} records are left out: at most {} are read",
            report.rows_omitted,
            limits::RECORDS
        );
    }
}

fn print_row(row: &DmarcRow) {
    let aligned = |yes| if yes { "pass" } else { "fail" };
    let ip = match row.source_ip.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => format!("{:?}", row.source_ip),
    };
    println!(
        "{} from {ip}: {}, dkim {}, spf {}",
        row.count,
        dmarc::disposition(row.disposition()),
        aligned(row.dkim_aligned),
        aligned(row.spf_aligned)
    );
    for reason in &row.reasons {
        let comment = match reason.comment.as_str() {
            "" => String::new(),
            comment => format!(" ({comment})"),
        };
        println!("    because: {}{comment}", reason.r#type);
    }
    println!("    from header: {}", row.header_from);
    let envelope = [("mail from", &row.envelope_from), ("rcpt to", &row.envelope_to)];
    for (name, domain) in envelope.into_iter().filter(|(_, domain)| !domain.is_empty()) {
        println!("    {name}: {domain}");
    }
    let human = |text: &str| {
        if text.is_empty() {
            String::new()
        } else {
            format!(" ({text})")
        }
    };
    for dkim in &row.dkim {
        let selector = if dkim.selector.is_empty() {
            String::new()
        } else {
            format!(" selector {}", dkim.selector)
        };
        println!(
            "    dkim: {} {}{selector}{}",
            dkim.result,
            dkim.domain,
            human(&dkim.human_result)
        );
    }
    for spf in &row.spf {
        println!("    spf: {} {}{}", spf.result, spf.domain, human(&spf.human_result));
    }
}

/// With the names of RFC 9990.
pub(super) fn as_json(report: &DmarcReport) -> Value {
    let policy = report.policy.clone().unwrap_or_default();
    let aligned = |yes| if yes { "pass" } else { "fail" };
    let row = |row: &DmarcRow| {
        json!({
            "row": {
                "source_ip": row.source_ip,
                "count": row.count,
                "policy_evaluated": {
                    "disposition": dmarc::disposition(row.disposition()),
                    "dkim": aligned(row.dkim_aligned),
                    "spf": aligned(row.spf_aligned),
                    "reason": row.reasons.iter().map(|r| json!({"type": r.r#type, "comment": r.comment})).collect::<Vec<_>>(),
                },
            },
            "identifiers": {
                "header_from": row.header_from,
                "envelope_from": row.envelope_from,
                "envelope_to": row.envelope_to,
            },
            "auth_results": {
                "dkim": row.dkim.iter().map(|d| json!({
                    "domain": d.domain, "selector": d.selector, "result": d.result, "human_result": d.human_result,
                })).collect::<Vec<_>>(),
                "spf": row.spf.iter().map(|s| json!({
                    "domain": s.domain, "scope": s.scope, "result": s.result, "human_result": s.human_result,
                })).collect::<Vec<_>>(),
            },
        })
    };
    json!({
        "version": report.version,
        "report_metadata": {
            "org_name": report.org_name,
            "email": report.email,
            "extra_contact_info": report.extra_contact_info,
            "report_id": report.report_id,
            "date_range": {"begin": report.begin, "end": report.end},
            "error": report.errors,
            "generator": report.generator,
        },
        "policy_published": {
            "domain": policy.domain,
            "discovery_method": policy.discovery_method,
            "p": policy.p,
            "sp": policy.sp,
            "np": policy.np,
            "fo": policy.fo,
            "adkim": policy.adkim,
            "aspf": policy.aspf,
            "testing": if policy.testing { "y" } else { "n" },
        },
        "records": report.rows.iter().map(row).collect::<Vec<_>>(),
        "records_omitted": report.rows_omitted,
    })
}

fn lookup_tls(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = ascii_name(text(matches, "domain"))?;
    let resolver = resolver(context, matches)?;
    let name = uris::tls_record_name(&domain);
    let answer = block_on(async { Ok(resolver.txt(&name).await?) })?;
    for text in answer.records.iter().map(|text| String::from_utf8_lossy(text)) {
        if !uris::is_tls_record(&text) {
            eprintln!("no TLSRPT record: {text:?}");
        }
    }
    let (record, parsed) = uris::only_tls_record(&answer.records).with_context(|| name.clone())?;
    println!("record: {record}");
    for destination in &parsed.destinations {
        match destination {
            Destination::Mail(address, _) => println!("reports by mail to: {address}"),
            Destination::Https(uri) => println!("reports by https to: {uri}"),
        }
    }
    println!("({})", dnssec(answer.status));
    for uri in &parsed.unusable {
        eprintln!("no destination for reports: {uri:?}; it must be mailto: or https:");
    }
    Ok(if parsed.unusable.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn reports_are_read_from_messages_and_files() {
        let xml = "<feedback><report_metadata><org_name>a</org_name><date_range><begin>1</begin><end>2</end></date_range>\
                   </report_metadata><policy_published><domain>example.org</domain><p>none</p></policy_published>\
                   <record><row><count>3</count></row></record></feedback>";
        let message = format!("Subject: x\nContent-Type: text/xml\n\n{xml}\n");
        for content in [xml.to_owned(), message] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let Found::Dmarc(found) = report(&file.path().display().to_string()).unwrap() else {
                panic!("no DMARC report");
            };
            let json = as_json(&found);
            assert_eq!(json["policy_published"]["domain"], "example.org");
            assert_eq!(json["records"][0]["row"]["count"], 3);
            print(&found);
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"Subject: x\n\nhello\n").unwrap();
        let error = report(&file.path().display().to_string()).unwrap_err();
        assert!(error.to_string().contains("no part"), "{error}");
    }
}
