//! What is searched for, in the form in which it is tested.

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::UidRange;
use mox_proto::mail::v1::search_key::Key;

use super::text::Needle;
use crate::account::{AccountError, KeywordTable, Wanted, contains, normalize};
use crate::search::Found;

/// Most parts of a search: far more than what fits into a command that people or programs make.
const NODES_MAX: usize = 1000;
/// Most octets of all texts of a search.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Seconds.
const DAY: i64 = 86_400;

/// A condition.
#[derive(Debug)]
pub enum Node {
    All,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Flag(u32),
    /// `None`: the account has never seen it.
    Keyword(Option<u32>),
    Uids(Vec<UidRange>),
    Days(Time, Days),
    Larger(u64),
    Smaller(u64),
    Modseq(u64),
    /// INTERNALDATE is at most this.
    ReceivedUntil(i64),
    /// INTERNALDATE is at least this.
    ReceivedSince(i64),
    /// RFC 8474.
    EmailId(Bytes),
    /// RFC 8474.
    ThreadId(Bytes),
    /// Index into the texts.
    Text(usize),
}

/// Which time is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// INTERNALDATE, known from the index.
    Received,
    /// RFC 8514.
    Saved,
    /// The day in the Date field.
    Sent,
}

/// Days since 1970, from the first to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(i64, i64);

/// A search, compiled.
#[derive(Debug)]
pub struct Search {
    pub root: Node,
    /// What needs the message itself, in the order of [`Node::Text`].
    pub texts: Vec<Needle>,
    /// Whether some message may need its envelope.
    pub sent: bool,
    /// Whether some message may need its identifiers.
    pub ids: bool,
}

impl Search {
    /// From a request.
    pub fn compile(
        key: &mail::SearchKey,
        keywords: &KeywordTable,
        uid_next: u32,
        now: i64,
    ) -> Result<Self, AccountError> {
        let mut compiler = Compiler {
            keywords,
            uid_next,
            now,
            nodes: 0,
            bytes: 0,
            texts: Vec::new(),
            sent: false,
            ids: false,
        };
        let root = compiler.node(key)?;
        Ok(Self {
            root,
            texts: compiler.texts,
            sent: compiler.sent,
            ids: compiler.ids,
        })
    }
}

struct Compiler<'a> {
    keywords: &'a KeywordTable,
    uid_next: u32,
    now: i64,
    nodes: usize,
    bytes: usize,
    texts: Vec<Needle>,
    sent: bool,
    ids: bool,
}

impl Compiler<'_> {
    fn node(&mut self, key: &mail::SearchKey) -> Result<Node, AccountError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(AccountError::Limit("at most 1000 conditions in a search"));
        }
        let key = key
            .key
            .as_ref()
            .ok_or_else(|| AccountError::Invalid("an empty search condition".into()))?;
        Ok(match key {
            Key::All(_) => Node::All,
            Key::And(list) => Node::And(self.list(list)?),
            Key::Or(list) => Node::Or(self.list(list)?),
            Key::Not(key) => Node::Not(Box::new(self.node(key)?)),
            Key::Flag(bits) => Node::Flag(*bits),
            Key::Keyword(keyword) => {
                let flags = mail::Flags {
                    bits: 0,
                    keywords: vec![keyword.clone()],
                };
                let wanted = Wanted::new(&flags)?;
                match wanted.keywords.first() {
                    None => Node::Flag(wanted.bits),
                    Some(keyword) => Node::Keyword(self.keywords.number(keyword)),
                }
            }
            Key::Header(header) => self.text(Needle::header(&header.name, &header.value), header.value.len())?,
            Key::Body(text) => self.text(Needle::body(text), text.len())?,
            Key::Text(text) => self.text(Needle::text(text), text.len())?,
            Key::EmailId(id) => {
                self.ids = true;
                Node::EmailId(id.clone())
            }
            Key::ThreadId(id) => {
                self.ids = true;
                Node::ThreadId(id.clone())
            }
            Key::Uids(uids) => Node::Uids(normalize(&uids.ranges, self.uid_next)),
            Key::Before(day) => self.days(Time::Received, i64::MIN, number(day)?),
            Key::On(day) => self.days(Time::Received, number(day)?, number(day)? + 1),
            Key::Since(day) => self.days(Time::Received, number(day)?, i64::MAX),
            Key::SentBefore(day) => self.days(Time::Sent, i64::MIN, number(day)?),
            Key::SentOn(day) => self.days(Time::Sent, number(day)?, number(day)? + 1),
            Key::SentSince(day) => self.days(Time::Sent, number(day)?, i64::MAX),
            Key::SavedBefore(day) => self.days(Time::Saved, i64::MIN, number(day)?),
            Key::SavedOn(day) => self.days(Time::Saved, number(day)?, number(day)? + 1),
            Key::SavedSince(day) => self.days(Time::Saved, number(day)?, i64::MAX),
            Key::Larger(size) => Node::Larger(*size),
            Key::Smaller(size) => Node::Smaller(*size),
            Key::Modseq(modseq) => Node::Modseq(modseq.at_least),
            // RFC 5032 §2: the interval is from now, in seconds.
            Key::Older(seconds) => Node::ReceivedUntil(self.now.saturating_sub(*seconds)),
            Key::Younger(seconds) => Node::ReceivedSince(self.now.saturating_sub(*seconds)),
        })
    }

    fn list(&mut self, list: &mail::search_key::List) -> Result<Vec<Node>, AccountError> {
        list.keys.iter().map(|key| self.node(key)).collect()
    }

    fn text(&mut self, needle: Needle, bytes: usize) -> Result<Node, AccountError> {
        self.bytes += bytes;
        if self.bytes > TEXT_BYTES_MAX {
            return Err(AccountError::Limit("at most 65536 octets of text in a search"));
        }
        self.texts.push(needle);
        Ok(Node::Text(self.texts.len() - 1))
    }

    fn days(&mut self, time: Time, from: i64, before: i64) -> Node {
        self.sent |= time == Time::Sent;
        Node::Days(time, Days(from, before))
    }
}

