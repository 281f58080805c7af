//! `mox queue holdrules list`, `add`, `remove`

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;
use mox_proto::queue::v1::{AddHoldRuleRequest, HoldRule, ListHoldRulesRequest, RemoveHoldRuleRequest};
use serde_json::json;

use super::{filter, or_dash};
use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Listing;

pub const LIST: Command = Command {
    words: &["queue", "holdrules", "list"],
    parameters: "",
    help: "List the rules by which messages are put on hold when they are submitted.\n\n\
           A message that matches all that a rule names is held: it stays in the queue without being delivered. \"-\" \
           stands for any.",
    arguments: || vec![flag("json", "print a JSON object for each rule, one a line")],
    run: list,
};

pub const ADD: Command = Command {
    words: &["queue", "holdrules", "add"],
    parameters: "[ruleflags]",
    help: "Add a rule by which messages are put on hold when they are submitted.\n\n\
           It holds messages that match all options that are given; without options, every message. Messages that are in \
           the queue already are not changed: see mox queue hold. The number of the rule is printed.",
    arguments: || {
        vec![
            option("account", "string", "account that submits the message"),
            option("recipientdom", "string", "domain of the recipient"),
            option("senderdom", "string", "domain of the sender"),
            flag("json", "print a JSON object"),
        ]
    },
    run: add,
};

pub const REMOVE: Command = Command {
    words: &["queue", "holdrules", "remove"],
    parameters: "ruleid",
    help: "Remove a rule by which messages are put on hold.\n\n\
           The number is that of mox queue holdrules list. Messages that are on hold stay so: see mox queue unhold.",
    arguments: || vec![parameter("ruleid"), flag("json", "print a JSON object")],
    run: remove,
};

fn as_json(rule: &HoldRule) -> serde_json::Value {
    json!({
        "id": rule.id, "account": rule.account, "sender_domain": rule.sender_domain,
        "recipient_domain": rule.recipient_domain,
    })
}

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let rules = control::call_queue(context, |mut client| async move {
        Ok(client
            .list_hold_rules(ListHoldRulesRequest {})
            .await?
            .into_inner()
            .rules)
    })?;
    let titles = ["ID", "ACCOUNT", "SENDER DOMAIN", "RECIPIENT DOMAIN"];
    let mut listing = Listing::new(matches.get_flag("json"), &titles);
    for rule in &rules {
        let row = || {
            vec![
                rule.id.to_string(),
                or_dash(&rule.account),
                or_dash(&rule.sender_domain),
                or_dash(&rule.recipient_domain),
            ]
        };
        listing.add(|| as_json(rule), row);
    }
    listing.end();
    Ok(ExitCode::SUCCESS)
}

fn add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let rule = HoldRule {
        id: 0,
        account: text(matches, "account").to_owned(),
        sender_domain: text(matches, "senderdom").to_owned(),
        recipient_domain: text(matches, "recipientdom").to_owned(),
    };
    let added = control::call_queue(context, |mut client| async move {
        let request = AddHoldRuleRequest { rule: Some(rule) };
        Ok(client.add_hold_rule(request).await?.into_inner())
    })?;
    if matches.get_flag("json") {
        println!("{}", as_json(&added));
    } else {
        println!("rule {} added", added.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let id = filter::id(matches, "ruleid")?;
    control::call_queue(context, |mut client| async move {
        client.remove_hold_rule(RemoveHoldRuleRequest { id }).await
    })?;
    if matches.get_flag("json") {
        println!("{}", json!({ "id": id, "removed": true }));
    } else {
        println!("rule {id} removed");
    }
    Ok(ExitCode::SUCCESS)
}
