//! The MTA-STS policy of a domain (RFC 8461 §5.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mox_dns::Resolver;
use mox_tlspolicy::mtasts::{FetchError, Fetched, Fetcher, Policy, find_record};
use parking_lot::Mutex;

use super::memory::{Memory, millis};
use super::metrics::SecurityMetrics;
use super::results::Fault;

/// After a failure, a policy is not fetched again for so long (RFC 8461 §3.3 suggests five minutes or longer).
const FETCH_AGAIN: Duration = Duration::from_secs(5 * 60);
/// Failures that are remembered.
const FAILURES_MAX: usize = 10_000;
/// A policy is fetched again after this time, or half of its own (RFC 8461 §3.3: once a day).
const REFRESH: Duration = Duration::from_secs(24 * 3600);
/// After a failure to do so.
const REFRESH_RETRY: Duration = Duration::from_secs(3600);
/// Use of a policy is taken note of once in this time.
const USED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A policy that is kept. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The policy.
    pub policy: Policy,
    /// Its text.
    pub text: Bytes,
    /// Of the record that it was fetched for.
    pub id: String,
    /// When it was fetched.
    pub fetched: i64,
    /// By its max_age.
    pub expires: i64,
    /// When it was last of use, by about a day.
    pub used: i64,
    /// When to fetch it again.
    pub refresh: i64,
}

impl Kept {
    pub(super) fn new(fetched: Fetched, id: String, now: i64, used: i64) -> Self {
        let age = fetched.policy.max_age;
        Self {
            policy: fetched.policy,
            text: fetched.text,
            id,
            fetched: now,
            expires: now.saturating_add(millis(age)),
            used,
            refresh: now.saturating_add(millis(REFRESH.min(age / 2))),
        }
    }

    /// As it is, to be fetched again later.
    pub(super) fn postponed(&self, now: i64) -> Self {
        Self {
            refresh: now.saturating_add(millis(REFRESH_RETRY)),
            ..self.clone()
        }
    }
}

/// What MTA-STS says of a domain.
#[derive(Debug, Clone)]
pub enum Sts {
    /// Nothing.
    None,
    /// This.
    Policy(Arc<Kept>),
    /// There is a policy, and it could not be had. Mail goes as if there were none; the domain is told.
    Unknown(Fault),
}

impl Sts {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> Option<&Arc<Kept>> {
        match self {
            Self::Policy(kept) => Some(kept),
            _ => None,
        }
    }
}

/// A fetch that failed: for which id, when, how.
type Failed = (String, i64, Fault);

/// Finds policies.
pub struct Policies {
    resolver: Arc<dyn Resolver>,
    fetcher: Fetcher,
    memory: Arc<Memory>,
    metrics: SecurityMetrics,
    failed: Mutex<HashMap<String, Failed>>,
    /// Domains whose policy is being fetched: others wait for it.
    fetching: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Policies {
    /// By what they are found with.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, fetcher: Fetcher, memory: Arc<Memory>, metrics: SecurityMetrics) -> Self {
        Self {
            resolver,
            fetcher,
            memory,
            metrics,
            failed: Mutex::default(),
            fetching: Mutex::default(),
        }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The policy that mail for a domain is under now.
    pub async fn find(&self, domain: &str) -> Sts {
        let record = find_record(self.resolver.as_ref(), domain).await;
        let kept = self.memory.domain(domain).await;
        let id = match record {
            Ok((record, ..)) => record.id,
            Err(error) => {
                if !error.is_not_found() {
                    tracing::debug!(domain, %error, "there is no MTA-STS record that counts");
                }
                // RFC 8461 §5.1: what is kept stays good, whatever DNS says meanwhile.
                return match kept {
                    Some(kept) => Sts::Policy(self.used(domain, kept).await),
                    None => Sts::None,
                };
            }
        };
        match kept {
            Some(kept) if kept.id == id => Sts::Policy(self.used(domain, kept).await),
            other => self.fetch(domain, id, other).await,
        }
    }

    /// Fetches a policy that is new. One that is kept is good for as long as that fails.
    async fn fetch(&self, domain: &str, id: String, kept: Option<Arc<Kept>>) -> Sts {
        let turn = self.fetching.lock().entry(domain.to_owned()).or_default().clone();
        let one = turn.lock().await;
        // Another may have fetched it, or failed to, meanwhile.
        let again = self.memory.domain(domain).await;
        let sts = match (again, self.failure(domain, &id)) {
            (Some(now_kept), _) if now_kept.id == id => Sts::Policy(now_kept),
            (_, Some(fault)) => kept.map_or(Sts::Unknown(fault), Sts::Policy),
            _ => match self.fetch_now(domain).await {
                Ok(fetched) => {
                    let now = self.memory.now();
                    let new = Arc::new(Kept::new(fetched, id, now, now));
                    self.memory.put_domain(domain, &new).await;
                    Sts::Policy(new)
                }
                Err(error) => {
                    let fault = Fault::from(&error);
                    self.fail(domain, id, &fault);
                    kept.map_or(Sts::Unknown(fault), Sts::Policy)
                }
            },
        };
        drop(one);
        let mut fetching = self.fetching.lock();
        // Ours, and that of the map.
        if Arc::strong_count(&turn) <= 2 {
            fetching.remove(domain);
        }
        sts
    }

    /// Fetches a policy.
    pub(super) async fn fetch_now(&self, domain: &str) -> Result<Fetched, FetchError> {
        let fetched = self.fetcher.fetch(domain).await;
        let kind = fetched.as_ref().map(drop).map_err(FetchError::result_type);
        self.metrics.fetched(kind);
        match &fetched {
            Ok(fetched) => tracing::info!(domain, mode = %fetched.policy.mode, "MTA-STS policy fetched"),
            Err(error) => tracing::info!(domain, %error, "MTA-STS policy can't be had"),
        }
        fetched
    }

    /// The id of the record that there is now.
    pub(super) async fn id(&self, domain: &str) -> Option<String> {
        let found = find_record(self.resolver.as_ref(), domain).await;
        found.ok().map(|(record, ..)| record.id)
    }

    async fn used(&self, domain: &str, kept: Arc<Kept>) -> Arc<Kept> {
        let now = self.memory.now();
        if now - kept.used < millis(USED_EVERY) {
            return kept;
        }
        let kept = Arc::new(Kept {
            used: now,
            ..(*kept).clone()
        });
        self.memory.put_domain(domain, &kept).await;
        kept
    }

    fn failure(&self, domain: &str, id: &str) -> Option<Fault> {
        let failed = self.failed.lock();
        let (for_id, at, fault) = failed.get(domain)?;
        let recent = self.memory.now() - at < millis(FETCH_AGAIN);
        (recent && for_id == id).then(|| fault.clone())
    }

    fn fail(&self, domain: &str, id: String, fault: &Fault) {
        let now = self.memory.now();
        let mut failed = self.failed.lock();
        if failed.len() >= FAILURES_MAX {
            failed.retain(|_, (_, at, _)| now - *at < millis(FETCH_AGAIN));
        }
        if failed.len() < FAILURES_MAX {
            failed.insert(domain.to_owned(), (id, now, fault.clone()));
        }
    }
}

impl From<&FetchError> for Fault {
    fn from(error: &FetchError) -> Self {
        Self {
            kind: error.result_type(),
            text: error.to_string(),
        }
    }
}
