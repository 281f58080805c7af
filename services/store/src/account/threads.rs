//! Which conversation a message belongs to.
//!
//! A message is linked to the nearest known message that it refers to: by References, from the last to the first, or by
//! In-Reply-To without; and if it has neither, to the latest message before it with its base subject. Only messages of
//! one base subject are linked, so that an answer with a new subject begins a conversation of its own. A message is
//! linked to all ancestors of its parent as well, so that it stays linked when one between them is removed. Another
//! copy of a message, with the same Message-ID, stands beside it.
//!
//! The tables by Message-ID and by base subject say where to look; what is there is compared in the records.

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MessageId};
use prost::Message as _;
use ring::digest;

use super::{AccountError, AccountTx, Facts, Reader};
use crate::engine::Db;
use crate::keys::{self, MESSAGE_ID_DIGEST};

/// Most references that are looked up, the nearest first.
const LOOKUPS_MAX: usize = 10;
/// Most messages of one Message-ID that are looked at, the oldest first.
const SAME_ID_MAX: usize = 8;
/// Most messages with one base subject that are looked at, the latest first.
const SAME_SUBJECT_MAX: usize = 2;
/// Most ancestors that a message is linked to, the nearest first: as many as References are read.
const ANCESTORS_MAX: usize = mox_message::limits::REFERENCES;

/// What a message says of its conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// Canonical Message-IDs that it refers to, oldest first: those that are looked up.
    references: Vec<String>,
}

/// Where a message stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadPlace {
    /// The conversation; none begins one.
    pub id: Option<Bytes>,
    /// Ids of its ancestors, the nearest first.
    pub parents: Vec<Bytes>,
    /// The message that it directly refers to is not known.
    pub missing_link: bool,
    /// The conversation is muted: new messages count as seen.
    pub muted: bool,
    /// Clients show it folded.
    pub collapsed: bool,
}

impl Thread {
    /// Of a header.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let all = facts.parents();
        Self {
            references: all[all.len().saturating_sub(LOOKUPS_MAX)..].to_vec(),
        }
    }

    /// What a message is linked to, and how. `message` has its id, Message-ID and base subject.
    ///
    /// # Errors
    /// If the account cannot be read.
    pub async fn link(
        &self,
        reader: &impl Reader,
        account: AccountId,
        message: &record::Message,
    ) -> Result<Link, AccountError> {
        if !message.message_id.is_empty() {
            for same in with_message_id(reader, account, &message.message_id).await? {
                // Those that came before: the first stands for itself.
                if same.id < message.id && same.base_subject == message.base_subject {
                    return Ok(Link::Same(Box::new(same)));
                }
            }
        }
        let references = self.references.iter().rev().filter(|r| **r != message.message_id);
        for (n, reference) in references.enumerate() {
            for found in with_message_id(reader, account, reference).await? {
                if found.id != message.id && found.base_subject == message.base_subject {
                    return Ok(Link::Parent(Box::new(found), n > 0));
                }
            }
        }
        if !self.references.is_empty() {
            return Ok(Link::None(true));
        }
        Ok(match before_with_subject(reader, account, message).await? {
            Some(found) => Link::Parent(Box::new(found), false),
            None => Link::None(false),
        })
    }
}

/// What a message is linked to.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// To nothing; whether it refers to something.
    None(bool),
    /// To its nearest known ancestor; whether there are nearer ones.
    Parent(Box<record::Message>, bool),
    /// It is another copy of a message.
    Same(Box<record::Message>),
}

impl Link {
    /// The message that has to have its place first.
    #[must_use]
    pub fn to(&self) -> Option<&record::Message> {
        match self {
            Link::None(_) => None,
            Link::Parent(message, _) | Link::Same(message) => Some(message),
        }
    }

    /// Where it leads, by the place of what it links to.
    #[must_use]
    pub fn place(&self) -> ThreadPlace {
        match self {
            Link::None(missing_link) => ThreadPlace {
                missing_link: *missing_link,
                ..ThreadPlace::default()
            },
            Link::Parent(parent, missing_link) => {
                let mut parents = vec![parent.id.clone()];
                parents.extend(parent.thread_parents.iter().take(ANCESTORS_MAX - 1).cloned());
                ThreadPlace {
                    id: Some(parent.thread_id.clone()),
                    parents,
                    missing_link: *missing_link,
                    muted: parent.thread_muted,
                    collapsed: parent.thread_collapsed,
                }
            }
            Link::Same(same) => ThreadPlace {
                id: Some(same.thread_id.clone()),
                parents: same.thread_parents.clone(),
                missing_link: same.thread_missing_link,
                muted: same.thread_muted,
                collapsed: same.thread_collapsed,
            },
        }
    }
}

