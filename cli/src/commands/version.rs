//! `mox version`

use std::process::ExitCode;

use crate::command::{Command, none};

pub const VERSION: Command = Command {
    words: &["version"],
    parameters: "",
    help: "Print the version of mox.",
    arguments: none,
    run: |_, _| {
        println!("{}", env!("CARGO_PKG_VERSION"));
        Ok(ExitCode::SUCCESS)
    },
};
