//! Contents: the immutable bytes of messages, kept once for all that refer to them.
//!
//! Every reference is a key of its own, `reference(content, owner)`, so that accounts that share a content do not get
//! in each other's way. The life of a content:
//!
//! - small ones come to be in the commit that first refers to them; others are uploaded before, with an upload key that
//!   the referring commit requires and deletes ([`Staged`]);
//! - further references have an existing one as their condition ([`share`]), so that no references is final;
//! - removing a reference puts the content on the released list ([`release`]);
//! - the [`Collector`] reads only the two lists, of uploads and of released contents. It abandons an upload by deleting
//!   its key, and removes a released content that has no references, after a grace in which readers that have not heard
//!   of it yet can go on.

mod blobs;
mod collector;
mod owner;
mod read;
mod upload;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::ContentId;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Semaphore;

pub use blobs::{Blobs, EngineBlobs};
pub use collector::{Collected, Collector};
pub use owner::Owner;
pub use read::Whole;
pub use upload::Uploaded;

use crate::engine::{Commit, Db, EngineError};
use crate::keys;

/// Contents up to this size ride in requests and are kept within their record.
pub const INLINE_BYTES: usize = 256 << 10;

/// Milliseconds since 1970.
pub type NowMillis = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Why a content could not be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// There is no such content (any longer).
    #[error("content {0} is gone")]
    Gone(ContentId),
    /// There is no such upload (any longer).
    #[error("upload is gone, send the message again")]
    NoUpload,
    /// The request has no content, or one that is not valid.
    #[error("{0}")]
    Invalid(&'static str),
    /// It is larger than it may be.
    #[error("content is larger than {0} bytes")]
    TooLarge(u64),
    /// What is kept cannot be read.
    #[error("content {0} is damaged")]
    Damaged(ContentId),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its sender failed.
    #[error("receiving the content: {1}")]
    Sender(tonic::Code, String),
}

impl From<ContentError> for tonic::Status {
    fn from(error: ContentError) -> Self {
        let text = error.to_string();
        match error {
            ContentError::Gone(_) | ContentError::NoUpload => Self::not_found(text),
            ContentError::Invalid(_) => Self::invalid_argument(text),
            ContentError::TooLarge(_) => Self::out_of_range(text),
            ContentError::Damaged(_) => Self::data_loss(text),
            ContentError::Engine(error) => error.into(),
            ContentError::Sender(code, _) => Self::new(code, text),
        }
    }
}

/// All contents.
#[derive(Clone)]
pub struct Contents(Arc<Inner>);

struct Inner {
    db: Db,
    blobs: Arc<dyn Blobs>,
    now: NowMillis,
    /// Uploads that this process is receiving: not abandoned, however long they take.
    receiving: Mutex<HashSet<ContentId>>,
    /// Kibibytes of large contents that may be read whole.
    whole: Arc<Semaphore>,
}

impl Contents {
    /// In an engine, with the bytes of large ones in `blobs`.
    #[must_use]
    pub fn new(db: Db, blobs: Arc<dyn Blobs>, now: NowMillis) -> Self {
        Self(Arc::new(Inner {
            db,
            blobs,
            now,
            receiving: Mutex::default(),
            whole: Arc::new(Semaphore::new(read::WHOLE_KIB as usize)),
        }))
    }

    /// Finds out where the bytes that a request came with are, so that a commit can refer to them.
    ///
    /// # Errors
    /// If it has none, or too many inline, or its upload is gone.
    pub async fn stage(&self, source: &mail::Content) -> Result<Staged, ContentError> {
        match &source.r#where {
            None => Err(ContentError::Invalid("the request has no content")),
            Some(mail::content::Where::Inline(bytes)) if bytes.len() > INLINE_BYTES => Err(ContentError::Invalid(
                "an inline content has at most 262144 bytes, upload it",
            )),
            Some(mail::content::Where::Inline(bytes)) => Ok(Staged::inline(bytes.clone())),
            Some(mail::content::Where::UploadId(id)) => {
                let id = ContentId::try_from(id).map_err(|_| ContentError::Invalid("an upload id has 16 bytes"))?;
                let record = match self.record(id).await {
                    Err(ContentError::Gone(_)) => return Err(ContentError::NoUpload),
                    record => record?,
                };
                Ok(Staged {
                    id,
                    size: record.size,
                    inline: None,
                })
            }
        }
    }

    async fn record(&self, id: ContentId) -> Result<record::Content, ContentError> {
        let value = self.0.db.get(keys::content(id)).await?.ok_or(ContentError::Gone(id))?;
        record::Content::decode(value.data).map_err(|_| ContentError::Damaged(id))
    }

    fn now(&self) -> i64 {
        (self.0.now)()
    }
}

/// A content that nothing refers to yet, ready for the commit that will. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Staged {
    id: ContentId,
    size: u64,
    /// The bytes, unless they were uploaded.
    inline: Option<Bytes>,
}

impl Staged {
    /// Of bytes at hand, [`INLINE_BYTES`] at most; larger ones are uploaded ([`Contents::upload_bytes`]).
    #[must_use]
    pub fn inline(bytes: Bytes) -> Self {
        Self {
            id: ContentId::new(),
            size: bytes.len() as u64,
            inline: Some(bytes),
        }
    }

    /// Its id, to be kept by whoever refers to it.
    #[must_use]
    pub fn id(&self) -> ContentId {
        self.id
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes, if they were not uploaded.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        self.inline.as_ref()
    }

    /// Adds to `commit`, which is the first to refer to it, what makes the content stay. Once a commit, along with
    /// [`refer`] for every owner.
    pub fn introduce(&self, commit: &mut Commit) {
        match &self.inline {
            Some(bytes) => {
                commit.put(keys::content(self.id), small(bytes).encode_to_vec());
            }
            None => {
                commit
                    .require_present(keys::upload(self.id))
                    .delete(keys::upload(self.id));
            }
        }
    }

    /// [`Staged::introduce`] and a first reference by each of the owners.
    pub fn reference(&self, commit: &mut Commit, owners: &[Owner]) {
        self.introduce(commit);
        for owner in owners {
            refer(commit, self.id, owner);
        }
    }
}

/// Adds a reference, in a commit that introduces the content, or whose conditions hold only if another reference exists
/// (such as the version of an account that has a message with it). All others [`share`].
pub fn refer(commit: &mut Commit, id: ContentId, owner: &Owner) {
    commit.put(keys::reference(id, owner.as_bytes()), Bytes::new());
}

/// Adds a reference to a content that another, `existing`, refers to: on condition that it still does.
pub fn share(commit: &mut Commit, id: ContentId, existing: &Owner, owner: &Owner) {
    commit.require_present(keys::reference(id, existing.as_bytes()));
    refer(commit, id, owner);
}

/// Removes a reference. `now` is in milliseconds since 1970.
pub fn release(commit: &mut Commit, id: ContentId, owner: &Owner, now: i64) {
    commit.delete(keys::reference(id, owner.as_bytes()));
    commit.put(keys::released(id), record::Released { at: now }.encode_to_vec());
    commit.set_frees();
}

fn small(bytes: &Bytes) -> record::Content {
    record::Content {
        size: bytes.len() as u64,
        small: bytes.clone(),
        sha256: Bytes::copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()),
        ..Default::default()
    }
}
