//! What the command line and the administration pages ask for.

use std::sync::Arc;

use mox_config::AddressPattern;
use mox_proto::auth::v1 as auth;
use mox_proto::auth::v1::auth_admin_service_client::AuthAdminServiceClient;
use mox_proto::config::v1 as store;
use mox_proto::control::v1::control_service_server::ControlService;
use mox_proto::control::v1::{
    AddAccountRequest, AddAddressRequest, AddDomainRequest, ChangeConfigResponse, ReloadConfigRequest,
    RemoveAccountRequest, RemoveAddressRequest, RemoveDomainRequest, SetAccountPasswordRequest,
    SetAccountPasswordResponse, SetAdminPasswordRequest, SetAdminPasswordResponse, StatusRequest, StatusResponse,
    StopRequest, StopResponse,
};
use mox_proto::node::v1::{GetLogLevelsRequest, LogLevels, SetLogLevelRequest};
use mox_proto::queue::v1::queue_admin_service_client::QueueAdminServiceClient;
use mox_proto::queue::v1::{ListQueueRequest, ListQueueResponse};
use mox_rpc::Channel;
use mox_service::ShutdownTrigger;
use mox_types::{Address, Domain, Localpart};
use tonic::{Request, Response, Status};

use crate::admin_password::{PasswordError, admin_password_file, check_password, write_admin_password};
use crate::configuration::{ChangeError, Configuration, blocking};
use crate::edit::{EditError, NewDomain};
use crate::nodes::{self, Node};

/// Answers [`ControlService`].
#[derive(Clone)]
pub struct Api {
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) queue: QueueAdminServiceClient<Channel>,
    pub(crate) auth: AuthAdminServiceClient<Channel>,
    pub(crate) nodes: Arc<[Node]>,
    pub(crate) stop: ShutdownTrigger,
}

impl From<ChangeError> for Status {
    fn from(error: ChangeError) -> Self {
        let text = error.to_string();
        match error {
            ChangeError::Invalid(_) | ChangeError::Key { .. } => Status::failed_precondition(text),
            ChangeError::Edit(EditError::Exists(_)) => Status::already_exists(text),
            ChangeError::Edit(EditError::NotFound(_)) => Status::not_found(text),
            ChangeError::Edit(EditError::Invalid(_)) => Status::invalid_argument(text),
            ChangeError::Edit(EditError::InUse(_)) | ChangeError::Write(_) => Status::failed_precondition(text),
            ChangeError::Store(status) => Status::new(
                status.code(),
                format!("the store did not take it: {}", status.message()),
            ),
            ChangeError::Later(status) => Status::new(status.code(), text),
            ChangeError::Json(_) | ChangeError::Internal(_) => Status::internal(text),
        }
    }
}

impl From<PasswordError> for Status {
    fn from(error: PasswordError) -> Self {
        match &error {
            PasswordError::TooShort | PasswordError::Derive(mox_sasl::DeriveError::Password(_)) => {
                Status::invalid_argument(error.to_string())
            }
            PasswordError::Derive(_) => Status::internal(error.to_string()),
            PasswordError::Write(_) => Status::failed_precondition(error.to_string()),
        }
    }
}

/// An argument as the type it should have.
pub(crate) fn parsed<T>(text: &str) -> Result<T, Status>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|e: T::Err| Status::invalid_argument(e.to_string()))
}

pub(crate) fn changed(version: u64) -> Response<ChangeConfigResponse> {
    Response::new(ChangeConfigResponse { version })
}

