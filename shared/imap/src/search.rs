//! SEARCH: keys, charset and return options (RFC 9051 §6.4.4, RFC 3501, RFC 5032, RFC 7162, RFC 8514).

use crate::cursor::Cursor;
use crate::datetime::Date;
use crate::error::{ErrorKind, ParseError};
use crate::fetch::FetchItem;
use crate::flags::Flag;
use crate::limits;
use crate::sequence::SequenceSet;
use crate::window::Window;
use crate::write::put_astring;

/// What a message is asked for. `UN…` keys are [`SearchKey::Not`]; keys named for a header field are
/// [`SearchKey::Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// These sequence numbers.
    Numbers(SequenceSet),
    /// These UIDs.
    Uids(SequenceSet),
    /// The flag is set.
    Flag(Flag),
    /// `NEW` of IMAP4rev1: `RECENT UNSEEN`.
    New,
    /// `OLD` of IMAP4rev1: `NOT RECENT`.
    Old,
    /// `RECENT` of IMAP4rev1.
    Recent,
    /// A header field with this name holds the text; the empty text is in every one.
    Header(String, String),
    /// The body holds the text.
    Body(String),
    /// Header or body hold the text.
    Text(String),
    /// INTERNALDATE lies before that day.
    Before(Date),
    /// INTERNALDATE lies on that day.
    On(Date),
    /// INTERNALDATE lies on that day or later.
    Since(Date),
    /// The Date field lies before that day.
    SentBefore(Date),
    /// The Date field lies on that day.
    SentOn(Date),
    /// The Date field lies on that day or later.
    SentSince(Date),
    /// More octets.
    Larger(u64),
    /// Fewer octets.
    Smaller(u64),
    /// Received longer ago than these seconds (RFC 5032).
    Older(u32),
    /// Received within these seconds (RFC 5032).
    Younger(u32),
    /// Changed at or after the modification sequence (RFC 7162).
    ModSeq(u64),
    /// Saved before that day (RFC 8514).
    SavedBefore(Date),
    /// Saved on that day.
    SavedOn(Date),
    /// Saved on that day or later.
    SavedSince(Date),
    /// `SAVEDATESUPPORTED`
    SaveDateSupported,
    /// The message has this identifier (RFC 8474 §6).
    EmailId(String),
    /// The message is of the thread with this identifier.
    ThreadId(String),
    /// The UID is higher (RFC 9738 §3.4).
    UidAfter(u32),
    /// The UID is lower.
    UidBefore(u32),
    /// All of these.
    And(Vec<SearchKey>),
    /// One or both.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// Not that.
    Not(Box<SearchKey>),
}

/// `RETURN (…)` (RFC 9051 §6.4.4, RFC 5182, RFC 9394, RFC 5267).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Return {
    /// The lowest.
    pub min: bool,
    /// The highest.
    pub max: bool,
    /// All of them, as a set.
    pub all: bool,
    /// How many.
    pub count: bool,
    /// Kept for `$`.
    pub save: bool,
    /// Some of them, by position (RFC 9394). Not beside `all`.
    pub partial: Option<Window>,
    /// Changes of the result are told (RFC 5267 §4.3).
    pub update: bool,
    /// The search will be repeated (RFC 5267 §4.2).
    pub context: bool,
}

/// A SEARCH, or a UID SEARCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// How to answer: with ESEARCH, or (none) with SEARCH.
    pub returns: Option<Return>,
    /// What `UPDATE` tells of new results (RFC 5465 §7).
    pub update_items: Vec<FetchItem>,
    /// The charset was named.
    pub charset: bool,
    /// What for.
    pub key: SearchKey,
}

