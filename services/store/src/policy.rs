//! What is remembered of TLS with others: MTA-STS policies of domains, and hosts that had TLS.
//!
//! A policy is kept for as long as it says (RFC 8461 §3.2), so that who suppresses its DNS record or its web server gains
//! nothing. Policies that are in use are given out to be fetched again ([`Policies::claim_refresh`]) before that; each to
//! one caller, which has some minutes before another gets it. Hosts are forgotten after a while.

use std::time::Duration;

use mox_proto::policy::v1 as api;
use mox_proto::policy::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use mox_service::Clock;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::engine::{Commit, Db, EngineError, Limit, Order};
use crate::keys;

/// Octets of a name (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
/// Octets of a policy, as those who fetch bound them (RFC 8461 §3.3).
const TEXT_MAX: usize = 64 << 10;
/// Octets of an id (RFC 8461 §3.1).
const ID_MAX: usize = 32;
/// How long a policy is good at most, with some days to spare (RFC 8461 §3.2).
const AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// Policies in one answer.
const CLAIM_MAX: u32 = 100;
/// Rows that are looked at for one answer: some are of policies that are over.
const CLAIM_ROWS: usize = 500;
/// Who claimed a policy has this long to fetch it.
const CLAIM: Duration = Duration::from_secs(15 * 60);
/// How long hosts are remembered.
const HOST_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Hosts that are forgotten at once.
const FORGET_ROWS: usize = 500;
/// Times that a change is tried while others change the same.
const ATTEMPTS: usize = 8;

/// What is remembered of TLS with others.
#[derive(Clone)]
pub struct Policies {
    db: Db,
    clock: Clock,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A name as it is kept.
fn name(given: &str) -> Result<String, Status> {
    let name = given.trim_end_matches('.').to_ascii_lowercase();
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(Status::invalid_argument(format!("{given:?} is not a name of A-labels")));
    }
    Ok(name)
}

fn damaged(what: &str) -> Status {
    Status::data_loss(format!("what is kept of {what} cannot be read"))
}

