//! Repairs of what is kept: by the running server, or on the data of a stopped one.

use std::process::ExitCode;

use clap::{Arg, ArgMatches};
use mox_proto::admin::v1::AccountRequest;

use crate::admin::{Admins, block_on, told};
use crate::command::{Command, flag, parameter, text};
use crate::report::Printer;

/// Runs a repair, and prints what it tells.
macro_rules! repair {
    ($context:expr, $matches:expr, $call:ident, $request:expr) => {{
        let request = $request;
        let mut printer = Printer::new($matches.get_flag("json"), false);
        block_on(async {
            let admins = Admins::open($context).await?;
            let reports = admins.client().$call(request).await.map_err(|s| told(&s))?;
            printer.all(reports.into_inner()).await
        })?;
        Ok(ExitCode::SUCCESS)
    }};
}

fn json() -> Arg {
    flag("json", "print a JSON object for each finding, one a line")
}

fn account() -> Vec<Arg> {
    vec![parameter("account"), json()]
}

fn of_account(matches: &ArgMatches) -> AccountRequest {
    AccountRequest {
        account: text(matches, "account").to_owned(),
    }
}

pub const RECALCULATE: Command = Command {
    words: &["recalculatemailboxcounts"],
    parameters: "account",
    help: "Count the messages of all mailboxes of an account anew, and their size for the quota.\n\n\
           The numbers of messages, of those that are unseen or deleted, and their sizes are kept up to date with every \
           change. Should a defect have made them wrong, this finds the wrong ones, corrects them, and prints them. \
           With a running mox, mail is delivered and read meanwhile; if mox is stopped, its data is opened directly.",
    arguments: account,
    run: |context, matches| repair!(context, matches, recalculate_counts, of_account(matches)),
};
