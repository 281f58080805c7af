//! What accounts are told of messages that arrive, in the commit of their delivery.

use bytes::Bytes;
use mox_config::{Account, Dynamic};
use mox_proto::delivery::v1::Validation;
use mox_proto::hook::v1::{Arrival, Hook};
use mox_proto::record::v1 as rows;
use mox_types::AccountId;
use mox_webhook::Event;

use super::{Hooks, record};
use crate::account::Facts;
use crate::content::{self, Owner, Staged};
use crate::engine::Commit;
use crate::queue::{Queue, QueueError};

/// A message that is about to be delivered to an account.
pub struct Arriving<'a> {
    /// Whose.
    pub account: AccountId,
    /// Its name in the configuration.
    pub name: &'a str,
    /// Its settings.
    pub settings: &'a Account,
    /// All settings.
    pub config: &'a Dynamic,
    /// Of the SMTP transaction.
    pub rcpt_to: &'a str,
    /// Where it goes.
    pub mailbox: &'a str,
    /// As it will be kept.
    pub message: &'a rows::Message,
    /// Of its header.
    pub facts: &'a Facts,
    /// Of its header, with brackets.
    pub message_id: &'a str,
    /// The bytes.
    pub bytes: &'a Bytes,
    /// Where they will be.
    pub content: &'a Staged,
}

/// What a delivery brings along, for its commit.
#[derive(Clone)]
pub struct Planned {
    commit: Commit,
    hook: Option<Hook>,
    content: Option<Staged>,
}

impl Planned {
    /// Whether the commit may conflict with others that change the same: it is to be planned anew then.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        !self.commit.conditions.is_empty()
    }

    /// Bytes of the commit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.commit.size() + self.hook.as_ref().map_or(0, prost::Message::encoded_len)
    }

    /// Adds it to the commit of the delivery, which introduces the content. `number` is that of the message in its
    /// account.
    ///
    /// # Errors
    /// If a record makes no sense.
    pub fn add_to(&self, commit: &mut Commit, number: u32) -> Result<(), QueueError> {
        commit.append(self.commit.clone());
        if let Some(hook) = &self.hook {
            let mut hook = hook.clone();
            if let Some(arrival) = &mut hook.arrival {
                arrival.msg_id = number.into();
            }
            if let Some(content) = &self.content {
                content::refer(commit, content.id(), &Owner::hook(hook.id));
            }
            record::insert(commit, &hook)?;
        }
        Ok(())
    }
}

impl Hooks {
    /// What is to be told of a message that arrives. Not for messages that are refused, and put elsewhere to be looked at.
    /// What comes back for a message that was sent, of which the queue knows, is told as what became of that one.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn on_delivery(&self, queue: &Queue, arriving: &Arriving<'_>) -> Result<Option<Planned>, QueueError> {
        if let Some(back) = self.came_back(queue, arriving).await? {
            let commit = self.on_return(queue, &back).await?;
            return Ok(Some(Planned {
                commit,
                hook: None,
                content: None,
            }));
        }
        let Some(webhook) = &arriving.settings.incoming_webhook else {
            return Ok(None);
        };
        let now = self.now();
        let message = arriving.message;
        let validated = matches!(
            message.msg_from_validation(),
            Validation::Strict | Validation::Dmarc | Validation::Relaxed
        );
        let hook = Hook {
            id: self.0.ids.take(1).await?,
            account_id: arriving.account.to_bytes(),
            account: arriving.name.to_owned(),
            event: Event::Incoming.name().to_owned(),
            url: webhook.url.clone(),
            message_id: arriving.message_id.to_owned(),
            subject: arriving.facts.subject.clone(),
            queued: now,
            next_attempt: now,
            content_id: arriving.content.id().to_bytes(),
            content_size: arriving.content.size(),
            arrival: Some(Arrival {
                msg_id: 0,
                mail_from: message.mail_from.clone(),
                mail_from_validated: message.mail_from_validation() == Validation::Pass,
                msg_from_validated: validated,
                rcpt_to: arriving.rcpt_to.to_owned(),
                dkim_domains: domains(message),
                remote_ip: message.remote_ip.clone(),
                received: message.received,
                mailbox: arriving.mailbox.to_owned(),
            }),
            ..Hook::default()
        };
        tracing::debug!(webhook = hook.id, account = arriving.name, "webhook queued");
        Ok(Some(Planned {
            commit: Commit::new(),
            hook: Some(hook),
            content: Some(arriving.content.clone()),
        }))
    }
}

/// Domains of valid signatures, also where they are kept apart as the message was forwarded.
fn domains(message: &rows::Message) -> Vec<String> {
    let all = message.dkim_domains.iter().chain(&message.original_dkim_domains);
    all.cloned().collect()
}