impl Search {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that. [`ErrorKind::Charset`] if the charset is neither US-ASCII nor UTF-8.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let (returns, update_items) = parse_return_clause(c)?;
        let charset = c.take_word("CHARSET ");
        if charset {
            parse_charset(c)?;
            c.sp()?;
        }
        Ok(Self {
            returns,
            update_items,
            charset,
            key: parse_keys(c)?,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_return_clause(self.returns, &self.update_items, out);
        if self.charset {
            out.extend_from_slice(b"CHARSET UTF-8 ");
        }
        self.key.write_program(out);
    }
}

/// The charset of a search, which must be one that we have.
pub(crate) fn parse_charset(c: &mut Cursor<'_>) -> Result<(), ParseError> {
    let start = c.clone();
    let name = c.astring()?;
    if ["UTF-8", "US-ASCII", "UTF8", "ASCII"]
        .iter()
        .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
    {
        Ok(())
    } else {
        Err(start.error(ErrorKind::Charset, "the charset is not known"))
    }
}

/// The keys at the end of a search.
pub(crate) fn parse_keys(c: &mut Cursor<'_>) -> Result<SearchKey, ParseError> {
    let mut parser = Parser {
        left: limits::SEARCH_KEYS,
    };
    let mut keys = vec![parser.key(c, 0)?];
    while c.take(b' ') {
        keys.push(parser.key(c, 0)?);
    }
    Ok(and(keys))
}

/// `RETURN (…)` and the space after it, if it is there, with the items of `UPDATE`.
pub(crate) fn parse_return_clause(c: &mut Cursor<'_>) -> Result<(Option<Return>, Vec<FetchItem>), ParseError> {
    if !c.take_word("RETURN ") {
        return Ok((None, Vec::new()));
    }
    let (returns, items) = parse_returns(c)?;
    c.sp()?;
    Ok((Some(returns), items))
}

/// What [`parse_return_clause`] reads.
pub(crate) fn write_return_clause(returns: Option<Return>, update_items: &[FetchItem], out: &mut Vec<u8>) {
    let Some(r) = returns else { return };
    let names = [
        (r.min, "MIN"),
        (r.max, "MAX"),
        (r.all, "ALL"),
        (r.count, "COUNT"),
        (r.save, "SAVE"),
        (r.context, "CONTEXT"),
        (r.update, "UPDATE"),
    ];
    out.extend_from_slice(b"RETURN (");
    let mut before: &[u8] = b"";
    for (_, name) in names.iter().filter(|n| n.0) {
        out.extend_from_slice(before);
        out.extend_from_slice(name.as_bytes());
        before = b" ";
    }
    if r.update && !update_items.is_empty() {
        out.extend_from_slice(b" (");
        for (i, item) in update_items.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            item.write(out);
        }
        out.push(b')');
    }
    if let Some(window) = r.partial {
        out.extend_from_slice(before);
        out.extend_from_slice(b"PARTIAL ");
        window.write(out);
    }
    out.extend_from_slice(b") ");
}

fn parse_returns(c: &mut Cursor<'_>) -> Result<(Return, Vec<FetchItem>), ParseError> {
    let mut r = Return::default();
    let mut items = Vec::new();
    let list = c.clone();
    c.list(10, true, |c| {
        let start = c.clone();
        match c.word("a return option")?.as_str() {
            "MIN" => r.min = true,
            "MAX" => r.max = true,
            "ALL" => r.all = true,
            "COUNT" => r.count = true,
            "SAVE" => r.save = true,
            "CONTEXT" => r.context = true,
            "UPDATE" => {
                r.update = true;
                let mut ahead = c.clone();
                if ahead.take(b' ') && ahead.peek() == Some(b'(') {
                    c.sp()?;
                    items = c.list(limits::FETCH_ITEMS, false, FetchItem::parse)?;
                }
            }
            "PARTIAL" if r.partial.is_none() => {
                c.sp()?;
                r.partial = Some(Window::parse(c)?);
            }
            _ => {
                return Err(
                    start.expected("a return option: MIN, MAX, ALL, COUNT, SAVE, PARTIAL (once), CONTEXT or UPDATE")
                );
            }
        }
        Ok(())
    })?;
    // RFC 9394 §3.1, RFC 5267 §4.4.
    if r.all && r.partial.is_some() {
        return Err(list.expected("ALL or PARTIAL, not both"));
    }
    // RFC 9051 §6.4.4: no option is ALL.
    if r == Return::default() {
        r.all = true;
    }
    Ok((r, items))
}

fn and(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.len() {
        1 => keys.remove(0),
        _ => SearchKey::And(keys),
    }
}

struct Parser {
    left: usize,
}

