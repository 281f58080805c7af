//! One host of a recipient domain: what is demanded of it, and a session with it that is so.

use std::net::SocketAddr;
use std::time::Duration;

use mox_dns::{Answer, Reason};
use mox_smtp::client::{Client, ClientError};
use mox_tlspolicy::dane::{self, Found, Names, SMTP_USAGES};
use mox_tlspolicy::mtasts::Mode;
use mox_tlspolicy::verify::{Checks, Findings, Require, client_config};
use mox_tlspolicy::{CertificateFault, ResultType, handshake_fault};

use super::memory::millis;
use super::results::{Fault, Peer};
use super::{Demands, Results, Sts};
use crate::session::{Outside, Plan, server_name};
use crate::verdict::Failure;

/// A host that made TLS with us within this time gets no mail without: it is more likely that somebody is in between,
/// or that something broke that will be mended. Less than mail stays in the queue, so that it goes in the end.
const TLS_MEMORY: Duration = Duration::from_secs(2 * 24 * 3600);

/// What is demanded of one host.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    /// Its TLSA records, usable or not.
    dane: Option<Found>,
    /// When it last made TLS with us, if that is recent.
    tls_at: Option<i64>,
}

impl HostPolicy {
    /// Whether it has TLSA records, usable or not.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.dane.is_some()
    }
}

/// What goes for a session with a host.
struct Rules {
    checks: Checks,
    /// Why the session must not be without TLS; `None` if it may.
    tls: Option<String>,
    /// The name to ask for in TLS.
    name: String,
    /// How a session by these rules is counted.
    verification: &'static str,
}

impl Demands {
    /// Looks for what there is to know about a host whose addresses were found.
    ///
    /// # Errors
    /// If it must not be used, or not now.
    pub async fn host(
        &self,
        outside: &Outside,
        host: &str,
        port: u16,
        addresses: &Answer<std::net::IpAddr>,
        results: &Results,
    ) -> Result<HostPolicy, Failure> {
        let mut policy = HostPolicy::default();
        // RFC 7672 §2.2.1: without DNSSEC for the names of hosts, that for their certificates means little.
        if self.hosts_secure && host.parse::<std::net::IpAddr>().is_err() {
            match dane::find(outside.resolver.as_ref(), host, port, addresses).await {
                Ok(found) => policy.dane = found,
                Err(error) if self.lenient() => {
                    tracing::debug!(host, %error, "TLSA records can't be had, and the message does not mind");
                }
                Err(error) => {
                    // RFC 8460 §4.3.2.1: "no valid records were returned"; a resolver that validates answers with an
                    // error where a signature is wrong.
                    if matches!(error.reason, Reason::Bogus | Reason::Server(_)) {
                        let fault = Fault {
                            kind: ResultType::DnssecInvalid,
                            text: error.to_string(),
                        };
                        let found = Found {
                            base: host.to_owned(),
                            records: Vec::new(),
                        };
                        results.dane(self, &found, peer(host, "", None), Err(&fault));
                    }
                    // RFC 7672 §2.1.2: as if the host did not answer.
                    let text = format!("host {host} can't be used without knowing its TLSA records: {error}");
                    return Err(Failure::ours(false, (4, 3), text));
                }
            }
        }
        if !self.lenient() {
            let now = outside.policies.memory().now();
            let at = outside.policies.memory().host(host).await;
            policy.tls_at = at.filter(|at| now - at < millis(TLS_MEMORY));
        }
        Ok(policy)
    }

