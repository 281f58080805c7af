//! Contents: that their bytes are all there and are what they were, and that somebody needs them.

use mox_proto::hook::v1::{HookRecord, RetiredHook};
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MessageId};
use prost::Message as _;
use ring::digest::{Context, SHA256, digest};

use super::{About, Verifier, VerifyError};
use crate::engine::{Commit, Limit, Order};
use crate::keys;

impl Verifier<'_> {
    pub(super) async fn contents(&self) -> Result<(), VerifyError> {
        let none = About::default();
        let mut done = 0;
        let mut left = Some(keys::prefix(&[keys::CONTENT]));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                done += 1;
                let Some(id) = keys::parse_content(&key) else {
                    self.wrong(none, format!("a key of no content: {key:02x?}"));
                    continue;
                };
                match record::Content::decode(value.data.clone()) {
                    Ok(content) => self.content(id, &content, &key, value.version).await?,
                    Err(_) => self.wrong(none, format!("content {id} cannot be read: its bytes are lost")),
                }
                self.needed(id).await?;
            }
            self.progress("contents", done, 0);
        }
        self.chunks().await?;
        self.references().await
    }

    /// The bytes of one.
    async fn content(
        &self,
        id: ContentId,
        content: &record::Content,
        key: &bytes::Bytes,
        version: u64,
    ) -> Result<(), VerifyError> {
        let none = About::default();
        if content.chunks == 0 {
            if self.skip_sizes {
                return Ok(());
            }
            let size = content.small.len() as u64;
            if digest(&SHA256, &content.small).as_ref() != &content.sha256[..] {
                self.wrong(none, format!("content {id} is damaged: its checksum is another"));
            } else if size != content.size
                && self.fixable(
                    none,
                    format!("content {id} has size {}, and {size} bytes", content.size),
                )
            {
                self.resize(content, size, key, version).await?;
            }
            return Ok(());
        }
        let (mut size, mut missing) = (0u64, Vec::new());
        let mut sum = Context::new(&SHA256);
        for number in 0..content.chunks {
            match self.parts.db.get(keys::chunk(id, number)).await? {
                Some(chunk) => {
                    size += chunk.data.len() as u64;
                    if !self.skip_sizes {
                        sum.update(&chunk.data);
                    }
                }
                None => missing.push(number.to_string()),
            }
        }
        if !missing.is_empty() {
            let text = format!(
                "content {id} lacks {} of its {} chunks ({}): its bytes are lost",
                missing.len(),
                content.chunks,
                missing.join(", ")
            );
            self.wrong(none, text);
        } else if !self.skip_sizes && sum.finish().as_ref() != &content.sha256[..] {
            self.wrong(none, format!("content {id} is damaged: its checksum is another"));
        } else if !self.skip_sizes
            && size != content.size
            && self.fixable(
                none,
                format!("content {id} has size {}, and {size} bytes", content.size),
            )
        {
            self.resize(content, size, key, version).await?;
        }
        Ok(())
    }

    async fn resize(
        &self,
        content: &record::Content,
        size: u64,
        key: &bytes::Bytes,
        version: u64,
    ) -> Result<(), VerifyError> {
        let mut commit = Commit::new();
        let right = record::Content {
            size,
            ..content.clone()
        };
        commit
            .require_at(key.clone(), version)
            .put(key.clone(), right.encode_to_vec());
        Ok(self.commit(commit).await?)
    }

    /// A content that nothing refers to is on one of the lists of the collector.
    async fn needed(&self, id: ContentId) -> Result<(), VerifyError> {
        let referred = self
            .parts
            .db
            .scan(keys::references(id), Limit::rows(1), Order::Ascending)
            .await?;
        if !referred.rows.is_empty() {
            return Ok(());
        }
        let listed = self
            .parts
            .db
            .get_many(vec![keys::upload(id), keys::released(id)])
            .await?;
        if listed.iter().all(Option::is_none)
            && self.fixable(
                About::default(),
                format!("content {id} is needed by nobody, and would never be removed"),
            )
        {
            self.release(id).await?;
        }
        Ok(())
    }

    /// Puts a content on the list of those to be removed unless somebody needs them.
    async fn release(&self, id: ContentId) -> Result<(), VerifyError> {
        let mut commit = Commit::new();
        let released = record::Released { at: self.now_millis() };
        commit.put(keys::released(id), released.encode_to_vec()).set_frees();
        Ok(self.commit(commit).await?)
    }

    /// Chunks are of a content, or of an upload that is not complete.
    async fn chunks(&self) -> Result<(), VerifyError> {
        let none = About::default();
        let mut range = keys::prefix(&[keys::CHUNK]);
        loop {
            let page = self
                .parts
                .db
                .scan(range.clone(), Limit::rows(1), Order::Ascending)
                .await?;
            let Some((key, _)) = page.rows.first() else {
                return Ok(());
            };
            let Some(id) = key.get(1..17).and_then(|id| ContentId::try_from(id).ok()) else {
                self.wrong(none, format!("a chunk of no content: {key:02x?}"));
                range.start = crate::engine::after(key);
                continue;
            };
            let owners = vec![keys::content(id), keys::upload(id), keys::released(id)];
            let owners = self.parts.db.get_many(owners).await?;
            if owners.iter().all(Option::is_none)
                && self.fixable(none, format!("chunks of content {id}, which is gone"))
            {
                let mut commit = Commit::new();
                commit.delete_range(keys::chunks(id)).set_frees();
                self.commit(commit).await?;
            }
            range.start = keys::chunks(id).end;
        }
    }

    /// References are of messages, queue entries and webhooks that have the content.
    async fn references(&self) -> Result<(), VerifyError> {
        let none = About::default();
        let mut left = Some(keys::prefix(&[keys::REFERENCE]));
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let mut owners = Vec::with_capacity(rows.len());
            for (key, _) in &rows {
                let content = key.get(1..17).and_then(|id| ContentId::try_from(id).ok());
                owners.push((content, content.and_then(|_| owner_key(key.get(17..)?))));
            }
            let wanted = owners
                .iter()
                .map(|(_, owner)| owner.clone().unwrap_or_else(keys::schema))
                .collect();
            let values = self.parts.db.get_many(wanted).await?;
            let mut commit = Commit::new();
            for (((key, _), (content, owner)), value) in rows.into_iter().zip(owners).zip(values) {
                let has = value
                    .filter(|_| owner.is_some())
                    .and_then(|value| content_of(&key, &value.data));
                if content.is_some()
                    && (has == content
                        || self.to_unlearn(&key).await? == content
                        || self.to_tell(&key).await? == content)
                {
                    continue;
                }
                if self.fixable(
                    none,
                    format!("a reference to a content by what does not have it: {key:02x?}"),
                ) {
                    commit.delete(key);
                    if let Some(content) = content {
                        let released = record::Released { at: self.now_millis() };
                        commit
                            .put(keys::released(content), released.encode_to_vec())
                            .set_frees();
                    }
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    /// The content that a webhook tells of, in the queue or kept after it left it.
    async fn to_tell(&self, reference: &[u8]) -> Result<Option<ContentId>, VerifyError> {
        let Some(id) = reference.get(17..).and_then(hook_owner) else {
            return Ok(None);
        };
        let wanted = vec![keys::hook_entry(id), keys::hook_retired(id)];
        let found = self.parts.db.get_many(wanted).await?;
        let hook = match found.as_slice() {
            [Some(queued), _] => HookRecord::decode(queued.data.clone()).ok().and_then(|r| r.hook),
            [None, Some(kept)] => RetiredHook::decode(kept.data.clone()).ok().and_then(|r| r.hook),
            _ => None,
        };
        Ok(hook.and_then(|hook| ContentId::try_from(&hook.content_id).ok()))
    }

    /// The content of a message that is gone, and that the junk filter has yet to unlearn: it is needed until then.
    async fn to_unlearn(&self, reference: &[u8]) -> Result<Option<ContentId>, VerifyError> {
        let Some((account, message)) = reference.get(17..).and_then(message_owner) else {
            return Ok(None);
        };
        let noted = self.parts.db.get(keys::training(account, message)).await?;
        Ok(noted.and_then(|noted| {
            let noted = record::Unlearn::decode(noted.data).ok()?;
            ContentId::try_from(&noted.content_id).ok()
        }))
    }
}

/// The webhook that refers to a content.
fn hook_owner(owner: &[u8]) -> Option<u64> {
    match owner.split_first()? {
        (b'h', id) => Some(u64::from_be_bytes(id.try_into().ok()?)),
        _ => None,
    }
}

/// The message that refers to a content.
fn message_owner(owner: &[u8]) -> Option<(AccountId, MessageId)> {
    match owner.split_first()? {
        (b'm', ids) if ids.len() == 32 => Some((
            AccountId::try_from(&ids[..16]).ok()?,
            MessageId::try_from(&ids[16..]).ok()?,
        )),
        _ => None,
    }
}

/// The record of who refers to a content.
fn owner_key(owner: &[u8]) -> Option<bytes::Bytes> {
    match owner.split_first()? {
        (b'm', _) => message_owner(owner).map(|(account, message)| keys::message(account, message)),
        (b'q', id) => Some(keys::queue_entry(u64::from_be_bytes(id.try_into().ok()?))),
        _ => None,
    }
}

/// The content that an owner's record names.
fn content_of(reference: &[u8], record: &bytes::Bytes) -> Option<ContentId> {
    let id = match reference.get(17)? {
        b'm' => record::Message::decode(record.clone()).ok()?.content_id,
        _ => mox_proto::queue::v1::Entry::decode(record.clone()).ok()?.content_id,
    };
    ContentId::try_from(&id).ok()
}
