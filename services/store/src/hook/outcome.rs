//! What became of a message that was sent, told in the same commit.

use mox_proto::hook::v1::Hook;
use mox_proto::queue::v1::Entry;
use mox_webhook::Event;

use super::record::{self, Leaving};
use super::{Hooks, outgoing_url};
use crate::engine::Commit;
use crate::keys;
use crate::queue::QueueError;

/// Octets of an error that are told.
const ERROR_MAX: usize = 2000;

/// What became of a message for one recipient.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// What happened.
    pub event: Event,
    /// The message in the queue, or as it was there last.
    pub entry: &'a Entry,
    /// It is known from a notification that arrived.
    pub dsn: bool,
    /// The recipient was added to the suppression list.
    pub suppressing: bool,
    /// For failures: the SMTP code; 0 if none is known.
    pub smtp_code: u32,
    /// For failures: the enhanced code, `5.1.1`; empty if none is known.
    pub enhanced_code: &'a str,
    /// For failures: what went wrong.
    pub error: &'a str,
}

impl Hooks {
    /// Adds to the commit of an outcome the webhook that tells of it, if the account wants to be told. Answers whether it
    /// does: then, once it is committed, [`Hooks::publish`] makes it be called at once. If the commit conflicts with
    /// others, both are to be made anew.
    ///
    /// # Errors
    /// If a record cannot be read, or the engine fails.
    pub async fn on_outcome(&self, commit: &mut Commit, outcome: &Outcome<'_>) -> Result<bool, QueueError> {
        let entry = outcome.entry;
        let Some(config) = self.config() else { return Ok(false) };
        let settings = config.accounts.get(&entry.account);
        let Some(url) = settings.and_then(|account| outgoing_url(account, outcome.event)) else {
            return Ok(false);
        };
        let now = self.now();
        let hook = Hook {
            id: self.0.ids.take(1).await?,
            account_id: entry.account_id.clone(),
            account: entry.account.clone(),
            event: outcome.event.name().to_owned(),
            url: url.to_owned(),
            queue_id: entry.id,
            fromid: entry.fromid.clone(),
            message_id: bracketed(&entry.message_id),
            subject: entry.subject.clone(),
            extra: entry.extra.clone(),
            queued: now,
            next_attempt: now,
            dsn: outcome.dsn,
            suppressing: outcome.suppressing,
            smtp_code: outcome.smtp_code,
            enhanced_code: outcome.enhanced_code.to_owned(),
            error: outcome.error[..outcome.error.floor_char_boundary(ERROR_MAX)].to_owned(),
            trace_id: entry.trace_id.clone(),
            ..Hook::default()
        };
        self.supersede(commit, &hook).await?;
        record::insert(commit, &hook)?;
        tracing::debug!(
            webhook = hook.id,
            event = hook.event,
            entry = entry.id,
            trace = hook.trace_id,
            "webhook queued"
        );
        Ok(true)
    }

    /// Retires the webhook of the message that is in the queue, as another comes after it.
    async fn supersede(&self, commit: &mut Commit, by: &Hook) -> Result<(), QueueError> {
        let key = keys::hook_of_message(by.queue_id);
        let value = self.db().get(key.clone()).await?;
        commit.require_unchanged(key, value.as_ref());
        let before = value.and_then(|value| value.data.as_ref().try_into().ok());
        let Some(before) = before.map(u64::from_be_bytes) else {
            return Ok(());
        };
        let Some(stored) = record::load(self.db().as_ref(), &[before]).await?.pop().flatten() else {
            return Ok(());
        };
        let hook = stored.hook()?.clone();
        let leaving = Leaving {
            keep: self.keep_millis(&hook.account),
            hook,
            authorization: stored.record.authorization,
            success: false,
            superseded_by: by.id,
            now: self.now(),
        };
        record::leave(commit, &stored, leaving)
    }
}

/// As it stands in a message.
fn bracketed(message_id: &str) -> String {
    match message_id.is_empty() || message_id.starts_with('<') {
        true => message_id.to_owned(),
        false => format!("<{message_id}>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_have_brackets() {
        assert_eq!(bracketed(""), "");
        assert_eq!(bracketed("a@b"), "<a@b>");
        assert_eq!(bracketed("<a@b>"), "<a@b>");
    }
}
