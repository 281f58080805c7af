//! Assigning the conversations of all messages anew, and making the search index anew.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mox_message::HeaderSummary;
use mox_proto::admin::v1::Level;
use mox_proto::record::v1 as record;
use mox_types::{ContentId, MessageId};
use prost::Message as _;
use tonic::Status;

use super::report::Reporter;
use super::{Named, StoreAdmin};
use crate::account::ops::{ResetThreads, SetThreads, ThreadNames};
use crate::account::{AccountError, FromSnapshot, Link, Thread, ThreadPlace};
use crate::content::{ContentError, INLINE_BYTES};
use crate::engine::{Limit, Order};
use crate::keys;
use crate::search::{Indexer, Progress};

/// Messages that are read, and changed, at a time.
const STEP: usize = 500;
/// Messages that are followed from one to the one it refers to before the first has its place; for more the rest comes
/// without.
const CHAIN_MAX: usize = 1000;

impl StoreAdmin {
    /// `mox reindex`.
    pub(super) async fn do_reindex(&self, accounts: &[Named], reporter: &Reporter) -> Result<(), Status> {
        let indexer = Indexer::new(self.parts.accounts.clone(), self.parts.contents.clone());
        for account in accounts {
            let report = |progress: Progress| reporter.progress("messages", progress.done, progress.total);
            indexer.rebuild(account.id, &report).await?;
            let index = indexer.describe(account.id).await?;
            let numbers = [
                ("messages", number(index.messages)),
                ("terms", number(index.terms)),
                ("bytes", number(index.bytes)),
                ("segments", number(index.segments)),
            ];
            let text = format!(
                "search index made anew: {} messages, {} terms, {} bytes",
                index.messages, index.terms, index.bytes
            );
            reporter.say(Level::Info, &account.name, "", text, &numbers).await?;
        }
        Ok(())
    }

    /// `mox reassignthreads`.
    pub(super) async fn do_reassign_threads(&self, accounts: &[Named], reporter: &Reporter) -> Result<(), Status> {
        for account in accounts {
            let reset = self.reset_threads(account, reporter).await?;
            let linked = self.assign_threads(account, reset, reporter).await?;
            let text = format!("threads assigned: {reset} messages, {linked} of them linked to others");
            let numbers = [("messages", number(reset)), ("linked", number(linked))];
            reporter.say(Level::Info, &account.name, "", text, &numbers).await?;
        }
        Ok(())
    }

    /// Takes all messages out of their threads, and answers how many there are.
    async fn reset_threads(&self, account: &Named, reporter: &Reporter) -> Result<u64, Status> {
        let state = self.parts.accounts.state(account.id, 0).await?;
        let total = 2 * state.record.messages;
        reporter.progress("messages", 0, total);
        let mut done = 0;
        let mut left = Some(keys::messages(account.id));
        while let Some(range) = left.take() {
            let page = self
                .parts
                .db
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut messages = Vec::new();
            for (_, value) in page.rows {
                let message = decode(value.data)?;
                let Some(facts) = self.header(&message).await? else {
                    continue;
                };
                messages.push(ThreadNames {
                    id: id_of(&message)?,
                    message_id: facts.message_id.unwrap_or_default(),
                    base_subject: facts.base_subject,
                });
            }
            done += messages.len() as u64;
            self.parts
                .accounts
                .submit(account.id, None, ResetThreads { messages })
                .await?;
            reporter.progress("messages", done, total);
        }
        Ok(done)
    }

    /// Gives all messages their places, ancestors first, and answers how many are linked to another.
    async fn assign_threads(&self, account: &Named, total: u64, reporter: &Reporter) -> Result<u64, Status> {
        let mut assigning = Assigning {
            admin: self,
            account,
            done: HashSet::new(),
            ready: HashMap::new(),
            linked: 0,
        };
        let mut left = Some(keys::messages(account.id));
        while let Some(range) = left.take() {
            let page = self
                .parts
                .db
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            for (_, value) in page.rows {
                assigning.assign(decode(value.data)?).await?;
            }
            assigning.commit().await?;
            reporter.progress("messages", total + assigning.done.len() as u64, 2 * total);
        }
        Ok(assigning.linked)
    }

