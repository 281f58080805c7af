//! `PARTIAL`: a part of a list of results, by position (RFC 9394, RFC 5267 §4.4).

use std::ops::Range;

use bytes::BufMut;

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::write::put_number;

/// Positions in a list of results, both ends included, as they were written: either may be the smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From 1.
    pub first: u32,
    /// From 1.
    pub last: u32,
    /// Written with minus signs: counted from the end, 1 being the last result.
    pub from_end: bool,
}

impl Window {
    /// Parses `1:500` or `-1:-500`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let from_end = c.take(b'-');
        let first = c.nz_number("a position, as in PARTIAL 1:100 or PARTIAL -1:-100")?;
        c.need(b':', "a colon between the positions of PARTIAL")?;
        // RFC 9394 §4: both have a minus sign, or none has.
        if from_end {
            c.need(b'-', "a minus sign before the second position, as before the first")?;
        }
        let last = c.nz_number("the second position of PARTIAL")?;
        Ok(Self { first, last, from_end })
    }

    /// Serializes it as it was written.
    pub fn write(&self, out: &mut impl BufMut) {
        for (i, number) in [self.first, self.last].into_iter().enumerate() {
            if i > 0 {
                out.put_u8(b':');
            }
            if self.from_end {
                out.put_u8(b'-');
            }
            put_number(out, u64::from(number));
        }
    }

    /// Which of `count` results are meant, from 0.
    #[must_use]
    pub fn of(&self, count: u64) -> Range<u64> {
        let (low, high) = (
            u64::from(self.first.min(self.last)),
            u64::from(self.first.max(self.last)),
        );
        if self.from_end {
            count.saturating_sub(high)..count.saturating_sub(low - 1)
        } else {
            (low - 1).min(count)..high.min(count)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Names;

    fn parse(s: &str) -> Result<Window, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let window = Window::parse(&mut c)?;
        c.end()?;
        Ok(window)
    }

    #[test]
    fn windows_are_taken_from_either_end() {
        for (given, count, want) in [
            ("1:500", 23_764, 0..500),
            ("23500:24000", 23_764, 23_499..23_764),
            ("24000:24500", 23_764, 23_764..23_764),
            ("500:1", 23_764, 0..500),
            ("-1:-100", 23_764, 23_664..23_764),
            ("-100:-1", 23_764, 23_664..23_764),
            ("-2:-3", 2, 0..1),
            ("-3:-4", 2, 0..0),
            ("1:1", 0, 0..0),
            ("4294967295:4294967295", 3, 3..3),
        ] {
            assert_eq!(parse(given).unwrap().of(count), want, "{given}");
        }
        for bad in ["", "0:1", "1", "1:", "1:-1", "-1:1", "-0:-1", "1:*", "--1:-2"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_window_is_a_part_of_the_list(first in 1u32.., last in 1u32.., from_end: bool, count in 0u64..1000) {
            let window = Window { first, last, from_end };
            let mut out = Vec::new();
            window.write(&mut out);
            prop_assert_eq!(parse(std::str::from_utf8(&out).unwrap()), Ok(window));
            let range = window.of(count);
            prop_assert!(range.start <= range.end && range.end <= count);
            prop_assert!(range.end - range.start <= u64::from(first.abs_diff(last)) + 1);
        }
    }
}
