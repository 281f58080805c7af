//! What teaches the junk filter: flags of messages, and what sets them.
//!
//! A message that became junk or not junk, or is neither any more, or is gone, is noted in the queue of the filter by
//! the commit that changed it ([`AccountTx::train`], [`AccountTx::untrain`]). What is noted is worked off later
//! ([`crate::junk`]), by commits that change words, the message's record and the queue together: so each message is
//! learned from exactly once, whatever is killed when.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use mox_config::{AutomaticJunkFlags, Dynamic, Regexp};
use mox_proto::mail::v1::Flag;
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{AccountId, MailboxId, MessageId};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use super::AccountTx;
use super::state::Mailbox;
use crate::keys;

const JUNK: u32 = Flag::Junk as u32;
/// The flag of what is wanted.
pub const NOT_JUNK: u32 = Flag::Notjunk as u32;
/// The flags that teach.
pub const JUDGEMENT: u32 = JUNK | NOT_JUNK;

/// What a message with these flags teaches. One with both says nothing.
#[must_use]
pub fn lesson(flags: u32) -> Training {
    match (flags & JUNK != 0, flags & NOT_JUNK != 0) {
        (true, false) => Training::Junk,
        (false, true) => Training::Notjunk,
        _ => Training::None,
    }
}

/// What the configuration says about junk in an account.
#[derive(Clone, Default)]
pub struct JunkRules(Option<(Arc<Dynamic>, String)>);

/// The rules of an account, by its name.
pub type JunkRulesOf = Arc<dyn Fn(&str) -> JunkRules + Send + Sync>;

impl JunkRules {
    /// Those of an account.
    #[must_use]
    pub fn new(config: Arc<Dynamic>, account: &str) -> Self {
        Self(Some((config, account.to_owned())))
    }

    fn account(&self) -> Option<&mox_config::Account> {
        let (config, name) = self.0.as_ref()?;
        config.accounts.get(name)
    }

    /// Whether the account has a filter.
    #[must_use]
    pub fn has_filter(&self) -> bool {
        self.account().is_some_and(|account| account.junk_filter.is_some())
    }

    /// The mailbox for copies of what is refused, and whether old ones stay there; None if no copies are kept.
    #[must_use]
    pub fn rejects(&self) -> Option<(&str, bool)> {
        let account = self.account().filter(|account| !account.rejects_mailbox.is_empty())?;
        Some((&account.rejects_mailbox, account.keep_rejects))
    }

    /// How a message in a mailbox is to be flagged; None: as it is.
    fn judgement(&self, mailbox: &Mailbox) -> Option<u32> {
        if mailbox
            .special_use
            .iter()
            .any(|name| name.eq_ignore_ascii_case("\\Junk"))
        {
            // What the user files as junk is junk, if there is somebody to learn from it.
            if self.has_filter() || self.account()?.automatic_junk_flags.enabled {
                return Some(JUNK);
            }
        }
        let rules = &self.account()?.automatic_junk_flags;
        rules.enabled.then(|| by_name(rules, &mailbox.name)).flatten()
    }
}

/// The judgement by the name of a mailbox. If two of the three expressions are given, mailboxes that neither matches are
/// of the third kind.
fn by_name(rules: &AutomaticJunkFlags, mailbox: &str) -> Option<u32> {
    let name = mailbox.to_lowercase();
    let kinds = [
        (&rules.junk_mailbox_regexp, JUNK),
        (&rules.neutral_mailbox_regexp, 0),
        (&rules.not_junk_mailbox_regexp, NOT_JUNK),
    ];
    let given = |regexp: &Option<Regexp>| regexp.as_ref().is_some_and(|r| !r.as_str().is_empty());
    for (regexp, judgement) in kinds {
        if given(regexp) && regexp.as_ref().is_some_and(|r| r.is_match(&name)) {
            return Some(judgement);
        }
    }
    let mut missing = kinds.into_iter().filter(|(regexp, _)| !given(regexp));
    match (missing.next(), missing.next()) {
        (Some((_, judgement)), None) => Some(judgement),
        _ => None,
    }
}