/// Days since 1970.
fn number(day: &mail::search_key::Day) -> Result<i64, AccountError> {
    let invalid = || AccountError::Invalid(format!("no such day: {}-{}-{}", day.year, day.month, day.day));
    let month = u8::try_from(day.month)
        .ok()
        .and_then(|m| time::Month::try_from(m).ok())
        .ok_or_else(invalid)?;
    let of_month = u8::try_from(day.day).map_err(|_| invalid())?;
    let date = time::Date::from_calendar_date(day.year, month, of_month).map_err(|_| invalid())?;
    Ok(i64::from(
        date.to_julian_day() - time::macros::date!(1970 - 01 - 01).to_julian_day(),
    ))
}

/// What the index says of a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<'a> {
    pub uid: u32,
    pub flags: u32,
    pub keywords: &'a [u32],
    pub modseq: u64,
    pub size: u64,
    pub received: i64,
    /// As in [`More`]: older rows do not say.
    pub saved: Option<i64>,
    /// As in [`More`].
    pub sent: Option<Option<i64>>,
    /// By which the index of texts knows it; 0 is none.
    pub number: u32,
}

/// What else is known of a message; the outer `None`: not yet.
#[derive(Debug, Clone, Default)]
pub struct More<'a> {
    /// What the index of texts knows.
    pub index: Option<&'a Found>,
    /// Seconds since 1970.
    pub saved: Option<i64>,
    /// EMAILID and THREADID.
    pub ids: Option<(Bytes, Bytes)>,
    /// Days since 1970 in the Date field, if it has one.
    pub sent: Option<Option<i64>>,
    /// By index of [`Node::Text`].
    pub texts: Vec<Option<bool>>,
}

impl Node {
    /// Whether a message meets the condition; `None`: more has to be known.
    pub fn test(&self, row: &Row<'_>, more: &More<'_>) -> Option<bool> {
        Some(match self {
            Node::All => true,
            Node::And(nodes) => return all(nodes, row, more, false),
            Node::Or(nodes) => return all(nodes, row, more, true),
            Node::Not(node) => !node.test(row, more)?,
            Node::Flag(bits) => row.flags & bits != 0,
            Node::Keyword(number) => number.is_some_and(|n| row.keywords.contains(&n)),
            Node::Uids(ranges) => contains(ranges, row.uid),
            // RFC 9051 §6.4.4: times and timezones are disregarded; ours are those of UTC.
            Node::Days(Time::Received, days) => days.contain(row.received.div_euclid(DAY)),
            Node::Days(Time::Saved, days) => days.contain(row.saved.or(more.saved)?.div_euclid(DAY)),
            Node::EmailId(id) => more.ids.as_ref()?.0 == id,
            Node::ThreadId(id) => more.ids.as_ref()?.1 == id,
            Node::Days(Time::Sent, days) => row.sent.or(more.sent)?.is_some_and(|day| days.contain(day)),
            Node::Larger(size) => row.size > *size,
            Node::Smaller(size) => row.size < *size,
            Node::Modseq(modseq) => row.modseq >= *modseq,
            Node::ReceivedUntil(at) => row.received <= *at,
            Node::ReceivedSince(at) => row.received >= *at,
            Node::Text(number) => {
                let read = more.texts.get(*number).copied().flatten();
                return read.or_else(|| more.index?.test(*number, row.number));
            }
        })
    }
}

