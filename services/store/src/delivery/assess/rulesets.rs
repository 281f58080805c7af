//! Stage: the rules of the address that was written to. The first that matches says where the message goes, and what is
//! to be thought of who brought it.

use mox_config::Ruleset;
use mox_proto::delivery::v1::{Envelope, Validation};
use mox_types::Domain;

use super::Case;
use super::verdict::Draft;

pub(super) fn apply<'a>(case: &Case<'a>, draft: &mut Draft<'a>) {
    let Some(destination) = case.recipient.destination else {
        return;
    };
    if let Some(rule) = destination.rulesets.iter().find(|rule| matches(rule, case)) {
        draft.mailbox.clone_from(&rule.mailbox);
        draft.rule = Some(rule);
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
    if rule.msg_from_regexp.as_ref().is_some_and(|r| !r.is_match(case.from)) {
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
        mox_message::headers(case.letter.header()).any(|field| {
            let field_name = String::from_utf8_lossy(field.name).to_lowercase();
            name.is_match(&field_name) && value.is_match(field.text().trim())
        })
    })
}

/// Whether SPF or DKIM verified a domain, or one below it.
fn is_verified(envelope: &Envelope, domain: &Domain) -> bool {
    let within = |name: &str| name.parse::<Domain>().is_ok_and(|name| name.is_within(domain));
    let spf = matches!(envelope.mail_from_validation(), Validation::Pass | Validation::Strict);
    let mail_from = envelope.mail_from.rsplit_once('@').map_or("", |(_, domain)| domain);
    (spf && within(mail_from)) || envelope.dkim_domains.iter().any(|d| within(d))
}
