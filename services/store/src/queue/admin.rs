//! The gRPC service for those who steer the queue.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use mox_proto::queue::v1::queue_admin_service_server::{QueueAdminService, QueueAdminServiceServer};
use mox_proto::queue::v1::{
    AddHoldRuleRequest, AddSuppressionRequest, ChangeQueueRequest, ChangeQueueResponse, DumpQueueRequest,
    DumpQueueResponse, GetRetiredRequest, HoldRule, ListHoldRulesRequest, ListHoldRulesResponse, ListQueueRequest,
    ListQueueResponse, ListRetiredRequest, ListRetiredResponse, ListSuppressionsRequest, ListSuppressionsResponse,
    ReadQueueContentRequest, RemoveHoldRuleRequest, RemoveHoldRuleResponse, RemoveSuppressionRequest,
    RemoveSuppressionResponse, Retired, Suppression,
};
use mox_types::AccountId;
use tonic::{Request, Response, Status};

use super::{Queue, QueueError};

/// For control.
#[derive(Clone)]
pub struct AdminApi(Queue);

impl AdminApi {
    /// Over the queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self(queue)
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> QueueAdminServiceServer<Self> {
        QueueAdminServiceServer::new(self)
    }

    fn account(&self, name: &str) -> Result<AccountId, QueueError> {
        let settings = self.0.0.settings.get();
        settings
            .and_then(|settings| (settings.accounts)(name))
            .ok_or_else(|| QueueError::NotFound(format!("there is no account {name:?}")))
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<DumpQueueResponse, Status>> + Send>>;

#[tonic::async_trait]
impl QueueAdminService for AdminApi {
    async fn list(&self, request: Request<ListQueueRequest>) -> Result<Response<ListQueueResponse>, Status> {
        Ok(Response::new(self.0.list(request.get_ref()).await?))
    }

    async fn change(&self, request: Request<ChangeQueueRequest>) -> Result<Response<ChangeQueueResponse>, Status> {
        // Its own task: a caller that goes away does not end it halfway.
        let (queue, request) = (self.0.clone(), request.into_inner());
        let task = tokio::spawn(async move { queue.change(&request).await });
        let response = task
            .await
            .map_err(|_| Status::internal("changing the queue failed"))??;
        Ok(Response::new(response))
    }

    type DumpStream = Pieces;

    async fn dump(&self, request: Request<DumpQueueRequest>) -> Result<Response<Pieces>, Status> {
        let id = request.into_inner().id;
        let (prefix, content) = self.0.dump(&ReadQueueContentRequest { id }).await?;
        let content = content.map(|piece| piece.map_err(Status::from));
        let all = futures::stream::iter([Ok(prefix)]).chain(content);
        let pieces = all.map(|piece| Ok(DumpQueueResponse { data: piece? }));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn list_retired(
        &self,
        request: Request<ListRetiredRequest>,
    ) -> Result<Response<ListRetiredResponse>, Status> {
        Ok(Response::new(self.0.list_retired(request.get_ref()).await?))
    }

    async fn get_retired(&self, request: Request<GetRetiredRequest>) -> Result<Response<Retired>, Status> {
        Ok(Response::new(self.0.retired(request.get_ref().id).await?))
    }

    async fn list_hold_rules(
        &self,
        _: Request<ListHoldRulesRequest>,
    ) -> Result<Response<ListHoldRulesResponse>, Status> {
        let rules = self.0.hold_rules().await?;
        Ok(Response::new(ListHoldRulesResponse { rules }))
    }

    async fn add_hold_rule(&self, request: Request<AddHoldRuleRequest>) -> Result<Response<HoldRule>, Status> {
        let rule = request.into_inner().rule.unwrap_or_default();
        if !rule.account.is_empty() {
            self.account(&rule.account)?;
        }
        Ok(Response::new(self.0.add_hold_rule(&rule).await?))
    }

    async fn remove_hold_rule(
        &self,
        request: Request<RemoveHoldRuleRequest>,
    ) -> Result<Response<RemoveHoldRuleResponse>, Status> {
        self.0.remove_hold_rule(request.get_ref().id).await?;
        Ok(Response::new(RemoveHoldRuleResponse {}))
    }

    async fn list_suppressions(
        &self,
        request: Request<ListSuppressionsRequest>,
    ) -> Result<Response<ListSuppressionsResponse>, Status> {
        let request = request.into_inner();
        let account = match request.account.as_str() {
            "" => None,
            name => Some(self.account(name)?),
        };
        Ok(Response::new(self.0.list_suppressions(account, &request).await?))
    }

    async fn add_suppression(&self, request: Request<AddSuppressionRequest>) -> Result<Response<Suppression>, Status> {
        let AddSuppressionRequest {
            account,
            address,
            reason,
        } = request.into_inner();
        let id = self.account(&account)?;
        let added = self.0.add_suppression(id, &account, &address, &reason).await?;
        Ok(Response::new(added))
    }

    async fn remove_suppression(
        &self,
        request: Request<RemoveSuppressionRequest>,
    ) -> Result<Response<RemoveSuppressionResponse>, Status> {
        let RemoveSuppressionRequest { account, address } = request.into_inner();
        let id = self.account(&account)?;
        self.0.remove_suppression(id, &account, &address).await?;
        Ok(Response::new(RemoveSuppressionResponse {}))
    }
}
