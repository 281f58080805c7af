//! `mox cid`

use std::process::ExitCode;

use clap::ArgMatches;
use mox_proto::config::v1::RevealCidRequest;

use crate::command::{Command, parameter, text};
use crate::context::Context;
use crate::control;

pub const CID: Command = Command {
    words: &["cid"],
    parameters: "id",
    help: "Print the id of a connection, as logs have it, from the id in a Received field.\n\n\
           Every line of the log about a connection has its cid. The Received field that mox adds to a message has the cid \
           of the connection that the message came over, behind \"id\", but encrypted: others can't tell anything by it. \
           Look for the number that is printed in the logs, as cid.",
    arguments: || vec![parameter("id")],
    run: cid,
};

fn cid(context: &Context, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let request = RevealCidRequest {
        id: text(matches, "id").to_owned(),
    };
    let answer = control::call(context, |mut client| async move { client.reveal_cid(request).await })?;
    println!("{:x}", answer.into_inner().cid);
    Ok(ExitCode::SUCCESS)
}
