//! `mox logins`: who logged in, or tried to.

use std::cmp::Reverse;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ArgMatches;
use mox_proto::auth::v1::{ListLoginsRequest, Login};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::command::{Command, flag, option, parameter, text};
use crate::context::Context;
use crate::control;
use crate::table::Table;

pub const LOGINS: Command = Command {
    words: &["logins"],
    parameters: "[account]",
    help: "List logins and attempts to log in, the latest first.\n\n\
           Of an account, or of all. Those of one day that are alike (account, address, protocol, client, mechanism, \
           result) are one line with their count. They are kept for 30 days, and at most 10000 lines for each account; \
           attempts with names that are no account's share as many.\n\n\
           Results are ok, badcreds (wrong name, password or certificate), badchanbind (somebody may be between the \
           client and the server), badprotocol, badmechanism, aborted, logindisabled, ratelimited, toomanysessions and \
           error. The mechanism tlsclientauth is an IMAP connection that was logged in by its certificate from the \
           start.",
    arguments: || {
        vec![
            parameter("account").required(false),
            option("n", "int", "At most this many lines. 0 is all. Default 100."),
            flag("unknown", "Only attempts with names that are no account's."),
            flag("json", "Print a JSON object for each line."),
        ]
    },
    run: logins,
};

/// Lines that are printed unless asked for more.
const LINES: usize = 100;

fn logins(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let most = match text(matches, "n") {
        "" => LINES,
        given => match given.parse() {
            Ok(0) => usize::MAX,
            Ok(n) => n,
            Err(_) => bail!("option -n needs a number, not {given:?}"),
        },
    };
    let account = text(matches, "account").to_owned();
    let unknown = matches.get_flag("unknown");
    if unknown && !account.is_empty() {
        bail!("either an account or -unknown");
    }
    let mut logins = control::call(context, |mut client| async move {
        let mut request = ListLoginsRequest {
            account,
            unknown,
            page_token: String::new(),
        };
        let mut all: Vec<Login> = Vec::new();
        loop {
            let page = client.list_logins(request.clone()).await?.into_inner();
            all.extend(page.logins);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    })?;
    logins.sort_by_key(|login| Reverse(login.last));
    logins.truncate(most);
    if matches.get_flag("json") {
        for login in &logins {
            println!("{}", as_json(login));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "LAST",
        "FIRST",
        "COUNT",
        "RESULT",
        "ACCOUNT",
        "LOGIN",
        "REMOTE",
        "LOCAL",
        "PROTOCOL",
        "MECHANISM",
        "CLIENT",
        "TLS",
        "KEY",
    ]);
    let shown = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    for login in &logins {
        table.row(vec![
            moment(login.last),
            moment(login.first),
            login.count.to_string(),
            shown(&login.result),
            shown(&login.account),
            shown(&login.login_address),
            shown(&login.remote_ip),
            shown(&login.local_ip),
            shown(&login.protocol),
            shown(&login.mechanism),
            shown(&login.client_id),
            shown(&login.tls),
            shown(&login.public_key),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// A time as RFC 3339 has it.
fn moment(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

fn as_json(login: &Login) -> serde_json::Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "last": moment(login.last), "first": moment(login.first), "count": login.count, "result": login.result,
        "account": some(&login.account), "login_address": some(&login.login_address), "remote_ip": login.remote_ip,
        "local_ip": some(&login.local_ip), "protocol": login.protocol, "mechanism": login.mechanism,
        "client_id": some(&login.client_id), "tls": some(&login.tls), "public_key": some(&login.public_key),
    })
}
