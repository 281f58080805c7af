//! What is demanded of TLS with the hosts of a domain, and of each of them.
//!
//! In this order: DANE, if the host's records are protected by DNSSEC (RFC 7672); the domain's MTA-STS policy (RFC
//! 8461); encryption with whoever it is, if offered (RFC 7435). A message can demand more (REQUIRETLS, RFC 8689), or
//! less (`TLS-Required: No`).

mod host;
mod memory;
mod metrics;
mod refresh;
mod results;
mod sts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mox_dns::{MailHosts, Status};
use mox_proto::queue::v1::RequireTls;
use mox_tlspolicy::mtasts::Mode;

pub use host::HostPolicy;
pub use memory::Memory;
pub use metrics::SecurityMetrics;
pub use results::Results;
pub use sts::{Kept, Policies, Sts};

use crate::verdict::Failure;

/// What the hosts of a recipient domain are held to.
#[derive(Debug, Clone)]
pub struct Demands {
    /// The recipients' domain, as A-labels.
    pub domain: String,
    /// Where its CNAMEs lead.
    canonical: String,
    /// DNSSEC protects the answer that names its hosts.
    hosts_secure: bool,
    /// Its MTA-STS policy.
    sts: Sts,
    /// What the message says.
    message: RequireTls,
}

impl Demands {
    /// Of a domain whose hosts are known.
    pub fn new(domain: &str, hosts: &MailHosts, sts: Sts, message: RequireTls) -> Self {
        Self {
            domain: domain.to_owned(),
            canonical: hosts.canonical.clone(),
            hosts_secure: hosts.status == Status::Secure,
            sts,
            message,
        }
    }

    /// The message goes without TLS rather than not at all (RFC 8689 §3).
    fn lenient(&self) -> bool {
        self.message == RequireTls::No
    }

    /// The message goes with verified TLS, to hosts that demand the same of the next, or not at all (RFC 8689 §2).
    fn strict(&self) -> bool {
        self.message == RequireTls::Yes
    }

    /// The policy, if it says to hold hosts to it, and the message does not say otherwise.
    fn enforced(&self) -> Option<&Arc<Kept>> {
        self.sts
            .policy()
            .filter(|kept| kept.policy.mode == Mode::Enforce && !self.lenient())
    }

    /// Whether the domain has an MTA-STS policy, also one that could not be had.
    pub fn has_policy(&self) -> bool {
        !matches!(self.sts, Sts::None)
    }

    /// Whether a host may get mail, before anything is known of it but its name.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, host: &str) -> Result<(), Failure> {
        if let Some(kept) = self.enforced()
            && !kept.policy.matches(host)
        {
            let text = format!(
                "host {host} is not one of those that the MTA-STS policy of {} names ({})",
                self.domain,
                kept.policy.mx.join(", ")
            );
            return Err(Failure::ours(false, (7, 5), text));
        }
        // RFC 8689 §4.2.1: the name of the host must be certain, by DNSSEC or by MTA-STS.
        let certain = self.hosts_secure
            || self
                .sts
                .policy()
                .is_some_and(|kept| kept.policy.mode != Mode::None && kept.policy.matches(host));
        if self.strict() && !certain {
            let text = format!(
                "the message requires verified TLS, and neither DNSSEC nor MTA-STS says that {host} takes mail for {}",
                self.domain
            );
            return Err(Failure::ours(true, (7, 30), text));
        }
        Ok(())
    }
}
