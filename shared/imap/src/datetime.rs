//! Dates: `date` of SEARCH, `date-time` of APPEND and INTERNALDATE (RFC 9051 §9).

use bytes::BufMut;

use crate::cursor::Cursor;
use crate::error::ParseError;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// From 0 to 9999.
    pub year: u16,
    /// From 1.
    pub month: u8,
    /// From 1.
    pub day: u8,
}

/// A moment, as seconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(pub i64);

impl Date {
    /// Parses `1-Feb-1994`, quoted or not.
    ///
    /// # Errors
    /// If there is no date, or no such day.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let quoted = c.take(b'"');
        let date = Self::parse_text(c, false)?;
        if quoted {
            c.need(b'"', "the closing quote of the date")?;
        }
        Ok(date)
    }

    fn parse_text(c: &mut Cursor<'_>, fixed: bool) -> Result<Self, ParseError> {
        let start = c.clone();
        // RFC 9051 §9, date-day-fixed: a space may stand for the leading zero.
        let one_digit = fixed && c.take(b' ');
        let day = digits(c, 1, if one_digit { 1 } else { 2 })?;
        c.need(b'-', "a hyphen in the date")?;
        let month = MONTHS
            .iter()
            .position(|m| c.take_word(m))
            .ok_or_else(|| c.expected("a month"))?
            + 1;
        c.need(b'-', "a hyphen in the date")?;
        let year = digits(c, 4, 4)?;
        let date = Self {
            year: year as u16,
            month: month as u8,
            day: day as u8,
        };
        if date.day == 0 || date.day > days_in(date.year, date.month) {
            return Err(start.expected("a day of the calendar"));
        }
        Ok(date)
    }

    /// Serializes the date.
    pub fn write(&self, out: &mut impl BufMut) {
        let month = MONTHS[usize::from(self.month.clamp(1, 12)) - 1];
        out.put_slice(format!("{}-{month}-{:04}", self.day, self.year).as_bytes());
    }

    fn from_days(days: i64) -> Self {
        // Days since 1 March of the year 0, in cycles of 400 years of 146,097 days.
        let days = days + 719_468;
        let cycle = days.div_euclid(146_097);
        let day = days.rem_euclid(146_097);
        let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month = (5 * day_of_year + 2) / 153;
        let year = year_of_cycle + cycle * 400 + i64::from(month >= 10);
        Self {
            year: year.clamp(0, 9999) as u16,
            month: (if month < 10 { month + 3 } else { month - 9 }) as u8,
            day: (day_of_year - (153 * month + 2) / 5 + 1) as u8,
        }
    }

    fn to_days(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
    }
}

impl DateTime {
    /// Parses `"17-Jul-1996 02:44:25 -0700"`.
    ///
    /// # Errors
    /// If there is none, or no such moment.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        c.need(b'"', "a date and time in quotes")?;
        let date = Date::parse_text(c, true)?;
        c.sp()?;
        let hour = part(c, 23)?;
        c.need(b':', "a colon in the time")?;
        let minute = part(c, 59)?;
        c.need(b':', "a colon in the time")?;
        let second = part(c, 60)?; // A leap second is the next one's first.
        c.sp()?;
        let sign = match c.peek() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(c.expected("a sign of the zone")),
        };
        c.take(b'+');
        c.take(b'-');
        let zone = part(c, 99)? * 60 + part(c, 59)?;
        c.need(b'"', "the closing quote of the date and time")?;
        Ok(Self(
            date.to_days() * 86_400 + hour * 3600 + minute * 60 + second - sign * zone * 60,
        ))
    }

    /// Serializes it in quotes, in UTC: 28 octets.
    pub fn write(self, out: &mut impl BufMut) {
        let date = Date::from_days(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        let two = |n: i64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
        out.put_u8(b'"');
        out.put_slice(&two(i64::from(date.day)));
        out.put_u8(b'-');
        out.put_slice(MONTHS[usize::from(date.month.clamp(1, 12)) - 1].as_bytes());
        out.put_u8(b'-');
        out.put_slice(&two(i64::from(date.year / 100)));
        out.put_slice(&two(i64::from(date.year % 100)));
        out.put_u8(b' ');
        out.put_slice(&two(second / 3600));
        out.put_u8(b':');
        out.put_slice(&two(second / 60 % 60));
        out.put_u8(b':');
        out.put_slice(&two(second % 60));
        out.put_slice(b" +0000\"");
    }
}

fn part(c: &mut Cursor<'_>, most: u32) -> Result<i64, ParseError> {
    let start = c.clone();
    match digits(c, 2, 2)? {
        n if n <= most => Ok(i64::from(n)),
        _ => Err(start.expected("a time of day")),
    }
}

fn digits(c: &mut Cursor<'_>, least: usize, most: usize) -> Result<u32, ParseError> {
    let start = c.clone();
    let (mut number, mut count) = (0, 0);
    while let Some(b @ b'0'..=b'9') = c.peek().filter(|_| count < most) {
        c.take(b);
        number = number * 10 + u32::from(b - b'0');
        count += 1;
    }
    if count < least {
        Err(start.expected("digits of a date"))
    } else {
        Ok(number)
    }
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Names;

    fn moment(s: &str) -> Result<i64, ParseError> {
        DateTime::parse(&mut Cursor::new(s.as_bytes(), Names::Utf7)).map(|d| d.0)
    }

    fn date(s: &str) -> Result<Date, ParseError> {
        Date::parse(&mut Cursor::new(s.as_bytes(), Names::Utf7))
    }

    fn print(t: i64) -> String {
        let mut out = Vec::new();
        DateTime(t).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_read_and_printed() {
        assert_eq!(moment("\"17-Jul-1996 02:44:25 -0700\"").unwrap(), 837_596_665);
        assert_eq!(moment("\" 1-Jan-1970 00:00:00 +0000\"").unwrap(), 0);
        assert_eq!(moment("\"29-Feb-2024 23:59:60 +0130\"").unwrap(), 1_709_245_800);
        assert_eq!(print(837_596_665), "\"17-Jul-1996 09:44:25 +0000\"");
        assert_eq!(print(-1), "\"31-Dec-1969 23:59:59 +0000\"");
        assert_eq!(print(i64::MAX / 2).len(), 28);
        assert_eq!(print(i64::MIN / 2).len(), 28);
        for bad in [
            "\"30-Feb-2024 00:00:00 +0000\"",
            "\"1-Jan-1970 24:00:00 +0000\"",
            "\"1-Jan-70 00:00:00 +0000\"",
            "17-Jul-1996 02:44:25 -0700",
            "\"17-Jul-1996 02:44:25 0700\"",
            "\"17-Jux-1996 02:44:25 +0700\"",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(
            date("1-feb-1994").unwrap(),
            Date {
                year: 1994,
                month: 2,
                day: 1
            }
        );
        assert_eq!(
            date("\"01-Feb-1994\"").unwrap(),
            Date {
                year: 1994,
                month: 2,
                day: 1
            }
        );
        for bad in [
            "0-Jan-1994",
            "32-Jan-1994",
            "1-1-1994",
            "1-Jan-94",
            "\"1-Jan-1994",
            "001-Jan-1994",
        ] {
            assert!(date(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_moment_survives_printing(t in -62_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(moment(&print(t)).unwrap(), t);
        }

        #[test]
        fn any_day_survives(days in -700_000i64..2_900_000) {
            prop_assert_eq!(Date::from_days(days).to_days(), days);
        }
    }
}
