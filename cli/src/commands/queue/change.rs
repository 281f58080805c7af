//! `mox queue hold`, `unhold`, `schedule`, `transport`, `requiretls`, `fail`, `drop`

use std::process::ExitCode;

use anyhow::{Error, Result, bail};
use clap::{Arg, ArgMatches};
use mox_config::signed_millis;
use mox_proto::queue::v1::change_queue_request::{Change, Drop, Fail, Schedule};
use mox_proto::queue::v1::{ChangeQueueRequest, RequireTls};
use serde_json::json;

use super::filter;
use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::control;

pub const HOLD: Command = Command {
    words: &["queue", "hold"],
    parameters: "[filterflags]",
    help: "Put messages in the queue that match on hold.\n\n\
           A message on hold is not delivered until it is taken off hold with mox queue unhold, or handled otherwise. One \
           that is being delivered at this moment may be delivered still; if not, it is held afterwards. Without filters, \
           all messages are put on hold. How many there were is printed.",
    arguments,
    run: |context, matches| change(context, matches, Change::Hold(true), "put on hold"),
};

pub const UNHOLD: Command = Command {
    words: &["queue", "unhold"],
    parameters: "[filterflags]",
    help: "Take messages in the queue that match off hold.\n\n\
           They are delivered when their next attempt is due: at once, unless it was put off. See mox queue schedule. \
           How many there were is printed.",
    arguments,
    run: |context, matches| change(context, matches, Change::Hold(false), "taken off hold"),
};

pub const SCHEDULE: Command = Command {
    words: &["queue", "schedule"],
    parameters: "[filterflags] [-now] duration",
    help: "Change when messages in the queue that match are tried next.\n\n\
           The duration, such as 1h30m, 1.5h or -30m, is added to the time of the next attempt of each message, or with \
           -now to the present time: mox queue schedule -now 0 tries them at once. Messages on hold stay on hold. How \
           many there were is printed.",
    arguments: || {
        let mut all = arguments();
        all.push(flag(
            "now",
            "the duration is from now, not from the time of the next attempt",
        ));
        all.push(parameter("duration"));
        all
    },
    run: |context, matches| {
        let millis = signed_millis(text(matches, "duration")).map_err(Error::msg)?;
        let from_now = matches.get_flag("now");
        change(
            context,
            matches,
            Change::Schedule(Schedule { from_now, millis }),
            "scheduled",
        )
    },
};

pub const TRANSPORT: Command = Command {
    words: &["queue", "transport"],
    parameters: "[filterflags] transport",
    help: "Set the transport of messages in the queue that match.\n\n\
           A transport of mox.toml says how a message is delivered: by another mail server, through a proxy, and so on. \
           The empty text \"\" goes back to the usual way: the routes of the configuration, and without a matching one, \
           directly to the recipient's mail server. How many messages there were is printed.",
    arguments: || {
        let mut all = arguments();
        all.push(parameter("name"));
        all
    },
    run: |context, matches| {
        let name = text(matches, "name").to_owned();
        change(context, matches, Change::Transport(name), "changed")
    },
};

pub const REQUIRETLS: Command = Command {
    words: &["queue", "requiretls"],
    parameters: "[filterflags] {yes | no | default}",
    help: "Set what is required of TLS for messages in the queue that match.\n\n\
           With \"yes\", a message goes only to verified servers that promise to pass it on likewise, as if it had been \
           submitted with REQUIRETLS. With \"no\", it is delivered even if TLS can't be verified or had, as with the \
           header field \"TLS-Required: No\"; that field is not added, so that servers on the way follow their own rules. \
           With \"default\", TLS is used as recipients' policies ask for, and if possible otherwise. How many messages \
           there were is printed.",
    arguments: || {
        let mut all = arguments();
        all.push(parameter("value"));
        all
    },
    run: |context, matches| {
        let value = match text(matches, "value") {
            "yes" => RequireTls::Yes,
            "no" => RequireTls::No,
            "default" => RequireTls::Unset,
            other => bail!("{other:?} is none of \"yes\", \"no\" and \"default\""),
        };
        change(context, matches, Change::Requiretls(value.into()), "changed")
    },
};

pub const FAIL: Command = Command {
    words: &["queue", "fail"],
    parameters: "[filterflags]",
    help: "Give up messages in the queue that match, and tell their senders.\n\n\
           This is as if delivery had failed for good: senders that want to know of failures get a notification, which \
           says that the administrator canceled the delivery. A message that is being delivered at this moment may \
           arrive nevertheless. How many there were is printed.",
    arguments,
    run: |context, matches| change(context, matches, Change::Fail(Fail {}), "failed"),
};

pub const DROP: Command = Command {
    words: &["queue", "drop"],
    parameters: "[filterflags]",
    help: "Remove messages in the queue that match, without telling anybody.\n\n\
           Dangerous: the messages are gone. To keep one, print it with mox queue dump before. How many there were is \
           printed.",
    arguments,
    run: |context, matches| change(context, matches, Change::Drop(Drop {}), "dropped"),
};

fn arguments() -> Vec<Arg> {
    let mut all = filter::of_queue();
    all.push(flag("json", "print a JSON object"));
    all
}

fn change(context: &Context, matches: &ArgMatches, change: Change, done: &str) -> Result<ExitCode> {
    let filter = filter::read(matches, filter::now()?)?;
    let changed = control::call_queue(context, |mut client| async move {
        let mut request = ChangeQueueRequest {
            filter: Some(filter),
            change: Some(change),
            ..ChangeQueueRequest::default()
        };
        let mut changed = 0;
        loop {
            request.key = mox_rpc::key();
            let answer = client.change(request.clone()).await?.into_inner();
            changed += answer.changed;
            if answer.next_page_token.is_empty() {
                return Ok(changed);
            }
            request.page_token = answer.next_page_token;
        }
    })?;
    if matches.get_flag("json") {
        println!("{}", json!({ "changed": changed }));
    } else {
        println!("{changed} message{} {done}", if changed == 1 { "" } else { "s" });
    }
    Ok(ExitCode::SUCCESS)
}
