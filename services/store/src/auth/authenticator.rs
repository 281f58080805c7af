//! [`AuthService`]: exchanges in, sessions out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use mox_rpc::Identity;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Metrics;
use rand::RngCore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::exchange;
use super::logins;
use super::{Failures, Hasher, Logins, Recent, Sessions, Tiers};
use crate::content::NowMillis;
use crate::engine::{Commit, Db, EngineError};
use crate::keys;
use crate::registry::Registry;

/// Sessions renewed in one call.
const RENEW_MAX: usize = 100_000;
/// Bytes of the store's secret.
const SECRET_BYTES: usize = 32;

/// Limits on the users of a protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Failed logins a minute, of an address and its two wider networks.
    pub failures: Tiers,
    /// Sessions at once of an account; 0 is no limit.
    pub sessions: u64,
}

/// What exchanges need. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) db: Db,
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
    pub(super) hasher: Hasher,
    pub(super) failures: Failures,
    pub(super) recent: Recent,
    /// By protocol; others have those of the empty name.
    limits: HashMap<String, Limits>,
    pub(super) logins: Logins,
    now: NowMillis,
    pub(super) secret: Bytes,
    results: Family<ResultLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    protocol: String,
    mechanism: String,
    result: String,
}

impl Authenticator {
    /// Over the accounts. `limits` are by protocol; those of the empty name are for all others.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn new(
        db: Db,
        registry: Registry,
        sessions: Sessions,
        hasher: Hasher,
        logins: Logins,
        now: NowMillis,
        limits: HashMap<String, Limits>,
    ) -> Result<Self, EngineError> {
        let secret = secret(&db).await?;
        Ok(Self(Arc::new(Inner {
            db,
            registry,
            sessions,
            hasher,
            failures: Failures::default(),
            recent: Recent::default(),
            limits,
            logins,
            now,
            secret,
            results: Family::default(),
        })))
    }

    /// Registers what is counted.
    pub fn register(&self, metrics: &mut Metrics) {
        metrics.register(
            "mox_store_authentications",
            "Exchanges that ended, by protocol, mechanism and result",
            self.0.results.clone(),
        );
    }

    pub(super) fn may_try(&self, protocol: &str, ip: IpAddr) -> bool {
        self.0.failures.admits(ip, self.limits(protocol).failures)
    }

    pub(super) fn limits(&self, protocol: &str) -> Limits {
        let limits = self.0.limits.get(protocol).or_else(|| self.0.limits.get(""));
        limits.copied().unwrap_or_default()
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        (self.0.now)().div_euclid(1000)
    }

    pub(super) fn count(&self, protocol: &str, mechanism: &str, result: &str) {
        let labels = ResultLabels {
            protocol: protocol.to_owned(),
            mechanism: mechanism.to_owned(),
            result: result.to_owned(),
        };
        self.0.results.get_or_create(&labels).inc();
    }
}

/// The store's own secret, made at first.
pub(crate) async fn secret(db: &Db) -> Result<Bytes, EngineError> {
    loop {
        if let Some(kept) = db.get(keys::secret()).await? {
            return Ok(kept.data);
        }
        let mut secret = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut secret);
        let mut commit = Commit::new();
        commit
            .require_absent(keys::secret())
            .put(keys::secret(), Bytes::copy_from_slice(&secret));
        match db.commit(commit).await {
            Ok(_) | Err(EngineError::Conflict { .. }) => {}
            // Without room, one for this run does.
            Err(EngineError::NoSpace) => return Ok(Bytes::copy_from_slice(&secret)),
            Err(error) => return Err(error),
        }
    }
}

/// For those whose users log in.
#[derive(Clone)]
pub struct AuthApi(Authenticator);

impl AuthApi {
    /// Over the accounts.
    #[must_use]
    pub fn new(authenticator: Authenticator) -> Self {
        Self(authenticator)
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> AuthServiceServer<Self> {
        AuthServiceServer::new(self)
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<api::AuthenticateResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AuthService for AuthApi {
    type AuthenticateStream = Answers;

    async fn authenticate(
        &self,
        request: Request<Streaming<api::AuthenticateRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let mut messages = request.into_inner();
        let authenticator = self.0.clone();
        let (answers, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(status) = exchange::run(&authenticator, caller, &mut messages, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn renew_sessions(
        &self,
        request: Request<api::RenewSessionsRequest>,
    ) -> Result<Response<api::RenewSessionsResponse>, Status> {
        let caller: Identity = mox_rpc::caller(&request)?;
        let tokens = request.into_inner().sessions;
        if tokens.len() > RENEW_MAX {
            return Err(Status::invalid_argument(format!(
                "at most {RENEW_MAX} sessions in one call"
            )));
        }
        let valid = tokens
            .iter()
            .map(|token| self.0.0.sessions.renew(token, &caller))
            .collect();
        Ok(Response::new(api::RenewSessionsResponse { valid }))
    }

    async fn end_session(
        &self,
        request: Request<api::EndSessionRequest>,
    ) -> Result<Response<api::EndSessionResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        self.0.0.sessions.end(&request.get_ref().session, &caller);
        Ok(Response::new(api::EndSessionResponse {}))
    }

    async fn describe_client(
        &self,
        request: Request<api::DescribeClientRequest>,
    ) -> Result<Response<api::DescribeClientResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let request = request.into_inner();
        let inner = &self.0.0;
        if let Some((attempt, at)) = inner.sessions.take_attempt(&request.session, &caller) {
            inner.logins.amend(attempt, at, logins::text(&request.client_id));
        }
        Ok(Response::new(api::DescribeClientResponse {}))
    }
}
