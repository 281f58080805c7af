//! The gRPC services over the queue.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use mox_config::Dynamic;
use mox_proto::queue::v1::queue_service_server::{QueueService, QueueServiceServer};
use mox_proto::queue::v1::submit_service_server::{SubmitService, SubmitServiceServer};
use mox_proto::queue::v1::{
    CheckSenderRequest, CheckSenderResponse, ClaimRequest, ClaimResponse, CompleteRequest, CompleteResponse,
    EnqueueRequest, EnqueueResponse, ReadQueueContentRequest, ReadQueueContentResponse, RenewRequest, RenewResponse,
    SubmitUploadRequest, SubmitUploadResponse,
};
use mox_rpc::Identity;
use tonic::{Request, Response, Status, Streaming};

use super::enqueue::Submitter;
use super::submit::may_send_as;
use super::{Queue, QueueError, record};

/// Largest message that is taken: a listener's own bound is lower unless configured otherwise.
const UPLOAD_MAX: u64 = 1 << 30;
/// Addresses that are asked about at once.
const SENDERS_MAX: usize = 100;

/// Who a session belongs to.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The account of a session's token, if it is the caller's.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if it is not, or ended.
    async fn submitter(&self, token: &[u8], caller: &Identity) -> Result<Submitter, Status>;
}

/// The configuration as committed.
pub type Config = Arc<dyn Fn() -> Arc<Dynamic> + Send + Sync>;

/// For those who send.
#[derive(Clone)]
pub struct SubmitApi {
    queue: Queue,
    sessions: Arc<dyn Sessions>,
    config: Config,
}

impl SubmitApi {
    /// Over the queue.
    #[must_use]
    pub fn new(queue: Queue, sessions: Arc<dyn Sessions>, config: Config) -> Self {
        Self {
            queue,
            sessions,
            config,
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> SubmitServiceServer<Self> {
        SubmitServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl SubmitService for SubmitApi {
    async fn upload(
        &self,
        request: Request<Streaming<SubmitUploadRequest>>,
    ) -> Result<Response<SubmitUploadResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let mut parts = request.into_inner();
        let first = parts
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the upload has no session"))?;
        self.sessions.submitter(&first.session, &caller).await?;
        let rest = parts.map(|part| part.map(|p| p.data));
        let all = futures::stream::iter([Ok(first.data)]).chain(rest);
        let uploaded = self
            .queue
            .0
            .contents
            .upload(Box::pin(all), UPLOAD_MAX)
            .await
            .map_err(Status::from)?;
        Ok(Response::new(SubmitUploadResponse {
            upload_id: uploaded.id.to_bytes(),
            size: uploaded.size,
        }))
    }

    async fn check_sender(
        &self,
        request: Request<CheckSenderRequest>,
    ) -> Result<Response<CheckSenderResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let request = request.into_inner();
        let submitter = self.sessions.submitter(&request.session, &caller).await?;
        if request.addresses.len() > SENDERS_MAX {
            return Err(QueueError::Invalid(format!("at most {SENDERS_MAX} addresses")).into());
        }
        let config = (self.config)();
        let mut allowed = Vec::with_capacity(request.addresses.len());
        for address in &request.addresses {
            allowed.push(match address.parse() {
                Ok(address) => may_send_as(&config, &submitter.name, &address)?,
                Err(_) => false,
            });
        }
        Ok(Response::new(CheckSenderResponse { allowed }))
    }

    async fn enqueue(&self, request: Request<EnqueueRequest>) -> Result<Response<EnqueueResponse>, Status> {
        let caller = mox_rpc::caller(&request)?;
        let request = request.into_inner();
        let submitter = self.sessions.submitter(&request.session, &caller).await?;
        // Its own task: a caller that goes away does not end it halfway.
        let (queue, config) = (self.queue.clone(), (self.config)());
        let task = tokio::spawn(async move { queue.submit(&submitter, &config, &request).await });
        let response = task.await.map_err(|_| Status::internal("enqueueing failed"))??;
        Ok(Response::new(response))
    }
}

/// For queue-delivery.
#[derive(Clone)]
pub struct QueueApi(Queue);

impl QueueApi {
    /// Over the queue.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self(queue)
    }

    /// The gRPC service.
    #[must_use]
    pub fn server(self) -> QueueServiceServer<Self> {
        QueueServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl QueueService for QueueApi {
    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        Ok(Response::new(self.0.claim(request.get_ref()).await?))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Ok(Response::new(RenewResponse {
            held: self.0.renew(request.get_ref()).await?,
        }))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<CompleteResponse>, Status> {
        let (queue, request) = (self.0.clone(), request.into_inner());
        let task = tokio::spawn(async move { queue.complete(&request).await });
        Ok(Response::new(
            task.await
                .map_err(|_| Status::internal("completing an attempt failed"))??,
        ))
    }

    type ReadContentStream = Pin<Box<dyn Stream<Item = Result<ReadQueueContentResponse, Status>> + Send>>;

    async fn read_content(
        &self,
        request: Request<ReadQueueContentRequest>,
    ) -> Result<Response<Self::ReadContentStream>, Status> {
        let id = request.into_inner().id;
        let stored = record::load(self.0.db().as_ref(), &[id]).await?.pop().flatten();
        let stored = stored.ok_or(QueueError::NoEntry(id))?;
        let content = record::content_of(&stored.entry)?;
        let pieces = self.0.0.contents.read(content, 0..u64::MAX);
        let answers = pieces.map(|piece| {
            Ok(ReadQueueContentResponse {
                data: piece.map_err(Status::from)?,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
