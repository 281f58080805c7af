//! Stage: what the domain in From asks to have refused (RFC 9989 §4.7). Mailing lists and forwarders break what DMARC
//! counts on, so for those that the recipient has a rule for it is not asked.

use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Verdict};

use super::Case;
use super::verdict::{Draft, refuse};

pub(super) fn refuses(case: &Case<'_>, draft: &Draft<'_>) -> Option<Verdict> {
    let envelope = case.envelope;
    let expected = draft.list || draft.forward;
    let asked = envelope.dmarc_policy() != DmarcPolicy::None;
    if expected || !asked || envelope.dmarc() != DmarcResult::Fail {
        return None;
    }
    // RFC 8617 §7.2.2: who is trusted saw it pass, before it was changed on the way.
    if !envelope.arc_sealer.is_empty() {
        tracing::info!(
            sealer = envelope.arc_sealer,
            "a trusted sealer vouches for a message that fails DMARC"
        );
        return None;
    }
    let domain = envelope.msg_from.rsplit_once('@').map_or("", |(_, domain)| domain);
    let text =
        format!("neither SPF nor DKIM shows that the message is from {domain}, whose DMARC policy asks to refuse it");
    Some(refuse("dmarc-policy", 550, "5.7.1", text))
}
