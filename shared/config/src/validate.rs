//! What the types cannot say: how settings go together.

use crate::dynamic::{Dynamic, Host};
use crate::fixed::Static;
use crate::problem::Problem;

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

/// What is wrong with the static configuration by itself.
#[must_use]
pub fn static_problems(_config: &Static) -> Vec<Problem> {
    Vec::new()
}

/// What is wrong with the dynamic configuration, given the static one.
#[must_use]
pub fn dynamic_problems(_config: &Dynamic, _fixed: &Static) -> Vec<Problem> {
    Vec::new()
}

/// What the static configuration refers to in the dynamic one, and is not there.
#[must_use]
pub fn references_problems(_fixed: &Static, _config: &Dynamic) -> Vec<Problem> {
    Vec::new()
}
