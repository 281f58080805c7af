//! `mox loglevels`

use std::process::ExitCode;

use mox_proto::node::v1::{GetLogLevelsRequest, SetLogLevelRequest};

use crate::command::{Command, text};
use crate::control;

pub const LOGLEVELS: Command = Command {
    words: &["loglevels"],
    parameters: "[level [pkg]]",
    help: "Print the levels of the log, or set the default level or that of a package.\n\n\
           Without parameters, the levels in force are printed, the default first. With a level, it becomes the default. \
           With a level and a package, that package gets a level of its own, and with an empty level it loses it. \
           Packages are the parts of mox: smtp-in, submission, imap, queue-delivery, store, control, rpc, message, and \
           so on. Levels that are set hold until mox ends; those for good are in mox.toml.\n\n\
           The levels are error, info, debug, trace, traceauth and tracedata. From trace on, transcripts of protocols \
           are in the log; with traceauth passwords too, and with tracedata whole messages.",
    arguments: || {
        vec![
            clap::Arg::new("level").allow_hyphen_values(true),
            clap::Arg::new("pkg").allow_hyphen_values(true),
        ]
    },
    run: |context, matches| {
        let levels = if let Some(level) = matches.get_one::<String>("level") {
            let request = SetLogLevelRequest {
                package: text(matches, "pkg").to_owned(),
                level: level.clone(),
            };
            control::call(context, |mut client| async move { client.set_log_level(request).await })?;
            return Ok(ExitCode::SUCCESS);
        } else {
            control::call(context, |mut client| async move {
                client.get_log_levels(GetLogLevelsRequest {}).await
            })?
        };
        let levels = levels.into_inner();
        println!("(default): {}", levels.default_level);
        let mut packages: Vec<_> = levels.packages.into_iter().collect();
        packages.sort();
        for (package, level) in packages {
            println!("{package}: {level}");
        }
        Ok(ExitCode::SUCCESS)
    },
};
