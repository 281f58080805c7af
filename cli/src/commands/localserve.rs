//! `mox localserve`

use std::process::ExitCode;

use crate::command::{Command, flag, option, text};
use crate::launch;

pub const LOCALSERVE: Command = Command {
    words: &["localserve"],
    parameters: "",
    help: "Start a mail server on this machine that keeps all messages, for developing software that uses email.\n\n\
           It listens for SMTP, submission and IMAP on 127.0.0.1 and ::1, on the usual port numbers plus 1000. What \
           arrives is delivered to the account of the address, or to the account mox if no account has it. What is \
           submitted goes through the queue, which delivers everything to localserve itself, whatever the domain. There \
           are no limits on rates.\n\n\
           At the first start, a folder is made with the configuration, a self-signed certificate, and an account with \
           the address mox@localhost and the password moxmoxmox.\n\n\
           Recipients whose localpart ends in one of these are answered specially: temperror (a temporary error), \
           permerror (a permanent error), three digits that begin with 4 or 5 (that code), timeout (no answer for an \
           hour). The answer is given to DATA, or if the localpart begins with mailfrom or rcptto, to that command.",
    arguments: || {
        vec![
            option(
                "dir",
                "string",
                "folder for configuration and data (default: mox-localserve in the user's configuration folder)",
            ),
            flag("initonly", "write the configuration, and end"),
            option(
                "ip",
                "string",
                "address to listen on, instead of 127.0.0.1 and ::1; only when the configuration is written",
            ),
        ]
    },
    run: |context, matches| {
        launch::localserve(
            context,
            text(matches, "dir"),
            text(matches, "ip"),
            matches.get_flag("initonly"),
        )?;
        Ok(ExitCode::SUCCESS)
    },
};
