//! `mox config describe-static`, `mox config describe-domains`, `mox config describe-sendmail`

use std::process::ExitCode;

use crate::command::{Command, none};

pub const STATIC: Command = Command {
    words: &["config", "describe-static"],
    parameters: ">mox.toml",
    help: "Print every setting of mox.toml, with its explanation.\n\n\
           mox.toml is read when mox starts: after changing it, start mox again. What is printed has the settings that \
           are required, with examples that need to be changed, and all others commented out.",
    arguments: none,
    run: |_, _| {
        print!("{}", mox_config::describe_static());
        Ok(ExitCode::SUCCESS)
    },
};

pub const DOMAINS: Command = Command {
    words: &["config", "describe-domains"],
    parameters: ">domains.toml",
    help: "Print every setting of domains.toml, with its explanation.\n\n\
           domains.toml has the domains and accounts. The running mox takes over changes by itself, and makes changes \
           there for the mox config commands and the web pages of the administrator. What is printed has all settings, \
           with examples, commented out.",
    arguments: none,
    run: |_, _| {
        print!("{}", mox_config::describe_dynamic());
        Ok(ExitCode::SUCCESS)
    },
};

pub const SENDMAIL: Command = Command {
    words: &["config", "describe-sendmail"],
    parameters: ">/etc/moxsubmit.conf",
    help: "Print every setting of mox sendmail, with its explanation.\n\n\
           The file is /etc/moxsubmit.conf. What is printed has the settings that are required, with examples that need \
           to be changed, and all others commented out.",
    arguments: none,
    run: |_, _| {
        print!("{}", mox_config::describe_sendmail());
        Ok(ExitCode::SUCCESS)
    },
};