/// AND of conditions, or OR if `or`: one that decides is enough, the others need not be known.
fn all(nodes: &[Node], row: &Row<'_>, more: &More<'_>, or: bool) -> Option<bool> {
    let mut known = true;
    for node in nodes {
        match node.test(row, more) {
            Some(result) if result == or => return Some(or),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(!or)
}

impl Days {
    fn contain(self, day: i64) -> bool {
        self.0 <= day && day < self.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: Key) -> mail::SearchKey {
        mail::SearchKey { key: Some(key) }
    }

    const ROW: Row<'static> = Row {
        uid: 7,
        flags: 1,
        keywords: &[0],
        modseq: 9,
        size: 100,
        received: 1_700_000_000,
        saved: None,
        sent: None,
        number: 0,
    };

    fn test(k: &mail::SearchKey, more: &More<'_>) -> Option<bool> {
        let mut table = KeywordTable::default();
        table.ensure("work").unwrap();
        Search::compile(k, &table, 100, 1_700_000_100)
            .unwrap()
            .root
            .test(&ROW, more)
    }

    #[test]
    fn the_index_decides_what_it_can() {
        let day = |day| mail::search_key::Day {
            year: 2023,
            month: 11,
            day,
        };
        let none = More::default();
        for (k, expected) in [
            (Key::All(Default::default()), true),
            (Key::Flag(1), true),
            (Key::Flag(2), false),
            (Key::Keyword("WORK".into()), true),
            (Key::Keyword("other".into()), false),
            (Key::Keyword("$junk".into()), false),
            (Key::On(day(14)), true),
            (Key::Before(day(14)), false),
            (Key::Since(day(14)), true),
            (Key::Larger(99), true),
            (Key::Smaller(100), false),
            (Key::Modseq(mail::search_key::Modseq { at_least: 9 }), true),
            (Key::Older(100), true),
            (Key::Younger(99), false),
        ] {
            assert_eq!(test(&key(k.clone()), &none), Some(expected), "{k:?}");
        }
        let bad = key(Key::On(mail::search_key::Day {
            year: 2023,
            month: 2,
            day: 30,
        }));
        assert!(Search::compile(&bad, &KeywordTable::default(), 1, 0).is_err());
    }

    #[test]
    fn what_decides_alone_does_not_wait_for_the_rest() {
        let text = || key(Key::Body("x".into()));
        let list = |keys| mail::search_key::List { keys };
        let none = More::default();
        let seen = || key(Key::Flag(1));
        let unanswered = || key(Key::Flag(2));
        assert_eq!(
            test(&key(Key::And(list(vec![text(), unanswered()]))), &none),
            Some(false)
        );
        assert_eq!(test(&key(Key::And(list(vec![text(), seen()]))), &none), None);
        assert_eq!(test(&key(Key::Or(list(vec![text(), seen()]))), &none), Some(true));
        assert_eq!(test(&key(Key::Not(Box::new(text()))), &none), None);
        let known = More {
            texts: vec![Some(true)],
            ..More::default()
        };
        assert_eq!(test(&key(Key::Not(Box::new(text()))), &known), Some(false));
    }

    #[test]
    fn days_are_those_of_the_sender() {
        let nov_22 = number(&mail::search_key::Day {
            year: 2026,
            month: 11,
            day: 22,
        })
        .unwrap();
        let day_of = |date: &[u8]| mox_message::sent_day(date).map(i64::from);
        assert_eq!(day_of(b"Sun, 22 Nov 2026 23:30:00 -0800"), Some(nov_22));
        assert_eq!(day_of(b"Sun, 22 Nov 2026 00:30:00 +0100"), Some(nov_22));
        assert_eq!(day_of(b"22 Nov 2026 00:30:00 GMT"), Some(nov_22));
        assert_eq!(day_of(b"someday"), None);
    }

    #[test]
    fn searches_are_bounded() {
        let keys = vec![key(Key::Flag(1)); NODES_MAX];
        let many = key(Key::And(mail::search_key::List { keys }));
        assert!(Search::compile(&many, &KeywordTable::default(), 1, 0).is_err());
        let long = key(Key::Body("x".repeat(TEXT_BYTES_MAX + 1)));
        assert!(Search::compile(&long, &KeywordTable::default(), 1, 0).is_err());
    }
}