impl ThreadPlace {
    /// Writes it into a message, which has its id.
    pub fn set(&self, message: &mut record::Message) {
        message.thread_id = self.id.clone().unwrap_or_else(|| message.id.clone());
        message.thread_parents.clone_from(&self.parents);
        message.thread_missing_link = self.missing_link;
    }
}

/// What a message says of its conversation. (Where it stands is found out when it is added, as others may be before.)
///
/// # Errors
/// None at present.
#[allow(clippy::unused_async)]
pub async fn find(_: &Db, _: AccountId, facts: &Facts) -> Result<Thread, AccountError> {
    Ok(Thread::of(facts))
}

/// Messages with a Message-ID, oldest first.
async fn with_message_id(
    reader: &impl Reader,
    account: AccountId,
    message_id: &str,
) -> Result<Vec<record::Message>, AccountError> {
    let (rows, _) = reader
        .scan(keys::message_ids(account, &digest(message_id)), SAME_ID_MAX)
        .await?;
    let keys: Vec<Bytes> = rows
        .iter()
        .filter_map(|(key, _)| last_id(key))
        .map(|id| keys::message(account, id))
        .collect();
    let mut found = records(reader, keys).await?;
    found.retain(|m| m.message_id == message_id);
    Ok(found)
}

/// The latest message before another that has its base subject, which must not be empty.
async fn before_with_subject(
    reader: &impl Reader,
    account: AccountId,
    message: &record::Message,
) -> Result<Option<record::Message>, AccountError> {
    if message.base_subject.is_empty() {
        return Ok(None);
    }
    let id = MessageId::try_from(&message.id).map_err(|_| AccountError::Damaged("a message"))?;
    let range = keys::base_subject_before(account, &digest(&message.base_subject), id);
    let (rows, _) = reader.scan(range, SAME_SUBJECT_MAX).await?;
    let keys: Vec<Bytes> = rows
        .iter()
        .filter_map(|(key, _)| keys::parse_base_subject(key))
        .map(|id| keys::message(account, id))
        .collect();
    let found = records(reader, keys).await?;
    Ok(found.into_iter().find(|m| m.base_subject == message.base_subject))
}

async fn records(reader: &impl Reader, keys: Vec<Bytes>) -> Result<Vec<record::Message>, AccountError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let values = reader.get_many(keys).await?.into_iter().flatten();
    values
        .map(|value| record::Message::decode(value).map_err(|_| AccountError::Damaged("a message")))
        .collect()
}

fn last_id(key: &[u8]) -> Option<MessageId> {
    MessageId::try_from(key.get(key.len().checked_sub(16)?..)?).ok()
}

/// Lets a message be found by its Message-ID and base subject.
pub fn enter(tx: &mut AccountTx, message: &record::Message) {
    for key in entries(tx.account(), message) {
        tx.put(key, Bytes::new());
    }
}

/// Takes back what [`enter`] did.
pub fn leave(tx: &mut AccountTx, message: &record::Message) {
    for key in entries(tx.account(), message) {
        tx.delete(key);
    }
}

/// The keys by which a message is found.
pub fn entries(account: AccountId, message: &record::Message) -> impl Iterator<Item = Bytes> {
    let id = MessageId::try_from(&message.id).ok();
    let of = |text: &str, key: fn(AccountId, &[u8; MESSAGE_ID_DIGEST], MessageId) -> Bytes| {
        (!text.is_empty())
            .then(|| key(account, &digest(text), id?).into())
            .flatten()
    };
    let by_id = of(&message.message_id, keys::message_id);
    let by_subject = of(&message.base_subject, keys::base_subject);
    [by_id, by_subject].into_iter().flatten()
}

/// What a canonical Message-ID or a base subject is found under: of a fixed length, whatever its own.
#[must_use]
pub fn digest(text: &str) -> [u8; MESSAGE_ID_DIGEST] {
    let whole = digest::digest(&digest::SHA256, text.as_bytes());
    let mut short = [0; MESSAGE_ID_DIGEST];
    short.copy_from_slice(&whole.as_ref()[..MESSAGE_ID_DIGEST]);
    short
}
