//! The message that is assessed.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mox_message::HeaderSummary;
use mox_proto::delivery::v1 as api;
use mox_proto::mail::v1::content::Where;
use ring::digest::{SHA256, digest};
use tonic::Status;

use super::Delivery;
use crate::junk::{Looked, MESSAGE_BYTES};

/// The start of a message: its header and as much of its text as is looked at, read once for all recipients.
#[derive(Default)]
pub(super) struct Letter {
    looked: Looked,
    header: Bytes,
    summary: OnceLock<HeaderSummary>,
    digest: OnceLock<[u8; 32]>,
}

impl Letter {
    fn new(start: &Bytes) -> Self {
        let header = start.slice(..mox_message::header_end(start));
        Self {
            looked: Looked::new(start),
            header,
            summary: OnceLock::new(),
            digest: OnceLock::new(),
        }
    }

    /// As the junk filter looks at it.
    pub(super) fn looked(&self) -> &Looked {
        &self.looked
    }

    /// The header, as it came.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// SHA-256 of what is looked at.
    pub(super) fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(digest(&SHA256, self.looked.start()).as_ref());
            bytes
        })
    }

    pub(super) fn summary(&self) -> &HeaderSummary {
        self.summary.get_or_init(|| HeaderSummary::of(&self.header))
    }
}

impl Delivery {
    pub(super) async fn letter(&self, request: &api::AssessRequest) -> Result<Letter, Status> {
        let content = request.content.as_ref().and_then(|c| c.r#where.as_ref());
        let start = match content {
            None => Bytes::new(),
            Some(Where::Inline(bytes)) => bytes.clone(),
            Some(Where::UploadId(_)) => {
                let staged = self
                    .contents
                    .stage(&request.content.clone().unwrap_or_default())
                    .await?;
                let mut pieces = self.contents.read(staged.id(), 0..MESSAGE_BYTES as u64);
                let mut start = BytesMut::new();
                while let Some(piece) = pieces.next().await {
                    start.extend_from_slice(&piece?);
                }
                start.freeze()
            }
        };
        Ok(Letter::new(&start))
    }
}
