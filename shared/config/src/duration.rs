//! Spans of time, as settings and commands have them.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// A span of time, written as `300ms`, `15s`, `1.5h`, `1h30m` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(pub std::time::Duration);

const NANOS_IN_MILLI: u128 = 1_000_000;
const NANOS_IN_SECOND: u128 = 1_000 * NANOS_IN_MILLI;
/// Nanoseconds of each unit: those of Go's time.ParseDuration, which the reference's commands and settings take, and days
/// and weeks. The first of a size is the one that is printed.
const UNITS: [(&str, u128); 10] = [
    ("w", 604_800 * NANOS_IN_SECOND),
    ("d", 86_400 * NANOS_IN_SECOND),
    ("h", 3600 * NANOS_IN_SECOND),
    ("m", 60 * NANOS_IN_SECOND),
    ("s", NANOS_IN_SECOND),
    ("ms", NANOS_IN_MILLI),
    ("us", 1000),
    ("\u{b5}s", 1000),
    ("\u{3bc}s", 1000),
    ("ns", 1),
];
/// Digits behind a point that count: with the largest unit, the others are less than a nanosecond.
const FRACTION_DIGITS: usize = 18;

impl Duration {
    /// Of so many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// Of so many days of 24 hours.
    #[must_use]
    pub const fn from_days(days: u64) -> Self {
        Self::from_secs(days * 86_400)
    }
}

impl Deref for Duration {
    type Target = std::time::Duration;
    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        d.0
    }
}

/// What begins with so many characters of a kind, and the rest.
fn split_while(text: &str, holds: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !holds(c)).unwrap_or(text.len()))
}

/// A number with its unit at the beginning of a text, in nanoseconds, and the rest.
fn part(text: &str) -> Option<(u128, &str)> {
    let digit = |c: char| c.is_ascii_digit();
    let (whole, rest) = split_while(text, digit);
    let (fraction, rest) = rest
        .strip_prefix('.')
        .map_or(("", rest), |rest| split_while(rest, digit));
    let (unit, rest) = split_while(rest, |c| c != '.' && !digit(c));
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let number = |digits: &str| {
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse::<u64>().ok()
        }
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let scale = fraction.bytes().fold(1, |scale: u128, _| scale * 10);
    // Neither can overflow: 64 bits, times 50 bits.
    let nanos = u128::from(number(whole)?) * factor + u128::from(number(fraction)?) * factor / scale;
    Some((nanos, rest))
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || {
            format!("{s:?} is not a duration: write numbers with units (ms, s, m, h, d, w), such as 15s, 1h30m or 7d")
        };
        if s == "0" {
            return Ok(Self::default());
        }
        if s.is_empty() {
            return Err(bad());
        }
        let (mut nanos, mut rest) = (0u128, s);
        while !rest.is_empty() {
            let (more, tail) = part(rest).ok_or_else(bad)?;
            nanos = nanos.checked_add(more).ok_or_else(bad)?;
            rest = tail;
        }
        // So that it has milliseconds that can be counted.
        u64::try_from(nanos / NANOS_IN_MILLI).map_err(|_| bad())?;
        let seconds = u64::try_from(nanos / NANOS_IN_SECOND).map_err(|_| bad())?;
        let below = u32::try_from(nanos % NANOS_IN_SECOND).map_err(|_| bad())?;
        Ok(Self(std::time::Duration::new(seconds, below)))
    }
}

/// Milliseconds of a span of time with or without a sign, such as `-24h`, `+1h` or `7.5m`: what commands take.
///
/// # Errors
/// If it is none, or too long to be counted: with what would be one.
pub fn signed_millis(text: &str) -> Result<i64, String> {
    let (rest, sign) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(rest), _) => (rest, -1),
        (_, Some(rest)) => (rest, 1),
        _ => (text, 1),
    };
    let bad = || format!("{text:?} is not a duration, such as 1h30m, -24h, 7.5m or 0");
    let duration: Duration = rest.parse().map_err(|_| bad())?;
    let millis = i64::try_from(duration.as_millis()).map_err(|_| bad())?;
    Ok(sign * millis)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS.iter().filter(|(unit, _)| *unit != "w") {
            if nanos >= *factor {
                write!(f, "{}{unit}", nanos / factor)?;
                nanos %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_printed() {
        for (given, millis, printed) in [
            ("300ms", 300, "300ms"),
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1w", 604_800_000, "7d"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1.5h", 5_400_000, "1h30m"),
            (".5s", 500, "500ms"),
            ("1.s", 1000, "1s"),
            ("7.5m", 450_000, "7m30s"),
            ("1.5h.5m", 5_430_000, "1h30m30s"),
            ("0.0000000000000000000000001h1ms", 1, "1ms"),
            ("2ms1500us", 3, "3ms500us"),
            ("2000\u{b5}s", 2, "2ms"),
            ("2000\u{3bc}s", 2, "2ms"),
            ("3000001ns", 3, "3ms1ns"),
        ] {
            let d: Duration = given.parse().unwrap();
            assert_eq!(d.as_millis(), millis, "{given}");
            assert_eq!(d.to_string(), printed);
        }
        for bad in [
            "",
            "15",
            "s",
            "15x",
            "-1s",
            "1h 30m",
            ".",
            ".s",
            "1.2.3s",
            "1..2s",
            "1e3s",
            "+1s",
            "1h30",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_of_commands_have_signs() {
        for (given, millis) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("90s", 90_000),
            ("1.5h", 5_400_000),
            ("+1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("-24h", -86_400_000),
            ("7.5m", 450_000),
            ("-1h30m", -5_400_000),
            ("-.5ms", 0),
        ] {
            assert_eq!(signed_millis(given), Ok(millis), "{given}");
        }
        for bad in [
            "",
            "+",
            "-",
            "+-1h",
            "--1h",
            "5",
            "soon",
            "- 1h",
            "18446744073709551615ms",
        ] {
            assert!(signed_millis(bad).unwrap_err().contains("is not a duration"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_duration_survives_printing(millis in 0u64..1 << 50) {
            let d = Duration(std::time::Duration::from_millis(millis));
            prop_assert_eq!(d.to_string().parse::<Duration>().unwrap(), d);
        }

        #[test]
        fn every_nanosecond_survives_printing(nanos in 0u64..1 << 60) {
            let d = Duration(std::time::Duration::from_nanos(nanos));
            prop_assert_eq!(d.to_string().parse::<Duration>().unwrap(), d);
        }

        #[test]
        fn what_is_written_is_what_is_meant(
            sign in prop::sample::select(vec!["", "+", "-"]),
            hours in 0i64..1 << 20,
            tenths in 0i64..10,
            minutes in 0i64..10_000,
            hundredths in 0i64..100,
        ) {
            let millis = hours * 3_600_000 + tenths * 360_000 + minutes * 60_000 + hundredths * 600;
            let written = format!("{sign}{hours}.{tenths}h{minutes}.{hundredths:02}m");
            prop_assert_eq!(signed_millis(&written), Ok(if sign == "-" { -millis } else { millis }));
        }

        #[test]
        fn no_text_makes_it_panic(s in "([-+.0-9]{0,25}(h|m|s|ms|us|ns|d|w)?){0,4}|.{0,30}") {
            let _ = s.parse::<Duration>();
            let _ = signed_millis(&s);
        }
    }
}
