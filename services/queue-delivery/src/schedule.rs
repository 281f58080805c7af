//! When to try again, and when to give up.

use std::time::Duration;

/// After the first failure. Each further one doubles it.
pub const FIRST_DELAY: Duration = Duration::from_secs(450);
/// The longest time between two attempts.
pub const LAST_DELAY: Duration = Duration::from_secs(16 * 3600);
/// How long a message is tried. RFC 5321 §4.5.4.1: at least 4 to 5 days.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);
/// The failure after which the sender is told of the delay.
pub const DELAY_NOTICE_AT: u32 = 5;
/// By what part of itself a delay is lengthened at most: so that what failed together is not tried together again.
const JITTER: f64 = 1.0 / 16.0;

/// What to do after an attempt that failed temporarily.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again at this time.
    Retry {
        /// Milliseconds since 1970.
        at: i64,
        /// Tell the sender that it takes long.
        notify: bool,
    },
    /// It has been tried for long enough.
    GiveUp,
}

/// The time from failure number `failures` (from 1) to the next attempt. `random` is from 0 to 1.
#[must_use]
pub fn delay(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let plain = FIRST_DELAY.saturating_mul(1 << doublings).min(LAST_DELAY);
    plain.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0))
}

/// What to do after failure number `failures` of a message that was to be tried from `start` on. Times are in
/// milliseconds since 1970.
#[must_use]
pub fn next(failures: u32, start: i64, now: i64, random: f64) -> Next {
    let at = now.saturating_add(millis(delay(failures, random)));
    if at > start.saturating_add(millis(GIVE_UP_AFTER)) {
        return Next::GiveUp;
    }
    Next::Retry {
        at,
        notify: failures == DELAY_NOTICE_AT,
    }
}

/// When a message that was to be tried from `start` on will be given up.
#[must_use]
pub fn end(start: i64) -> i64 {
    start.saturating_add(millis(GIVE_UP_AFTER))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_to_16_hours() {
        let minutes: Vec<u64> = (1..=9).map(|n| delay(n, 0.0).as_secs() / 60).collect();
        assert_eq!(minutes, [7, 15, 30, 60, 120, 240, 480, 960, 960]);
        assert_eq!(delay(1, 0.0), Duration::from_secs(450));
        assert_eq!(delay(u32::MAX, 0.0), LAST_DELAY);
    }

    #[test]
    fn five_days_of_failures_have_one_notice_and_an_end() {
        let (mut now, mut failures, mut notices) = (0, 0, 0);
        loop {
            failures += 1;
            match next(failures, 0, now, 0.5) {
                Next::Retry { at, notify } => {
                    assert!(at > now);
                    now = at;
                    notices += u32::from(notify);
                }
                Next::GiveUp => break,
            }
        }
        assert_eq!(notices, 1);
        assert!(now > 4 * 24 * 3_600_000 && now <= 5 * 24 * 3_600_000);
        assert_eq!(failures, 14);
    }

    proptest! {
        #[test]
        fn jitter_only_lengthens_and_little(failures in 1..40u32, random in 0.0..1.0f64) {
            let (plain, with) = (delay(failures, 0.0), delay(failures, random));
            prop_assert!(with >= plain && with <= plain.mul_f64(1.07));
        }
    }
}
