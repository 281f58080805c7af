//! What becomes of a message, for each recipient: a row of stages, each of which can decide.
//!
//! Every stage has a file of its own. It looks at the [`Case`], and may change what would be done by now (the [`Draft`]:
//! the mailbox, the reason) or end it with a verdict. Their order is that of [`Delivery::decide`].

mod authentication;
mod destination;
mod domain_policy;
mod header;
mod rulesets;
mod verdict;

use mox_config::{Lookup, Recipient};
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::Verdict;
use mox_types::AccountId;
use tonic::Status;

use self::header::Header;
use self::verdict::{Draft, refuse};
use super::{Delivery, check_recipients, lookup};

/// A message and one of its recipients.
struct Case<'a> {
    envelope: &'a api::Envelope,
    header: &'a Header,
    account: AccountId,
    recipient: Recipient<'a>,
    /// Bytes, with what is added above it.
    size: u64,
}

impl Delivery {
    pub(super) async fn do_assess(&self, request: &api::AssessRequest) -> Result<api::AssessResponse, Status> {
        check_recipients(request.recipients.len())?;
        let committed = self.registry.current();
        let none = api::Envelope::default();
        let envelope = request.envelope.as_ref().unwrap_or(&none);
        let mut cases = Vec::with_capacity(request.recipients.len());
        let mut rules = false;
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
            rules |= found
                .as_ref()
                .and_then(|f| f.destination)
                .is_some_and(|d| !d.rulesets.is_empty());
            cases.push((account, found));
        }
        let header = match rules {
            true => self.header(request, envelope).await?,
            false => Header::default(),
        };
        let mut answer = api::AssessResponse::default();
        for (account, found) in cases {
            let Some(recipient) = found else {
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
                header: &header,
                account,
                recipient,
                size: request.size,
            };
            answer.verdicts.push(self.decide(&case).await?);
        }
        Ok(answer)
    }

    /// The stages, in order.
    async fn decide(&self, case: &Case<'_>) -> Result<Verdict, Status> {
        let mut draft = Draft::new(&case.recipient);
        if let Some(verdict) = destination::refuses(case) {
            return Ok(verdict);
        }
        rulesets::apply(case, &mut draft);
        if let Some(verdict) = domain_policy::refuses(case, &draft) {
            return Ok(verdict);
        }
        // Reports are recognized here.
        if let Some(verdict) = authentication::refuses(case) {
            return Ok(verdict);
        }
        if self.is_full(case.account, case.size).await? {
            // RFC 3463 §3.3: X.2.2, mailbox full; may be persistent or not. The sender tries again, as room may be made.
            return Ok(refuse("over-quota", 452, "4.2.2", "mailbox is full"));
        }
        // Here come reputation, the junk filter and first-time senders.
        Ok(draft.accept())
    }
}
