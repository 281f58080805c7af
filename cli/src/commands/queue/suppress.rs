//! `mox queue suppress list`, `add`, `remove`, `lookup`

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;
use mox_proto::queue::v1::{AddSuppressionRequest, ListSuppressionsRequest, RemoveSuppressionRequest, Suppression};
use serde_json::json;

use super::moment;
use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Listing;

pub const LIST: Command = Command {
    words: &["queue", "suppress", "list"],
    parameters: "[-account account]",
    help: "List the addresses that accounts do not send to.\n\n\
           An address comes onto the list of an account when a message to it fails for good, or by mox queue suppress \
           add. Messages to it are not sent any more; their senders are told. What counts is the base address: in lower \
           case, without dots, and without what follows \"+\" or \"-\" in its localpart.",
    arguments: || {
        vec![
            option("account", "string", "only the list of this account"),
            flag("json", "print a JSON object for each address, one a line"),
        ]
    },
    run: |context, matches| show(context, matches, ""),
};

pub const ADD: Command = Command {
    words: &["queue", "suppress", "add"],
    parameters: "account address",
    help: "Add an address to those that an account does not send to.\n\n\
           Other addresses with the same base address are not sent to either: see mox queue suppress list. Messages that \
           are in the queue already are sent nevertheless.",
    arguments: || {
        vec![
            parameter("name"),
            parameter("address"),
            flag("json", "print a JSON object"),
        ]
    },
    run: add,
};

pub const REMOVE: Command = Command {
    words: &["queue", "suppress", "remove"],
    parameters: "account address",
    help: "Remove an address from those that an account does not send to.\n\n\
           Any address with the same base address will do.",
    arguments: || {
        vec![
            parameter("name"),
            parameter("address"),
            flag("json", "print a JSON object"),
        ]
    },
    run: remove,
};

pub const LOOKUP: Command = Command {
    words: &["queue", "suppress", "lookup"],
    parameters: "[-account account] address",
    help: "Tell whether accounts do not send to an address.\n\n\
           What stops messages to it is printed, one line for each account. The exit code is 1 if there is nothing.",
    arguments: || {
        vec![
            parameter("address"),
            option("account", "string", "only for this account"),
            flag("json", "print a JSON object for each finding, one a line"),
        ]
    },
    run: |context, matches| show(context, matches, text(matches, "address")),
};

fn as_json(suppression: &Suppression) -> serde_json::Value {
    json!({
        "account": suppression.account, "base_address": suppression.base_address, "address": suppression.address,
        "manual": suppression.manual, "reason": suppression.reason, "created": moment(suppression.created),
    })
}

fn show(context: &Context, matches: &ArgMatches, address: &str) -> Result<ExitCode> {
    let mut request = ListSuppressionsRequest {
        account: text(matches, "account").to_owned(),
        address: address.to_owned(),
        page_token: String::new(),
    };
    let all = control::call_queue(context, |mut client| async move {
        let mut all = Vec::new();
        loop {
            let page = client.list_suppressions(request.clone()).await?.into_inner();
            all.extend(page.suppressions);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    })?;
    let code = if all.is_empty() && !address.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    let json = matches.get_flag("json");
    if all.is_empty() && !address.is_empty() && !json {
        eprintln!("not on a suppression list: {address}");
        return Ok(code);
    }
    let titles = ["ACCOUNT", "BASE ADDRESS", "ADDRESS", "SINCE", "BY", "REASON"];
    let mut listing = Listing::new(json, &titles);
    for suppression in &all {
        let row = || {
            vec![
                suppression.account.clone(),
                suppression.base_address.clone(),
                suppression.address.clone(),
                moment(suppression.created),
                if suppression.manual { "hand" } else { "failure" }.to_owned(),
                suppression.reason.clone(),
            ]
        };
        listing.add(|| as_json(suppression), row);
    }
    listing.end();
    Ok(code)
}

fn add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let request = AddSuppressionRequest {
        account: text(matches, "name").to_owned(),
        address: text(matches, "address").to_owned(),
        reason: String::new(),
    };
    let added = control::call_queue(context, |mut client| async move {
        Ok(client.add_suppression(request).await?.into_inner())
    })?;
    if matches.get_flag("json") {
        println!("{}", as_json(&added));
    } else {
        println!("{} added", added.base_address);
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let request = RemoveSuppressionRequest {
        account: text(matches, "name").to_owned(),
        address: text(matches, "address").to_owned(),
    };
    let address = request.address.clone();
    control::call_queue(
        context,
        |mut client| async move { client.remove_suppression(request).await },
    )?;
    if matches.get_flag("json") {
        println!(
            "{}",
            json!({ "account": text(matches, "name"), "address": address, "removed": true })
        );
    } else {
        println!("{address} removed");
    }
    Ok(ExitCode::SUCCESS)
}
