//! `mox config dnsrecords`

use std::process::ExitCode;

use anyhow::Result;
use mox_control::Records;

use crate::command::{Command, parameter, text};
use crate::context::{Context, folder_of};

pub const DNSRECORDS: Command = Command {
    words: &["config", "dnsrecords"],
    parameters: "domain",
    help: "Print the DNS records that a domain should have, as a zone file with explanations.\n\n\
           The records are made from the configuration. Look at them before you add them, above all if the domain has \
           mail already.",
    arguments: || vec![parameter("domain")],
    run: |context, matches| records(context, text(matches, "domain")),
};

fn records(context: &Context, domain: &str) -> Result<ExitCode> {
    let (file, fixed, config) = context.load()?;
    let dir = folder_of(&file);
    let ips = Records::configured_ips(&fixed);
    let records = Records {
        fixed: &fixed,
        config: &config,
        dir: &dir,
        ips,
        dnssec: None,
    };
    print!("{}", records.zone(&domain.parse()?)?);
    Ok(ExitCode::SUCCESS)
}
