//! `mox queue …`: the outgoing queue.

pub mod change;
pub mod dump;
mod filter;
pub mod holdrules;
pub mod list;
pub mod retired;
pub mod suppress;
pub mod webhook;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as RFC 3339 has it, to the second.
fn moment(millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| millis.to_string())
}

/// A text, or "-" for none.
fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