impl Parser {
    fn key(&mut self, c: &mut Cursor<'_>, depth: usize) -> Result<SearchKey, ParseError> {
        use SearchKey as K;
        if depth > limits::SEARCH_DEPTH {
            return Err(c.limit("the search is nested too deeply"));
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| c.limit("the search has too many keys"))?;
        match c.peek() {
            Some(b'(') => {
                c.take(b'(');
                let mut keys = vec![self.key(c, depth + 1)?];
                while c.take(b' ') {
                    keys.push(self.key(c, depth + 1)?);
                }
                c.need(b')', "a closing parenthesis")?;
                return Ok(and(keys));
            }
            Some(b'0'..=b'9' | b'*' | b'$') => return SequenceSet::parse(c).map(K::Numbers),
            _ => {}
        }
        let start = c.clone();
        let word = c.word("a search key")?;
        let not = |key| K::Not(Box::new(key));
        let system = |flag: Flag| K::Flag(flag);
        Ok(match word.as_str() {
            "ALL" => K::All,
            "ANSWERED" => system(Flag::Answered),
            "DELETED" => system(Flag::Deleted),
            "DRAFT" => system(Flag::Draft),
            "FLAGGED" => system(Flag::Flagged),
            "SEEN" => system(Flag::Seen),
            "UNANSWERED" => not(system(Flag::Answered)),
            "UNDELETED" => not(system(Flag::Deleted)),
            "UNDRAFT" => not(system(Flag::Draft)),
            "UNFLAGGED" => not(system(Flag::Flagged)),
            "UNSEEN" => not(system(Flag::Seen)),
            "NEW" => K::New,
            "OLD" => K::Old,
            "RECENT" => K::Recent,
            "KEYWORD" => keyword(c)?,
            "UNKEYWORD" => not(keyword(c)?),
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => K::Header(word.to_ascii_lowercase(), text(c)?),
            "HEADER" => {
                let name = text(c)?.to_ascii_lowercase();
                K::Header(name, text(c)?)
            }
            "BODY" => K::Body(text(c)?),
            "TEXT" => K::Text(text(c)?),
            "BEFORE" => K::Before(date(c)?),
            "ON" => K::On(date(c)?),
            "SINCE" => K::Since(date(c)?),
            "SENTBEFORE" => K::SentBefore(date(c)?),
            "SENTON" => K::SentOn(date(c)?),
            "SENTSINCE" => K::SentSince(date(c)?),
            "SAVEDBEFORE" => K::SavedBefore(date(c)?),
            "SAVEDON" => K::SavedOn(date(c)?),
            "SAVEDSINCE" => K::SavedSince(date(c)?),
            "SAVEDATESUPPORTED" => K::SaveDateSupported,
            "EMAILID" => K::EmailId(object_id(c)?),
            "THREADID" => K::ThreadId(object_id(c)?),
            "UIDAFTER" => K::UidAfter(uid(c)?),
            "UIDBEFORE" => K::UidBefore(uid(c)?),
            "LARGER" => K::Larger(number(c)?),
            "SMALLER" => K::Smaller(number(c)?),
            "OLDER" => K::Older(seconds(c)?),
            "YOUNGER" => K::Younger(seconds(c)?),
            "MODSEQ" => modseq(c)?,
            "UID" => {
                c.sp()?;
                K::Uids(SequenceSet::parse(c)?)
            }
            "NOT" => {
                c.sp()?;
                not(self.key(c, depth + 1)?)
            }
            "OR" => {
                c.sp()?;
                let left = self.key(c, depth + 1)?;
                c.sp()?;
                K::Or(Box::new(left), Box::new(self.key(c, depth + 1)?))
            }
            _ => return Err(start.expected("a search key")),
        })
    }
}

fn text(c: &mut Cursor<'_>) -> Result<String, ParseError> {
    c.sp()?;
    c.astring_utf8()
}

fn date(c: &mut Cursor<'_>) -> Result<Date, ParseError> {
    c.sp()?;
    Date::parse(c)
}

fn number(c: &mut Cursor<'_>) -> Result<u64, ParseError> {
    c.sp()?;
    c.number64("a number of octets")
}

fn seconds(c: &mut Cursor<'_>) -> Result<u32, ParseError> {
    c.sp()?;
    c.nz_number("a number of seconds")
}

