//! `mox reports …`: reports of others that are kept, what is to be reported to others, and to whom not.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ArgMatches;
use mox_proto::report::v1::{
    AddSuppressedRequest, BundleKind, GetReportRequest, ListBundlesRequest, ListReportsRequest, ListSuppressedRequest,
    RemoveSuppressedRequest, ReportSummary, Suppressed,
};
use mox_reports::tls;
use serde_json::json;
use time::OffsetDateTime;

use crate::command::{Command, flag, option, parameter, text};
use crate::commands::reports::{as_json, print, when};
use crate::context::Context;
use crate::control;
use crate::table::Table;

/// Octets of the id of a report, at most.
const ID_MAX: usize = 64;
const DAY: i64 = 24 * 3600;
/// Longer is for ever.
const DAYS_MAX: i64 = 36_500;

pub const LIST: Command = Command {
    words: &["reports", "list"],
    parameters: "[-tls] [-domain domain]",
    help: "List the reports of others about our domains.\n\n\
           DMARC reports count messages that passed and that failed; TLS reports, with -tls, count connections. They are kept \
           for 180 days.",
    arguments: || {
        vec![
            flag("tls", "TLS reports, not DMARC reports"),
            option("domain", "domain", "only reports about this domain"),
            flag("json", "print a JSON object for each report, one a line"),
        ]
    },
    run: list,
};

pub const PRINT: Command = Command {
    words: &["reports", "print"],
    parameters: "[-tls] id",
    help: "Print a report of others.\n\nIts id is that of mox reports list.",
    arguments: || {
        vec![
            parameter("id"),
            flag("tls", "a TLS report, not a DMARC report; printed as JSON (RFC 8460)"),
            flag("json", "print JSON"),
        ]
    },
    run: print_one,
};

pub const WAITING: Command = Command {
    words: &["reports", "waiting"],
    parameters: "",
    help: "List what is to be reported to others.\n\n\
           A line is a domain, or the host of recipients, and a period. Its report is sent soon after the period is over. With LEFT, \
           what goes by mail was sent, and the report was not yet taken by so many https URIs.",
    arguments: || vec![flag("json", "print a JSON object for each, one a line")],
    run: waiting,
};

pub const SUPPRESS_LIST: Command = Command {
    words: &["reports", "suppress", "list"],
    parameters: "",
    help: "List the addresses and https URIs that get no reports.\n\n\
           An address that refuses a report, or can't be reached, gets none for 30 days. Others are added by mox reports \
           suppress add.",
    arguments: || vec![flag("json", "print a JSON object for each address, one a line")],
    run: suppressed,
};

pub const SUPPRESS_ADD: Command = Command {
    words: &["reports", "suppress", "add"],
    parameters: "[-days n] [-comment text] address",
    help: "Send no reports to an address, or to an https URI that TLS reports are posted to.\n\nReports that are in the queue already are sent nevertheless.",
    arguments: || {
        vec![
            parameter("address"),
            option("days", "n", "for so many days; for ever if not given"),
            option("comment", "text", "why, for people"),
            flag("json", "print a JSON object"),
        ]
    },
    run: suppress,
};

