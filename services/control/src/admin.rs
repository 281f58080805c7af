//! Administration of what the store keeps: passed on to it.

use mox_proto::admin::v1::admin_service_server::{AdminService, AdminServiceServer};
use mox_proto::admin::v1::store_admin_service_client::StoreAdminServiceClient;
use mox_proto::admin::v1::{
    AccountRequest, BackupRequest, EnsureParsedRequest, ExportRequest, ExportResponse, ImportRequest, MailboxRequest,
    Report,
};
use mox_rpc::Channel;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config_files::ConfigFiles;

/// Most bytes of a request: of a backup, with the files of the configuration.
const BACKUP_BYTES: usize = 64 << 20;
/// Pieces of an import that are read ahead of the store.
const AHEAD: usize = 4;

type Answer<T> = Result<Response<Streaming<T>>, Status>;

/// Answers [`AdminService`] by asking the store.
#[derive(Clone)]
pub struct Admin {
    store: StoreAdminServiceClient<Channel>,
    config: Option<ConfigFiles>,
}

impl Admin {
    /// Of a store, which is to know the caller as control. The files of the configuration go into backups.
    #[must_use]
    pub fn new(store: Channel, config: Option<ConfigFiles>) -> Self {
        Self {
            store: StoreAdminServiceClient::new(store).max_encoding_message_size(BACKUP_BYTES),
            config,
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> AdminServiceServer<Self> {
        AdminServiceServer::new(self)
    }
}

/// Passes a call on as it is.
macro_rules! pass {
    ($this:expr, $call:ident, $request:expr) => {{
        let request = $request.into_inner();
        tracing::info!(
            operation = stringify!($call),
            account = request.account,
            "administration, as asked"
        );
        $this.store.clone().$call(request).await
    }};
}

#[tonic::async_trait]
impl AdminService for Admin {
    type RecalculateCountsStream = Streaming<Report>;
    type ReindexStream = Streaming<Report>;
    type ReassignThreadsStream = Streaming<Report>;
    type RetrainStream = Streaming<Report>;

    async fn retrain(&self, request: Request<AccountRequest>) -> Result<Response<Streaming<Report>>, Status> {
        let request = request.into_inner();
        tracing::info!(account = request.account, "making a junk filter anew");
        self.store.clone().retrain(request).await
    }
    type BumpUidValidityStream = Streaming<Report>;
    type ReassignUidsStream = Streaming<Report>;
    type FixUidsStream = Streaming<Report>;
    type FixMessageSizesStream = Streaming<Report>;
    type ReparseStream = Streaming<Report>;
    type EnsureParsedStream = Streaming<Report>;
    type ImportStream = Streaming<Report>;
    type ExportStream = Streaming<ExportResponse>;
    type BackupStream = Streaming<Report>;

    async fn recalculate_counts(&self, request: Request<AccountRequest>) -> Answer<Report> {
        pass!(self, recalculate_counts, request)
    }

    async fn bump_uid_validity(&self, request: Request<MailboxRequest>) -> Answer<Report> {
        pass!(self, bump_uid_validity, request)
    }

    async fn reassign_uids(&self, request: Request<MailboxRequest>) -> Answer<Report> {
        pass!(self, reassign_uids, request)
    }

    async fn fix_uids(&self, request: Request<AccountRequest>) -> Answer<Report> {
        pass!(self, fix_uids, request)
    }

    async fn fix_message_sizes(&self, request: Request<AccountRequest>) -> Answer<Report> {
        pass!(self, fix_message_sizes, request)
    }

    async fn reparse(&self, request: Request<AccountRequest>) -> Answer<Report> {
        pass!(self, reparse, request)
    }

    async fn ensure_parsed(&self, request: Request<EnsureParsedRequest>) -> Answer<Report> {
        pass!(self, ensure_parsed, request)
    }

    async fn import(&self, request: Request<Streaming<ImportRequest>>) -> Answer<Report> {
        tracing::info!("importing messages, as asked");
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut requests = request.into_inner();
        // A stream that fails on its way ends without saying that it is finished, which is what the store needs to know.
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
        self.store.clone().import(ReceiverStream::new(receiver)).await
    }

    async fn export(&self, request: Request<ExportRequest>) -> Answer<ExportResponse> {
        pass!(self, export, request)
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Answer<Report> {
        let mut request = request.into_inner();
        tracing::info!(folder = request.folder, "backup, as asked");
        if let Some(config) = self.config.clone() {
            let read = tokio::task::spawn_blocking(move || crate::config_files::read(&config)).await;
            let read = read.map_err(|e| Status::internal(e.to_string()))?;
            request.config_files = read.map_err(|e| Status::failed_precondition(e.to_string()))?;
        }
        self.store.clone().backup(request).await
    }

    async fn reindex(&self, request: Request<AccountRequest>) -> Result<Response<Streaming<Report>>, Status> {
        let request = request.into_inner();
        tracing::info!(account = request.account, "making search indices anew");
        self.store.clone().reindex(request).await
    }

    async fn reassign_threads(&self, request: Request<AccountRequest>) -> Result<Response<Streaming<Report>>, Status> {
        let request = request.into_inner();
        tracing::info!(account = request.account, "assigning threads anew");
        self.store.clone().reassign_threads(request).await
    }
}
