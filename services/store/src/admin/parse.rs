//! Reading messages again: what was computed from them, and their sizes.

use std::ops::Range;

use bytes::Bytes;
use mox_proto::admin::v1::Level;
use mox_proto::mail::v1::Computed;
use mox_proto::record::v1 as record;
use mox_types::{ContentId, MessageId};
use prost::Message as _;
use tonic::Status;

use super::report::Reporter;
use super::{Named, StoreAdmin};
use crate::account::ops::{Reparse, Reparsed};
use crate::account::{AccountError, ingest};
use crate::content::ContentError;
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;
use crate::mail::of_content;

/// Messages that are looked at in one step.
const STEP: usize = 200;
/// Bytes of what is to be kept after which a step is committed.
const STEP_BYTES: usize = 4 << 20;

/// Which messages are read again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// Those without what is computed, or where it cannot be read.
    Unparsed,
    /// Those whose size is wrong.
    WrongSize,
}

/// What was found in an account.
#[derive(Default)]
struct Found {
    messages: u64,
    parsed: u64,
    changed: u64,
    sizes: u64,
    failed: u64,
}

impl StoreAdmin {
    /// `mox reparse`, `mox ensureparsed`, `mox fixmsgsize`, of one account.
    pub(super) async fn do_parse(&self, account: &Named, which: Which, reporter: &Reporter) -> Result<(), Status> {
        let total = self.parts.accounts.state(account.id, 0).await?.record.messages;
        reporter.progress("messages", 0, total);
        let mut found = Found::default();
        let mut left = Some(keys::messages(account.id));
        while let Some(range) = left.take() {
            left = self.parse_step(account, which, range, reporter, &mut found).await?;
        }
        let (text, numbers) = match which {
            Which::WrongSize => (
                format!("{} of {} messages had a wrong size", found.sizes, found.messages),
                [("messages", found.messages), ("wrong_size", found.sizes)],
            ),
            Which::All => (
                format!("{} messages parsed, {} differed", found.parsed, found.changed),
                [("messages", found.parsed), ("changed", found.changed)],
            ),
            Which::Unparsed => (
                format!("{} of {} messages parsed", found.parsed, found.messages),
                [("messages", found.messages), ("parsed", found.parsed)],
            ),
        };
        let numbers = numbers.map(|(name, n)| (name, i64::try_from(n).unwrap_or(i64::MAX)));
        reporter.say(Level::Info, &account.name, "", text, &numbers).await?;
        if found.sizes > 0 {
            let text = format!(
                "clients may have kept messages with wrong sizes: mox bumpuidvalidity {} makes them read all again",
                account.name
            );
            reporter.say(Level::Info, &account.name, "", text, &[]).await?;
        }
        Ok(())
    }

    /// Some messages. Answers with what is left.
    async fn parse_step(
        &self,
        account: &Named,
        which: Which,
        range: Range<Bytes>,
        reporter: &Reporter,
        found: &mut Found,
    ) -> Result<Option<Range<Bytes>>, Status> {
        let page = self
            .parts
            .db
            .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
            .await?;
        let rest = page.rest(&range);
        let mut reparse = Reparse { messages: Vec::new() };
        let mut bytes = 0;
        for (_, value) in page.rows {
            found.messages += 1;
            let message = record::Message::decode(value.data).map_err(|_| AccountError::Damaged("a message"))?;
            match self.parse_one(account, which, &message, found).await {
                Ok(Some(new)) => {
                    bytes += new.computed.len();
                    if let Some(size) = new.size {
                        let text = format!("message {}: size {} → {size}", uid(&message), message.size);
                        reporter.say(Level::Fixed, &account.name, "", text, &[]).await?;
                    }
                    reparse.messages.push(new);
                }
                Ok(None) => {}
                Err(error) => {
                    found.failed += 1;
                    let text = format!("message {}: {error}", uid(&message));
                    reporter.say(Level::Error, &account.name, "", text, &[]).await?;
                }
            }
            if bytes > STEP_BYTES {
                bytes = 0;
                let step = std::mem::replace(&mut reparse, Reparse { messages: Vec::new() });
                self.parts.accounts.submit(account.id, None, step).await?;
            }
            reporter.advance(1);
        }
        if !reparse.messages.is_empty() {
            self.parts.accounts.submit(account.id, None, reparse).await?;
        }
        Ok(rest)
    }