pub const SUPPRESS_REMOVE: Command = Command {
    words: &["reports", "suppress", "remove"],
    parameters: "address",
    help: "Send reports to an address or https URI again.",
    arguments: || vec![parameter("address"), flag("json", "print a JSON object")],
    run: release,
};

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(text: &str) -> Result<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let id: Option<Vec<u8>> = bytes.collect();
    id.filter(|id| !id.is_empty() && id.len() <= ID_MAX)
        .ok_or_else(|| anyhow!("{text:?} is not the id of a report: see mox reports list"))
}

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let is_tls = matches.get_flag("tls");
    let mut request = ListReportsRequest {
        domain: text(matches, "domain").to_owned(),
        ..ListReportsRequest::default()
    };
    let all = control::call_reports(context, |mut client| async move {
        let mut all: Vec<ReportSummary> = Vec::new();
        loop {
            let (reports, next) = if is_tls {
                let page = client.list_tls_reports(request.clone()).await?.into_inner();
                (page.reports, page.next_page_token)
            } else {
                let page = client.list_dmarc_reports(request.clone()).await?.into_inner();
                (page.reports, page.next_page_token)
            };
            all.extend(reports);
            if next.is_empty() {
                return Ok(all);
            }
            request.page_token = next;
        }
    })?;
    if matches.get_flag("json") {
        for report in &all {
            println!(
                "{}",
                json!({
                    "id": hex(&report.id), "domain": report.domain, "host": report.host, "organization": report.org_name,
                    "report_id": report.report_id, "begin": when(report.begin), "end": when(report.end),
                    "received": when(report.received), "from": report.from, "succeeded": report.succeeded,
                    "failed": report.failed, "rows": report.rows,
                })
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["ID", "DOMAIN", "FROM", "BEGIN", "END", "PASSED", "FAILED"]);
    for report in &all {
        table.row(vec![
            hex(&report.id),
            report.domain.clone(),
            report.org_name.clone(),
            when(report.begin),
            when(report.end),
            report.succeeded.to_string(),
            report.failed.to_string(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn print_one(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let request = GetReportRequest {
        id: id(text(matches, "id"))?.into(),
    };
    if matches.get_flag("tls") {
        let found = control::call_reports(context, |mut client| async move {
            Ok(client.get_tls_report(request).await?.into_inner())
        })?;
        println!(
            "{}",
            tls::json(&found.report.context("the server answered without the report")?)
        );
        return Ok(ExitCode::SUCCESS);
    }
    let found = control::call_reports(context, |mut client| async move {
        Ok(client.get_dmarc_report(request).await?.into_inner())
    })?;
    let report = found.report.context("the server answered without the report")?;
    if matches.get_flag("json") {
        println!("{}", serde_json::to_string_pretty(&as_json(&report))?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn waiting(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let mut request = ListBundlesRequest::default();
    let all = control::call_reports(context, |mut client| async move {
        let mut all = Vec::new();
        loop {
            let page = client.list_bundles(request.clone()).await?.into_inner();
            all.extend(page.bundles);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    })?;
    let mut table = Table::new(&["KIND", "DOMAIN", "BEGIN", "END", "DUE", "ROWS", "ATTEMPTS", "LEFT"]);
    for bundle in &all {
        let about = bundle.id.clone().unwrap_or_default();
        let kind = match about.kind() {
            BundleKind::Dmarc => "dmarc",
            BundleKind::TlsDomain => "tls",
            BundleKind::TlsHost => "tls-host",
            BundleKind::Unspecified => "unknown",
        };
        let at = |millis: i64| when(millis.div_euclid(1000));
        if matches.get_flag("json") {
            println!(
                "{}",
                json!({
                    "kind": kind, "domain": about.domain, "begin": at(bundle.begin), "end": at(about.end),
                    "due": at(bundle.due), "rows": bundle.rows, "omitted": bundle.omitted, "wanted": bundle.wanted,
                    "attempts": bundle.attempts, "left": bundle.left,
                })
            );
            continue;
        }
        table.row(vec![
            kind.to_owned(),
            about.domain.clone(),
            at(bundle.begin),
            at(about.end),
            at(bundle.due),
            bundle.rows.to_string(),
            bundle.attempts.to_string(),
            match bundle.left.len() {
                0 => "-".to_owned(),
                left => left.to_string(),
            },
        ]);
    }
    if !matches.get_flag("json") {
        table.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// When it ends; "-" is never.
fn until(seconds: i64) -> String {
    if seconds == 0 { "-".to_owned() } else { when(seconds) }
}

fn suppressed(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let mut request = ListSuppressedRequest::default();
    let all = control::call_reports(context, |mut client| async move {
        let mut all = Vec::new();
        loop {
            let page = client.list_suppressed(request.clone()).await?.into_inner();
            all.extend(page.suppressed);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    })?;
    if matches.get_flag("json") {
        for one in &all {
            println!(
                "{}",
                json!({
                    "address": one.address, "until": until(one.until), "created": when(one.created), "comment": one.comment,
                })
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["ADDRESS", "SINCE", "UNTIL", "COMMENT"]);
    for one in &all {
        table.row(vec![
            one.address.clone(),
            when(one.created),
            until(one.until),
            one.comment.clone(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn suppress(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let days = match text(matches, "days") {
        "" => None,
        days => Some(
            days.parse::<i64>()
                .with_context(|| format!("reading the number of days {days:?}"))?,
        ),
    };
    let until = match days {
        None => 0,
        Some(days) if (1..=DAYS_MAX).contains(&days) => OffsetDateTime::now_utc().unix_timestamp() + days * DAY,
        Some(days) => bail!("{days} days: give a number from 1 to {DAYS_MAX}, or leave -days out for ever"),
    };
    let address = text(matches, "address").to_owned();
    let request = AddSuppressedRequest {
        suppressed: Some(Suppressed {
            address: address.clone(),
            until,
            comment: text(matches, "comment").to_owned(),
            created: 0,
        }),
    };
    control::call_reports(
        context,
        |mut client| async move { client.add_suppressed(request).await },
    )?;
    changed(matches, &address, "added");
    Ok(ExitCode::SUCCESS)
}

fn release(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let address = text(matches, "address").to_owned();
    let request = RemoveSuppressedRequest {
        address: address.clone(),
    };
    control::call_reports(
        context,
        |mut client| async move { client.remove_suppressed(request).await },
    )?;
    changed(matches, &address, "removed");
    Ok(ExitCode::SUCCESS)
}

fn changed(matches: &ArgMatches, address: &str, what: &str) {
    if matches.get_flag("json") {
        println!("{}", json!({ "address": address, "change": what }));
    } else {
        println!("{address} {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(id(&hex(&[0, 15, 0xab])).unwrap(), [0, 15, 0xab]);
        for wrong in ["", "0", "0g", "+1", "é1", &"00".repeat(ID_MAX + 1)] {
            id(wrong).unwrap_err();
        }
    }
}