impl Policies {
    /// Over an engine.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> PolicyServiceServer<Self> {
        PolicyServiceServer::new(self)
    }

    fn now(&self) -> i64 {
        self.clock.unix_millis()
    }

    async fn commit(&self, commit: Commit) -> Result<bool, Status> {
        match self.db.commit(commit).await {
            Ok(_) => Ok(true),
            Err(EngineError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The policy of a domain that is still good.
    async fn domain(&self, domain: &str) -> Result<Option<api::DomainPolicy>, Status> {
        let value = self.db.get(keys::policy_domain(&name(domain)?)).await?;
        let Some(value) = value else { return Ok(None) };
        // A damaged one is as none: it will be fetched again.
        let policy = api::DomainPolicy::decode(value.data).ok();
        Ok(policy.filter(|policy| policy.expires > self.now()))
    }

    /// Keeps a policy.
    async fn put_domain(&self, mut policy: api::DomainPolicy) -> Result<(), Status> {
        policy.domain = name(&policy.domain)?;
        if policy.text.len() > TEXT_MAX || policy.id.len() > ID_MAX {
            return Err(Status::invalid_argument("the policy or its id is too long"));
        }
        policy.expires = policy.expires.min(self.now() + millis(AGE_MAX));
        policy.refresh = policy.refresh.clamp(0, policy.expires.max(0));
        let key = keys::policy_domain(&policy.domain);
        for _ in 0..ATTEMPTS {
            let before = self.db.get(key.clone()).await?;
            let mut commit = Commit::new();
            if let Some(old) = before
                .as_ref()
                .and_then(|v| api::DomainPolicy::decode(v.data.clone()).ok())
            {
                commit.delete(keys::policy_refresh(old.refresh, &policy.domain));
            }
            commit
                .require_unchanged(key.clone(), before.as_ref())
                .put(key.clone(), policy.encode_to_vec())
                .put(keys::policy_refresh(policy.refresh, &policy.domain), Vec::new());
            if self.commit(commit).await? {
                return Ok(());
            }
        }
        Err(Status::aborted(
            "the policy is changed by others all the time, try again",
        ))
    }

    /// Policies that are to be fetched again. Those that are over, and hosts of long ago, are forgotten on the way.
    async fn claim_refresh(&self, max: u32) -> Result<Vec<api::DomainPolicy>, Status> {
        let now = self.now();
        self.forget_hosts(now).await?;
        let page = self
            .db
            .scan(keys::policy_refreshes(now), Limit::rows(CLAIM_ROWS), Order::Ascending)
            .await?;
        let mut claimed = Vec::new();
        for (row, _) in page.rows {
            if claimed.len() >= max.min(CLAIM_MAX) as usize {
                break;
            }
            let domain = keys::parse_policy_name(&row).ok_or_else(|| damaged("a policy"))?;
            let key = keys::policy_domain(domain);
            let kept = self.db.get(key.clone()).await?;
            let policy = kept
                .as_ref()
                .and_then(|v| api::DomainPolicy::decode(v.data.clone()).ok());
            let mut commit = Commit::new();
            commit
                .require_present(row.clone())
                .require_unchanged(key.clone(), kept.as_ref())
                .delete(row.clone());
            match policy {
                Some(mut policy) if policy.expires > now => {
                    policy.refresh = now + millis(CLAIM);
                    commit.put(key, policy.encode_to_vec());
                    commit.put(keys::policy_refresh(policy.refresh, domain), Vec::new());
                    // Otherwise another claimed it.
                    if self.commit(commit).await? {
                        claimed.push(policy);
                    }
                }
                _ => {
                    commit.delete(key).set_frees();
                    self.commit(commit).await?;
                }
            }
        }
        Ok(claimed)
    }

    async fn forget_hosts(&self, now: i64) -> Result<(), Status> {
        let range = keys::policy_hosts_until(now - millis(HOST_MEMORY));
        let page = self.db.scan(range, Limit::rows(FORGET_ROWS), Order::Ascending).await?;
        for (row, _) in page.rows {
            let host = keys::parse_policy_name(&row).ok_or_else(|| damaged("a host"))?;
            let mut commit = Commit::new();
            commit
                .require_present(row.clone())
                .delete(row.clone())
                .delete(keys::policy_host(host))
                .set_frees();
            self.commit(commit).await?;
        }
        Ok(())
    }

    async fn host(&self, host: &str) -> Result<Option<api::Host>, Status> {
        let value = self.db.get(keys::policy_host(&name(host)?)).await?;
        Ok(value.and_then(|value| api::Host::decode(value.data).ok()))
    }

    async fn put_host(&self, mut host: api::Host) -> Result<(), Status> {
        host.name = name(&host.name)?;
        // A clock that is ahead must not make it remembered for ever.
        host.tls_at = host.tls_at.clamp(0, self.now());
        let key = keys::policy_host(&host.name);
        for _ in 0..ATTEMPTS {
            let before = self.db.get(key.clone()).await?;
            let mut commit = Commit::new();
            if let Some(old) = before.as_ref().and_then(|v| api::Host::decode(v.data.clone()).ok()) {
                if old.tls_at >= host.tls_at {
                    return Ok(());
                }
                commit.delete(keys::policy_host_at(old.tls_at, &host.name));
            }
            commit
                .require_unchanged(key.clone(), before.as_ref())
                .put(key.clone(), host.encode_to_vec())
                .put(keys::policy_host_at(host.tls_at, &host.name), Vec::new());
            if self.commit(commit).await? {
                return Ok(());
            }
        }
        Err(Status::aborted("the host is changed by others all the time, try again"))
    }
}

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn get_domain(
        &self,
        request: Request<api::GetDomainRequest>,
    ) -> Result<Response<api::GetDomainResponse>, Status> {
        let policy = self.domain(&request.into_inner().domain).await?;
        Ok(Response::new(api::GetDomainResponse { policy }))
    }

    async fn put_domain(
        &self,
        request: Request<api::PutDomainRequest>,
    ) -> Result<Response<api::PutDomainResponse>, Status> {
        let policy = request.into_inner().policy;
        let policy = policy.ok_or_else(|| Status::invalid_argument("there is no policy to keep"))?;
        Policies::put_domain(self, policy).await?;
        Ok(Response::new(api::PutDomainResponse {}))
    }

    async fn claim_refresh(
        &self,
        request: Request<api::ClaimRefreshRequest>,
    ) -> Result<Response<api::ClaimRefreshResponse>, Status> {
        let policies = Policies::claim_refresh(self, request.into_inner().max).await?;
        Ok(Response::new(api::ClaimRefreshResponse { policies }))
    }

    async fn get_host(&self, request: Request<api::GetHostRequest>) -> Result<Response<api::GetHostResponse>, Status> {
        let host = self.host(&request.into_inner().name).await?;
        Ok(Response::new(api::GetHostResponse { host }))
    }

    async fn put_host(&self, request: Request<api::PutHostRequest>) -> Result<Response<api::PutHostResponse>, Status> {
        let host = request.into_inner().host;
        let host = host.ok_or_else(|| Status::invalid_argument("there is no host to remember"))?;
        Policies::put_host(self, host).await?;
        Ok(Response::new(api::PutHostResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use mox_service::ManualClock;

    use super::*;
    use crate::engine::{Options, RocksEngine};

    const HOUR: Duration = Duration::from_secs(3600);

    struct Scene {
        policies: Policies,
        hand: ManualClock,
        _dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
            let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
            let policies = Policies::new(db, clock);
            Self {
                policies,
                hand,
                _dir: dir,
            }
        }

        async fn keep(&self, domain: &str, good: Duration, refresh: Duration) {
            let now = self.policies.now();
            let policy = api::DomainPolicy {
                domain: domain.into(),
                id: "1".into(),
                text: "version: STSv1".into(),
                fetched: now,
                expires: now + millis(good),
                used: now,
                refresh: now + millis(refresh),
            };
            self.policies.put_domain(policy).await.unwrap();
        }

        async fn claimed(&self) -> Vec<String> {
            let policies = self.policies.claim_refresh(100).await.unwrap();
            policies.into_iter().map(|p| p.domain).collect()
        }
    }

    #[tokio::test]
    async fn policies_are_kept_for_their_time_and_fetched_again_before() {
        let scene = Scene::new();
        scene.keep("A.example.", 10 * HOUR, 2 * HOUR).await;
        scene.keep("b.example", HOUR, HOUR).await;
        scene.keep("c.example", 10 * HOUR, HOUR).await;
        // Kept anew: only the later refresh counts.
        scene.keep("c.example", 10 * HOUR, 5 * HOUR).await;
        let found = scene.policies.domain("a.EXAMPLE").await.unwrap().unwrap();
        assert_eq!((found.domain.as_str(), found.id.as_str()), ("a.example", "1"));
        assert!(scene.policies.domain("none.example").await.unwrap().is_none());
        assert!(scene.claimed().await.is_empty());
        scene.hand.advance(2 * HOUR);
        assert!(
            scene.policies.domain("b.example").await.unwrap().is_none(),
            "its time is over"
        );
        assert_eq!(scene.claimed().await, ["a.example"]);
        assert!(scene.claimed().await.is_empty(), "another has it");
        scene.hand.advance(CLAIM);
        assert_eq!(scene.claimed().await, ["a.example"], "who had it did not come back");
        scene.hand.advance(20 * HOUR);
        assert!(scene.claimed().await.is_empty(), "all are over");
        let left = keys::prefix(&[keys::POLICY]);
        let left = scene
            .policies
            .db
            .scan(left, Limit::default(), Order::Ascending)
            .await
            .unwrap();
        assert!(left.rows.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn hosts_are_remembered_for_a_while() {
        let scene = Scene::new();
        let put = |at| api::Host {
            name: "MX.example".into(),
            tls_at: at,
        };
        let now = scene.policies.now();
        scene.policies.put_host(put(now + 1_000_000)).await.unwrap();
        scene.policies.put_host(put(now - 1000)).await.unwrap();
        let found = scene.policies.host("mx.example").await.unwrap().unwrap();
        assert_eq!(found.tls_at, now, "the latest, and not the future");
        scene.hand.advance(HOST_MEMORY - HOUR);
        scene.claimed().await;
        assert!(scene.policies.host("mx.example").await.unwrap().is_some());
        scene.hand.advance(2 * HOUR);
        scene.claimed().await;
        assert!(scene.policies.host("mx.example").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_name_or_too_long_is_refused() {
        let scene = Scene::new();
        for bad in ["", ".", "a b", "é.example", "a\0b", &"x".repeat(254)] {
            assert!(scene.policies.domain(bad).await.is_err(), "{bad:?}");
            assert!(scene.policies.host(bad).await.is_err(), "{bad:?}");
        }
        let long = api::DomainPolicy {
            domain: "a.example".into(),
            text: vec![0; TEXT_MAX + 1].into(),
            ..Default::default()
        };
        assert!(scene.policies.put_domain(long).await.is_err());
    }
}
