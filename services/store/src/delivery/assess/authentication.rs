//! Stage: what the address that was written to refuses without authentication (`message_auth_required_smtp_error`).

use mox_proto::delivery::v1::{Validation, Verdict};

use super::Case;
use super::verdict::refuse;
use crate::account::history::is_from_verified;

pub(super) fn refuses(case: &Case<'_>) -> Option<Verdict> {
    let required = &case.recipient.destination?.message_auth_required_smtp_error;
    // As long as nobody has looked (`Unknown`), nothing can be required.
    let looked = case.envelope.msg_from_validation() != Validation::Unknown;
    (!required.is_empty() && looked && !is_from_verified(&case.sender))
        .then(|| refuse("authentication-required", 550, "5.7.1", required.as_str()))
}
