//! `mox queue list`

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use mox_config::Duration;
use mox_proto::queue::v1::sort::Field;
use mox_proto::queue::v1::{Entry, Filter, ListQueueRequest, Sort};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::command::{Command, flag, option, text};
use crate::context::Context;
use crate::control;
use crate::table::Table;

pub const LIST: Command = Command {
    words: &["queue", "list"],
    parameters: "[filtersortflags]",
    help: "List messages in the queue that match.\n\n\
           Each is printed with its number, when it was queued, its next and last attempt, and the last error. On a \
           terminal the columns are aligned; otherwise tabs are between them. Times are in UTC.",
    arguments: list_arguments,
    run: list,
};

fn filter_arguments() -> Vec<Arg> {
    vec![
        option("account", "string", "account that queued the message"),
        option(
            "from",
            "string",
            "address that the message is from; \"@example.org\" is every address of the domain",
        ),
        option(
            "hold",
            "value",
            "true or false: only messages that are, or are not, on hold",
        ),
        option("ids", "value", "numbers of messages, with commas between them"),
        option("n", "int", "list at most so many messages"),
        option(
            "nextattempt",
            "string",
            "by the time of the next attempt: \"<\" (before) or \">\" (after), and a duration from now, such as \"<1h\"",
        ),
        option(
            "submitted",
            "string",
            "by the time of submission: \"<\" (before) or \">\" (after), and a duration from now, such as \">-1h\"",
        ),
        option(
            "to",
            "string",
            "address that the message is for; \"@example.org\" is every address of the domain",
        ),
        option(
            "transport",
            "value",
            "transport that the message was given; the empty text is the usual way",
        ),
    ]
}

fn list_arguments() -> Vec<Arg> {
    let mut arguments = filter_arguments();
    arguments.extend([
        flag("asc", "sort from the first to the last, instead of from the last"),
        option("sort", "value", "sort by \"nextattempt\" (the usual) or \"queued\""),
        flag("json", "print a JSON object for each message, one a line"),
    ]);
    arguments
}

/// The messages that a command is about.
fn filter(matches: &ArgMatches, now: i64) -> Result<Filter> {
    let ids = text(matches, "ids")
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty());
    let ids = ids
        .map(|id| id.parse().map_err(|_| anyhow!("-ids: {id:?} is not a number")))
        .collect::<Result<_>>()?;
    let hold = match matches.get_one::<String>("hold").map(String::as_str) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => bail!("-hold: {other:?} is neither true nor false"),
    };
    let (submitted_before, submitted_after) = times(matches, "submitted", now)?;
    let (next_attempt_before, next_attempt_after) = times(matches, "nextattempt", now)?;
    let max = match text(matches, "n") {
        "" => 0,
        n => n.parse().map_err(|_| anyhow!("-n: {n:?} is not a number"))?,
    };
    Ok(Filter {
        ids,
        account: text(matches, "account").to_owned(),
        from: text(matches, "from").to_owned(),
        to: text(matches, "to").to_owned(),
        hold,
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
        transport: matches.get_one::<String>("transport").cloned(),
        max,
    })
}

/// `<1h` and `>-15m` as the time before or after which.
fn times(matches: &ArgMatches, name: &str, now: i64) -> Result<(Option<i64>, Option<i64>)> {
    let given = text(matches, name);
    if given.is_empty() {
        return Ok((None, None));
    }
    let bad =
        || anyhow!("-{name}: {given:?} must be \"<\" or \">\" and a duration from now, such as \"<1h\" or \">-15m\"");
    let (rest, before) = match (given.strip_prefix('<'), given.strip_prefix('>')) {
        (Some(rest), _) => (rest.trim(), true),
        (_, Some(rest)) => (rest.trim(), false),
        _ => return Err(bad()),
    };
    let (rest, sign) = rest.strip_prefix('-').map_or((rest, 1), |rest| (rest, -1));
    let duration: Duration = if rest.is_empty() {
        Duration::default()
    } else {
        rest.parse().map_err(|_| bad())?
    };
    let at = now.saturating_add(sign * i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    Ok(if before { (Some(at), None) } else { (None, Some(at)) })
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
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let (filter, sort) = (filter(matches, now)?, sort(matches)?);
    let entries = control::call(context, |mut client| async move {
        let max = filter.max as usize;
        let mut request = ListQueueRequest {
            filter: Some(filter),
            sort: Some(sort),
            page_token: String::new(),
        };
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let page = client.list_queue(request.clone()).await?.into_inner();
            entries.extend(page.entries);
            if page.next_page_token.is_empty() || (max > 0 && entries.len() >= max) {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if max > 0 {
            entries.truncate(max);
        }
        Ok(entries)
    })?;
    if matches.get_flag("json") {
        for entry in &entries {
            println!("{}", as_json(entry));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
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
    ]);
    for entry in &entries {
        table.row(vec![
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
            if entry.transport.is_empty() {
                "-"
            } else {
                &entry.transport
            }
            .to_owned(),
            entry.results.last().map_or("", |r| r.error.as_str()).to_owned(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// A time as RFC 3339 has it, to the second.
fn moment(millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| millis.to_string())
}

fn as_json(entry: &Entry) -> serde_json::Value {
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
        "results": results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> ArgMatches {
        clap::Command::new("mox")
            .args(list_arguments())
            .get_matches_from([&["mox"], args].concat())
    }

    #[test]
    fn filters_are_read() {
        let m = parsed(&[
            "--ids=1, 2",
            "--hold=false",
            "--submitted=<-1h",
            "--nextattempt=>15m",
            "--n=3",
            "--transport=",
        ]);
        let f = filter(&m, 10_000_000).unwrap();
        assert_eq!((f.ids, f.hold, f.max), (vec![1, 2], Some(false), 3));
        assert_eq!((f.submitted_before, f.submitted_after), (Some(6_400_000), None));
        assert_eq!((f.next_attempt_before, f.next_attempt_after), (None, Some(10_900_000)));
        assert_eq!(f.transport.as_deref(), Some(""));
        assert_eq!(filter(&parsed(&[]), 0).unwrap(), Filter::default());
        for bad in [
            ["--ids=x"],
            ["--hold=maybe"],
            ["--submitted=1h"],
            ["--nextattempt=<x"],
            ["--n=-1"],
        ] {
            assert!(filter(&parsed(&bad), 0).is_err(), "{bad:?}");
        }
        assert!(sort(&parsed(&["--sort=size"])).is_err());
        assert!(sort(&parsed(&["--asc"])).unwrap().ascending);
    }

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
