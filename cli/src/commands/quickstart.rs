//! `mox quickstart`

use std::process::ExitCode;

use crate::command::{Command, flag, option, parameter, text};
use crate::quickstart;

pub const QUICKSTART: Command = Command {
    words: &["quickstart"],
    parameters: "[-skipdial] [-existing-webserver] [-hostname host] user@domain [user | uid]",
    help: "Set up mox on this machine for a domain, with an account and its first address.\n\n\
           Writes mox.toml and domains.toml into the folder config, with keys for signing (DKIM), keys of the host, and a \
           certificate, and makes the account in the folder data. Prints the passwords of the administrator and the \
           account, once, the DNS records to create, and what to do next, and writes a systemd unit. Nothing that exists \
           is changed.\n\n\
           Run it on the machine that mox will run on, in an empty folder of its own: its name and its public addresses \
           are found out. Many machines know only the first part of their name, such as mail of mail.example.org. Then \
           the reverse DNS of the addresses is asked for the whole, and otherwise the domain is added. Name it with \
           -hostname to be sure.\n\n\
           The second parameter is the user that mox will run as, by name or number: mox if it is not given.\n\n\
           Until certificates are fetched by themselves (ACME), mox serves with a certificate signed by itself: replace \
           the files in config/tls by ones of a certificate authority.",
    arguments: || {
        vec![
            flag(
                "existing-webserver",
                "a web server runs on this machine already: mox does not use ports 80 and 443, and what has to be \
                 forwarded to it is told",
            ),
            option(
                "hostname",
                "string",
                "full name of the host; its addresses in DNS are listened on",
            ),
            flag("skipdial", "do not try whether other servers can be reached on port 25"),
            parameter("address"),
            parameter("user").required(false),
        ]
    },
    run: |_, matches| {
        let options = quickstart::Options {
            address: text(matches, "address").to_owned(),
            user: matches.get_one::<String>("user").cloned(),
            hostname: matches.get_one::<String>("hostname").cloned(),
            skip_dial: matches.get_flag("skipdial"),
            existing_webserver: matches.get_flag("existing-webserver"),
        };
        quickstart::run(&options)?;
        Ok(ExitCode::SUCCESS)
    },
};