    fn rules(&self, host: &str, policy: &HostPolicy, now: i64) -> Rules {
        let usable = policy
            .dane
            .as_ref()
            .map(|found| dane::usable(&found.records, SMTP_USAGES));
        let base = policy.dane.as_ref().map_or(host, |found| found.base.as_str());
        let mut names = vec![base.to_owned()];
        // RFC 7672 §3.2.2: the recipients' domain is a name of its host too.
        for name in [&self.domain, &self.canonical] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let by_dane = usable.as_ref().is_some_and(|usable| !usable.is_empty());
        let policy_of_domain = self.sts.policy().filter(|kept| kept.policy.mode != Mode::None);
        let pkix = policy_of_domain.is_some() || (self.strict() && !by_dane);
        let (require, tls, verification) = if self.lenient() {
            (Require::Nothing, None, "none")
        } else if by_dane {
            // RFC 8461 §2: MTA-STS never makes up for DANE that fails; where DANE holds, it is stronger.
            (Require::Dane, Some(format!("{base} has TLSA records (DANE)")), "dane")
        } else if self.enforced().is_some() {
            let text = format!("the MTA-STS policy of {} demands it", self.domain);
            (Require::Pkix, Some(text), "mta-sts")
        } else if self.strict() {
            (
                Require::Pkix,
                Some("the message requires it (REQUIRETLS)".into()),
                "pkix",
            )
        } else if usable.is_some() {
            // RFC 7672 §2.2: records of which none can be used demand TLS, with whoever it is.
            let text = format!("{base} has TLSA records (DANE), although none that can be used");
            (Require::Nothing, Some(text), "none")
        } else {
            let text = policy.tls_at.map(|at| {
                let hours = (now - at).max(0) / 3_600_000;
                format!("it had TLS {hours} hours ago")
            });
            (Require::Nothing, text, "none")
        };
        Rules {
            checks: Checks {
                dane: usable.filter(|_| by_dane).map(|usable| (usable, Names(names))),
                pkix: pkix.then(|| host.to_owned()),
                require,
            },
            tls,
            // RFC 7672 §8.1.
            name: base.to_owned(),
            verification,
        }
    }

    /// Takes note of a session for reports. `fault` is what was wrong with TLS as such; with the certificate, it is in
    /// the findings.
    fn report(&self, results: &Results, policy: &HostPolicy, found: &Findings, peer: Peer<'_>, fault: Option<&Fault>) {
        // A handshake that ended for a certificate ended for one of the policies only.
        let refused = matches!(found.dane, Some(Err(_))) || matches!(found.pkix, Some(Err(_)));
        let of = |verdict: Option<Result<(), &CertificateFault>>| match (verdict, fault) {
            (Some(Err(wrong)), _) => Err(Fault {
                kind: wrong.result_type(),
                text: wrong.to_string(),
            }),
            (Some(Ok(())), _) if refused => Ok(()),
            (_, Some(fault)) => Err(fault.clone()),
            _ => Ok(()),
        };
        let mut any = false;
        if let Some(dane) = &policy.dane {
            any = true;
            let verdict = match &found.dane {
                Some(verdict) => of(Some(verdict.as_ref().map(drop))),
                None if dane::usable(&dane.records, SMTP_USAGES).is_empty() => of(None).and(Err(Fault {
                    kind: ResultType::TlsaInvalid,
                    text: "none of the TLSA records can be used".into(),
                })),
                None => of(None),
            };
            results.dane(self, dane, peer, verdict.as_ref().map(drop));
        }
        match &self.sts {
            Sts::Policy(kept) if kept.policy.mode != Mode::None => {
                any = true;
                let verdict = if kept.policy.matches(peer.host) {
                    of(found.pkix.as_ref().map(|p| p.as_ref().map(drop)))
                } else {
                    Err(mismatch(peer.host))
                };
                results.sts(self, peer, verdict.as_ref().map(drop));
            }
            Sts::Unknown(unknown) => {
                any = true;
                results.sts(self, peer, Err(unknown));
            }
            _ => {}
        }
        if !any {
            let verdict = of(None);
            results.without_policy(self, peer, verdict.as_ref().map(drop));
        }
    }

    /// Takes note of a host that was passed over for its name.
    pub fn report_mismatch(&self, results: &Results, host: &str) {
        if self.enforced().is_some_and(|kept| !kept.policy.matches(host)) {
            results.sts(self, peer(host, "", None), Err(&mismatch(host)));
        }
    }
}

