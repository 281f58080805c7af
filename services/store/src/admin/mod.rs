//! [`StoreAdminService`]: repairs of what is kept, and moving mail in and out, for control.
//!
//! Each call runs in a task of its own and streams reports ([`report`]); it ends when its caller goes away. Changes go
//! through the accounts' writers in steps of bounded size, so that mail is delivered and read meanwhile, and whoever
//! has a mailbox open is told.

mod counts;
mod report;
mod retrain;
mod threads;

use mox_proto::admin::v1 as admin;
use mox_proto::admin::v1::store_admin_service_server::{StoreAdminService, StoreAdminServiceServer};
use mox_types::AccountId;
use tonic::{Request, Response, Status};

use crate::Parts;
pub use report::{Reporter, Reports};

/// The service.
#[derive(Clone)]
pub struct StoreAdmin {
    pub(crate) parts: Parts,
}

/// An account by its name, which is for people.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) id: AccountId,
    pub(crate) name: String,
}

impl StoreAdmin {
    /// Over all parts of the store.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> StoreAdminServiceServer<Self> {
        StoreAdminServiceServer::new(self)
    }

    /// The accounts whose data is kept, also disabled ones: one by its name, or all for the empty name.
    pub(crate) async fn accounts(&self, name: &str) -> Result<Vec<Named>, Status> {
        let mut found = Vec::new();
        for account in self.parts.registry.list().await? {
            if name.is_empty() || account.name == name {
                let id = AccountId::try_from(&account.id).map_err(|e| Status::data_loss(e.to_string()))?;
                found.push(Named { id, name: account.name });
            }
        }
        if found.is_empty() && !name.is_empty() {
            return Err(Status::not_found(format!(
                "there is no account {name:?}: domains.toml has those there are"
            )));
        }
        Ok(found)
    }

    /// An account by its name.
    pub(crate) async fn account(&self, name: &str) -> Result<Named, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("name an account"));
        }
        let mut found = self.accounts(name).await?;
        found
            .pop()
            .ok_or_else(|| Status::not_found(format!("there is no account {name:?}")))
    }
}

#[tonic::async_trait]
impl StoreAdminService for StoreAdmin {
    type RecalculateCountsStream = Reports;
    type ReindexStream = Reports;
    type ReassignThreadsStream = Reports;
    type RetrainStream = Reports;

    async fn retrain(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            let account = this.account(&request.get_ref().account).await?;
            this.do_retrain(&account, &reporter).await
        }))
    }

    async fn recalculate_counts(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            let account = this.account(&request.get_ref().account).await?;
            this.do_recalculate_counts(&account, &reporter).await
        }))
    }

    async fn reindex(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            let accounts = this.accounts(&request.get_ref().account).await?;
            this.do_reindex(&accounts, &reporter).await
        }))
    }

    async fn reassign_threads(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            let accounts = this.accounts(&request.get_ref().account).await?;
            this.do_reassign_threads(&accounts, &reporter).await
        }))
    }
}