/// RFC 8474 §7, objectid.
fn object_id(c: &mut Cursor<'_>) -> Result<String, ParseError> {
    c.sp()?;
    let start = c.clone();
    let id = c.span(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match std::str::from_utf8(id) {
        Ok(id) if (1..=limits::OBJECT_ID).contains(&id.len()) => Ok(id.to_owned()),
        _ => Err(start.expected("an object identifier of 1 to 255 letters, digits, _ and -")),
    }
}

fn uid(c: &mut Cursor<'_>) -> Result<u32, ParseError> {
    c.sp()?;
    c.nz_number("a UID")
}

fn keyword(c: &mut Cursor<'_>) -> Result<SearchKey, ParseError> {
    c.sp()?;
    let name = c.atom("a keyword")?;
    Flag::keyword(name)
        .map(SearchKey::Flag)
        .ok_or_else(|| c.limit("the keyword is too long"))
}

/// RFC 7162 §3.1.5: an entry's name and type may come first; they narrow what we don't keep apart.
fn modseq(c: &mut Cursor<'_>) -> Result<SearchKey, ParseError> {
    c.sp()?;
    if c.peek() == Some(b'"') {
        c.string()?;
        c.sp()?;
        if !["priv", "shared", "all"].iter().any(|kind| c.take_word(kind)) {
            return Err(c.expected("priv, shared or all"));
        }
        c.sp()?;
    }
    c.number64("a modification sequence").map(SearchKey::ModSeq)
}

fn write_keys(keys: &[SearchKey], out: &mut Vec<u8>) {
    for (i, key) in keys.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        key.write(out);
    }
}

impl SearchKey {
    /// Serializes it as the keys at the end of a search.
    pub(crate) fn write_program(&self, out: &mut Vec<u8>) {
        match self {
            Self::And(keys) if keys.len() > 1 => write_keys(keys, out),
            key => key.write(out),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut word = |s: &str| out.extend_from_slice(s.as_bytes());
        match self {
            Self::All => word("ALL"),
            Self::New => word("NEW"),
            Self::Old => word("OLD"),
            Self::Recent => word("RECENT"),
            Self::SaveDateSupported => word("SAVEDATESUPPORTED"),
            Self::EmailId(id) => word(&format!("EMAILID {id}")),
            Self::ThreadId(id) => word(&format!("THREADID {id}")),
            Self::UidAfter(uid) => word(&format!("UIDAFTER {uid}")),
            Self::UidBefore(uid) => word(&format!("UIDBEFORE {uid}")),
            Self::Numbers(set) => set.write(out),
            Self::Uids(set) => {
                word("UID ");
                set.write(out);
            }
            Self::Flag(Flag::Keyword(name)) => word(&format!("KEYWORD {name}")),
            Self::Flag(flag) => word(&flag.as_str()[1..].to_ascii_uppercase()),
            Self::Header(name, value) => {
                word("HEADER ");
                put_astring(out, name.as_bytes(), true);
                write_text(" ", value, out);
            }
            Self::Body(value) => write_text("BODY ", value, out),
            Self::Text(value) => write_text("TEXT ", value, out),
            Self::Before(d) => write_date("BEFORE ", d, out),
            Self::On(d) => write_date("ON ", d, out),
            Self::Since(d) => write_date("SINCE ", d, out),
            Self::SentBefore(d) => write_date("SENTBEFORE ", d, out),
            Self::SentOn(d) => write_date("SENTON ", d, out),
            Self::SentSince(d) => write_date("SENTSINCE ", d, out),
            Self::SavedBefore(d) => write_date("SAVEDBEFORE ", d, out),
            Self::SavedOn(d) => write_date("SAVEDON ", d, out),
            Self::SavedSince(d) => write_date("SAVEDSINCE ", d, out),
            Self::Larger(n) => word(&format!("LARGER {n}")),
            Self::Smaller(n) => word(&format!("SMALLER {n}")),
            Self::Older(n) => word(&format!("OLDER {n}")),
            Self::Younger(n) => word(&format!("YOUNGER {n}")),
            Self::ModSeq(n) => word(&format!("MODSEQ {n}")),
            Self::And(keys) => {
                word("(");
                write_keys(keys, out);
                out.push(b')');
            }
            Self::Or(a, b) => {
                word("OR ");
                a.write(out);
                out.push(b' ');
                b.write(out);
            }
            Self::Not(key) => {
                word("NOT ");
                key.write(out);
            }
        }
    }
}

fn write_text(before: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(before.as_bytes());
    put_astring(out, value.as_bytes(), true);
}

fn write_date(before: &str, date: &Date, out: &mut Vec<u8>) {
    out.extend_from_slice(before.as_bytes());
    date.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Names;

    fn parse(s: &str) -> Result<Search, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let search = Search::parse(&mut c)?;
        c.end()?;
        Ok(search)
    }