#[tonic::async_trait]
impl ControlService for Api {
    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        tracing::info!("stopping, as asked");
        if self.nodes.iter().any(|n| n.name == crate::SINGLE) {
            self.stop.begin();
            return Ok(Response::new(StopResponse {}));
        }
        // Goes on when the caller is gone.
        let (nodes, stop) = (Arc::clone(&self.nodes), self.stop.clone());
        tokio::spawn(async move {
            nodes::stop_others(&nodes, crate::NAME).await;
            stop.begin();
        });
        Ok(Response::new(StopResponse {}))
    }

    async fn get_log_levels(&self, _: Request<GetLogLevelsRequest>) -> Result<Response<LogLevels>, Status> {
        nodes::log_levels(&self.nodes).await.map(Response::new)
    }

    async fn set_log_level(&self, request: Request<SetLogLevelRequest>) -> Result<Response<LogLevels>, Status> {
        let request = request.into_inner();
        if request.level.is_empty() && request.package.is_empty() {
            return Err(Status::invalid_argument(
                "the default level cannot be cleared: name a level",
            ));
        }
        if !request.level.is_empty() {
            parsed::<mox_config::LogLevel>(&request.level)?;
        }
        tracing::info!(package = request.package, level = request.level, "setting a log level");
        nodes::set_log_level(&self.nodes, &request).await.map(Response::new)
    }

    async fn set_account_password(
        &self,
        request: Request<SetAccountPasswordRequest>,
    ) -> Result<Response<SetAccountPasswordResponse>, Status> {
        let SetAccountPasswordRequest { account, password } = request.into_inner();
        check_password(&password)?;
        let key = mox_rpc::key();
        let request = store::SetPasswordRequest {
            key,
            account: account.clone(),
            password,
        };
        self.configuration.store().set_password(request).await?;
        tracing::info!(account, "password of an account was set");
        Ok(Response::new(SetAccountPasswordResponse {}))
    }

    async fn set_admin_password(
        &self,
        request: Request<SetAdminPasswordRequest>,
    ) -> Result<Response<SetAdminPasswordResponse>, Status> {
        let password = request.into_inner().password;
        let file = admin_password_file(self.configuration.fixed(), self.configuration.dir());
        let written = tokio::task::spawn_blocking(move || write_admin_password(&file, &password)).await;
        written.map_err(|e| Status::internal(e.to_string()))??;
        tracing::info!("password of the administrator was set");
        Ok(Response::new(SetAdminPasswordResponse {}))
    }

    async fn reload_config(&self, _: Request<ReloadConfigRequest>) -> Result<Response<ChangeConfigResponse>, Status> {
        Ok(changed(self.configuration.reload().await?))
    }

    async fn add_account(&self, request: Request<AddAccountRequest>) -> Result<Response<ChangeConfigResponse>, Status> {
        let AddAccountRequest { account, address } = request.into_inner();
        let address: Address = parsed(&address)?;
        tracing::info!(account, %address, "adding an account");
        Ok(changed(
            self.configuration
                .change(move |edit| edit.add_account(&account, &address))
                .await?,
        ))
    }

    async fn remove_account(
        &self,
        request: Request<RemoveAccountRequest>,
    ) -> Result<Response<ChangeConfigResponse>, Status> {
        let account = request.into_inner().account;
        let fixed = self.configuration.fixed();
        let of_host = fixed
            .postmaster
            .iter()
            .map(|p| &p.account)
            .chain(fixed.host_tls_rpt.iter().map(|r| &r.account));
        if of_host.into_iter().any(|a| *a == account) {
            return Err(Status::failed_precondition(format!(
                "account {account} receives mail for the postmaster or reports about this host: change postmaster and \
                 host_tls_rpt in mox.toml, and start mox again, first"
            )));
        }
        tracing::info!(account, "removing an account");
        let name = account.clone();
        // If the file has it no more, an earlier try came that far: what remains is the data.
        let version = match self.configuration.change(move |edit| edit.remove_account(&name)).await {
            Err(ChangeError::Edit(EditError::NotFound(text))) => {
                let accounts = self
                    .configuration
                    .store()
                    .list_accounts(store::ListAccountsRequest {})
                    .await?;
                if !accounts
                    .into_inner()
                    .accounts
                    .iter()
                    .any(|a| a.name == account && a.disabled)
                {
                    return Err(Status::not_found(text));
                }
                self.configuration.in_force().map_or(0, |c| c.version)
            }
            other => other?,
        };
        let request = store::RemoveAccountRequest {
            key: mox_rpc::key(),
            account,
        };
        self.configuration
            .store()
            .remove_account(request)
            .await
            .map_err(|status| {
                let text = format!(
                    "the account is disabled, but its data was not removed ({}): try again",
                    status.message()
                );
                Status::new(status.code(), text)
            })?;
        Ok(changed(version))
    }

    async fn add_address(&self, request: Request<AddAddressRequest>) -> Result<Response<ChangeConfigResponse>, Status> {
        let AddAddressRequest { address, account } = request.into_inner();
        let address: AddressPattern = parsed(&address)?;
        tracing::info!(account, %address, "adding an address");
        Ok(changed(
            self.configuration
                .change(move |edit| edit.add_address(&address, &account))
                .await?,
        ))
    }

    async fn remove_address(
        &self,
        request: Request<RemoveAddressRequest>,
    ) -> Result<Response<ChangeConfigResponse>, Status> {
        let address: AddressPattern = parsed(&request.into_inner().address)?;
        tracing::info!(%address, "removing an address");
        Ok(changed(
            self.configuration
                .change(move |edit| edit.remove_address(&address))
                .await?,
        ))
    }

    async fn add_domain(&self, request: Request<AddDomainRequest>) -> Result<Response<ChangeConfigResponse>, Status> {
        let AddDomainRequest {
            domain,
            account,
            localpart,
        } = request.into_inner();
        let domain: Domain = parsed(&domain)?;
        let localpart = if localpart.is_empty() {
            None
        } else {
            Some(parsed::<Localpart>(&localpart)?)
        };
        if self
            .configuration
            .in_force()
            .is_some_and(|c| c.config.domains.contains_key(&domain))
        {
            return Err(Status::already_exists(format!("domain {domain} is there already")));
        }
        tracing::info!(account, %domain, "adding a domain");
        let (dir, name) = (self.configuration.dir().to_owned(), domain.clone());
        let made = blocking(move || Ok(crate::domain::make_keys(&dir, &name)?)).await?;
        let files = made.files.clone();
        let new = NewDomain {
            domain,
            account,
            localpart,
            selectors: made.selectors,
            mtasts_policy_id: crate::domain::policy_id(),
        };
        let result = self.configuration.change(move |edit| edit.add_domain(&new)).await;
        if matches!(
            result,
            Err(ChangeError::Edit(_) | ChangeError::Invalid(_) | ChangeError::Write(_))
        ) {
            for file in files {
                let _ = std::fs::remove_file(file);
            }
        }
        Ok(changed(result?))
    }

    async fn remove_domain(
        &self,
        request: Request<RemoveDomainRequest>,
    ) -> Result<Response<ChangeConfigResponse>, Status> {
        let domain: Domain = parsed(&request.into_inner().domain)?;
        tracing::info!(%domain, "removing a domain");
        Ok(changed(
            self.configuration
                .change(move |edit| edit.remove_domain(&domain))
                .await?,
        ))
    }

    async fn list_tls_public_keys(
        &self,
        request: Request<auth::ListPublicKeysRequest>,
    ) -> Result<Response<auth::ListPublicKeysResponse>, Status> {
        self.auth.clone().list_public_keys(request.into_inner()).await
    }

    async fn add_tls_public_key(
        &self,
        request: Request<auth::AddPublicKeyRequest>,
    ) -> Result<Response<auth::AddPublicKeyResponse>, Status> {
        self.auth.clone().add_public_key(request.into_inner()).await
    }

    async fn remove_tls_public_key(
        &self,
        request: Request<auth::RemovePublicKeyRequest>,
    ) -> Result<Response<auth::RemovePublicKeyResponse>, Status> {
        self.auth.clone().remove_public_key(request.into_inner()).await
    }

    async fn list_logins(
        &self,
        request: Request<auth::ListLoginsRequest>,
    ) -> Result<Response<auth::ListLoginsResponse>, Status> {
        self.auth.clone().list_logins(request.into_inner()).await
    }

    async fn list_queue(&self, request: Request<ListQueueRequest>) -> Result<Response<ListQueueResponse>, Status> {
        self.queue.clone().list(request.into_inner()).await
    }

    async fn reveal_cid(
        &self,
        request: Request<store::RevealCidRequest>,
    ) -> Result<Response<store::RevealCidResponse>, Status> {
        self.configuration.store().reveal_cid(request.into_inner()).await
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            services: nodes::status(&self.nodes).await,
        }))
    }
}