    /// What the header of a message says; `None` if it is gone.
    async fn header(&self, message: &record::Message) -> Result<Option<HeaderSummary>, Status> {
        let content = ContentId::try_from(&message.content_id).map_err(|_| AccountError::Damaged("a message"))?;
        let mut pieces = self.parts.contents.read(content, 0..INLINE_BYTES as u64);
        let mut start = Vec::new();
        while let Some(piece) = futures::StreamExt::next(&mut pieces).await {
            match piece {
                Ok(piece) => start.extend_from_slice(&piece),
                Err(ContentError::Gone(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(HeaderSummary::of(&start)))
    }
}

/// A message that waits for the one that it is linked to.
struct Waiting {
    id: MessageId,
    link: Link,
}

/// One go through an account.
struct Assigning<'a> {
    admin: &'a StoreAdmin,
    account: &'a Named,
    /// All that have their place.
    done: HashSet<MessageId>,
    /// Of these, those that are to be committed.
    ready: HashMap<MessageId, ThreadPlace>,
    linked: u64,
}

impl Assigning<'_> {
    /// Gives a message its place, and those that it is linked to before.
    async fn assign(&mut self, message: record::Message) -> Result<(), Status> {
        let mut chain: Vec<Waiting> = Vec::new();
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let id = id_of(&message)?;
            if self.done.contains(&id) {
                break;
            }
            let Some(link) = self.link(&message).await? else {
                // Gone meanwhile.
                self.done.insert(id);
                break;
            };
            let to = link.to().cloned();
            let circle = match &to {
                None => false,
                Some(to) => {
                    let to = id_of(to)?;
                    to == id || chain.iter().any(|w| w.id == to)
                }
            };
            // Messages that refer to each other in a circle: the last of them begins the thread.
            let link = if circle { Link::None(true) } else { link };
            chain.push(Waiting { id, link });
            if !circle && chain.len() < CHAIN_MAX {
                next = to;
            }
        }
        while let Some(Waiting { id, mut link }) = chain.pop() {
            let place = match &mut link {
                Link::None(_) => link.place(),
                Link::Parent(to, _) | Link::Same(to) => {
                    // Its place as it is now, which may be newer than what was read.
                    if let Some(place) = self.ready.get(&id_of(to)?) {
                        place.set(to);
                    }
                    self.linked += 1;
                    link.place()
                }
            };
            self.done.insert(id);
            self.ready.insert(id, place);
        }
        if self.ready.len() >= STEP {
            self.commit().await?;
        }
        Ok(())
    }

    async fn link(&self, message: &record::Message) -> Result<Option<Link>, Status> {
        let Some(facts) = self.admin.header(message).await? else {
            return Ok(None);
        };
        let snapshot = self.admin.parts.db.snapshot().await?;
        let reader = FromSnapshot(&*snapshot);
        Ok(Some(Thread::of(&facts).link(&reader, self.account.id, message).await?))
    }

    async fn commit(&mut self) -> Result<(), Status> {
        let messages: Vec<(MessageId, ThreadPlace)> = self.ready.drain().collect();
        if !messages.is_empty() {
            let accounts = &self.admin.parts.accounts;
            accounts.submit(self.account.id, None, SetThreads { messages }).await?;
        }
        Ok(())
    }
}

fn decode(value: Bytes) -> Result<record::Message, Status> {
    Ok(record::Message::decode(value).map_err(|_| AccountError::Damaged("a message"))?)
}

fn id_of(message: &record::Message) -> Result<MessageId, Status> {
    Ok(MessageId::try_from(&message.id).map_err(|_| AccountError::Damaged("a message"))?)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
