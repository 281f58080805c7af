//! Webhooks: passed on to the store.

use mox_proto::hook::v1::hook_admin_service_client::HookAdminServiceClient;
use mox_proto::hook::v1::hook_control_service_server::{HookControlService, HookControlServiceServer};
use mox_proto::hook::v1::{
    ChangeHooksRequest, ChangeHooksResponse, GetHookRequest, GetHookResponse, GetRetiredHookRequest,
    GetRetiredHookResponse, ListHooksRequest, ListHooksResponse, ListRetiredHooksRequest, ListRetiredHooksResponse,
};
use mox_rpc::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Answers [`HookControlService`] by asking the store.
#[derive(Clone)]
pub struct Hooks(HookAdminServiceClient<Channel>);

impl Hooks {
    /// Of a store, which is to know the caller as control.
    #[must_use]
    pub fn new(store: Channel) -> Self {
        Self(HookAdminServiceClient::new(store))
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> HookControlServiceServer<Self> {
        HookControlServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl HookControlService for Hooks {
    async fn list(&self, request: Request<ListHooksRequest>) -> Result<Response<ListHooksResponse>, Status> {
        self.0.clone().list(request.into_inner()).await
    }

    async fn change(&self, request: Request<ChangeHooksRequest>) -> Result<Response<ChangeHooksResponse>, Status> {
        let request = request.into_inner();
        tracing::info!(change = ?request.change, filter = ?request.filter, "changing webhooks, as asked");
        self.0.clone().change(request).await
    }

    type GetStream = Streaming<GetHookResponse>;

    async fn get(&self, request: Request<GetHookRequest>) -> Result<Response<Self::GetStream>, Status> {
        self.0.clone().get(request.into_inner()).await
    }

    async fn list_retired(
        &self,
        request: Request<ListRetiredHooksRequest>,
    ) -> Result<Response<ListRetiredHooksResponse>, Status> {
        self.0.clone().list_retired(request.into_inner()).await
    }

    type GetRetiredStream = Streaming<GetRetiredHookResponse>;

    async fn get_retired(
        &self,
        request: Request<GetRetiredHookRequest>,
    ) -> Result<Response<Self::GetRetiredStream>, Status> {
        self.0.clone().get_retired(request.into_inner()).await
    }
}
