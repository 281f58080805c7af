//! `mox config account|address|domain add|rm`: changes to domains.toml by the running server.

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;
use mox_proto::control::v1::{
    AddAccountRequest, AddAddressRequest, AddDomainRequest, RemoveAccountRequest, RemoveAddressRequest,
    RemoveDomainRequest,
};

use crate::command::{Command, parameter, text};
use crate::context::Context;
use crate::control;

fn given(matches: &ArgMatches, name: &str) -> String {
    text(matches, name).to_owned()
}

/// Runs a change, and says what is next.
macro_rules! change {
    ($context:expr, $call:ident, $request:expr, $said:expr) => {{
        let request = $request;
        let said: String = $said;
        control::call($context, |mut client| async move { client.$call(request).await })?;
        println!("{said}");
        Ok(ExitCode::SUCCESS)
    }};
}

pub const ACCOUNT_ADD: Command = Command {
    words: &["config", "account", "add"],
    parameters: "account address",
    help: "Add an account with an email address.\n\n\
           Mail for the address arrives in the account from then on. Set a password with mox setaccountpassword, so that \
           its user can log in.",
    arguments: || vec![parameter("account"), parameter("address")],
    run: account_add,
};

fn account_add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let account = given(matches, "account");
    let said = format!("account {account} added; set its password with: mox setaccountpassword {account}");
    change!(
        context,
        add_account,
        AddAccountRequest {
            account,
            address: given(matches, "address")
        },
        said
    )
}

pub const ACCOUNT_RM: Command = Command {
    words: &["config", "account", "rm"],
    parameters: "account",
    help: "Remove an account, its addresses, and all of its mail.\n\n\
           Mail for its addresses is refused from then on. Its data is removed for good. Domains whose \
           reports (DMARC, TLS) arrive in the account do not take reports any more.",
    arguments: || vec![parameter("account")],
    run: account_rm,
};

fn account_rm(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let account = given(matches, "account");
    let said = format!("account {account} removed, with its mail");
    change!(context, remove_account, RemoveAccountRequest { account }, said)
}

pub const ADDRESS_ADD: Command = Command {
    words: &["config", "address", "add"],
    parameters: "address account",
    help: "Add an email address to an account.\n\n\
           With nothing before the @, as in @example.org, the account gets the mail for all addresses of the domain that \
           nobody else has.",
    arguments: || vec![parameter("address"), parameter("account")],
    run: address_add,
};

fn address_add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let (address, account) = (given(matches, "address"), given(matches, "account"));
    let said = format!("address {address} added to account {account}");
    change!(context, add_address, AddAddressRequest { address, account }, said)
}

pub const ADDRESS_RM: Command = Command {
    words: &["config", "address", "rm"],
    parameters: "address",
    help: "Remove an email address from the account that has it.\n\n\
           Mail for the address is refused from then on. Mail that arrived before stays. The address is also removed \
           from aliases.",
    arguments: || vec![parameter("address")],
    run: address_rm,
};

fn address_rm(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let address = given(matches, "address");
    let said = format!("address {address} removed");
    change!(context, remove_address, RemoveAddressRequest { address }, said)
}

pub const DOMAIN_ADD: Command = Command {
    words: &["config", "domain", "add"],
    parameters: "domain account [localpart]",
    help: "Add a domain.\n\n\
           It gets keys for signing (DKIM), a policy for TLS (MTA-STS), and addresses for reports, which arrive in the \
           account. If the account is new, and only then, give a localpart: the account gets that address in the domain. \
           Afterwards, mox config dnsrecords prints the DNS records to create.",
    arguments: || {
        vec![
            parameter("domain"),
            parameter("account"),
            parameter("localpart").required(false),
        ]
    },
    run: domain_add,
};

fn domain_add(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = given(matches, "domain");
    let said = format!("domain {domain} added; see which DNS records to create with: mox config dnsrecords {domain}");
    let (account, localpart) = (given(matches, "account"), given(matches, "localpart"));
    change!(
        context,
        add_domain,
        AddDomainRequest {
            domain,
            account,
            localpart
        },
        said
    )
}

pub const DOMAIN_RM: Command = Command {
    words: &["config", "domain", "rm"],
    parameters: "domain",
    help: "Remove a domain.\n\n\
           Mail for it is refused from then on. Accounts and addresses in the domain must be removed first. Its private \
           keys stay in the folder dkim.",
    arguments: || vec![parameter("domain")],
    run: domain_rm,
};

fn domain_rm(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let domain = given(matches, "domain");
    let said = format!("domain {domain} removed; remove its DNS records too");
    change!(context, remove_domain, RemoveDomainRequest { domain }, said)
}
