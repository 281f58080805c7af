//! Rules by which messages are held when they are submitted.

use mox_proto::queue::v1::{Entry, HoldRule};
use mox_proto::record::v1::HoldRules;
use mox_types::Domain;
use prost::Message;

use super::index::normal;
use super::{ATTEMPTS, Queue, QueueError};
use crate::engine::{Commit, EngineError, Value};
use crate::keys;

/// Rules that there may be: each is looked at for every message.
const RULES_MAX: usize = 1000;
/// Octets of an account's name.
const NAME_MAX: usize = 256;

/// The rules in a record.
pub(super) fn decode(value: Option<&Value>) -> Result<HoldRules, QueueError> {
    value.map_or_else(
        || Ok(HoldRules::default()),
        |value| HoldRules::decode(value.data.clone()).map_err(|_| QueueError::Damaged("the hold rules")),
    )
}

/// Whether an entry is to be held.
pub(super) fn holds(rules: &HoldRules, entry: &Entry) -> bool {
    if rules.rules.is_empty() {
        return false;
    }
    let (_, from) = normal(&entry.mail_from);
    let (_, to) = normal(&entry.recipient);
    rules.rules.iter().any(|rule| {
        (rule.account.is_empty() || rule.account == entry.account)
            && (rule.sender_domain.is_empty() || rule.sender_domain == from)
            && (rule.recipient_domain.is_empty() || rule.recipient_domain == to)
    })
}

fn domain(text: &str, what: &str) -> Result<String, QueueError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let domain: Domain = text
        .parse()
        .map_err(|e| QueueError::Invalid(format!("{what} domain {text:?}: {e}")))?;
    Ok(domain.ascii().to_owned())
}

impl Queue {
    /// All rules, by id.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn hold_rules(&self) -> Result<Vec<HoldRule>, QueueError> {
        Ok(decode(self.db().get(keys::queue_hold_rules()).await?.as_ref())?.rules)
    }

    /// Adds a rule; answers with its id.
    ///
    /// # Errors
    /// If it makes no sense, there are too many, or the engine fails.
    pub async fn add_hold_rule(&self, rule: &HoldRule) -> Result<HoldRule, QueueError> {
        if rule.account.len() > NAME_MAX {
            return Err(QueueError::Invalid("the name of the account is too long".into()));
        }
        let mut rule = HoldRule {
            id: 0,
            account: rule.account.clone(),
            sender_domain: domain(&rule.sender_domain, "sender")?,
            recipient_domain: domain(&rule.recipient_domain, "recipient")?,
        };
        self.change_rules(|rules| {
            if rules.rules.len() >= RULES_MAX {
                return Err(QueueError::Limit(format!(
                    "there are {RULES_MAX} hold rules already: remove some"
                )));
            }
            rule.id = rules.next_id.max(1);
            rules.next_id = rule.id + 1;
            rules.rules.push(rule.clone());
            Ok(rule.clone())
        })
        .await
    }

    /// Removes a rule. What it held stays on hold.
    ///
    /// # Errors
    /// If there is none, or the engine fails.
    pub async fn remove_hold_rule(&self, id: u64) -> Result<(), QueueError> {
        self.change_rules(|rules| {
            let before = rules.rules.len();
            rules.rules.retain(|rule| rule.id != id);
            if rules.rules.len() == before {
                return Err(QueueError::NotFound(format!("there is no hold rule {id}")));
            }
            Ok(())
        })
        .await
    }

    async fn change_rules<T>(
        &self,
        mut change: impl FnMut(&mut HoldRules) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        for _ in 0..ATTEMPTS {
            let value = self.db().get(keys::queue_hold_rules()).await?;
            let mut rules = decode(value.as_ref())?;
            let result = change(&mut rules)?;
            let mut commit = Commit::new();
            commit.require_unchanged(keys::queue_hold_rules(), value.as_ref());
            commit.put(keys::queue_hold_rules(), rules.encode_to_vec());
            match self.db().commit(commit).await {
                Ok(_) => return Ok(result),
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }
}
