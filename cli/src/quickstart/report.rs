//! What is printed at the end: passwords, DNS records, what to do next.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use mox_config::{Dynamic, Static};
use mox_control::Records;

use crate::launch::User;
use crate::quickstart::network::Found;
use crate::quickstart::{Passwords, Plan, files, shown};

/// Everything that the administrator has to know and do.
///
/// # Errors
/// If the records cannot be told.
pub fn text(
    plan: &Plan,
    fixed: &Static,
    dynamic: &Dynamic,
    passwords: &Passwords,
    found: &Found,
    service: Option<&Path>,
    user: Option<&User>,
) -> Result<String> {
    let mut out = String::new();
    let host = plan.hostname.ascii();
    let _ = writeln!(out, "\nmox was set up in {}.\n", files::folder(plan).display());
    let _ = writeln!(
        out,
        "Passwords, which are not kept in readable form: write them down now."
    );
    let _ = writeln!(
        out,
        "  account {}, address {}: {}",
        plan.account, plan.address, passwords.account
    );
    let _ = writeln!(out, "  administrator: {}\n", passwords.admin);

    let records = Records {
        fixed,
        config: dynamic,
        dir: &plan.config,
        ips: found.public_ips(),
        dnssec: found.dnssec,
    };
    let _ = writeln!(
        out,
        "DNS records to create (again later: mox config dnsrecords {}):\n",
        plan.address.domain
    );
    out.push_str(&records.zone(&plan.address.domain)?);

    if let Some(service) = service {
        let unit = std::fs::read_to_string(service).with_context(|| format!("reading {}", service.display()))?;
        let _ = writeln!(
            out,
            "\nThe systemd unit, which is in {} too:\n\n{}",
            shown(service),
            unit.trim_end()
        );
    }

    let _ = writeln!(out, "\nWhat to do next:\n");
    let mut steps: Vec<String> = Vec::new();
    if user.is_none() {
        steps.push(format!(
            "Make the user that mox runs as:\n     useradd --system --no-create-home --shell /usr/sbin/nologin {}",
            plan.user
        ));
    }
    steps.push(
        "Create the DNS records above, and have the reverse DNS of the addresses set to the name of the host."
            .to_owned(),
    );
    steps.push(format!(
        "Replace the certificate, which is signed by itself, by one of a certificate authority for {host}:\n     \
         {}\n     {}\n   Keep the key in {} if you create the TLSA records (DANE): they are about that key.",
        shown(&plan.config.join(files::cert_file(host))),
        shown(&plan.config.join(files::key_file(host))),
        shown(&plan.config.join("hostkeys")),
    ));
    if plan.existing_webserver {
        let domain = plan.address.domain.ascii();
        steps.push(format!(
            "Let your web server forward HTTPS requests for mta-sts.{domain} and autoconfig.{domain} to \
             http://127.0.0.1:81,\n   with the header X-Forwarded-For."
        ));
    }
    steps.push(
        "This version does not serve HTTP pages yet: leave out the records for mta-sts and autoconfig until one does."
            .to_owned(),
    );
    steps.push("Look over config/mox.toml and config/domains.toml, and check them: ./mox config test".to_owned());
    match service {
        Some(service) => steps.push(format!(
            "Start mox with systemd, as root, with the program mox in this folder:\n     cp {} /etc/systemd/system/\n     \
             systemctl daemon-reload\n     systemctl enable --now mox\n     journalctl -f -u mox\n   Or by hand, as root: \
             ./mox serve",
            shown(service)
        )),
        None => steps.push(
            "mox.service exists and was left as it is; the one of this version: ./mox config printservice\n   Start mox: \
             ./mox serve"
                .to_owned(),
        ),
    }
    steps.push(format!(
        "Set up a mail program: IMAP {host} port 993 and SMTP {host} port 465, both with TLS,\n   user {} with the \
         password of the account.",
        plan.address
    ));
    for (n, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "{}. {step}", n + 1);
    }
    Ok(out)
}
