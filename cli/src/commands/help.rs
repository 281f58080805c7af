//! `mox help`

use std::process::ExitCode;

use crate::command::Command;
use crate::help::{full, list, matching, usage};

pub const HELP: Command = Command {
    words: &["help"],
    parameters: "[command ...]",
    help: "Print help about the commands whose name begins with the given words.\n\n\
           If several commands match, they are listed with the first line of their help. If one does, its whole help is \
           printed.",
    arguments: || vec![clap::Arg::new("command").num_args(0..)],
    run: |_, matches| {
        let words: Vec<String> = matches.get_many("command").into_iter().flatten().cloned().collect();
        let found = matching(&words);
        match found.as_slice() {
            [] => {
                eprintln!("mox: there is no command {:?}; mox help lists all", words.join(" "));
                return Ok(ExitCode::FAILURE);
            }
            [one] => print!("{}", full(one)),
            _ if words.is_empty() => print!("{}", usage()),
            several => print!("{}", list(several)),
        }
        Ok(ExitCode::SUCCESS)
    },
};
