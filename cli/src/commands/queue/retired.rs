//! `mox queue retired list`, `print`

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::retired_sort::Field;
use mox_proto::queue::v1::{GetRetiredRequest, ListRetiredRequest, Retired, RetiredFilter, RetiredSort};

use super::{filter, moment};
use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Listing;

pub const LIST: Command = Command {
    words: &["queue", "retired", "list"],
    parameters: "[filtersortflags]",
    help: "List messages that left the queue and match.\n\n\
           They are kept for as long as keep_retired_message_period of their account says. Each is printed with its \
           number, what became of it, and the last result. On a terminal the columns are aligned; otherwise tabs are \
           between them. Times are in UTC.",
    arguments: list_arguments,
    run: list,
};

pub const PRINT: Command = Command {
    words: &["queue", "retired", "print"],
    parameters: "id",
    help: "Print all that is kept of a message that left the queue, as JSON.\n\n\
           The number is that of mox queue retired list.",
    arguments: || vec![parameter("id"), flag("json", "print a JSON object, as always")],
    run: print,
};

fn list_arguments() -> Vec<Arg> {
    let mut all = filter::common();
    all.extend([
        flag("asc", "sort from the first to the last, instead of from the last"),
        option(
            "lastactivity",
            "string",
            "by the time of the last change: \"<\" (before) or \">\" (after), and a duration from now, such as \">-1h\"",
        ),
        option("result", "value", "\"success\" or \"failure\""),
        option("sort", "value", "sort by \"lastactivity\" (the usual) or \"queued\""),
        flag("json", "print a JSON object for each message, one a line"),
    ]);
    all
}

fn request(matches: &ArgMatches, now: i64) -> Result<ListRetiredRequest> {
    let (submitted_before, submitted_after) = filter::times(matches, "submitted", now)?;
    let (last_activity_before, last_activity_after) = filter::times(matches, "lastactivity", now)?;
    let filter = RetiredFilter {
        ids: filter::ids(matches)?,
        account: text(matches, "account").to_owned(),
        from: text(matches, "from").to_owned(),
        to: text(matches, "to").to_owned(),
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
        transport: matches.get_one::<String>("transport").cloned(),
        success: match text(matches, "result") {
            "" => None,
            "success" => Some(true),
            "failure" => Some(false),
            other => bail!("-result: {other:?} is neither \"success\" nor \"failure\""),
        },
        max: filter::most(matches)?,
    };
    let field = match text(matches, "sort") {
        "" | "lastactivity" => Field::LastActivity,
        "queued" => Field::Queued,
        other => bail!("-sort: {other:?} is neither \"lastactivity\" nor \"queued\""),
    };
    let sort = RetiredSort {
        field: field.into(),
        ascending: matches.get_flag("asc"),
    };
    Ok(ListRetiredRequest {
        filter: Some(filter),
        sort: Some(sort),
        page_token: String::new(),
    })
}

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let mut request = request(matches, filter::now()?)?;
    let json = matches.get_flag("json");
    control::call_queue(context, |mut client| async move {
        let mut page = client.list_retired(request.clone()).await?.into_inner();
        let mut listing = Listing::new(json, &TITLES);
        loop {
            for retired in &page.retired {
                listing.add(|| as_json(retired), || as_row(retired));
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            page = client.list_retired(request.clone()).await?.into_inner();
        }
        listing.end();
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

const TITLES: [&str; 10] = [
    "ID", "QUEUED", "LAST", "ACCOUNT", "FROM", "TO", "SIZE", "ATTEMPTS", "OUTCOME", "ERROR",
];

fn as_row(retired: &Retired) -> Vec<String> {
    let entry = retired.entry.clone().unwrap_or_default();
    vec![
        entry.id.to_string(),
        moment(entry.queued),
        moment(retired.last_activity),
        entry.account,
        entry.mail_from,
        entry.recipient,
        entry.size.to_string(),
        entry.attempts.to_string(),
        outcome(retired.reason()).to_owned(),
        entry
            .results
            .last()
            .map_or("", |result| result.error.as_str())
            .to_owned(),
    ]
}

fn print(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let id = filter::id(matches, "id")?;
    let retired = control::call_queue(context, |mut client| async move {
        Ok(client.get_retired(GetRetiredRequest { id }).await?.into_inner())
    })?;
    println!("{}", serde_json::to_string_pretty(&as_json(&retired))?);
    Ok(ExitCode::SUCCESS)
}

fn outcome(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "-",
        Reason::Delivered => "delivered",
        Reason::Relayed => "relayed",
        Reason::Failed => "failed",
        Reason::Suppressed => "suppressed",
        Reason::Canceled => "canceled",
        Reason::Dropped => "dropped",
    }
}

fn as_json(retired: &Retired) -> serde_json::Value {
    let mut value = super::list::as_json(&retired.entry.clone().unwrap_or_default());
    if let Some(fields) = value.as_object_mut() {
        // These tell of what is to come.
        fields.remove("hold");
        fields.remove("next_attempt");
        fields.insert("outcome".into(), outcome(retired.reason()).into());
        fields.insert("success".into(), retired.success.into());
        fields.insert("last_activity".into(), moment(retired.last_activity).into());
        fields.insert("keep_until".into(), moment(retired.keep_until).into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let parsed = |args: &[&str]| {
            clap::Command::new("mox")
                .args(list_arguments())
                .get_matches_from([&["mox"], args].concat())
        };
        let read = request(
            &parsed(&["--result=failure", "--lastactivity=>-1h", "--sort=queued", "--asc"]),
            10_000_000,
        )
        .unwrap();
        let filter = read.filter.unwrap();
        assert_eq!(
            (filter.success, filter.last_activity_after),
            (Some(false), Some(6_400_000))
        );
        let sort = read.sort.unwrap();
        assert!(sort.ascending && sort.field() == Field::Queued);
        assert!(request(&parsed(&["--result=maybe"]), 0).is_err());
        assert!(request(&parsed(&["--sort=nextattempt"]), 0).is_err());
    }
}
