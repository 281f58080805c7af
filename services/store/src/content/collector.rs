//! Removes contents that nothing refers to any longer, and uploads that nothing ever referred to.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_types::ContentId;
use prost::Message;

use super::{ContentError, Contents};
use crate::engine::{Commit, EngineError, Limit, Order, Value};
use crate::keys;

/// How long a released content stays readable: for sessions that have not been told of an expunge yet.
const RELEASED_GRACE: Duration = Duration::from_secs(10 * 60);
/// How long an upload waits for the commit that refers to it: longer than any transaction of SMTP or IMAP takes.
const UPLOAD_GRACE: Duration = Duration::from_secs(3600);
/// Rows of a list that are read at once.
const PAGE_ROWS: usize = 500;

/// What a round of the collector did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads whose key was taken from them.
    pub abandoned: u64,
    /// Contents that were removed.
    pub removed: u64,
    /// Keys of what was removed.
    pub keys: u64,
    /// Contents that were released, but are referred to by others still.
    pub kept: u64,
}

/// Goes over the two lists.
#[derive(Clone)]
pub struct Collector {
    contents: Contents,
    released_grace: i64,
    upload_grace: i64,
}

impl Collector {
    /// With the usual graces.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        Self::with_graces(contents, RELEASED_GRACE, UPLOAD_GRACE)
    }

    /// With other graces, of released contents and of uploads.
    #[must_use]
    pub fn with_graces(contents: Contents, released: Duration, upload: Duration) -> Self {
        let millis = |grace: Duration| i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        Self {
            contents,
            released_grace: millis(released),
            upload_grace: millis(upload),
        }
    }

    /// Goes over both lists once.
    ///
    /// # Errors
    /// If the engine fails; what was done until then stays done.
    pub async fn run_once(&self) -> Result<Collected, ContentError> {
        let mut collected = Collected::default();
        let mut left = Some(keys::uploads());
        while let Some(range) = left {
            let (rows, rest) = self.page(range).await?;
            for (key, value) in rows {
                self.upload(&key, &value, &mut collected).await?;
            }
            left = rest;
        }
        let mut left = Some(keys::releases());
        while let Some(range) = left {
            let (rows, rest) = self.page(range).await?;
            for (key, value) in rows {
                self.released(&key, &value, &mut collected).await?;
            }
            left = rest;
        }
        Ok(collected)
    }

    async fn page(&self, range: Range<Bytes>) -> Result<(Vec<(Bytes, Value)>, Option<Range<Bytes>>), ContentError> {
        let page = self
            .contents
            .0
            .db
            .scan(range.clone(), Limit::rows(PAGE_ROWS), Order::Ascending)
            .await?;
        let rest = page.rest(&range);
        Ok((page.rows, rest))
    }

    /// Abandons an upload: it becomes a released content without references.
    async fn upload(&self, key: &Bytes, value: &Value, collected: &mut Collected) -> Result<(), ContentError> {
        let Some(id) = keys::parse_content(key) else {
            return Ok(());
        };
        let upload = record::Upload::decode(value.data.clone()).map_err(|_| ContentError::Damaged(id))?;
        let now = self.contents.now();
        if now - upload.started < self.upload_grace || self.contents.0.receiving.lock().contains(&id) {
            return Ok(());
        }
        let mut commit = Commit::new();
        commit.require_at(key.clone(), value.version).delete(key.clone());
        commit
            .put(keys::released(id), record::Released { at: now }.encode_to_vec())
            .set_frees();
        if self.done(commit).await? {
            collected.abandoned += 1;
        }
        Ok(())
    }

    /// Removes a content that has no references, or takes it off the list if it has one.
    async fn released(&self, key: &Bytes, value: &Value, collected: &mut Collected) -> Result<(), ContentError> {
        let Some(id) = keys::parse_content(key) else {
            return Ok(());
        };
        let released = record::Released::decode(value.data.clone()).map_err(|_| ContentError::Damaged(id))?;
        if self.contents.now() - released.at < self.released_grace {
            return Ok(());
        }
        let db = &self.contents.0.db;
        // The list was read before the references: a reference that is removed after this put the content on the list
        // anew, and its version is another.
        let references = db.scan(keys::references(id), Limit::rows(1), Order::Ascending).await?;
        let mut commit = Commit::new();
        commit.require_at(key.clone(), value.version).delete(key.clone());
        if !references.rows.is_empty() {
            if self.done(commit).await? {
                collected.kept += 1;
            }
            return Ok(());
        }
        // Nothing can come to refer to it from here on. Its record goes last, since it says where the bytes are.
        let chunks = self.remove_bytes(id).await?;
        commit.delete(keys::content(id));
        if self.done(commit).await? {
            collected.removed += 1;
            collected.keys += 1 + chunks;
        }
        Ok(())
    }

    /// How many chunks it had.
    async fn remove_bytes(&self, id: ContentId) -> Result<u64, ContentError> {
        let chunks = match self.contents.record(id).await {
            Ok(record) if record.chunks == 0 => return Ok(0),
            Ok(record) => Some(record.chunks),
            // An upload that was never completed.
            Err(ContentError::Gone(_) | ContentError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        self.contents.0.blobs.delete(id, chunks).await?;
        Ok(chunks.unwrap_or(0).into())
    }

    /// Commits; false if others were faster.
    async fn done(&self, commit: Commit) -> Result<bool, ContentError> {
        match self.contents.0.db.commit(commit).await {
            Ok(_) => Ok(true),
            Err(EngineError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
