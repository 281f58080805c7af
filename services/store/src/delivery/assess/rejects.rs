//! What is done with a message that is refused: a rule can have it accepted nevertheless, and a copy can be kept where
//! the user finds it.

use mox_proto::delivery::v1::Verdict;

use super::Case;
use super::verdict::Draft;

/// The refusal, as the recipient's rule and account have it.
pub(super) fn keep(case: &Case<'_>, draft: &Draft<'_>, refusal: Verdict) -> Verdict {
    let mailbox = draft.rule.map_or("", |rule| rule.accept_rejects_to_mailbox.as_str());
    if !mailbox.is_empty() {
        return Verdict {
            accept: true,
            mailbox: mailbox.to_owned(),
            accepted_reject: true,
            forward: draft.forward,
            forwarder: draft.forwarder().to_owned(),
            reason: refusal.reason,
            detail: refusal.detail,
            ..Verdict::default()
        };
    }
    Verdict {
        rejects_mailbox: case.settings.rejects_mailbox.clone(),
        forward: draft.forward,
        forwarder: draft.forwarder().to_owned(),
        ..refusal
    }
}
