//! `mox serve`

use std::process::ExitCode;

use crate::command::{Command, none};
use crate::launch;

pub const SERVE: Command = Command {
    words: &["serve"],
    parameters: "",
    help: "Start mox: receive, keep, show and send mail.\n\n\
           All services run in this process, as mox.toml and domains.toml say. Started as root, mox makes the files of \
           configuration and data belong to the user that mox.toml names, listens on its ports, and goes on as that \
           user. Stop it with mox stop, or a SIGTERM.",
    arguments: none,
    run: |context, _| {
        launch::serve(context)?;
        Ok(ExitCode::SUCCESS)
    },
};
