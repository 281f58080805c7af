//! The gRPC services of the registry.

use bytes::Bytes;
use mox_proto::config::v1 as api;
use mox_proto::config::v1::config_admin_service_server::{ConfigAdminService, ConfigAdminServiceServer};
use mox_proto::config::v1::config_service_server::{ConfigService, ConfigServiceServer};
use mox_proto::record::v1 as record;
use mox_service::CidKey;
use mox_types::AccountId;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Registry, RegistryError, account_id, load};
use crate::account::Accounts;
use crate::auth::Hasher;
use crate::engine::{Commit, EngineError};
use crate::keys;
use crate::queue::Queue;

/// Most bytes of a configuration: of about a hundred thousand accounts.
const CONFIG_BYTES: usize = 64 << 20;

/// Who writes Received fields, and so hides ids of connections in them. Control can reveal them, and watches the
/// configuration for all services where they are one process.
const RECEIVERS: [&str; 3] = ["smtp-in", "submission", "control"];

/// For every service: its part of the configuration.
#[derive(Clone)]
pub struct ConfigApi {
    registry: Registry,
    cids: CidKey,
}

impl ConfigApi {
    /// Over the registry.
    #[must_use]
    pub fn new(registry: Registry, cids: CidKey) -> Self {
        Self { registry, cids }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> ConfigServiceServer<Self> {
        ConfigServiceServer::new(self).max_encoding_message_size(CONFIG_BYTES)
    }
}

#[tonic::async_trait]
impl ConfigService for ConfigApi {
    async fn get(&self, request: Request<api::GetConfigRequest>) -> Result<Response<api::GetConfigResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let committed = self.registry.current();
        let snapshot = if committed.version == request.get_ref().known_version || committed.version == 0 {
            Bytes::new()
        } else {
            self.registry.part(&committed, &caller)?
        };
        let cid_key = match RECEIVERS.contains(&caller.as_str()) && !snapshot.is_empty() {
            true => self.cids.to_bytes().into(),
            false => Bytes::new(),
        };
        Ok(Response::new(api::GetConfigResponse {
            version: committed.version,
            snapshot,
            cid_key,
        }))
    }
}

/// For control.
#[derive(Clone)]
pub struct ConfigAdminApi {
    registry: Registry,
    accounts: Accounts,
    queue: Queue,
    hasher: Hasher,
    cids: CidKey,
}

impl ConfigAdminApi {
    /// Over the registry, with what holds data of accounts.
    #[must_use]
    pub fn new(registry: Registry, accounts: Accounts, queue: Queue, hasher: Hasher, cids: CidKey) -> Self {
        Self {
            registry,
            accounts,
            queue,
            hasher,
            cids,
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> ConfigAdminServiceServer<Self> {
        ConfigAdminServiceServer::new(self).max_decoding_message_size(CONFIG_BYTES)
    }
}

#[tonic::async_trait]
impl ConfigAdminService for ConfigAdminApi {
    async fn commit(
        &self,
        request: Request<api::CommitConfigRequest>,
    ) -> Result<Response<api::CommitConfigResponse>, Status> {
        Ok(Response::new(self.registry.commit(request.get_ref()).await?))
    }

    /// Repeating it sets the same password again, so nothing is kept by its key: a digest of the request would be one
    /// of the password.
    async fn set_password(
        &self,
        request: Request<api::SetPasswordRequest>,
    ) -> Result<Response<api::SetPasswordResponse>, Status> {
        let request = request.into_inner();
        self.registry
            .set_password(&self.hasher, &request.account, request.password)
            .await?;
        Ok(Response::new(api::SetPasswordResponse {}))
    }

    async fn remove_account(
        &self,
        request: Request<api::RemoveAccountRequest>,
    ) -> Result<Response<api::RemoveAccountResponse>, Status> {
        let this = self.clone();
        // In a task of its own: it goes on when the caller has waited long enough.
        let removal = tokio::spawn(async move {
            this.registry
                .remove(&request.get_ref().account, &this.accounts, &this.queue)
                .await
        });
        removal
            .await
            .map_err(|_| Status::unavailable("the store is shutting down"))??;
        Ok(Response::new(api::RemoveAccountResponse {}))
    }

    async fn list_accounts(
        &self,
        _: Request<api::ListAccountsRequest>,
    ) -> Result<Response<api::ListAccountsResponse>, Status> {
        Ok(Response::new(api::ListAccountsResponse {
            accounts: self.registry.list().await?,
        }))
    }

    async fn reveal_cid(
        &self,
        request: Request<api::RevealCidRequest>,
    ) -> Result<Response<api::RevealCidResponse>, Status> {
        let id = &request.get_ref().id;
        let cid = self.cids.open(id.trim()).ok_or_else(|| {
            Status::invalid_argument(
                "this is no id that this mox has put into a Received field: it has 32 hexadecimal digits, behind \"id\"",
            )
        })?;
        Ok(Response::new(api::RevealCidResponse { cid }))
    }
}

impl Registry {
    /// All accounts whose data is kept, by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn list(&self) -> Result<Vec<api::Account>, RegistryError> {
        let snapshot = self.0.db.snapshot().await?;
        let loaded = load(snapshot.as_ref()).await?;
        let mut accounts = Vec::with_capacity(loaded.names.len());
        for (name, _, registration) in loaded.names {
            let id = account_id(&name, &registration)?;
            let values = snapshot
                .get_many(vec![keys::account(id), keys::credentials(id)])
                .await?;
            let own = values[0]
                .as_ref()
                .map(|value| record::Account::decode(value.data.clone()));
            let own = own
                .transpose()
                .map_err(|_| RegistryError::Damaged(format!("account {name:?}")))?;
            accounts.push(api::Account {
                id: id.to_bytes(),
                name,
                disabled: registration.disabled,
                has_password: values[1].is_some(),
                size: own.map_or(0, |account| account.size),
            });
        }
        Ok(accounts)
    }

    /// The id of an account whose data is kept, configured or not.
    ///
    /// # Errors
    /// If there is none.
    pub async fn kept(&self, name: &str) -> Result<AccountId, RegistryError> {
        let (_, _, registration) = self.registration(name).await?;
        account_id(name, &registration)
    }

    /// Gives an account another password. Its sessions end.
    ///
    /// # Errors
    /// If there is no such account, the password is not valid, or the engine fails.
    pub async fn set_password(&self, hasher: &Hasher, name: &str, password: String) -> Result<(), RegistryError> {
        let (key, value, registration) = self.registration(name).await?;
        if registration.removing {
            return Err(RegistryError::Removing(name.to_owned()));
        }
        let id = account_id(name, &registration)?;
        let derived = hasher.run(move || mox_sasl::Credentials::derive(&password)).await?;
        let derived = derived.map_err(|e| match e {
            mox_sasl::DeriveError::Password(why) => RegistryError::Invalid(format!("the password is not valid: {why}")),
            mox_sasl::DeriveError::Hash(why) => RegistryError::Other(tonic::Code::ResourceExhausted, why),
        })?;
        let mut commit = Commit::new();
        commit.require_at(key, value.version);
        commit.put(
            keys::credentials(id),
            crate::auth::credentials_record(&derived).encode_to_vec(),
        );
        match self.0.db.commit(commit).await {
            Ok(_) => {}
            Err(EngineError::Conflict { .. }) => return Err(RegistryError::Contended),
            Err(error) => return Err(error.into()),
        }
        self.0.sessions.revoke(id);
        tracing::info!(account = name, "password set");
        Ok(())
    }
}
