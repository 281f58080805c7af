//! What becomes of a message, for each recipient: a row of stages, each of which can decide.
//!
//! Every stage looks at the [`Case`] and may change what would be done by now (the [`Draft`]: the mailbox, the reason),
//! or end it with a verdict. Message authentication, reputation and the junk filter become stages of this row.

use bytes::Bytes;
use mox_config::{Destination, Lookup, Recipient, Ruleset};
use mox_message::HeaderSummary;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Validation, Verdict};
use mox_proto::mail::v1::content::Where;
use mox_types::{AccountId, Domain};
use tonic::Status;

use super::{Delivery, check_recipients, lookup};
use crate::content::INLINE_BYTES;

/// A message and one of its recipients.
struct Case<'a> {
    envelope: &'a api::Envelope,
    header: &'a Header,
    account: AccountId,
    recipient: Recipient<'a>,
    /// Bytes, with what is added above it.
    size: u64,
}

/// What is known of the message's header; empty if no recipient has rules that look at it.
#[derive(Default)]
struct Header {
    bytes: Bytes,
    from: String,
}

/// What would be done by now.
struct Draft {
    mailbox: String,
    reason: &'static str,
    list: bool,
    forward: bool,
}

impl Draft {
    fn accept(self) -> Verdict {
        Verdict {
            accept: true,
            mailbox: self.mailbox,
            reason: self.reason.to_owned(),
            list: self.list,
            forward: self.forward,
            ..Verdict::default()
        }
    }
}

fn refuse(reason: &str, smtp_code: u32, enhanced_code: &str, text: impl Into<String>) -> Verdict {
    Verdict {
        reason: reason.to_owned(),
        smtp_code,
        enhanced_code: enhanced_code.to_owned(),
        text: text.into(),
        ..Verdict::default()
    }
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
        let mut draft = Draft {
            mailbox: case.recipient.mailbox.to_owned(),
            reason: "accepted",
            list: false,
            forward: false,
        };
        if let Some(destination) = case.recipient.destination {
            if let Some(verdict) = refused_by_destination(case, destination) {
                return Ok(verdict);
            }
            apply_rulesets(case, destination, &mut draft);
        }
        if let Some(verdict) = refused_by_policy(case.envelope, &draft) {
            return Ok(verdict);
        }
        if self.is_full(case.account, case.size).await? {
            // RFC 3463 §3.3: X.2.2, mailbox full; may be persistent or not. The sender tries again, as room may be made.
            return Ok(refuse("over-quota", 452, "4.2.2", "mailbox is full"));
        }
        // Here come reputation, the junk filter and first-time senders.
        Ok(draft.accept())
    }

    async fn header(&self, request: &api::AssessRequest, envelope: &api::Envelope) -> Result<Header, Status> {
        let content = request.content.as_ref().and_then(|c| c.r#where.as_ref());
        let bytes = match content {
            Some(Where::Inline(bytes)) => bytes.clone(),
            _ => {
                let staged = self
                    .contents
                    .stage(&request.content.clone().unwrap_or_default())
                    .await?;
                let mut pieces = self.contents.read(staged.id(), 0..INLINE_BYTES as u64);
                match futures::StreamExt::next(&mut pieces).await {
                    Some(piece) => piece?,
                    None => Bytes::new(),
                }
            }
        };
        let bytes = bytes.slice(..mox_message::header_end(&bytes));
        let from = match envelope.msg_from.as_str() {
            "" => {
                let facts = HeaderSummary::of(&bytes);
                facts.from_address().map(ToString::to_string).unwrap_or_default()
            }
            from => from.to_owned(),
        };
        Ok(Header { bytes, from })
    }
}

/// What the destination refuses always, or without authentication.
fn refused_by_destination(case: &Case<'_>, destination: &Destination) -> Option<Verdict> {
    if !destination.smtp_error.is_empty() {
        let (code, text) = smtp_error(&destination.smtp_error);
        let enhanced = if code < 500 { "4.2.1" } else { "5.2.1" };
        return Some(refuse("destination-refuses", code, enhanced, text));
    }
    let required = &destination.message_auth_required_smtp_error;
    let passed = matches!(
        case.envelope.msg_from_validation(),
        Validation::Strict | Validation::Dmarc | Validation::Relaxed | Validation::Pass
    );
    // As long as nobody has looked (`Unknown`), nothing can be required.
    let looked = case.envelope.msg_from_validation() != Validation::Unknown;
    (!required.is_empty() && looked && !passed)
        .then(|| refuse("authentication-required", 550, "5.7.1", required.as_str()))
}

