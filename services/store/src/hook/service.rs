//! The gRPC services over webhooks.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use mox_proto::hook::v1::hook_admin_service_server::{HookAdminService, HookAdminServiceServer};
use mox_proto::hook::v1::hook_service_server::{HookService, HookServiceServer};
use mox_proto::hook::v1::{
    ChangeHooksRequest, ChangeHooksResponse, ClaimHooksRequest, ClaimHooksResponse, CompleteHookRequest,
    CompleteHookResponse, GetHookRequest, GetHookResponse, GetRetiredHookRequest, GetRetiredHookResponse,
    ListHooksRequest, ListHooksResponse, ListRetiredHooksRequest, ListRetiredHooksResponse, ReadPayloadRequest,
    ReadPayloadResponse,
};
use mox_proto::queue::v1::{RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};

use super::{Hooks, gone, record};

/// Bytes of a piece of a JSON object.
const PIECE: usize = 256 << 10;

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    (0..bytes.len())
        .step_by(PIECE)
        .map(move |at| bytes.slice(at..bytes.len().min(at + PIECE)))
}

/// For queue-delivery.
#[derive(Clone)]
pub struct HookApi(Hooks);

impl HookApi {
    /// Over the webhooks.
    #[must_use]
    pub fn new(hooks: Hooks) -> Self {
        Self(hooks)
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> HookServiceServer<Self> {
        HookServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl HookService for HookApi {
    async fn claim(&self, request: Request<ClaimHooksRequest>) -> Result<Response<ClaimHooksResponse>, Status> {
        Ok(Response::new(self.0.claim(request.get_ref()).await?))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let held = self.0.renew(request.get_ref()).await?;
        Ok(Response::new(RenewResponse { held }))
    }

    type ReadPayloadStream = Answer<ReadPayloadResponse>;

    async fn read_payload(
        &self,
        request: Request<ReadPayloadRequest>,
    ) -> Result<Response<Self::ReadPayloadStream>, Status> {
        let payload = self.0.payload_of(request.get_ref().id).await?;
        let answers = pieces(payload).map(|data| Ok(ReadPayloadResponse { data }));
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn complete(&self, request: Request<CompleteHookRequest>) -> Result<Response<CompleteHookResponse>, Status> {
        // Its own task: a caller that goes away does not end it halfway.
        let (hooks, request) = (self.0.clone(), request.into_inner());
        let task = tokio::spawn(async move { hooks.complete(&request).await });
        let done = task
            .await
            .map_err(|_| Status::internal("completing a webhook failed"))?;
        Ok(Response::new(done?))
    }
}

/// For control.
#[derive(Clone)]
pub struct AdminApi(Hooks);

impl AdminApi {
    /// Over the webhooks.
    #[must_use]
    pub fn new(hooks: Hooks) -> Self {
        Self(hooks)
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> HookAdminServiceServer<Self> {
        HookAdminServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl HookAdminService for AdminApi {
    async fn list(&self, request: Request<ListHooksRequest>) -> Result<Response<ListHooksResponse>, Status> {
        Ok(Response::new(self.0.list(request.get_ref()).await?))
    }

    async fn change(&self, request: Request<ChangeHooksRequest>) -> Result<Response<ChangeHooksResponse>, Status> {
        let (hooks, request) = (self.0.clone(), request.into_inner());
        let task = tokio::spawn(async move { hooks.change(&request).await });
        let done = task.await.map_err(|_| Status::internal("changing webhooks failed"))?;
        Ok(Response::new(done?))
    }

    type GetStream = Answer<GetHookResponse>;

    async fn get(&self, request: Request<GetHookRequest>) -> Result<Response<Self::GetStream>, Status> {
        let id = request.get_ref().id;
        let stored = record::load(self.0.db().as_ref(), &[id]).await?.pop().flatten();
        let hook = stored.ok_or(gone(id))?.hook()?.clone();
        let payload = self.0.payload(&hook).await?;
        let first = GetHookResponse {
            hook: Some(hook),
            ..GetHookResponse::default()
        };
        let rest = pieces(payload).map(|payload| GetHookResponse { payload, hook: None });
        let answers = std::iter::once(first).chain(rest).map(Ok);
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn list_retired(
        &self,
        request: Request<ListRetiredHooksRequest>,
    ) -> Result<Response<ListRetiredHooksResponse>, Status> {
        Ok(Response::new(self.0.list_retired(request.get_ref()).await?))
    }

    type GetRetiredStream = Answer<GetRetiredHookResponse>;

    async fn get_retired(
        &self,
        request: Request<GetRetiredHookRequest>,
    ) -> Result<Response<Self::GetRetiredStream>, Status> {
        let hook = self.0.retired(request.get_ref().id).await?;
        let payload = self
            .0
            .payload(hook.hook.as_ref().unwrap_or(&Default::default()))
            .await?;
        let first = GetRetiredHookResponse {
            hook: Some(hook),
            ..GetRetiredHookResponse::default()
        };
        let rest = pieces(payload).map(|payload| GetRetiredHookResponse { payload, hook: None });
        let answers = std::iter::once(first).chain(rest).map(Ok);
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }
}
