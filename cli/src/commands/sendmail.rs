//! `mox sendmail`

use std::process::ExitCode;

use clap::ArgMatches;

use crate::command::Command;
use crate::context::Context;

pub const SENDMAIL: Command = Command {
    words: &["sendmail"],
    parameters: "[-Fname] [ignored flags] [-t] [recipient ...] <message",
    help: "Submit a message from a program on this host, as /usr/sbin/sendmail does.\n\n\
           It lets programs such as cron send mail through a mail server, without a queue on this host. It is the same \
           when mox is started by the name sendmail. The server and how to log in are in /etc/moxsubmit.conf: see mox \
           config describe-sendmail. MOXSUBMITCONF in the environment names another file, unless mox is setgid.\n\n\
           The message is from the address in the settings: From in its header is replaced, and keeps its name, or gets \
           that of -F. Recipients are those given, and with -t those of the To field. Cc and Bcc are not looked at: who is \
           there gets nothing. Recipients without @ are users of this host, and mean the default destination of the \
           settings. Date, Message-ID and To are added if they are missing. The message ends with the input, never with a \
           line that has only a dot. Other flags of sendmail are accepted and ignored, but not modes that do something \
           else: showing the queue, or speaking SMTP.\n\n\
           If submitting fails, or the settings are wrong, the message is kept in the folder moxsubmit.failures in the \
           home directory of the user, with the recipients and the reason in its header. The exit code is 75 if trying again may help, and 69 if \
           not; 64 is for wrong usage, 65 for a message that can't be sent, and 78 for wrong settings.\n\n\
           The settings have a password. Let only a group read them, and mox run with the rights of that group:\n\n\
           groupadd moxsubmit\n\
           install -m 2755 -o root -g moxsubmit mox /usr/sbin/sendmail\n\
           touch /etc/moxsubmit.conf\n\
           chown root:moxsubmit /etc/moxsubmit.conf\n\
           chmod 640 /etc/moxsubmit.conf\n\
           mox config describe-sendmail >/etc/moxsubmit.conf\n\
           # and edit it",
    arguments: || {
        vec![
            clap::Arg::new("arguments")
                .num_args(0..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true),
        ]
    },
    run: |_: &Context, matches: &ArgMatches| {
        let arguments = matches.get_many::<String>("arguments");
        Ok::<ExitCode, anyhow::Error>(crate::sendmail::run(
            &arguments.into_iter().flatten().cloned().collect::<Vec<_>>(),
        ))
    },
};
