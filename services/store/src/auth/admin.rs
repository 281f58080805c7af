//! [`AuthAdminService`]: public keys and the record of logins, for control.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::auth_admin_service_server::{AuthAdminService, AuthAdminServiceServer};
use mox_proto::record::v1 as record;
use mox_service::Clock;
use mox_types::AccountId;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Journal, Sessions, public_keys};
use crate::engine::{Db, Limit, Order};
use crate::keys;
use crate::registry::Registry;

/// Records of logins in a page.
const PAGE: usize = 1000;

/// For control.
#[derive(Clone)]
pub struct AuthAdminApi {
    db: Db,
    registry: Registry,
    sessions: Sessions,
    journal: Journal,
    clock: Clock,
}

impl AuthAdminApi {
    /// Over the accounts.
    #[must_use]
    pub fn new(db: Db, registry: Registry, sessions: Sessions, journal: Journal, clock: Clock) -> Self {
        Self {
            db,
            registry,
            sessions,
            journal,
            clock,
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> AuthAdminServiceServer<Self> {
        AuthAdminServiceServer::new(self)
    }

    async fn logins(&self, request: &api::ListLoginsRequest) -> Result<api::ListLoginsResponse, Status> {
        if request.page_token.is_empty() {
            // What was a moment ago is to be seen.
            self.journal.write().await?;
        }
        let committed = self.registry.current();
        let mut range = match (request.account.as_str(), request.unknown) {
            (_, true) => keys::logins(keys::no_account()),
            ("", false) => keys::logins_all(),
            (name, false) => keys::logins(self.registry.kept(name).await?),
        };
        if !request.page_token.is_empty() {
            let (account, digest) = parse_token(&request.page_token)?;
            range.start = crate::engine::after(&keys::login(account, &digest)).max(range.start);
        }
        let page = self.db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
        let mut answer = api::ListLoginsResponse::default();
        if page.rest(&range).is_some()
            && let Some((last, _)) = page.rows.last()
        {
            answer.next_page_token = URL_SAFE_NO_PAD.encode(&last[1..]);
        }
        for (key, value) in page.rows {
            let damaged = || Status::data_loss("a record of logins is damaged");
            let account = keys::parse_login(&key).ok_or_else(damaged)?;
            let login = record::Login::decode(value.data).map_err(|_| damaged())?;
            answer.logins.push(api::Login {
                first: login.first,
                last: login.last,
                count: login.count,
                account: committed.name(account).unwrap_or_default().to_owned(),
                login_address: login.login_address,
                remote_ip: login.remote_ip,
                local_ip: login.local_ip,
                protocol: login.protocol,
                client_id: login.client_id,
                mechanism: login.mechanism,
                tls: login.tls,
                public_key: URL_SAFE_NO_PAD.encode(&login.public_key),
                result: login.result,
            });
        }
        Ok(answer)
    }
}

fn parse_token(token: &str) -> Result<(AccountId, [u8; keys::LOGIN_DIGEST]), Status> {
    let parsed = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| {
        let (account, digest) = bytes.split_at_checked(16)?;
        Some((AccountId::try_from(account).ok()?, digest.try_into().ok()?))
    });
    parsed.ok_or_else(|| Status::invalid_argument("page_token is not one"))
}

#[tonic::async_trait]
impl AuthAdminService for AuthAdminApi {
    async fn list_public_keys(
        &self,
        request: Request<api::ListPublicKeysRequest>,
    ) -> Result<Response<api::ListPublicKeysResponse>, Status> {
        let listed = public_keys::list(&self.db, &self.registry, request.get_ref()).await?;
        Ok(Response::new(listed))
    }

    async fn add_public_key(
        &self,
        request: Request<api::AddPublicKeyRequest>,
    ) -> Result<Response<api::AddPublicKeyResponse>, Status> {
        let now = self.clock.unix_millis().div_euclid(1000);
        let key = public_keys::add(&self.db, &self.registry, now, request.into_inner()).await?;
        tracing::info!(
            account = key.account,
            login = key.login_address,
            name = key.name,
            "TLS public key added"
        );
        Ok(Response::new(api::AddPublicKeyResponse { key: Some(key) }))
    }

    async fn remove_public_key(
        &self,
        request: Request<api::RemovePublicKeyRequest>,
    ) -> Result<Response<api::RemovePublicKeyResponse>, Status> {
        let fingerprint = public_keys::fingerprint(&request.get_ref().fingerprint)?;
        public_keys::remove(&self.db, &fingerprint).await?;
        self.sessions.revoke_public_key(&fingerprint);
        tracing::info!(
            fingerprint = URL_SAFE_NO_PAD.encode(fingerprint),
            "TLS public key removed"
        );
        Ok(Response::new(api::RemovePublicKeyResponse {}))
    }

    async fn list_logins(
        &self,
        request: Request<api::ListLoginsRequest>,
    ) -> Result<Response<api::ListLoginsResponse>, Status> {
        Ok(Response::new(self.logins(request.get_ref()).await?))
    }
}
