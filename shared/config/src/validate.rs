//! What the types cannot say: how settings go together.

mod dynamic;
mod fixed;

use std::collections::BTreeMap;

pub use dynamic::{account_name_problem, dynamic_problems};
pub use fixed::static_problems;

use crate::dynamic::{Dynamic, Host, Route};
use crate::fixed::Static;
use crate::problem::{FieldPath, Problem};
use crate::transport::Transport;

impl Static {
    /// What of it takes part in finding the recipients of mail.
    #[must_use]
    pub fn host(&self) -> Host {
        let mut hostnames = vec![self.hostname.clone()];
        for name in self.listeners.values().filter_map(|l| l.hostname.as_ref()) {
            if !hostnames.contains(name) {
                hostnames.push(name.clone());
            }
        }
        Host {
            hostnames,
            postmaster: self.postmaster.clone(),
            tls_rpt: self.host_tls_rpt.clone(),
            localserve: self.localserve.as_ref().map(|l| l.address.clone()),
        }
    }
}

/// What the static configuration refers to in the dynamic one, and is not there.
#[must_use]
pub fn references_problems(fixed: &Static, config: &Dynamic) -> Vec<Problem> {
    let root = FieldPath::root();
    let mut problems = Vec::new();
    let mut account = |name: &str, section: &str| {
        if !config.accounts.contains_key(name) {
            let at = root.key(section).key("account");
            problems.push(Problem::new(at, no_such_account(name)));
        }
    };
    if let Some(postmaster) = &fixed.postmaster {
        account(&postmaster.account, "postmaster");
    }
    if let Some(report) = &fixed.host_tls_rpt {
        account(&report.account, "host_tls_rpt");
    }
    if let Some(local) = &fixed.localserve
        && !matches!(config.configured(&local.address), crate::lookup::Lookup::Account(_))
    {
        let message = format!(
            "no account in domains.toml has the address {}: add it as a destination",
            local.address
        );
        problems.push(Problem::new(root.key("localserve").key("address"), message));
    }
    problems
}

fn no_such_account(name: &str) -> String {
    format!("there is no account {name:?} in domains.toml: name one that is there, or add it")
}

/// Whether a text names mailboxes: no empty parts, not too long.
fn mailbox_problem(name: &str) -> Option<String> {
    // Also the limit of the store's names, in octets.
    const MAILBOX_MAX: usize = 1000;
    let bad = name.is_empty()
        || name.len() > MAILBOX_MAX
        || name.split('/').any(str::is_empty)
        || name.chars().any(char::is_control);
    bad.then(|| format!("{name:?} is not the name of a mailbox: use text such as Lists or Lists/Example"))
}

fn routes_problems(
    routes: &[Route],
    at: &FieldPath,
    transports: &BTreeMap<String, Transport>,
    problems: &mut Vec<Problem>,
) {
    for (n, route) in routes.iter().enumerate() {
        let at = at.key("routes").entry(n);
        if route.transport.is_empty() {
            problems.push(Problem::new(
                at.clone(),
                "required field transport is missing: name a transport of mox.toml",
            ));
        } else if !transports.contains_key(&route.transport) {
            let known: Vec<&str> = transports.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            let message = format!("there is no transport {:?} in mox.toml: {known}", route.transport);
            problems.push(Problem::new(at.key("transport"), message));
        }
        for (field, list) in [("from_domain", &route.from_domain), ("to_domain", &route.to_domain)] {
            for (n, domain) in list.iter().enumerate() {
                if domain
                    .strip_prefix('.')
                    .unwrap_or(domain)
                    .parse::<mox_types::Domain>()
                    .is_err()
                {
                    let message = format!("{domain:?} is not a domain, with or without a leading dot");
                    problems.push(Problem::new(at.key(field).entry(n), message));
                }
            }
        }
    }
}
