//! `mox queue webhook …`

use std::process::ExitCode;

use anyhow::{Error, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use mox_config::signed_millis;
use mox_proto::hook::v1::change_hooks_request::{Cancel, Change, Schedule};
use mox_proto::hook::v1::{
    ChangeHooksRequest, GetHookRequest, GetRetiredHookRequest, Hook, HookFilter, HookResult, HookSort,
    ListHooksRequest, ListRetiredHooksRequest, RetiredHook, RetiredHookFilter, RetiredHookSort, hook_sort,
    retired_hook_sort,
};
use mox_webhook::Event;
use serde_json::{Value, json};

use super::filter::{id, ids, most, now, times};
use super::{moment, or_dash};
use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Listing;

pub const LIST: Command = Command {
    words: &["queue", "webhook", "list"],
    parameters: "[filtersortflags]",
    help: "List webhooks in the queue that match.\n\n\
           Each is printed with its number, what it is about, and its attempts. MESSAGE is the number of the message in \
           the queue, for those that were sent. On a terminal the columns are aligned; otherwise tabs are between them. \
           Times are in UTC.",
    arguments: || filter_arguments().chain(sort_arguments("nextattempt")).collect(),
    run: list,
};

pub const SCHEDULE: Command = Command {
    words: &["queue", "webhook", "schedule"],
    parameters: "[filterflags] [-now] duration",
    help: "Change when webhooks that match are tried next.\n\n\
           The duration is added to the time that each is to be tried at, or with -now to the time that it is: \
           \"mox queue webhook schedule -now 0\" tries all of them at once. It may be negative. Without filters, all \
           webhooks match.",
    arguments: || {
        let own = [
            flag("json", "print a JSON object"),
            flag(
                "now",
                "from now on, instead of from the time that each is to be tried at",
            ),
            parameter("duration"),
        ];
        filter_arguments().chain(own).collect()
    },
    run: schedule,
};

pub const CANCEL: Command = Command {
    words: &["queue", "webhook", "cancel"],
    parameters: "[filterflags]",
    help: "Give up webhooks that match.\n\n\
           They leave the queue as those that failed. One that is being called at this moment is not interrupted. Without \
           filters, all webhooks match.",
    arguments: || {
        filter_arguments()
            .chain([flag("json", "print a JSON object")])
            .collect()
    },
    run: cancel,
};

pub const PRINT: Command = Command {
    words: &["queue", "webhook", "print"],
    parameters: "id",
    help: "Print a webhook of the queue, with all there is to it.\n\n\
           It is printed as a JSON object, in which \"payload\" is what its receiver gets.",
    arguments: || vec![parameter("id"), flag("json", "print a JSON object, as always")],
    run: print,
};

pub const RETIRED_LIST: Command = Command {
    words: &["queue", "webhook", "retired", "list"],
    parameters: "[filtersortflags]",
    help: "List webhooks that left the queue and match.\n\n\
           They are kept for as long as keep_retired_webhook_period of their account says. RESULT is \"ok\", \"failed\", \
           or \"superseded\" if a later event of the same message took its place.",
    arguments: || retired_arguments().chain(sort_arguments("lastactivity")).collect(),
    run: list_retired,
};

pub const RETIRED_PRINT: Command = Command {
    words: &["queue", "webhook", "retired", "print"],
    parameters: "id",
    help: "Print a webhook that left the queue, with all there is to it.\n\nIt is printed as a JSON object.",
    arguments: || vec![parameter("id"), flag("json", "print a JSON object, as always")],
    run: print_retired,
};

const EVENTS: &str = "what the webhook is about: incoming, delivered, suppressed, delayed, failed, relayed, expanded, \
                      canceled, unrecognized";

fn common_arguments() -> impl Iterator<Item = Arg> {
    [
        option("account", "string", "account that the webhook is of"),
        option("event", "value", EVENTS),
        option("ids", "value", "numbers of webhooks, with commas between them"),
        option("n", "int", "at most so many webhooks"),
        option(
            "submitted",
            "string",
            "by the time that it was queued: \"<\" (before) or \">\" (after), and a duration from now, such as \">-1h\"",
        ),
    ]
    .into_iter()
}

fn filter_arguments() -> impl Iterator<Item = Arg> {
    common_arguments().chain([option(
        "nextattempt",
        "string",
        "by the time of the next attempt: \"<\" (before) or \">\" (after), and a duration from now, such as \"<1h\"",
    )])
}

fn retired_arguments() -> impl Iterator<Item = Arg> {
    common_arguments().chain([option(
        "lastactivity",
        "string",
        "by when it left the queue: \"<\" (before) or \">\" (after), and a duration from now, such as \">-1h\"",
    )])
}

fn sort_arguments(usual: &'static str) -> impl Iterator<Item = Arg> {
    let help = match usual {
        "nextattempt" => "sort by \"nextattempt\" (the usual) or \"queued\"",
        _ => "sort by \"lastactivity\" (the usual) or \"queued\"",
    };
    [
        flag("asc", "sort from the first to the last, instead of from the last"),
        option("sort", "value", help),
        flag("json", "print a JSON object for each webhook, one a line"),
    ]
    .into_iter()
}

fn event(matches: &ArgMatches) -> Result<String> {
    let given = text(matches, "event");
    if !given.is_empty() {
        given.parse::<Event>().map_err(|e| anyhow!("-event: {e}"))?;
    }
    Ok(given.to_owned())
}

fn filter(matches: &ArgMatches, now: i64) -> Result<HookFilter> {
    let (submitted_before, submitted_after) = times(matches, "submitted", now)?;
    let (next_attempt_before, next_attempt_after) = times(matches, "nextattempt", now)?;
    Ok(HookFilter {
        ids: ids(matches)?,
        account: text(matches, "account").to_owned(),
        event: event(matches)?,
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
        max: most(matches)?,
    })
}

fn retired_filter(matches: &ArgMatches, now: i64) -> Result<RetiredHookFilter> {
    let (submitted_before, submitted_after) = times(matches, "submitted", now)?;
    let (last_activity_before, last_activity_after) = times(matches, "lastactivity", now)?;
    Ok(RetiredHookFilter {
        ids: ids(matches)?,
        account: text(matches, "account").to_owned(),
        event: event(matches)?,
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
        max: most(matches)?,
    })
}

/// Whether the list is to be sorted by when its rows were queued, and not by `usual`.
fn by_queued(matches: &ArgMatches, usual: &str) -> Result<bool> {
    match text(matches, "sort") {
        "queued" => Ok(true),
        other if other.is_empty() || other == usual => Ok(false),
        other => bail!("-sort: {other:?} is neither {usual:?} nor \"queued\""),
    }
}

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let field = match by_queued(matches, "nextattempt")? {
        true => hook_sort::Field::Queued,
        false => hook_sort::Field::NextAttempt,
    };
    let request = ListHooksRequest {
        filter: Some(filter(matches, now()?)?),
        sort: Some(HookSort {
            field: field.into(),
            ascending: matches.get_flag("asc"),
        }),
        page_token: String::new(),
    };
    let json = matches.get_flag("json");
    control::call_hooks(context, |mut client| async move {
        let mut request = request;
        let mut page = client.list(request.clone()).await?.into_inner();
        let mut listing = Listing::new(json, &TITLES);
        loop {
            for hook in &page.hooks {
                listing.add(|| as_json(hook), || as_row(hook));
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            page = client.list(request.clone()).await?.into_inner();
        }
        listing.end();
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn list_retired(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let field = match by_queued(matches, "lastactivity")? {
        true => retired_hook_sort::Field::Queued,
        false => retired_hook_sort::Field::LastActivity,
    };
    let request = ListRetiredHooksRequest {
        filter: Some(retired_filter(matches, now()?)?),
        sort: Some(RetiredHookSort {
            field: field.into(),
            ascending: matches.get_flag("asc"),
        }),
        page_token: String::new(),
    };
    let json = matches.get_flag("json");
    control::call_hooks(context, |mut client| async move {
        let mut request = request;
        let mut page = client.list_retired(request.clone()).await?.into_inner();
        let mut listing = Listing::new(json, &RETIRED_TITLES);
        loop {
            for hook in &page.hooks {
                listing.add(|| retired_as_json(hook), || retired_as_row(hook));
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
    "ID", "ACCOUNT", "EVENT", "MESSAGE", "QUEUED", "ATTEMPTS", "NEXT", "LAST", "URL", "ERROR",
];

fn as_row(hook: &Hook) -> Vec<String> {
    let mut row = beginning(hook);
    row.extend([
        moment(hook.next_attempt),
        last(hook).map_or_else(|| "-".to_owned(), |r| moment(r.start)),
        hook.url.clone(),
        last(hook).map(|r| r.error.clone()).unwrap_or_default(),
    ]);
    row
}

const RETIRED_TITLES: [&str; 10] = [
    "ID", "ACCOUNT", "EVENT", "MESSAGE", "QUEUED", "ATTEMPTS", "RESULT", "LAST", "URL", "ERROR",
];

fn retired_as_row(retired: &RetiredHook) -> Vec<String> {
    let hook = retired.hook.clone().unwrap_or_default();
    let mut row = beginning(&hook);
    row.extend([
        result(retired).to_owned(),
        moment(retired.last_activity),
        hook.url.clone(),
        last(&hook).map(|r| r.error.clone()).unwrap_or_default(),
    ]);
    row
}

/// The columns that both lists begin with.
fn beginning(hook: &Hook) -> Vec<String> {
    vec![
        hook.id.to_string(),
        hook.account.clone(),
        hook.event.clone(),
        or_dash(&match hook.queue_id {
            0 => String::new(),
            id => id.to_string(),
        }),
        moment(hook.queued),
        hook.attempts.to_string(),
    ]
}

fn last(hook: &Hook) -> Option<&HookResult> {
    hook.results.last()
}

fn result(retired: &RetiredHook) -> &'static str {
    match (retired.success, retired.superseded_by) {
        (true, _) => "ok",
        (false, 0) => "failed",
        (false, _) => "superseded",
    }
}

fn schedule(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let change = Schedule {
        from_now: matches.get_flag("now"),
        millis: signed_millis(text(matches, "duration")).map_err(Error::msg)?,
    };
    change_all(context, matches, Change::Schedule(change), "scheduled")
}

fn cancel(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    change_all(context, matches, Change::Cancel(Cancel {}), "canceled")
}

fn change_all(context: &Context, matches: &ArgMatches, change: Change, done: &str) -> Result<ExitCode> {
    let filter = filter(matches, now()?)?;
    let changed = control::call_hooks(context, |mut client| async move {
        let mut changed = 0;
        let mut page_token = String::new();
        loop {
            let request = ChangeHooksRequest {
                key: mox_rpc::key(),
                filter: Some(filter.clone()),
                page_token,
                change: Some(change),
            };
            let page = client.change(request).await?.into_inner();
            changed += page.changed;
            if page.next_page_token.is_empty() {
                return Ok(changed);
            }
            page_token = page.next_page_token;
        }
    })?;
    if matches.get_flag("json") {
        println!("{}", json!({ "changed": changed }));
        return Ok(ExitCode::SUCCESS);
    }
    let webhooks = if changed == 1 { "webhook" } else { "webhooks" };
    println!("{changed} {webhooks} {done}");
    Ok(ExitCode::SUCCESS)
}

fn print(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let id = id(matches, "id")?;
    let (hook, payload) = control::call_hooks(context, |mut client| async move {
        let mut answers = client.get(GetHookRequest { id }).await?.into_inner();
        let (mut hook, mut payload) = (Hook::default(), Vec::new());
        while let Some(answer) = answers.message().await? {
            hook = answer.hook.unwrap_or(hook);
            payload.extend_from_slice(&answer.payload);
        }
        Ok((hook, payload))
    })?;
    print_json(as_json(&hook), &payload)
}

fn print_retired(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let id = id(matches, "id")?;
    let (hook, payload) = control::call_hooks(context, |mut client| async move {
        let mut answers = client.get_retired(GetRetiredHookRequest { id }).await?.into_inner();
        let (mut hook, mut payload) = (RetiredHook::default(), Vec::new());
        while let Some(answer) = answers.message().await? {
            hook = answer.hook.unwrap_or(hook);
            payload.extend_from_slice(&answer.payload);
        }
        Ok((hook, payload))
    })?;
    print_json(retired_as_json(&hook), &payload)
}

fn print_json(mut hook: Value, payload: &[u8]) -> Result<ExitCode> {
    hook["payload"] = serde_json::from_slice(payload)?;
    println!("{}", serde_json::to_string_pretty(&hook)?);
    Ok(ExitCode::SUCCESS)
}

fn as_json(hook: &Hook) -> Value {
    let results = hook.results.iter().map(|r| {
        json!({
            "start": moment(r.start), "duration_ms": r.duration, "url": r.url, "success": r.success, "code": r.code,
            "error": r.error, "response": r.response,
        })
    });
    json!({
        "id": hook.id, "account": hook.account, "event": hook.event, "url": hook.url, "queue_id": hook.queue_id,
        "fromid": hook.fromid, "message_id": hook.message_id, "subject": hook.subject, "extra": hook.extra,
        "queued": moment(hook.queued), "next_attempt": moment(hook.next_attempt), "attempts": hook.attempts,
        "results": results.collect::<Vec<_>>(),
    })
}

fn retired_as_json(retired: &RetiredHook) -> Value {
    let mut value = as_json(retired.hook.as_ref().unwrap_or(&Hook::default()));
    if let Some(fields) = value.as_object_mut() {
        fields.remove("next_attempt");
    }
    value["authorization"] = retired.authorization.into();
    value["success"] = retired.success.into();
    value["superseded_by"] = retired.superseded_by.into();
    value["last_activity"] = moment(retired.last_activity).into();
    value["keep_until"] = moment(retired.keep_until).into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(command: &Command, args: &[&str]) -> ArgMatches {
        clap::Command::new("mox")
            .args((command.arguments)())
            .get_matches_from([&["mox"], args].concat())
    }

    #[test]
    fn filters_are_read() {
        let m = parsed(
            &LIST,
            &[
                "--ids=1,2",
                "--event=incoming",
                "--account=me",
                "--submitted=<-1h",
                "--nextattempt=>15m",
                "--n=3",
            ],
        );
        let f = filter(&m, 10_000_000).unwrap();
        assert_eq!((f.ids, f.max), (vec![1, 2], 3));
        assert_eq!((f.event.as_str(), f.account.as_str()), ("incoming", "me"));
        assert_eq!((f.submitted_before, f.submitted_after), (Some(6_400_000), None));
        assert_eq!((f.next_attempt_before, f.next_attempt_after), (None, Some(10_900_000)));
        assert_eq!(filter(&parsed(&CANCEL, &[]), 0).unwrap(), HookFilter::default());
        for bad in [
            "--ids=x",
            "--event=bounced",
            "--submitted=1h",
            "--nextattempt=<x",
            "--n=-1",
        ] {
            assert!(filter(&parsed(&LIST, &[bad]), 0).is_err(), "{bad}");
        }
        let m = parsed(&RETIRED_LIST, &["--lastactivity=>-1h", "--sort=queued", "--asc"]);
        let f = retired_filter(&m, 10_000_000).unwrap();
        assert_eq!((f.last_activity_before, f.last_activity_after), (None, Some(6_400_000)));
        assert!(by_queued(&m, "lastactivity").unwrap() && m.get_flag("asc"));
        assert!(!by_queued(&parsed(&LIST, &["--sort=nextattempt"]), "nextattempt").unwrap());
        assert!(by_queued(&parsed(&LIST, &["--sort=lastactivity"]), "nextattempt").is_err());
    }

    #[test]
    fn a_retired_webhook_tells_how_it_ended() {
        let mut retired = RetiredHook {
            hook: Some(Hook::default()),
            ..RetiredHook::default()
        };
        assert_eq!(result(&retired), "failed");
        retired.superseded_by = 5;
        assert_eq!(result(&retired), "superseded");
        assert_eq!(retired_as_json(&retired)["superseded_by"], 5);
        retired.success = true;
        assert_eq!(result(&retired), "ok");
    }
}
