//! Steering the queue: passed on to the store.

use std::sync::Arc;

use mox_proto::queue::v1::change_queue_request::Change;
use mox_proto::queue::v1::queue_admin_service_client::QueueAdminServiceClient;
use mox_proto::queue::v1::queue_control_service_server::{QueueControlService, QueueControlServiceServer};
use mox_proto::queue::v1::{
    AddHoldRuleRequest, AddSuppressionRequest, ChangeQueueRequest, ChangeQueueResponse, DumpQueueRequest,
    DumpQueueResponse, GetRetiredRequest, HoldRule, ListHoldRulesRequest, ListHoldRulesResponse, ListRetiredRequest,
    ListRetiredResponse, ListSuppressionsRequest, ListSuppressionsResponse, RemoveHoldRuleRequest,
    RemoveHoldRuleResponse, RemoveSuppressionRequest, RemoveSuppressionResponse, Retired, Suppression,
};
use mox_rpc::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::nodes::{self, Node};

/// Answers [`QueueControlService`] by asking the store.
#[derive(Clone)]
pub(crate) struct QueueControl {
    store: QueueAdminServiceClient<Channel>,
    /// One of them knows which transports there are.
    nodes: Arc<[Node]>,
}

impl QueueControl {
    /// Of a store, which is to know the caller as control.
    pub(crate) fn new(store: Channel, nodes: Arc<[Node]>) -> Self {
        Self {
            store: QueueAdminServiceClient::new(store),
            nodes,
        }
    }

    /// The gRPC service.
    pub(crate) fn server(self) -> QueueControlServiceServer<Self> {
        QueueControlServiceServer::new(self)
    }

    async fn check_transport(&self, name: &str) -> Result<(), Status> {
        if name.is_empty() {
            return Ok(());
        }
        let known = nodes::transports(&self.nodes).await?;
        if known.iter().any(|known| known == name) {
            return Ok(());
        }
        let known = match known.len() {
            0 => "it has none".to_owned(),
            _ => format!("it has {}", known.join(", ")),
        };
        Err(Status::invalid_argument(format!(
            "there is no transport {name:?} in mox.toml: {known}"
        )))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl QueueControlService for QueueControl {
    type DumpStream = Streaming<DumpQueueResponse>;

    async fn change(&self, request: Request<ChangeQueueRequest>) -> Answer<ChangeQueueResponse> {
        let request = request.into_inner();
        if let Some(Change::Transport(name)) = &request.change {
            self.check_transport(name).await?;
        }
        let (change, filter) = (request.change.clone(), request.filter.clone().unwrap_or_default());
        tracing::info!(?change, ?filter, "changing messages in the queue, as asked");
        self.store.clone().change(request).await
    }

    async fn dump(&self, request: Request<DumpQueueRequest>) -> Answer<Self::DumpStream> {
        self.store.clone().dump(request.into_inner()).await
    }

    async fn list_retired(&self, request: Request<ListRetiredRequest>) -> Answer<ListRetiredResponse> {
        self.store.clone().list_retired(request.into_inner()).await
    }

    async fn get_retired(&self, request: Request<GetRetiredRequest>) -> Answer<Retired> {
        self.store.clone().get_retired(request.into_inner()).await
    }

    async fn list_hold_rules(&self, request: Request<ListHoldRulesRequest>) -> Answer<ListHoldRulesResponse> {
        self.store.clone().list_hold_rules(request.into_inner()).await
    }

    async fn add_hold_rule(&self, request: Request<AddHoldRuleRequest>) -> Answer<HoldRule> {
        let request = request.into_inner();
        tracing::info!(rule = ?request.rule, "adding a hold rule");
        self.store.clone().add_hold_rule(request).await
    }

    async fn remove_hold_rule(&self, request: Request<RemoveHoldRuleRequest>) -> Answer<RemoveHoldRuleResponse> {
        let request = request.into_inner();
        tracing::info!(rule = request.id, "removing a hold rule");
        self.store.clone().remove_hold_rule(request).await
    }

    async fn list_suppressions(&self, request: Request<ListSuppressionsRequest>) -> Answer<ListSuppressionsResponse> {
        self.store.clone().list_suppressions(request.into_inner()).await
    }

    async fn add_suppression(&self, request: Request<AddSuppressionRequest>) -> Answer<Suppression> {
        let request = request.into_inner();
        tracing::info!(
            account = request.account,
            address = request.address,
            "suppressing an address"
        );
        self.store.clone().add_suppression(request).await
    }

    async fn remove_suppression(
        &self,
        request: Request<RemoveSuppressionRequest>,
    ) -> Answer<RemoveSuppressionResponse> {
        let request = request.into_inner();
        tracing::info!(
            account = request.account,
            address = request.address,
            "no longer suppressing an address"
        );
        self.store.clone().remove_suppression(request).await
    }
}
