//! Times as JSON has them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970 in RFC 3339, in UTC; the first or last moment that can be written for those beyond it.
#[must_use]
pub fn moment(millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok();
    let at = at.filter(|at| (0..=9999).contains(&at.year()));
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| match millis < 0 {
            true => "0001-01-01T00:00:00Z".into(),
            false => "9999-12-31T23:59:59Z".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_and_always_some() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(1_700_000_000_120), "2023-11-14T22:13:20.12Z");
        assert_eq!(moment(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(moment(i64::MIN), "0001-01-01T00:00:00Z");
    }
}