    fn key(s: &str) -> SearchKey {
        parse(s).unwrap().key
    }

    #[test]
    fn keys_are_read() {
        use SearchKey as K;
        let seen = || K::Flag(Flag::Seen);
        assert_eq!(key("UNSEEN"), key("NOT SEEN"));
        assert_eq!(key("subject \"a b\""), K::Header("subject".into(), "a b".into()));
        assert_eq!(key("HEADER Subject x"), key("SUBJECT x"));
        assert_eq!(key("SEEN (ALL)"), K::And(vec![seen(), K::All]));
        assert_eq!(
            key("OR SEEN (ALL SEEN)"),
            K::Or(Box::new(seen()), Box::new(K::And(vec![K::All, seen()])))
        );
        assert_eq!(
            key("SINCE 1-Feb-1994"),
            K::Since(Date {
                year: 1994,
                month: 2,
                day: 1
            })
        );
        assert_eq!(key("MODSEQ \"/flags/\\\\draft\" all 5"), K::ModSeq(5));
        assert_eq!(key("EMAILID M0-a_9"), K::EmailId("M0-a_9".into()));
        assert_eq!(key("THREADID Tx"), K::ThreadId("Tx".into()));
        assert_eq!(key("UIDAFTER 7"), K::UidAfter(7));
        assert_eq!(key("UIDBEFORE 7"), K::UidBefore(7));
        assert!(matches!(key("UID 1:*"), K::Uids(_)));
        assert!(matches!(key("2,4:*"), K::Numbers(_)));
        assert_eq!(key("CHARSET utf-8 TEXT {3}\r\n\u{fc}a"), K::Text("üa".into()));
    }

    #[test]
    fn return_options_are_read() {
        assert_eq!(
            parse("RETURN () ALL").unwrap().returns,
            Some(Return {
                all: true,
                ..Return::default()
            })
        );
        let want = Return {
            min: true,
            count: true,
            ..Return::default()
        };
        assert_eq!(parse("RETURN (MIN COUNT) SEEN").unwrap().returns, Some(want));
        let search = parse("RETURN (UPDATE (UID FLAGS) PARTIAL -1:-10 CONTEXT) ALL").unwrap();
        let want = Return {
            partial: Some(Window {
                first: 1,
                last: 10,
                from_end: true,
            }),
            update: true,
            context: true,
            ..Return::default()
        };
        assert_eq!(search.returns, Some(want));
        assert_eq!(search.update_items, [FetchItem::Uid, FetchItem::Flags]);
        for bad in [
            "RETURN (NONE) ALL",
            "RETURN (ALL PARTIAL 1:2) ALL",
            "RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
            "RETURN (PARTIAL) ALL",
            "RETURN (UPDATE ()) ALL",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_search_is_refused() {
        for bad in [
            "",
            "NONE",
            "OR SEEN",
            "(SEEN",
            "NOT",
            "SUBJECT",
            "UID",
            "LARGER x",
            "ALL ",
            "KEYWORD \\Seen",
            "EMAILID",
            "EMAILID \"a\"",
            "THREADID a.b",
            "UIDAFTER 0",
            "UIDBEFORE *",
        ] {
            assert_eq!(parse(bad).unwrap_err().kind, ErrorKind::Syntax, "{bad:?}");
        }
        assert_eq!(parse("CHARSET koi8-r ALL").unwrap_err().kind, ErrorKind::Charset);
        assert_eq!(
            parse(&format!("{}ALL", "NOT ".repeat(60))).unwrap_err().kind,
            ErrorKind::Limit
        );
        assert_eq!(parse(&"ALL ".repeat(5000)).unwrap_err().kind, ErrorKind::Limit);
        assert!(parse(&format!("{}ALL", "NOT ".repeat(40))).is_ok());
    }
}
