//! Webhooks: in the queue and kept, with their indices and contents.

use bytes::Bytes;
use mox_proto::hook::v1::{Hook, HookRecord, RetiredHook};
use mox_types::{AccountId, ContentId};
use prost::Message as _;

use super::{About, Verifier, VerifyError};
use crate::content::{self, Owner};
use crate::engine::Commit;
use crate::keys::{self, HookSource};

impl Verifier<'_> {
    pub(super) async fn hooks(&self) -> Result<(), VerifyError> {
        self.hook_entries().await?;
        self.hook_indices().await?;
        self.hooks_kept().await
    }

    async fn hook_entries(&self) -> Result<(), VerifyError> {
        let mut left = Some(keys::hook_entries());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                let record = HookRecord::decode(value.data).ok();
                let read = record.and_then(|record| Some((record.due, record.hook?)));
                match read.filter(|(_, hook)| keys::hook_entry(hook.id) == key) {
                    Some((due, hook)) => {
                        let source = |account| HookSource {
                            account,
                            incoming: hook.arrival.is_some(),
                        };
                        let mut wanted = Vec::new();
                        if let Ok(account) = AccountId::try_from(&hook.account_id) {
                            wanted.push((
                                "is not among those that are due",
                                keys::hook_due(source(account), due, hook.id),
                            ));
                        }
                        self.hook("webhook", &hook, wanted).await?;
                    }
                    None => self.wrong(
                        About::default(),
                        format!("a webhook in the queue cannot be read: {key:02x?}"),
                    ),
                }
            }
        }
        Ok(())
    }

    /// What is due, and what is of a message, is in the queue.
    async fn hook_indices(&self) -> Result<(), VerifyError> {
        for range in [keys::hook_due_all(), keys::hooks_of_messages()] {
            let mut left = Some(range);
            while let Some(range) = left.take() {
                let (rows, rest) = self.page(range).await?;
                left = rest;
                let mut commit = Commit::new();
                for (key, value) in rows {
                    let named = match keys::parse_hook_due(&key) {
                        Some((_, _, id)) => Some(id),
                        None => value.data.as_ref().try_into().ok().map(u64::from_be_bytes),
                    };
                    let there = match named {
                        Some(id) => self.parts.db.get(keys::hook_entry(id)).await?.is_some(),
                        None => false,
                    };
                    if !there
                        && self.fixable(
                            About::default(),
                            format!("an index names webhook {named:?}, which is gone"),
                        )
                    {
                        commit.delete(key);
                    }
                }
                self.commit(commit).await?;
            }
        }
        Ok(())
    }

    async fn hooks_kept(&self) -> Result<(), VerifyError> {
        let mut left = Some(keys::hooks_retired());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                let retired = RetiredHook::decode(value.data).ok();
                let read = retired.and_then(|retired| Some((retired.keep_until, retired.hook?)));
                match read.filter(|(_, hook)| keys::hook_retired(hook.id) == key) {
                    Some((until, hook)) => {
                        let mut wanted = vec![("would never be removed", keys::hook_retired_until(until, hook.id))];
                        if let Ok(account) = AccountId::try_from(&hook.account_id) {
                            let of = keys::hook_retired_of(account, hook.id);
                            wanted.push(("is not among those of its account", of));
                        }
                        self.hook("retired webhook", &hook, wanted).await?;
                    }
                    None => self.wrong(
                        About::default(),
                        format!("a retired webhook cannot be read: {key:02x?}"),
                    ),
                }
            }
        }
        Ok(())
    }

    /// The keys that it has to be found by are there, and its content with its reference.
    async fn hook(&self, kind: &str, hook: &Hook, wanted: Vec<(&str, Bytes)>) -> Result<(), VerifyError> {
        let about = About::account(&hook.account);
        let which = format!("{kind} {}", hook.id);
        let mut commit = Commit::new();
        let found = self
            .parts
            .db
            .get_many(wanted.iter().map(|(_, key)| key.clone()).collect());
        for ((what, key), value) in wanted.into_iter().zip(found.await?) {
            if value.is_none() && self.fixable(about, format!("{which} {what}")) {
                commit.put(key, Bytes::new());
            }
        }
        if !hook.content_id.is_empty() {
            let Ok(content) = ContentId::try_from(&hook.content_id) else {
                self.wrong(about, format!("{which} names no content"));
                return Ok(self.commit(commit).await?);
            };
            let owner = Owner::hook(hook.id);
            let keys = vec![keys::content(content), keys::reference(content, owner.as_bytes())];
            let found = self.parts.db.get_many(keys).await?;
            if found[0].is_none() {
                self.wrong(about, format!("{which} has no content: the message is lost"));
            } else if found[1].is_none()
                && self.fixable(
                    about,
                    format!("{which} does not count among those that need its content"),
                )
            {
                content::refer(&mut commit, content, &owner);
            }
        }
        Ok(self.commit(commit).await?)
    }
}
