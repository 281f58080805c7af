//! What is kept in memory of an account: its mailboxes with their counts, keywords, subscriptions and counters.
//!
//! A [`State`] is a value: copies share what they have in common, so readers take one and writers change another.

use std::sync::Arc;

use mox_proto::{mail::v1 as mail, record::v1 as record};
use mox_types::{AccountId, MailboxId};
use prost::Message as _;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::AccountError;
use super::flags::{DELETED, KeywordTable, SEEN};
use super::names::INBOX;
use super::rights::{Identity, rights};
use crate::engine::{Limit, Order, Snapshot};
use crate::keys;

/// Most mailboxes of an account: lists of them are kept in memory.
pub const MAILBOXES_MAX: usize = 10_000;
/// Most subscribed names of an account.
pub const SUBSCRIPTIONS_MAX: usize = 20_000;

/// A mailbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Mailbox {
    /// Stays through renames.
    pub id: MailboxId,
    /// Canonical.
    pub name: Arc<str>,
    /// RFC 9051 §2.3.1.1.
    pub uid_validity: u32,
    /// What the next message gets.
    pub uid_next: u32,
    /// When it was made.
    pub create_modseq: u64,
    /// Of the highest change in it, or of itself.
    pub modseq: u64,
    /// "\\Sent", …
    pub special_use: Vec<String>,
    /// Numbers of keywords that were ever used in it, ascending.
    pub keywords: Vec<u32>,
    /// Of its messages.
    pub counts: Counts,
}

/// Counters of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub messages: u32,
    /// Without `\Seen`.
    pub unseen: u32,
    /// With `\Deleted`.
    pub deleted: u32,
    /// Bytes of all.
    pub size: u64,
    /// Bytes of those with `\Deleted`.
    pub deleted_size: u64,
}

impl Counts {
    /// Counts a message in.
    pub fn add(&mut self, flags: u32, size: u64) {
        self.messages += 1;
        self.unseen += u32::from(flags & SEEN == 0);
        self.deleted += u32::from(flags & DELETED != 0);
        self.size += size;
        self.deleted_size += if flags & DELETED == 0 { 0 } else { size };
    }

    /// Counts a message out. What could only be negative through damage stays zero.
    pub fn remove(&mut self, flags: u32, size: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.unseen = self.unseen.saturating_sub(u32::from(flags & SEEN == 0));
        self.deleted = self.deleted.saturating_sub(u32::from(flags & DELETED != 0));
        self.size = self.size.saturating_sub(size);
        self.deleted_size = self
            .deleted_size
            .saturating_sub(if flags & DELETED == 0 { 0 } else { size });
    }
}

impl Mailbox {
    fn from_record(r: record::Mailbox) -> Result<Self, AccountError> {
        let counts = r.counts.unwrap_or_default();
        Ok(Self {
            id: MailboxId::try_from(&r.id).map_err(|_| AccountError::Damaged("a mailbox"))?,
            name: r.name.into(),
            uid_validity: r.uid_validity,
            uid_next: r.uid_next,
            create_modseq: r.create_modseq,
            modseq: r.modseq,
            special_use: r.special_use,
            keywords: r.keywords,
            counts: Counts {
                messages: counts.messages,
                unseen: counts.unseen,
                deleted: counts.deleted,
                size: counts.size,
                deleted_size: counts.deleted_size,
            },
        })
    }

    /// As the store keeps it.
    #[must_use]
    pub fn to_record(&self) -> record::Mailbox {
        record::Mailbox {
            id: self.id.to_bytes(),
            name: self.name.to_string(),
            uid_validity: self.uid_validity,
            uid_next: self.uid_next,
            create_modseq: self.create_modseq,
            modseq: self.modseq,
            // Subscriptions are of names, which need not exist; they have a table of their own.
            subscribed: false,
            special_use: self.special_use.clone(),
            keywords: self.keywords.clone(),
            counts: Some(record::Counts {
                messages: self.counts.messages,
                unseen: self.counts.unseen,
                deleted: self.counts.deleted,
                size: self.counts.size,
                deleted_size: self.counts.deleted_size,
            }),
        }
    }
}

/// An account as of one commit.
#[derive(Clone)]
pub struct State {
    /// Whose.
    pub account: AccountId,
    /// Of the account's record: the commit that this state is of.
    pub version: u64,
    /// The account's record.
    pub record: record::Account,
    /// By id.
    pub mailboxes: HashTrieMapSync<MailboxId, Arc<Mailbox>>,
    /// By name.
    pub names: RedBlackTreeMapSync<Arc<str>, MailboxId>,
    /// Names, existing or not.
    pub subscriptions: RedBlackTreeSetSync<Arc<str>>,
    /// Of all mailboxes.
    pub keywords: KeywordTable,
}

