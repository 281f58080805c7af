//! What would be done, and what is.

use mox_config::Recipient;
use mox_proto::delivery::v1::Verdict;

/// What would be done by now.
pub(super) struct Draft {
    pub(super) mailbox: String,
    pub(super) reason: &'static str,
    /// From a mailing list that the recipient has a rule for.
    pub(super) list: bool,
    /// Forwarded by a previous hop, as a rule of the recipient says.
    pub(super) forward: bool,
}

impl Draft {
    pub(super) fn new(recipient: &Recipient<'_>) -> Self {
        Self {
            mailbox: recipient.mailbox.to_owned(),
            reason: "accepted",
            list: false,
            forward: false,
        }
    }

    pub(super) fn accept(self) -> Verdict {
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

pub(super) fn refuse(reason: &str, smtp_code: u32, enhanced_code: &str, text: impl Into<String>) -> Verdict {
    Verdict {
        reason: reason.to_owned(),
        smtp_code,
        enhanced_code: enhanced_code.to_owned(),
        text: text.into(),
        ..Verdict::default()
    }
}
