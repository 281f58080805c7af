//! What the store remembers of domains and hosts, with a little of it kept here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mox_proto::policy::v1::policy_service_client::PolicyServiceClient;
use mox_proto::policy::v1::{
    ClaimRefreshRequest, DomainPolicy, GetDomainRequest, GetHostRequest, Host, PutDomainRequest, PutHostRequest,
};
use mox_rpc::Channel;
use mox_service::Clock;
use mox_tlspolicy::mtasts::Policy;
use parking_lot::Mutex;

use super::sts::Kept;

/// How long what the store said is gone by: another process may know better since.
const LOCAL: Duration = Duration::from_secs(10 * 60);
/// Domains and hosts that are kept here, each.
const LOCAL_MAX: usize = 10_000;
/// What a host did is told to the store once in this time.
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// A delivery does not wait longer for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What was asked for, and when.
struct Local<T>(Mutex<HashMap<String, (i64, T)>>);

impl<T> Default for Local<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Local<T> {
    fn get(&self, name: &str, now: i64) -> Option<T> {
        let all = self.0.lock();
        let (at, value) = all.get(name)?;
        (now - at < millis(LOCAL)).then(|| value.clone())
    }

    fn put(&self, name: &str, now: i64, value: T) {
        let mut all = self.0.lock();
        if all.len() >= LOCAL_MAX {
            all.retain(|_, (at, _)| now - *at < millis(LOCAL));
        }
        if all.len() >= LOCAL_MAX {
            // The store still has it all.
            all.clear();
        }
        all.insert(name.to_owned(), (now, value));
    }
}

/// What is remembered. A store that is away makes it forgetful, and nothing worse.
pub struct Memory {
    store: PolicyServiceClient<Channel>,
    clock: Clock,
    domains: Local<Option<Arc<Kept>>>,
    hosts: Local<Option<i64>>,
}

impl Memory {
    /// Of a store.
    #[must_use]
    pub fn new(store: Channel, clock: Clock) -> Self {
        Self {
            store: PolicyServiceClient::new(store),
            clock,
            domains: Local::default(),
            hosts: Local::default(),
        }
    }

    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.unix_millis()
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The policy of a domain, if one is kept that is still good.
    pub async fn domain(&self, domain: &str) -> Option<Arc<Kept>> {
        let now = self.now();
        let kept = match self.domains.get(domain, now) {
            Some(kept) => kept,
            None => {
                let request = GetDomainRequest { domain: domain.into() };
                let request = mox_rpc::with_deadline(request, STORE_TIMEOUT);
                match self.store.clone().get_domain(request).await {
                    Ok(response) => {
                        let kept = response.into_inner().policy.and_then(kept).map(Arc::new);
                        self.domains.put(domain, now, kept.clone());
                        kept
                    }
                    Err(status) => {
                        tracing::debug!(domain, error = status.message(), "asking for a policy that is kept");
                        None
                    }
                }
            }
        };
        kept.filter(|kept| kept.expires > now)
    }

    /// Keeps a policy.
    pub async fn put_domain(&self, domain: &str, kept: &Arc<Kept>) {
        self.domains.put(domain, self.now(), Some(kept.clone()));
        let policy = DomainPolicy {
            domain: domain.into(),
            id: kept.id.clone(),
            text: kept.text.clone(),
            fetched: kept.fetched,
            expires: kept.expires,
            used: kept.used,
            refresh: kept.refresh,
        };
        let request = PutDomainRequest { policy: Some(policy) };
        let request = mox_rpc::with_deadline(request, STORE_TIMEOUT);
        if let Err(status) = self.store.clone().put_domain(request).await {
            tracing::info!(domain, error = status.message(), "keeping an MTA-STS policy failed");
        }
    }

    /// Policies that are to be fetched again.
    pub async fn claim_refresh(&self, max: u32) -> Vec<(String, Kept)> {
        let request = mox_rpc::with_deadline(ClaimRefreshRequest { max }, STORE_TIMEOUT);
        match self.store.clone().claim_refresh(request).await {
            Ok(response) => {
                let policies = response.into_inner().policies.into_iter();
                policies.filter_map(|p| Some((p.domain.clone(), kept(p)?))).collect()
            }
            Err(status) => {
                tracing::debug!(
                    error = status.message(),
                    "asking for policies that are to be fetched again"
                );
                Vec::new()
            }
        }
    }

    /// When a host last made TLS with us.
    pub async fn host(&self, host: &str) -> Option<i64> {
        let now = self.now();
        if let Some(known) = self.hosts.get(host, now) {
            return known;
        }
        let request = mox_rpc::with_deadline(GetHostRequest { name: host.into() }, STORE_TIMEOUT);
        match self.store.clone().get_host(request).await {
            Ok(response) => {
                let at = response.into_inner().host.map(|host| host.tls_at);
                self.hosts.put(host, now, at);
                at
            }
            Err(status) => {
                tracing::debug!(host, error = status.message(), "asking what is remembered of a host");
                None
            }
        }
    }

    /// A host made TLS with us.
    pub async fn had_tls(&self, host: &str) {
        let now = self.now();
        let told = self.hosts.get(host, now).flatten();
        if told.is_some_and(|at| now - at < millis(TELL_EVERY)) {
            return;
        }
        let remembered = Host {
            name: host.into(),
            tls_at: now,
        };
        let request = PutHostRequest { host: Some(remembered) };
        let request = mox_rpc::with_deadline(request, STORE_TIMEOUT);
        match self.store.clone().put_host(request).await {
            Ok(_) => self.hosts.put(host, now, Some(now)),
            Err(status) => tracing::debug!(host, error = status.message(), "remembering a host failed"),
        }
    }
}

/// From what the store keeps; `None` if it is not a policy.
fn kept(policy: DomainPolicy) -> Option<Kept> {
    Some(Kept {
        policy: Policy::parse(&policy.text).ok()?,
        text: policy.text,
        id: policy.id,
        fetched: policy.fetched,
        expires: policy.expires,
        used: policy.used,
        refresh: policy.refresh,
    })
}
