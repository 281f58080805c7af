//! Administration of what the store keeps: passed on to it.

use mox_proto::admin::v1::admin_service_server::{AdminService, AdminServiceServer};
use mox_proto::admin::v1::store_admin_service_client::StoreAdminServiceClient;
use mox_proto::admin::v1::{AccountRequest, Report};
use mox_rpc::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Answers [`AdminService`] by asking the store.
#[derive(Clone)]
pub struct Admin {
    store: StoreAdminServiceClient<Channel>,
}

impl Admin {
    /// Of a store, which is to know the caller as control.
    #[must_use]
    pub fn new(store: Channel) -> Self {
        Self {
            store: StoreAdminServiceClient::new(store),
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> AdminServiceServer<Self> {
        AdminServiceServer::new(self)
    }
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

    async fn recalculate_counts(
        &self,
        request: Request<AccountRequest>,
    ) -> Result<Response<Streaming<Report>>, Status> {
        let request = request.into_inner();
        tracing::info!(account = request.account, "recalculating counts of mailboxes");
        self.store.clone().recalculate_counts(request).await
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