/// Accounts with something to learn from.
#[derive(Default)]
pub struct Lessons {
    accounts: Mutex<HashSet<AccountId>>,
    wake: Notify,
}

impl Lessons {
    /// Takes notice of an account.
    pub fn note(&self, account: AccountId) {
        self.accounts.lock().insert(account);
        self.wake.notify_one();
    }

    /// The accounts that were noted since, once there are some.
    pub async fn wait(&self) -> HashSet<AccountId> {
        loop {
            let taken = std::mem::take(&mut *self.accounts.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }
}

impl AccountTx {
    /// The flags of a message that comes into a mailbox. `judged`: whoever brings it says whether it is junk.
    #[must_use]
    pub fn flags_in(&self, mailbox: MailboxId, flags: u32, judged: bool) -> u32 {
        if judged && flags & JUDGEMENT != 0 {
            return flags;
        }
        let mailbox = self.state().mailbox(mailbox).ok();
        match mailbox.and_then(|mailbox| self.rules().judgement(mailbox)) {
            Some(judgement) => flags & !JUDGEMENT | judgement,
            None => flags,
        }
    }

    /// Notes that a message may have something else to teach than it did.
    pub fn train(&mut self, message: &[u8]) {
        if self.rules().has_filter()
            && let Ok(id) = MessageId::try_from(message)
        {
            let key = keys::training(self.account(), id);
            self.put(key, Bytes::new());
            self.note_training();
        }
    }

    /// Notes that a message is gone. True if the filter learned from it: then its content is needed once more, and
    /// released when it was unlearned.
    pub fn untrain(&mut self, id: MessageId, message: &record::Message) -> bool {
        if message.trained() == Training::None {
            return false;
        }
        let noted = record::Unlearn {
            content_id: message.content_id.clone(),
            prefix: message.prefix.clone(),
            trained: message.trained,
            generation: message.trained_generation,
        };
        let key = keys::training(self.account(), id);
        self.put(key, noted.encode_to_vec());
        self.note_training();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(junk: Option<&str>, neutral: Option<&str>, not_junk: Option<&str>) -> AutomaticJunkFlags {
        let regexp = |text: Option<&str>| text.map(|t| serde_json::from_str(&format!("{t:?}")).unwrap());
        AutomaticJunkFlags {
            enabled: true,
            junk_mailbox_regexp: regexp(junk),
            neutral_mailbox_regexp: regexp(neutral),
            not_junk_mailbox_regexp: regexp(not_junk),
        }
    }

    #[test]
    fn mailboxes_judge_by_their_names() {
        let all = rules(Some("^(junk|spam)"), Some("^(inbox|rejects)"), None);
        assert_eq!(by_name(&all, "Spam/2024"), Some(JUNK));
        assert_eq!(by_name(&all, "Inbox"), Some(0));
        assert_eq!(by_name(&all, "Archive"), Some(NOT_JUNK));
        let own = rules(Some("^junk"), None, Some("^archive"));
        assert_eq!(by_name(&own, "Archive"), Some(NOT_JUNK));
        assert_eq!(by_name(&own, "Other"), Some(0));
        let one = rules(Some("^junk"), None, Some(""));
        assert_eq!((by_name(&one, "Junk"), by_name(&one, "Other")), (Some(JUNK), None));
        assert_eq!(by_name(&rules(None, None, None), "Junk"), None);
    }

    #[test]
    fn a_message_with_both_flags_teaches_nothing() {
        assert_eq!(lesson(JUNK), Training::Junk);
        assert_eq!(lesson(NOT_JUNK), Training::Notjunk);
        assert_eq!(lesson(JUDGEMENT), Training::None);
        assert_eq!(lesson(0), Training::None);
    }
}