    /// Reads one message if that is wanted. Answers with what is to be kept of it anew.
    async fn parse_one(
        &self,
        account: &Named,
        which: Which,
        message: &record::Message,
        found: &mut Found,
    ) -> Result<Option<Reparsed>, AccountError> {
        let id = MessageId::try_from(&message.id).map_err(|_| AccountError::Damaged("a message"))?;
        let content = ContentId::try_from(&message.content_id).map_err(|_| AccountError::Damaged("a message"))?;
        let prefix = message.prefix.len() as u64;
        let kept = || async {
            let value = self.parts.db.get(keys::computed(account.id, id)).await?;
            Ok::<_, EngineError>(value.map(|v| v.data))
        };
        let mut size = None;
        match which {
            Which::All => {}
            Which::Unparsed => {
                let parsed = kept()
                    .await?
                    .is_some_and(|k| Computed::decode(k).is_ok_and(|c| c.structure.is_some() && c.envelope.is_some()));
                if parsed {
                    return Ok(None);
                }
            }
            Which::WrongSize => {
                let is = prefix + self.right_size(content).await?;
                if is == message.size {
                    return Ok(None);
                }
                found.sizes += 1;
                size = Some(is);
            }
        }
        let whole = self.parts.contents.whole(content).await?;
        let read = ingest(whole.clone()).await?;
        drop(whole);
        let computed = read.computed(prefix);
        let facts = of_content(&read);
        found.parsed += 1;
        let same = kept().await?.as_ref() == Some(&computed) && same_facts(&facts, message);
        found.changed += u64::from(!same);
        if same && size.is_none() {
            return Ok(None);
        }
        Ok(Some(Reparsed {
            id,
            computed,
            facts: Some(facts),
            size,
        }))
    }

    /// How many bytes of a content are kept. Its record is made to say so.
    async fn right_size(&self, id: ContentId) -> Result<u64, AccountError> {
        let key = keys::content(id);
        let value = self.parts.db.get(key.clone()).await?.ok_or(ContentError::Gone(id))?;
        let mut content = record::Content::decode(value.data).map_err(|_| ContentError::Damaged(id))?;
        let is = if content.chunks == 0 {
            content.small.len() as u64
        } else {
            // All chunks but the last have one size, so the record can be wrong about the last only.
            let last = content.chunks - 1;
            let last_bytes = self.parts.contents.chunk_bytes(id, last).await?;
            u64::from(last) * u64::from(content.chunk_bytes) + last_bytes
        };
        if is != content.size {
            content.size = is;
            let mut commit = Commit::new();
            commit
                .require_at(key.clone(), value.version)
                .put(key, content.encode_to_vec());
            self.parts.db.commit(commit).await?;
        }
        Ok(is)
    }
}

/// Whether a message's record says what its content does.
fn same_facts(facts: &record::Message, message: &record::Message) -> bool {
    facts.date == message.date
        && facts.sent_day == message.sent_day
        && facts.message_id == message.message_id
        && facts.base_subject == message.base_subject
        && facts.msg_from_localpart == message.msg_from_localpart
        && facts.msg_from_domain == message.msg_from_domain
        && facts.dsn == message.dsn
        && facts.list == message.list
}

/// Which message, for people.
fn uid(message: &record::Message) -> String {
    let mailbox: String = message.mailbox_id.iter().map(|b| format!("{b:02x}")).collect();
    format!("with UID {} in mailbox {mailbox}", message.uid)
}
