//! Stage: what the address that was written to refuses always.

use mox_proto::delivery::v1::Verdict;

use super::Case;
use super::verdict::refuse;

pub(super) fn refuses(case: &Case<'_>) -> Option<Verdict> {
    let destination = case.recipient.destination?;
    if destination.smtp_error.is_empty() {
        return None;
    }
    let (code, text) = smtp_error(&destination.smtp_error);
    let enhanced = if code < 500 { "4.2.1" } else { "5.2.1" };
    Some(refuse("destination-refuses", code, enhanced, text))
}

/// A configured refusal, "421 text" or "550 text".
fn smtp_error(configured: &str) -> (u32, &str) {
    let (code, text) = configured.split_once(' ').unwrap_or((configured, ""));
    match code.parse() {
        Ok(code) if (400..600).contains(&code) => (code, text),
        _ => (550, configured),
    }
}
