//! `mox config printservice`

use std::process::ExitCode;

use crate::command::{Command, none};
use crate::quickstart::systemd;

pub const PRINTSERVICE: Command = Command {
    words: &["config", "printservice"],
    parameters: ">mox.service",
    help: "Print a systemd unit for mox.\n\n\
           It is the one that mox quickstart writes. It expects mox and its folders config and data in the working \
           folder that this is run in.",
    arguments: none,
    run: |_, _| {
        print!("{}", systemd::unit(&std::env::current_dir()?));
        Ok(ExitCode::SUCCESS)
    },
};