fn mismatch(host: &str) -> Fault {
    Fault {
        kind: ResultType::ValidationFailure,
        text: format!("mx-mismatch: the policy does not name {host}"),
    }
}

fn peer<'a>(host: &'a str, helo: &'a str, address: Option<SocketAddr>) -> Peer<'a> {
    Peer { host, helo, address }
}

impl Plan {
    /// A session with a recipient's host, as is demanded of it.
    ///
    /// # Errors
    /// If the host does not answer, or not as it should.
    pub(crate) async fn open_host(
        &self,
        outside: &Outside,
        demands: &Demands,
        policy: &HostPolicy,
        host: &str,
        address: SocketAddr,
    ) -> Result<Client, Failure> {
        let now = outside.policies.memory().now();
        let rules = demands.rules(host, policy, now);
        let client = self.plain(outside, address).await?;
        let helo = client.remote_name().to_owned();
        let peer = peer(host, &helo, Some(address));
        if !client.extensions().starttls {
            let fault = Fault {
                kind: ResultType::StartTlsNotSupported,
                text: "the host does not offer STARTTLS".into(),
            };
            demands.report(&self.results, policy, &Findings::default(), peer, Some(&fault));
            let Some(why) = &rules.tls else {
                outside.security.connected("plain");
                return Ok(client);
            };
            let text = format!("host {host} does not offer STARTTLS, which is needed since {why}");
            let failure = if demands.strict() {
                Failure::ours(true, (7, 30), text)
            } else {
                Failure::ours(false, (7, 5), text)
            };
            client.quit().await;
            return Err(failure);
        }
        let library = |e: rustls::Error| Failure::ours(false, (3, 5), format!("preparing TLS: {e}"));
        let (config, outcome) = client_config(&outside.trust, rules.checks.clone()).map_err(library)?;
        match client.starttls(config, server_name(&rules.name, address)).await {
            Ok(client) => {
                let found = outcome.get();
                demands.report(&self.results, policy, &found, peer, None);
                outside.policies.memory().had_tls(host).await;
                // RFC 8689 §4.2.1: who takes the message must be able to demand the same of the next.
                if demands.strict() && !client.extensions().requiretls {
                    let text = format!(
                        "the message requires verified TLS all the way (REQUIRETLS), and host {host} does not support that"
                    );
                    client.quit().await;
                    return Err(Failure::ours(true, (7, 30), text));
                }
                outside.security.connected(rules.verification);
                Ok(client)
            }
            Err(error) => {
                let Some(fault) = tls_fault(&error) else {
                    return Err(Failure::session(&error));
                };
                demands.report(&self.results, policy, &outcome.get(), peer, Some(&fault));
                if let Some(why) = &rules.tls {
                    let text = format!("host {host}: TLS failed, which is needed since {why}: {}", fault.text);
                    return Err(Failure::ours(false, (7, 5), text));
                }
                // Anybody in between could have left out STARTTLS as well, so refusing gains nothing.
                tracing::info!(host, %address, reason = fault.text, "STARTTLS failed, going on without");
                let client = self.plain(outside, address).await?;
                outside.security.connected("plain");
                Ok(client)
            }
        }
    }
}

/// What went wrong with TLS; `None` if it was something else.
fn tls_fault(error: &ClientError) -> Option<Fault> {
    match error {
        ClientError::Tls(error) => {
            let (kind, text) = handshake_fault(error);
            Some(Fault { kind, text })
        }
        ClientError::Refused { during: "STARTTLS", .. } => Some(Fault {
            kind: ResultType::StartTlsNotSupported,
            text: error.to_string(),
        }),
        ClientError::Malformed { during: "STARTTLS", .. } => Some(Fault {
            kind: ResultType::ValidationFailure,
            text: error.to_string(),
        }),
        _ => None,
    }
}
