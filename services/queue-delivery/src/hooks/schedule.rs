//! When to try again, and when to give up.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Seconds from each failure to the next attempt: quick at first, so that a receiver that is being restarted misses
/// little, then as for messages. After the last, it is given up.
const DELAYS: [u64; 11] = [
    MINUTE,
    2 * MINUTE,
    4 * MINUTE,
    15 * MINUTE / 2,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    16 * HOUR,
];
/// By what part of itself a delay is lengthened at most: so that what failed together is not tried together again.
const JITTER: f64 = 0.01;

/// The time from failure number `failures` (from 1) to the next attempt; `None` if it was the last. `random` is from 0
/// to 1.
pub(super) fn delay(failures: u32, random: f64) -> Option<Duration> {
    let seconds = DELAYS.get(usize::try_from(failures).ok()?.checked_sub(1)?)?;
    Some(Duration::from_secs(*seconds).mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_promised() {
        let minutes: Vec<f64> = (1..=11).map(|n| delay(n, 0.0).unwrap().as_secs_f64() / 60.0).collect();
        assert_eq!(
            minutes,
            [1.0, 2.0, 4.0, 7.5, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0]
        );
        assert_eq!(delay(12, 0.0), None);
        assert_eq!(delay(0, 0.0), None);
        assert_eq!(delay(u32::MAX, 0.0), None);
        let with = delay(1, 1.0).unwrap();
        assert!(with > Duration::from_secs(60) && with < Duration::from_secs(61));
    }
}
