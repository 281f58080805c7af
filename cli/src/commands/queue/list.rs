//! `mox queue list`

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};
use mox_proto::queue::v1::sort::Field;
use mox_proto::queue::v1::{Entry, ListQueueRequest, RequireTls, Sort};
use serde_json::json;

use super::{filter, moment, or_dash};
use crate::command::{Command, flag, option, text};
use crate::context::Context;
use crate::control;
use crate::table::Listing;

pub const LIST: Command = Command {
    words: &["queue", "list"],
    parameters: "[filtersortflags]",
    help: "List messages in the queue that match.\n\n\
           Each is printed with its number, when it was queued, its next and last attempt, and the last error. On a \
           terminal the columns are aligned; otherwise tabs are between them. Times are in UTC.",
    arguments: list_arguments,
    run: list,
};

fn list_arguments() -> Vec<Arg> {
    let mut arguments = filter::of_queue();
    arguments.extend([
        flag("asc", "sort from the first to the last, instead of from the last"),
        option("sort", "value", "sort by \"nextattempt\" (the usual) or \"queued\""),
        flag("json", "print a JSON object for each message, one a line"),
    ]);
    arguments
}

fn sort(matches: &ArgMatches) -> Result<Sort> {
    let field = match text(matches, "sort") {
        "" | "nextattempt" => Field::NextAttempt,
        "queued" => Field::Queued,
        other => bail!("-sort: {other:?} is neither \"nextattempt\" nor \"queued\""),
    };
    Ok(Sort {
        field: field.into(),
        ascending: matches.get_flag("asc"),
    })
}

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (filter, sort) = (filter::read(matches, filter::now()?)?, sort(matches)?);
    let json = matches.get_flag("json");
    control::call(context, |mut client| async move {
        let most = match filter.max {
            0 => usize::MAX,
            max => max as usize,
        };
        let mut request = ListQueueRequest {
            filter: Some(filter),
            sort: Some(sort),
            page_token: String::new(),
        };
        // What can't be had is told alone.
        let mut page = client.list_queue(request.clone()).await?.into_inner();
        let mut listing = Listing::new(json, &TITLES);
        let mut count = 0;
        loop {
            for entry in page.entries.iter().take(most - count) {
                listing.add(|| as_json(entry), || as_row(entry));
                count += 1;
            }
            if page.next_page_token.is_empty() || count == most {
                break;
            }
            request.page_token = page.next_page_token;
            page = client.list_queue(request.clone()).await?.into_inner();
        }
        listing.end();
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

const TITLES: [&str; 12] = [
    "ID",
    "QUEUED",
    "ACCOUNT",
    "FROM",
    "TO",
    "SIZE",
    "ATTEMPTS",
    "HOLD",
    "NEXT",
    "LAST",
    "TRANSPORT",
    "ERROR",
];

fn as_row(entry: &Entry) -> Vec<String> {
    vec![
        entry.id.to_string(),
        moment(entry.queued),
        entry.account.clone(),
        entry.mail_from.clone(),
        entry.recipient.clone(),
        entry.size.to_string(),
        entry.attempts.to_string(),
        if entry.hold { "yes" } else { "no" }.to_owned(),
        moment(entry.next_attempt),
        if entry.last_attempt == 0 {
            "-".to_owned()
        } else {
            moment(entry.last_attempt)
        },
        or_dash(&entry.transport),
        entry.results.last().map_or("", |r| r.error.as_str()).to_owned(),
    ]
}

/// An entry as a JSON object.
pub(super) fn as_json(entry: &Entry) -> serde_json::Value {
    let results: Vec<_> = entry
        .results
        .iter()
        .map(|r| {
            json!({
                "start": moment(r.start), "duration_ms": r.duration, "success": r.success, "smtp_code": r.smtp_code,
                "enhanced_code": r.enhanced_code, "error": r.error, "remote_host": r.remote_host, "dialed": r.dialed,
            })
        })
        .collect();
    json!({
        "id": entry.id, "base_id": entry.base_id, "account": entry.account, "mail_from": entry.mail_from,
        "recipient": entry.recipient, "size": entry.size, "hold": entry.hold, "transport": entry.transport,
        "queued": moment(entry.queued), "next_attempt": moment(entry.next_attempt),
        "last_attempt": (entry.last_attempt != 0).then(|| moment(entry.last_attempt)), "attempts": entry.attempts,
        "subject": entry.subject, "message_id": entry.message_id, "fromid": entry.fromid, "dsn": entry.dsn,
        "eight_bit": entry.eight_bit, "smtputf8": entry.smtputf8, "dsn_ret": entry.dsn_ret,
        "dsn_envid": entry.dsn_envid, "dsn_notify": entry.dsn_notify, "dsn_orcpt": entry.dsn_orcpt,
        "suppressed": entry.suppressed, "extra": entry.extra,
        "requiretls": match entry.requiretls() {
            RequireTls::Unset => None,
            other => Some(other == RequireTls::Yes),
        },
        "results": results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_is_read() {
        let parsed = |args: &[&str]| {
            clap::Command::new("mox")
                .args(list_arguments())
                .get_matches_from([&["mox"], args].concat())
        };
        assert!(sort(&parsed(&["--sort=size"])).is_err());
        assert!(sort(&parsed(&["--asc"])).unwrap().ascending);
    }
}
