//! Stages for senders without a history: the mailbox for them, SPF that fails, a client without a name, and the delay.

use mox_proto::delivery::v1::{Validation, Verdict};

use super::Case;
use super::reputation::{By, Standing};
use super::verdict::{Draft, refuse, unwanted};
use crate::account::history::is_from_verified;

/// Who writes for the first time goes into a mailbox for that, if the account has one and no rule says otherwise.
pub(super) fn introduce(case: &Case<'_>, draft: &mut Draft<'_>, standing: &Standing) {
    if standing.is_stranger() && draft.rule.is_none() && !case.settings.introbox.is_empty() {
        draft.mailbox.clone_from(&case.settings.introbox);
    }
}

/// A client that may not send for MAIL FROM, and nothing else that speaks for it. A DKIM signature for From does, as
/// forwarding breaks SPF and not DKIM.
pub(super) fn fails_spf(case: &Case<'_>, draft: &Draft<'_>, standing: &Standing) -> Option<Verdict> {
    if !standing.is_stranger() || draft.forward || is_from_verified(&case.sender) {
        return None;
    }
    // smtp-in adds what the domain itself says to it.
    let text = "SPF says that the client may not send for the domain of MAIL FROM";
    match case.envelope.mail_from_validation() {
        // RFC 7372 §3.2: X.7.23.
        Validation::Fail => Some(refuse("spf-policy", 550, "5.7.23", text)),
        // RFC 7208 §8.5: a weak statement is no ground to refuse for good.
        Validation::Softfail => Some(refuse("spf-policy", 451, "4.7.23", text)),
        _ => None,
    }
}

/// A history that leans to junk, from a client whose address has no name.
pub(super) fn has_no_name(case: &Case<'_>, draft: &Draft<'_>, standing: &Standing) -> Option<Verdict> {
    let suspicious = standing.is_stranger() && case.envelope.iprev_failed && !draft.forward;
    (suspicious && standing.junk == Some(true)).then(|| {
        unwanted(
            "iprev",
            "no name of the client's address leads back to it, and it sent junk",
        )
    })
}

/// How long an accepted message of a stranger waits. Who sends masses does not wait so long, or sends less of them.
pub(super) fn delay(case: &Case<'_>, draft: &Draft<'_>, standing: &Standing) -> u32 {
    let first = standing.by == By::Nothing && !draft.forward && !draft.list;
    match first && !case.settings.no_first_time_sender_delay {
        true => case.envelope.first_time_delay_milliseconds,
        false => 0,
    }
}
