//! Stage: what the domain in From asks to have refused (RFC 9989 §4.7). Mailing lists and forwarders break what DMARC
//! counts on, so for those that the recipient has a rule for it is not asked.

use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Verdict};

use super::Case;
use super::verdict::{Draft, refuse};

pub(super) fn refuses(case: &Case<'_>, draft: &Draft) -> Option<Verdict> {
    let envelope = case.envelope;
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

#[cfg(test)]
mod tests {
    use mox_config::Recipient;
    use mox_proto::delivery::v1 as api;
    use mox_types::AccountId;

    use super::*;
    use crate::delivery::assess::header::Header;

    #[test]
    fn policies_are_followed_unless_a_rule_expects_the_message() {
        let refused = |result, policy, list, forward| {
            let envelope = api::Envelope {
                msg_from: "joe@example.org".into(),
                dmarc: DmarcResult::into(result),
                dmarc_policy: DmarcPolicy::into(policy),
                ..Default::default()
            };
            let recipient = Recipient {
                account: "a",
                address: "a@example.net".parse().unwrap(),
                destination: None,
                mailbox: "Inbox",
                catch_all: false,
                fallback: false,
            };
            let draft = Draft {
                list,
                forward,
                ..Draft::new(&recipient)
            };
            let case = Case {
                envelope: &envelope,
                header: &Header::default(),
                account: AccountId::new(),
                recipient,
                size: 0,
            };
            refuses(&case, &draft).map(|v| v.text)
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
