//! Which period something is reported with, and when.

use mox_proto::report::v1::{BundleId, BundleKind};

const HOUR: i64 = 3600 * 1000;
const DAY: i64 = 24 * HOUR;
/// After the end of a period, so long is waited for what is still being added up.
const SETTLE: i64 = 2 * 60 * 1000;
/// RFC 8460 §4.1: within four hours, at random, so that not everybody reports at midnight.
const TLS_SPREAD: i64 = 4 * HOUR;
/// DMARC reports are spread likewise, within an eighth of their period, and less than an hour.
const DMARC_SPREAD: i64 = 45 * 60 * 1000;

/// Periods that fit into a day, in hours, so that reports of all senders are about the same times (RFC 7489 §7.2).
const HOURS: [i64; 8] = [24, 12, 8, 6, 4, 3, 2, 1];

/// The period that a time lies in, from its begin to before its end, in milliseconds since 1970. `interval_seconds` is
/// what was asked for; 0 is a day. It is no longer than that, but for an hour at least.
pub fn of(at: i64, interval_seconds: u32) -> (i64, i64) {
    let asked = match interval_seconds {
        0 => DAY,
        seconds => i64::from(seconds) * 1000,
    };
    let hours = HOURS.into_iter().find(|hours| hours * HOUR <= asked).unwrap_or(1);
    let length = hours * HOUR;
    let begin = at.div_euclid(length) * length;
    (begin, begin + length)
}

/// When a bundle is due: the same time whenever it is asked for.
pub fn due(id: &BundleId, begin: i64) -> i64 {
    let spread = match id.kind() {
        BundleKind::TlsDomain | BundleKind::TlsHost => TLS_SPREAD,
        _ => ((id.end - begin) / 8).clamp(1, DMARC_SPREAD),
    };
    let text = format!("{} {} {}", id.kind, id.domain, id.end);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let number = digest
        .as_ref()
        .iter()
        .take(7)
        .fold(0i64, |n, byte| n << 8 | i64::from(*byte));
    id.end + SETTLE + number % spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_fit_into_days_and_reports_are_spread() {
        let at = 1_700_000_000_123;
        for (asked, hours) in [(0, 24), (86400, 24), (100_000, 24), (5 * 3600, 4), (3600, 1), (60, 1)] {
            let (begin, end) = of(at, asked);
            assert_eq!((end - begin, begin % (end - begin)), (hours * HOUR, 0));
            assert!(begin <= at && at < end);
        }
        let mut times = std::collections::BTreeSet::new();
        for n in 0..100 {
            for kind in [BundleKind::Dmarc, BundleKind::TlsHost] {
                let id = BundleId {
                    kind: kind.into(),
                    domain: format!("{n}.example"),
                    end: DAY,
                };
                let after = due(&id, 0) - DAY;
                let most = if kind == BundleKind::Dmarc {
                    DMARC_SPREAD
                } else {
                    TLS_SPREAD
                };
                assert!((SETTLE..SETTLE + most).contains(&after));
                assert_eq!(due(&id, 0), due(&id, 0));
                times.insert(after);
            }
        }
        assert!(times.len() > 150);
    }
}
