//! What TLS led to, for reports (RFC 8460).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use mox_proto::report::v1::{TlsFailureDetails, TlsPolicyType, TlsResult, TlsResultType};
use mox_tlspolicy::ResultType;
use mox_tlspolicy::dane::Found;
use mox_tlspolicy::mtasts::Policy;
use parking_lot::Mutex;

use super::{Demands, SecurityMetrics};

/// Policies in one attempt: a host may have its own.
const POLICIES_MAX: usize = 32;
/// Failures of one policy that are told apart.
const FAILURES_MAX: usize = 32;
/// Octets of a text about a failure.
const TEXT_MAX: usize = 500;

/// A failure, in words of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is called.
    pub kind: ResultType,
    /// What happened.
    pub text: String,
}

/// Who was spoken with.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The MX host.
    pub host: &'a str,
    /// How it greeted; "" if it did not come to that.
    pub helo: &'a str,
    /// Where; `None` if it was not dialed.
    pub address: Option<SocketAddr>,
}

/// What TLS led to in an attempt. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Results {
    all: Arc<Mutex<Vec<TlsResult>>>,
    metrics: SecurityMetrics,
}

impl Results {
    /// None yet. Failures are counted in the figures, too.
    #[must_use]
    pub fn new(metrics: SecurityMetrics) -> Self {
        Self {
            all: Arc::default(),
            metrics,
        }
    }

    /// Takes what there is.
    #[must_use]
    pub fn take(&self) -> Vec<TlsResult> {
        std::mem::take(&mut self.all.lock())
    }

    /// A session under DANE.
    pub fn dane(&self, demands: &Demands, found: &Found, peer: Peer<'_>, verdict: Result<(), &Fault>) {
        let policy = TlsResult {
            recipient_domain: demands.domain.clone(),
            policy_type: TlsPolicyType::Tlsa.into(),
            policy_strings: found.records.iter().map(ToString::to_string).collect(),
            policy_domain: found.base.clone(),
            ..TlsResult::default()
        };
        self.add(policy, peer, verdict);
    }

    /// A session under MTA-STS, or that would be under it if its policy could be had.
    pub fn sts(&self, demands: &Demands, peer: Peer<'_>, verdict: Result<(), &Fault>) {
        let policy = demands.sts.policy().map(|kept| &kept.policy);
        let policy = TlsResult {
            recipient_domain: demands.domain.clone(),
            policy_type: TlsPolicyType::Sts.into(),
            policy_strings: policy.map(Policy::lines).unwrap_or_default(),
            policy_domain: demands.domain.clone(),
            mx_host_patterns: policy.map(|p| p.mx.clone()).unwrap_or_default(),
            ..TlsResult::default()
        };
        self.add(policy, peer, verdict);
    }

    /// A session that no policy is about.
    pub fn without_policy(&self, demands: &Demands, peer: Peer<'_>, verdict: Result<(), &Fault>) {
        let policy = TlsResult {
            recipient_domain: demands.domain.clone(),
            policy_type: TlsPolicyType::NoPolicyFound.into(),
            policy_domain: demands.domain.clone(),
            ..TlsResult::default()
        };
        self.add(policy, peer, verdict);
    }

    fn add(&self, policy: TlsResult, peer: Peer<'_>, verdict: Result<(), &Fault>) {
        if let Err(fault) = verdict {
            self.metrics.failed(fault.kind);
        }
        let mut all = self.all.lock();
        let place = all
            .iter()
            .position(|r| (r.policy_type, &r.policy_domain) == (policy.policy_type, &policy.policy_domain));
        let place = match place {
            Some(place) => place,
            None if all.len() < POLICIES_MAX => {
                all.push(policy);
                all.len() - 1
            }
            None => return,
        };
        let result = &mut all[place];
        let Err(fault) = verdict else {
            result.success_count += 1;
            return;
        };
        result.failure_count += 1;
        let details = details(peer, fault);
        let same = |other: &&mut TlsFailureDetails| {
            other.result_type == details.result_type
                && other.receiving_mx_hostname == details.receiving_mx_hostname
                && other.receiving_ip == details.receiving_ip
        };
        if let Some(known) = result.failures.iter_mut().find(same) {
            known.failed_session_count += 1;
        } else if result.failures.len() < FAILURES_MAX {
            result.failures.push(details);
        }
    }
}

fn details(peer: Peer<'_>, fault: &Fault) -> TlsFailureDetails {
    let mut text = fault.text.clone();
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    TlsFailureDetails {
        result_type: wire(fault.kind).into(),
        sending_mta_ip: peer.address.and_then(own_address).unwrap_or_default(),
        receiving_mx_hostname: peer.host.to_owned(),
        receiving_mx_helo: peer.helo.to_owned(),
        receiving_ip: peer.address.map(|a| a.ip().to_string()).unwrap_or_default(),
        failed_session_count: 1,
        additional_information: String::new(),
        failure_reason_code: text,
    }
}

/// The address that this host has in connections with another. Nothing is sent for that.
fn own_address(peer: SocketAddr) -> Option<String> {
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// As reports have it.
pub(super) fn wire(kind: ResultType) -> TlsResultType {
    match kind {
        ResultType::StartTlsNotSupported => TlsResultType::StarttlsNotSupported,
        ResultType::CertificateHostMismatch => TlsResultType::CertificateHostMismatch,
        ResultType::CertificateExpired => TlsResultType::CertificateExpired,
        ResultType::CertificateNotTrusted => TlsResultType::CertificateNotTrusted,
        ResultType::ValidationFailure => TlsResultType::ValidationFailure,
        ResultType::TlsaInvalid => TlsResultType::TlsaInvalid,
        ResultType::DnssecInvalid => TlsResultType::DnssecInvalid,
        ResultType::DaneRequired => TlsResultType::DaneRequired,
        ResultType::StsPolicyFetchError => TlsResultType::StsPolicyFetchError,
        ResultType::StsPolicyInvalid => TlsResultType::StsPolicyInvalid,
        ResultType::StsWebpkiInvalid => TlsResultType::StsWebpkiInvalid,
    }
}
