//! What is known of a message's header.

use bytes::Bytes;
use mox_message::HeaderSummary;
use mox_proto::delivery::v1 as api;
use mox_proto::mail::v1::content::Where;
use tonic::Status;

use super::Delivery;
use crate::content::INLINE_BYTES;

/// A header; empty if no recipient has rules that look at it.
#[derive(Default)]
pub(super) struct Header {
    pub(super) bytes: Bytes,
    pub(super) from: String,
}

impl Delivery {
    pub(super) async fn header(
        &self,
        request: &api::AssessRequest,
        envelope: &api::Envelope,
    ) -> Result<Header, Status> {
        let content = request.content.as_ref().and_then(|c| c.r#where.as_ref());
        let bytes = match content {
            Some(Where::Inline(bytes)) => bytes.clone(),
            _ => {
                let staged = self
                    .contents
                    .stage(&request.content.clone().unwrap_or_default())
                    .await?;
                let mut pieces = self.contents.read(staged.id(), 0..INLINE_BYTES as u64);
                match futures::StreamExt::next(&mut pieces).await {
                    Some(piece) => piece?,
                    None => Bytes::new(),
                }
            }
        };
        let bytes = bytes.slice(..mox_message::header_end(&bytes));
        let from = match envelope.msg_from.as_str() {
            "" => {
                let facts = HeaderSummary::of(&bytes);
                facts.from_address().map(ToString::to_string).unwrap_or_default()
            }
            from => from.to_owned(),
        };
        Ok(Header { bytes, from })
    }
}
