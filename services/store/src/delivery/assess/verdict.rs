//! What would be done, and what is.

use mox_config::{Recipient, Ruleset};
use mox_proto::delivery::v1::Verdict;

/// What would be done by now.
pub(super) struct Draft<'a> {
    pub(super) mailbox: String,
    pub(super) reason: &'static str,
    /// What the reason is about, for people.
    pub(super) detail: String,
    /// The rule that matched.
    pub(super) rule: Option<&'a Ruleset>,
    /// From a mailing list that the recipient has a rule for.
    pub(super) list: bool,
    /// Forwarded by a previous hop, as a rule of the recipient says.
    pub(super) forward: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(recipient: &Recipient<'a>) -> Self {
        Self {
            mailbox: recipient.mailbox.to_owned(),
            reason: "accepted",
            detail: String::new(),
            rule: None,
            list: false,
            forward: false,
        }
    }

    pub(super) fn accept(&self) -> Verdict {
        self.accept_for(self.reason, self.detail.clone())
    }

    pub(super) fn accept_for(&self, reason: &str, detail: impl Into<String>) -> Verdict {
        Verdict {
            accept: true,
            mailbox: self.mailbox.clone(),
            reason: reason.to_owned(),
            detail: detail.into(),
            list: self.list,
            forward: self.forward,
            forwarder: self.forwarder().to_owned(),
            ..Verdict::default()
        }
    }

    /// The verified domain of whoever forwards, if the rule has one.
    pub(super) fn forwarder(&self) -> &str {
        let domain = self
            .rule
            .filter(|_| self.forward)
            .and_then(|r| r.verified_domain.as_ref());
        domain.map_or("", |domain| domain.as_str())
    }
}

pub(super) fn refuse(reason: &str, smtp_code: u32, enhanced_code: &str, text: impl Into<String>) -> Verdict {
    Verdict {
        reason: reason.to_owned(),
        smtp_code,
        enhanced_code: enhanced_code.to_owned(),
        text: text.into(),
        ..Verdict::default()
    }
}

/// A refusal of what is not wanted for what it is or whom it is from. The sender learns nothing by which to do better:
/// RFC 3463 §3.8: X.7.1, delivery not authorized. It may try again, as the user may have said otherwise by then.
pub(super) fn unwanted(reason: &str, detail: impl Into<String>) -> Verdict {
    Verdict {
        detail: detail.into(),
        ..refuse(reason, 451, "4.7.1", "the message is not accepted now, try again later")
    }
}