impl State {
    /// Reads an account.
    ///
    /// # Errors
    /// If it does not exist, or cannot be read.
    pub async fn load(snapshot: &dyn Snapshot, account: AccountId) -> Result<Self, AccountError> {
        let value = snapshot
            .get(keys::account(account))
            .await?
            .ok_or(AccountError::AccountGone)?;
        let record = record::Account::decode(value.data).map_err(|_| AccountError::Damaged("an account"))?;
        let mut state = Self {
            account,
            version: value.version,
            record,
            mailboxes: HashTrieMapSync::new_sync(),
            names: RedBlackTreeMapSync::new_sync(),
            subscriptions: RedBlackTreeSetSync::new_sync(),
            keywords: KeywordTable::default(),
        };
        for (_, value) in table(snapshot, account, keys::TABLE_MAILBOXES).await? {
            let record = record::Mailbox::decode(value).map_err(|_| AccountError::Damaged("a mailbox"))?;
            state.put_mailbox(Arc::new(Mailbox::from_record(record)?));
        }
        for (_, value) in table(snapshot, account, keys::TABLE_KEYWORDS).await? {
            let text = std::str::from_utf8(&value).map_err(|_| AccountError::Damaged("a keyword"))?;
            state.keywords.ensure(text)?;
        }
        for (key, _) in table(snapshot, account, keys::TABLE_SUBSCRIPTIONS).await? {
            let name = std::str::from_utf8(keys::in_account_table(&key))
                .map_err(|_| AccountError::Damaged("a subscription"))?;
            state.subscriptions.insert_mut(name.into());
        }
        Ok(state)
    }

    /// The highest modification sequence.
    #[must_use]
    pub fn modseq(&self) -> u64 {
        self.record.modseq
    }

    /// A mailbox by its id.
    ///
    /// # Errors
    /// If there is none.
    pub fn mailbox(&self, id: MailboxId) -> Result<&Arc<Mailbox>, AccountError> {
        self.mailboxes.get(&id).ok_or(AccountError::NoMailbox)
    }

    /// A mailbox by its canonical name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(self.names.get(name)?)
    }

    /// Whether a mailbox lies below this name.
    #[must_use]
    pub fn has_children(&self, name: &str) -> bool {
        self.below(name).next().is_some()
    }

    /// The mailboxes below this name, by name.
    pub fn below(&self, name: &str) -> impl Iterator<Item = &Arc<Mailbox>> {
        // "0" follows "/", so that this is all that starts with "name/".
        let range: std::ops::Range<Arc<str>> = format!("{name}/").into()..format!("{name}0").into();
        self.names.range(range).filter_map(|(_, id)| self.mailboxes.get(id))
    }

    /// Sets a mailbox, which may have a new name.
    pub fn put_mailbox(&mut self, mailbox: Arc<Mailbox>) {
        if let Some(old) = self.mailboxes.get(&mailbox.id) {
            if old.name != mailbox.name {
                self.names.remove_mut(&old.name.clone());
                self.names.insert_mut(mailbox.name.clone(), mailbox.id);
            }
        } else {
            self.names.insert_mut(mailbox.name.clone(), mailbox.id);
        }
        self.mailboxes.insert_mut(mailbox.id, mailbox);
    }

    /// Removes a mailbox.
    pub fn remove_mailbox(&mut self, id: MailboxId) {
        if let Some(old) = self.mailboxes.get(&id).cloned() {
            self.names.remove_mut(&old.name);
            self.mailboxes.remove_mut(&id);
        }
    }

    /// A mailbox as clients see it.
    #[must_use]
    pub fn shown(&self, mailbox: &Mailbox) -> mail::Mailbox {
        mail::Mailbox {
            id: mailbox.id.to_bytes(),
            name: mailbox.name.to_string(),
            uid_validity: mailbox.uid_validity,
            uid_next: mailbox.uid_next,
            highest_modseq: mailbox.modseq,
            messages: mailbox.counts.messages,
            unseen: mailbox.counts.unseen,
            deleted: mailbox.counts.deleted,
            deleted_size: mailbox.counts.deleted_size,
            size: mailbox.counts.size,
            subscribed: self.subscriptions.contains(&mailbox.name),
            special_use: mailbox.special_use.clone(),
            keywords: self.keywords.texts(&mailbox.keywords),
            exists: true,
            // RFC 9051 has no \Recent any more: no message is.
            recent_from_uid: mailbox.uid_next,
            create_modseq: mailbox.create_modseq,
            rights: rights(self, mailbox, Identity { account: self.account }).to_owned(),
            uids: None,
        }
    }

    /// All names in order, Inbox first: mailboxes, and names that are only subscribed.
    #[must_use]
    pub fn list(&self) -> Vec<mail::Mailbox> {
        let mut list = Vec::with_capacity(self.mailboxes.size());
        list.extend(self.named(INBOX).map(|m| self.shown(m)));
        let mut subscribed = self
            .subscriptions
            .iter()
            .filter(|n| !self.names.contains_key(*n))
            .peekable();
        let ghost = |name: &Arc<str>| mail::Mailbox {
            name: name.to_string(),
            subscribed: true,
            exists: false,
            ..Default::default()
        };
        for (name, id) in &self.names {
            while let Some(before) = subscribed.next_if(|s| *s < name) {
                list.push(ghost(before));
            }
            if &**name != INBOX {
                list.extend(self.mailboxes.get(id).map(|m| self.shown(m)));
            }
        }
        list.extend(subscribed.map(ghost));
        list
    }
}

/// All keys and values of one of the small tables of an account.
async fn table(
    snapshot: &dyn Snapshot,
    account: AccountId,
    table: u8,
) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, AccountError> {
    let mut range = keys::account_table(account, table);
    let mut found = Vec::new();
    loop {
        let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        let rest = page.rest(&range);
        found.extend(page.rows.into_iter().map(|(key, value)| (key, value.data)));
        match rest {
            Some(rest) => range = rest,
            None => return Ok(found),
        }
    }
}
