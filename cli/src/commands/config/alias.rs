//! `mox config alias …`: lists of addresses.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ArgMatches;
use mox_proto::control::v1::{Alias, AliasAddressesRequest, GetAliasRequest, ListAliasesRequest, UpdateAliasRequest};
use serde_json::json;

use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control::call_alias;
use crate::table::Table;

/// Addresses, any number of them.
fn addresses() -> clap::Arg {
    parameter("addresses").num_args(1..)
}

fn given(matches: &ArgMatches) -> Vec<String> {
    matches
        .get_many::<String>("addresses")
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn as_json(alias: &Alias) -> serde_json::Value {
    json!({
        "address": alias.address,
        "addresses": alias.addresses,
        "post_public": alias.post_public,
        "list_members": alias.list_members,
        "allow_msg_from": alias.allow_msg_from,
    })
}

pub const LIST: Command = Command {
    words: &["config", "alias", "list"],
    parameters: "domain",
    help: "List the aliases of a domain.\n\n\
           An alias is an address whose mail goes to the addresses of several accounts. Each is shown with how many \
           addresses it leads to, and with its settings.",
    arguments: || vec![parameter("domain"), flag("json", "Print a JSON object for each alias.")],
    run: list,
};

fn list(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = text(matches, "domain").to_owned();
    let answer = call_alias(context, |mut client| async move {
        client.list_aliases(ListAliasesRequest { domain }).await
    })?;
    let aliases = answer.into_inner().aliases;
    if matches.get_flag("json") {
        for alias in &aliases {
            println!("{}", as_json(alias));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["ALIAS", "ADDRESSES", "POSTPUBLIC", "LISTMEMBERS", "ALLOWMSGFROM"]);
    for alias in &aliases {
        table.row(vec![
            alias.address.clone(),
            alias.addresses.len().to_string(),
            alias.post_public.to_string(),
            alias.list_members.to_string(),
            alias.allow_msg_from.to_string(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

pub const PRINT: Command = Command {
    words: &["config", "alias", "print"],
    parameters: "alias",
    help: "Print the settings and addresses of an alias.",
    arguments: || vec![parameter("alias"), flag("json", "Print a JSON object.")],
    run: print,
};

fn print(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let address = text(matches, "alias").to_owned();
    let answer = call_alias(context, |mut client| async move {
        client.get_alias(GetAliasRequest { address }).await
    })?;
    let alias = answer.into_inner();
    if matches.get_flag("json") {
        println!("{}", as_json(&alias));
        return Ok(ExitCode::SUCCESS);
    }
    println!("# postpublic {}", alias.post_public);
    println!("# listmembers {}", alias.list_members);
    println!("# allowmsgfrom {}", alias.allow_msg_from);
    println!("# addresses");
    for address in &alias.addresses {
        println!("{address}");
    }
    Ok(ExitCode::SUCCESS)
}

pub const ADD: Command = Command {
    words: &["config", "alias", "add"],
    parameters: "alias@domain rcpt1@domain ...",
    help: "Add an alias that leads to one or more addresses.\n\n\
           The addresses are of accounts here. Mail for the alias is delivered to each account once; who wrote it gets \
           no copy, and neither do those that it is addressed to besides. Only members can write to the alias, and SPF \
           or DKIM must show that it is them: to let everybody write, use mox config alias update.",
    arguments: || vec![parameter("alias"), addresses()],
    run: add,
};

fn add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (address, addresses) = (text(matches, "alias").to_owned(), given(matches));
    let plural = if addresses.len() == 1 { "" } else { "es" };
    let said = format!("alias {address} added, with {} address{plural}", addresses.len());
    let request = Alias {
        address,
        addresses,
        ..Alias::default()
    };
    call_alias(context, |mut client| async move { client.add_alias(request).await })?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

pub const UPDATE: Command = Command {
    words: &["config", "alias", "update"],
    parameters: "alias@domain [-postpublic false|true -listmembers false|true -allowmsgfrom false|true]",
    help: "Change the settings of an alias.",
    arguments: || {
        vec![
            parameter("alias"),
            option(
                "postpublic",
                "false|true",
                "Whether anybody or only members can write to it.",
            ),
            option(
                "listmembers",
                "false|true",
                "Whether members can see who the others are.",
            ),
            option(
                "allowmsgfrom",
                "false|true",
                "Whether members can use the alias as the From address of what they send.",
            ),
        ]
    },
    run: update,
};

fn update(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let setting = |name: &str| match text(matches, name) {
        "" => Ok(None),
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => bail!("-{name} is false or true, not {other:?}"),
    };
    let address = text(matches, "alias").to_owned();
    let request = UpdateAliasRequest {
        address: address.clone(),
        post_public: setting("postpublic")?,
        list_members: setting("listmembers")?,
        allow_msg_from: setting("allowmsgfrom")?,
    };
    call_alias(context, |mut client| async move { client.update_alias(request).await })?;
    println!("alias {address} changed");
    Ok(ExitCode::SUCCESS)
}

pub const RM: Command = Command {
    words: &["config", "alias", "rm"],
    parameters: "alias@domain",
    help: "Remove an alias.\n\nMail for it is refused from then on.",
    arguments: || vec![parameter("alias")],
    run: rm,
};

fn rm(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let address = text(matches, "alias").to_owned();
    let request = GetAliasRequest {
        address: address.clone(),
    };
    call_alias(context, |mut client| async move { client.remove_alias(request).await })?;
    println!("alias {address} removed");
    Ok(ExitCode::SUCCESS)
}

pub const ADD_ADDRESSES: Command = Command {
    words: &["config", "alias", "addaddr"],
    parameters: "alias@domain rcpt1@domain ...",
    help: "Add addresses to an alias.",
    arguments: || vec![parameter("alias"), addresses()],
    run: add_addresses,
};

fn add_addresses(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (address, addresses) = (text(matches, "alias").to_owned(), given(matches));
    let said = format!("{} addresses added to alias {address}", addresses.len());
    let request = AliasAddressesRequest { address, addresses };
    call_alias(context, |mut client| async move {
        client.add_alias_addresses(request).await
    })?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

pub const REMOVE_ADDRESSES: Command = Command {
    words: &["config", "alias", "rmaddr"],
    parameters: "alias@domain rcpt1@domain ...",
    help: "Remove addresses from an alias.\n\nThe last one can't be removed: remove the alias instead.",
    arguments: || vec![parameter("alias"), addresses()],
    run: remove_addresses,
};

fn remove_addresses(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (address, addresses) = (text(matches, "alias").to_owned(), given(matches));
    let said = format!("{} addresses removed from alias {address}", addresses.len());
    let request = AliasAddressesRequest { address, addresses };
    call_alias(context, |mut client| async move {
        client.remove_alias_addresses(request).await
    })?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}
