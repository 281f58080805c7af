//! [`StoreAdminService`]: repairs of what is kept, and moving mail in and out, for control.
//!
//! Each call runs in a task of its own and streams reports ([`report`]); it ends when its caller goes away. Changes go
//! through the accounts' writers in steps of bounded size, so that mail is delivered and read meanwhile, and whoever
//! has a mailbox open is told.

mod backup;
mod counts;
mod export;
mod import;
mod parse;
mod report;
mod retrain;
pub mod scratch;
mod threads;
mod uids;

use mox_proto::admin::v1 as admin;
use mox_proto::admin::v1::store_admin_service_server::{StoreAdminService, StoreAdminServiceServer};
use mox_types::AccountId;
use tonic::{Request, Response, Status, Streaming};

use self::parse::Which;
use crate::Parts;
pub use backup::CONFIG;
pub use export::Exported;
pub use report::{Reporter, Reports};

/// Most bytes of a request: of a backup, with the files of the configuration.
const BACKUP_BYTES: usize = 64 << 20;

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
        StoreAdminServiceServer::new(self).max_decoding_message_size(BACKUP_BYTES)
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

/// Runs an operation on one account.
macro_rules! of_account {
    ($this:expr, $request:expr, |$store:ident, $account:ident, $asked:ident, $reporter:ident| $work:expr) => {{
        let ($store, $asked) = ($this.clone(), $request.into_inner());
        Ok(report::run(move |$reporter| async move {
            let $account = $store.account(&$asked.account).await?;
            $work.await
        }))
    }};
}

impl StoreAdmin {
    /// Parses messages of one account, or of all.
    fn parse_all(&self, account: String, which: Which) -> Response<Reports> {
        let this = self.clone();
        report::run(move |reporter| async move {
            for account in this.accounts(&account).await? {
                this.do_parse(&account, which, &reporter).await?;
            }
            Ok(())
        })
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
    type BumpUidValidityStream = Reports;
    type ReassignUidsStream = Reports;
    type FixUidsStream = Reports;
    type FixMessageSizesStream = Reports;
    type ReparseStream = Reports;
    type EnsureParsedStream = Reports;
    type ImportStream = Reports;
    type ExportStream = Exported;
    type BackupStream = Reports;

    async fn recalculate_counts(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        of_account!(self, request, |store, account, asked, reporter| store
            .do_recalculate_counts(&account, &reporter))
    }

    async fn bump_uid_validity(&self, request: Request<admin::MailboxRequest>) -> Result<Response<Reports>, Status> {
        of_account!(self, request, |store, account, asked, reporter| store
            .do_bump_uid_validity(&account, &asked.mailbox, &reporter))
    }

    async fn reassign_uids(&self, request: Request<admin::MailboxRequest>) -> Result<Response<Reports>, Status> {
        of_account!(self, request, |store, account, asked, reporter| store.do_reassign_uids(
            &account,
            &asked.mailbox,
            &reporter
        ))
    }

    async fn fix_uids(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        of_account!(self, request, |store, account, asked, reporter| store
            .do_fix_uids(&account, &reporter))
    }

    async fn fix_message_sizes(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        Ok(self.parse_all(request.into_inner().account, Which::WrongSize))
    }

    async fn reparse(&self, request: Request<admin::AccountRequest>) -> Result<Response<Reports>, Status> {
        Ok(self.parse_all(request.into_inner().account, Which::All))
    }

    async fn ensure_parsed(&self, request: Request<admin::EnsureParsedRequest>) -> Result<Response<Reports>, Status> {
        let which = if request.get_ref().all {
            Which::All
        } else {
            Which::Unparsed
        };
        of_account!(self, request, |store, account, asked, reporter| store
            .do_parse(&account, which, &reporter))
    }

    async fn import(&self, request: Request<Streaming<admin::ImportRequest>>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            this.do_import(request.into_inner(), &reporter).await
        }))
    }

    async fn export(&self, request: Request<admin::ExportRequest>) -> Result<Response<Exported>, Status> {
        self.do_export(request.into_inner()).await.map(Response::new)
    }

    async fn backup(&self, request: Request<admin::BackupRequest>) -> Result<Response<Reports>, Status> {
        let this = self.clone();
        Ok(report::run(move |reporter| async move {
            this.do_backup(request.into_inner(), &reporter).await
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
