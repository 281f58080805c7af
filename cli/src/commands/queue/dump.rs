//! `mox queue dump`

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;
use mox_proto::queue::v1::DumpQueueRequest;

use super::filter;
use crate::command::{Command, parameter};
use crate::context::Context;
use crate::control;

pub const DUMP: Command = Command {
    words: &["queue", "dump"],
    parameters: "id",
    help: "Print a message in the queue.\n\n\
           It goes to standard output as it would be sent, in the standard format of mail. The numbers of messages are \
           those that mox queue list prints.",
    arguments: || vec![parameter("id")],
    run: dump,
};

fn dump(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let id = filter::id(matches, "id")?;
    control::call_queue(context, |mut client| async move {
        let mut pieces = client.dump(DumpQueueRequest { id }).await?.into_inner();
        let mut out = std::io::stdout().lock();
        while let Some(piece) = pieces.message().await? {
            out.write_all(&piece.data)?;
        }
        out.flush()?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
