//! [`DeliveryService`]: incoming mail, for smtp-in.
//!
//! `LookupRecipient` says at RCPT who an address is, `Assess` decides after DATA what becomes of the message for each
//! recipient and changes nothing, and `Deliver` keeps it for all recipients in one commit.

mod assess;
mod deliver;
mod lookup;
mod notice;
mod sender;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::delivery_service_server::DeliveryService;
use mox_proto::mail::v1 as mail;
use tonic::{Request, Response, Status, Streaming};

pub use self::assess::Jitter;
use crate::account::Accounts;
use crate::content::Contents;
use crate::junk::Junk;
use crate::queue::Queue;
use crate::registry::Registry;

/// Most bytes of an upload: above what any listener is set to take, which smtp-in sees to.
const UPLOAD_MAX: u64 = 1 << 30;
/// Most recipients of a transaction (RFC 5321 §4.5.3.1.8 wants at least 100; one commit keeps them all).
const RECIPIENTS_MAX: usize = 1000;

/// The service.
#[derive(Clone)]
pub struct Delivery {
    accounts: Accounts,
    contents: Contents,
    registry: Registry,
    /// Where notifications to senders are put.
    queue: Option<Queue>,
    junk: Junk,
    /// In place of the one that only this store knows.
    jitter: Option<Arc<Jitter>>,
    secret: Arc<tokio::sync::OnceCell<Bytes>>,
}

impl Delivery {
    /// Over the accounts, for the addresses of the committed configuration.
    #[must_use]
    pub fn new(accounts: Accounts, contents: Contents, registry: Registry) -> Self {
        Self {
            junk: Junk::new(accounts.clone(), contents.clone(), registry.clone()),
            accounts,
            contents,
            registry,
            queue: None,
            jitter: None,
            secret: Arc::default(),
        }
    }

    /// With a known jitter of the threshold for junk, for tests.
    #[must_use]
    pub fn with_jitter(self, jitter: Arc<Jitter>) -> Self {
        Self {
            jitter: Some(jitter),
            ..self
        }
    }

    /// Puts notifications to senders into this queue. Without one, none are made.
    #[must_use]
    pub fn notifying(mut self, queue: Queue) -> Self {
        self.queue = Some(queue);
        self
    }
}

fn check_recipients(many: usize) -> Result<(), Status> {
    if many == 0 || many > RECIPIENTS_MAX {
        return Err(Status::invalid_argument("a transaction has 1 to 1000 recipients"));
    }
    Ok(())
}

fn is_upload(content: Option<&mail::Content>) -> bool {
    matches!(
        content.and_then(|c| c.r#where.as_ref()),
        Some(mail::content::Where::UploadId(_))
    )
}

#[tonic::async_trait]
impl DeliveryService for Delivery {
    async fn lookup_recipient(
        &self,
        request: Request<api::LookupRecipientRequest>,
    ) -> Result<Response<api::LookupRecipientResponse>, Status> {
        self.do_lookup(request.get_ref()).await.map(Response::new)
    }

    async fn upload(
        &self,
        request: Request<Streaming<api::UploadRequest>>,
    ) -> Result<Response<api::UploadResponse>, Status> {
        let parts = request.into_inner().map(|part| part.map(|part| part.data));
        let uploaded = self.contents.upload(Box::pin(parts), UPLOAD_MAX).await?;
        Ok(Response::new(api::UploadResponse {
            upload_id: uploaded.id.to_bytes(),
            size: uploaded.size,
        }))
    }

    async fn assess(&self, request: Request<api::AssessRequest>) -> Result<Response<api::AssessResponse>, Status> {
        self.do_assess(request.get_ref()).await.map(Response::new)
    }

    async fn deliver(&self, request: Request<api::DeliverRequest>) -> Result<Response<api::DeliverResponse>, Status> {
        self.do_deliver(request.into_inner()).await.map(Response::new)
    }
}
