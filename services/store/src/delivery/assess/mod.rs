//! What becomes of a message, for each recipient: a row of stages, each of which can decide.
//!
//! Every stage has a file of its own. It looks at the [`Case`], and may change what would be done by now (the [`Draft`]:
//! the mailbox, the reason) or end it with a verdict. Their order is that of [`Delivery::stages`]; `docs/junk.md` tells
//! it to users.

mod authentication;
mod content;
mod destination;
mod domain_policy;
mod known;
mod letter;
mod rejects;
mod report;
mod reputation;
mod rulesets;
mod strangers;
mod subject_pass;
#[cfg(test)]
mod tests;
mod verdict;

use bytes::Bytes;
use mox_config::{Account, Dynamic, Lookup, Recipient};
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::Verdict;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use tonic::Status;

pub use self::content::Jitter;
use self::letter::Letter;
use self::verdict::{Draft, refuse, unwanted};
use super::sender::{mark_forwarded, of_envelope};
use super::{Delivery, check_recipients, lookup};
use crate::account::AccountError;
use crate::keys;

/// A message and one of its recipients.
struct Case<'a> {
    envelope: &'a api::Envelope,
    letter: &'a Letter,
    /// The address in From.
    from: &'a str,
    /// What a record of the message would say of its sender.
    sender: record::Message,
    account: AccountId,
    dynamic: &'a Dynamic,
    /// The account's.
    settings: &'a Account,
    recipient: Recipient<'a>,
    /// As given to RCPT.
    rcpt_to: &'a str,
    /// Bytes, with what is added above it.
    size: u64,
}

impl Delivery {
    pub(super) async fn do_assess(&self, request: &api::AssessRequest) -> Result<api::AssessResponse, Status> {
        check_recipients(request.recipients.len())?;
        let committed = self.registry.current();
        let none = api::Envelope::default();
        let envelope = request.envelope.as_ref().unwrap_or(&none);
        let letter = self.letter(request).await?;
        let from = match envelope.msg_from.as_str() {
            "" => letter.summary().from_address().map(ToString::to_string),
            from => Some(from.to_owned()),
        };
        let from = from.unwrap_or_default();
        let mut answer = api::AssessResponse::default();
        for recipient in &request.recipients {
            let account = AccountId::try_from(&recipient.account_id)
                .map_err(|e| Status::invalid_argument(format!("assessing a recipient: {e}")))?;
            let address = if recipient.address.is_empty() {
                &recipient.rcpt_to
            } else {
                &recipient.address
            };
            // The configuration may have changed since RCPT; then the one of now counts.
            let found = match lookup::find(&committed, address)? {
                Lookup::Account(found) if committed.id(found.account) == Some(account) => Some(found),
                _ => None,
            };
            let found = found.and_then(|f| Some((committed.dynamic.accounts.get(f.account)?, f)));
            let Some((settings, found)) = found else {
                answer.verdicts.push(refuse(
                    "address-gone",
                    450,
                    "4.2.1",
                    "recipient is being changed, try again",
                ));
                continue;
            };
            let case = Case {
                envelope,
                letter: &letter,
                from: &from,
                sender: of_envelope(envelope, record::Message::default()),
                account,
                dynamic: &committed.dynamic,
                settings,
                recipient: found,
                rcpt_to: &recipient.rcpt_to,
                size: request.size,
            };
            answer.verdicts.push(self.decide(case).await?);
        }
        Ok(answer)
    }

    async fn decide(&self, mut case: Case<'_>) -> Result<Verdict, Status> {
        if let Some(verdict) = destination::refuses(&case) {
            return Ok(verdict);
        }
        if self.is_full(case.account, case.size).await? {
            // RFC 3463 §3.3: X.2.2, mailbox full; may be persistent or not. The sender tries again, as room may be made.
            return Ok(refuse("over-quota", 452, "4.2.2", "mailbox is full"));
        }
        let mut draft = Draft::new(&case.recipient);
        rulesets::apply(&case, &mut draft);
        if draft.forward {
            mark_forwarded(&mut case.sender, draft.forwarder());
        }
        let verdict = self.stages(&case, &mut draft).await?;
        if verdict.accept {
            let if_listed = verdict.if_listed.map(|v| Box::new(rejects::keep(&case, &draft, *v)));
            return Ok(Verdict { if_listed, ..verdict });
        }
        Ok(rejects::keep(&case, &draft, verdict))
    }

    /// The stages, in order.
    async fn stages(&self, case: &Case<'_>, draft: &mut Draft<'_>) -> Result<Verdict, AccountError> {
        if draft.list {
            return Ok(draft.accept_for("list", "a rule allows the mailing list"));
        }
        if let Some(verdict) = domain_policy::refuses(case, draft) {
            return Ok(verdict);
        }
        if let Some(reason) = report::recognized(case) {
            return Ok(draft.accept_for(reason, "a report where such are expected"));
        }
        if let Some(verdict) = authentication::refuses(case) {
            return Ok(verdict);
        }
        // A developer's own mail is never junk.
        if case.dynamic.host.as_ref().is_some_and(|host| host.localserve.is_some()) {
            return Ok(draft.accept());
        }
        if let Some(verdict) = self.is_known(case, draft).await? {
            return Ok(verdict);
        }
        let standing = self.standing(case).await?;
        if let Some(verdict) = standing.verdict(draft) {
            return Ok(verdict);
        }
        strangers::introduce(case, draft, &standing);
        if let Some(verdict) = strangers::fails_spf(case, draft, &standing) {
            return Ok(verdict);
        }
        if let Some(verdict) = strangers::has_no_name(case, draft, &standing) {
            return Ok(verdict);
        }
        if self.has_pass(case).await? {
            return Ok(draft.accept_for("subject-pass", "the subject has a word that was offered"));
        }
        draft.reason = "no-bad-signals";
        if let Some(opinion) = self.opinion(case, draft).await? {
            if opinion.junk {
                return self.offer_pass(case, unwanted(opinion.reason, opinion.detail)).await;
            }
            draft.detail = opinion.detail;
        }
        // Blocklists are asked by who can ask DNS, and only if it comes to them.
        let listed = unwanted("dnsbl", "the client's address is in a blocklist");
        Ok(Verdict {
            if_listed: match draft.forward {
                true => None,
                false => Some(Box::new(self.offer_pass(case, listed).await?)),
            },
            delay_milliseconds: strangers::delay(case, draft, &standing),
            ..draft.accept()
        })
    }

    /// What only this store knows.
    async fn secret(&self) -> Result<Bytes, AccountError> {
        let read = async {
            let kept = self.accounts.db().get(keys::secret()).await?;
            // Without room to keep one, one for this run does.
            Ok::<_, AccountError>(kept.map_or_else(|| Bytes::from(rand::random::<[u8; 32]>().to_vec()), |v| v.data))
        };
        self.secret.get_or_try_init(|| read).await.cloned()
    }

    async fn jitter(&self, case: &Case<'_>) -> Result<f64, AccountError> {
        let message = case.letter.digest();
        Ok(match &self.jitter {
            Some(jitter) => jitter(case.account, message),
            None => content::jitter(&self.secret().await?, case.account, message),
        })
    }
}