/// What the domain in From asks to have refused (RFC 9989 §4.7). Mailing lists and forwarders break what DMARC counts on,
/// so for those that the recipient has a rule for it is not asked.
fn refused_by_policy(envelope: &api::Envelope, draft: &Draft) -> Option<Verdict> {
    let expected = draft.list || draft.forward;
    let asked = envelope.dmarc_policy() != DmarcPolicy::None;
    if expected || !asked || envelope.dmarc() != DmarcResult::Fail {
        return None;
    }
    let domain = envelope.msg_from.rsplit_once('@').map_or("", |(_, domain)| domain);
    let text =
        format!("neither SPF nor DKIM shows that the message is from {domain}, whose DMARC policy asks to refuse it");
    Some(refuse("dmarc-policy", 550, "5.7.1", text))
}

/// A configured refusal, "421 text" or "550 text".
fn smtp_error(configured: &str) -> (u32, &str) {
    let (code, text) = configured.split_once(' ').unwrap_or((configured, ""));
    match code.parse() {
        Ok(code) if (400..600).contains(&code) => (code, text),
        _ => (550, configured),
    }
}

/// The first ruleset that matches says where the message goes.
fn apply_rulesets(case: &Case<'_>, destination: &Destination, draft: &mut Draft) {
    if let Some(rule) = destination.rulesets.iter().find(|rule| matches(rule, case)) {
        draft.mailbox.clone_from(&rule.mailbox);
        draft.reason = "ruleset";
        draft.list = rule
            .list_allow_domain
            .as_ref()
            .is_some_and(|domain| is_verified(case.envelope, domain));
        draft.forward = rule.is_forward;
    }
}

fn matches(rule: &Ruleset, case: &Case<'_>) -> bool {
    let envelope = case.envelope;
    if rule
        .smtp_mail_from_regexp
        .as_ref()
        .is_some_and(|r| !r.is_match(&envelope.mail_from))
    {
        return false;
    }
    if rule
        .msg_from_regexp
        .as_ref()
        .is_some_and(|r| !r.is_match(&case.header.from))
    {
        return false;
    }
    if rule
        .verified_domain
        .as_ref()
        .is_some_and(|domain| !is_verified(envelope, domain))
    {
        return false;
    }
    rule.headers_regexp.iter().all(|(name, value)| {
        mox_message::headers(&case.header.bytes).any(|field| {
            let field_name = String::from_utf8_lossy(field.name).to_lowercase();
            name.is_match(&field_name) && value.is_match(field.text().trim())
        })
    })
}

/// Whether SPF or DKIM verified a domain, or one below it.
fn is_verified(envelope: &api::Envelope, domain: &Domain) -> bool {
    let within = |name: &str| name.parse::<Domain>().is_ok_and(|name| name.is_within(domain));
    let spf = matches!(envelope.mail_from_validation(), Validation::Pass | Validation::Strict);
    let mail_from = envelope.mail_from.rsplit_once('@').map_or("", |(_, domain)| domain);
    (spf && within(mail_from)) || envelope.dkim_domains.iter().any(|d| within(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_followed_unless_a_rule_expects_the_message() {
        let envelope = |result, policy| api::Envelope {
            msg_from: "joe@example.org".into(),
            dmarc: DmarcResult::into(result),
            dmarc_policy: DmarcPolicy::into(policy),
            ..Default::default()
        };
        let refused = |result, policy, list, forward| {
            let draft = Draft {
                mailbox: String::new(),
                reason: "",
                list,
                forward,
            };
            refused_by_policy(&envelope(result, policy), &draft).map(|v| v.text)
        };
        for policy in [DmarcPolicy::Reject, DmarcPolicy::Quarantine] {
            let text = refused(DmarcResult::Fail, policy, false, false).unwrap();
            assert!(text.contains("example.org"), "{text}");
            assert_eq!(refused(DmarcResult::Fail, policy, true, false), None);
            assert_eq!(refused(DmarcResult::Fail, policy, false, true), None);
            assert_eq!(refused(DmarcResult::Pass, policy, false, false), None);
            assert_eq!(refused(DmarcResult::Temperror, policy, false, false), None);
        }
        assert_eq!(refused(DmarcResult::Fail, DmarcPolicy::None, false, false), None);
    }
}
