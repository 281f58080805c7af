//! SORT and THREAD (RFC 5256), with DISPLAYFROM and DISPLAYTO (RFC 5957) and return options (RFC 5267).

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::fetch::FetchItem;
use crate::limits;
use crate::search::{self, Return, SearchKey};

/// What messages are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// INTERNALDATE, with its time.
    Arrival,
    /// The mailbox of the first Cc address.
    Cc,
    /// The Date field.
    Date,
    /// The mailbox of the first From address.
    From,
    /// Octets.
    Size,
    /// The base subject.
    Subject,
    /// The mailbox of the first To address.
    To,
    /// The first From address as it is shown (RFC 5957).
    DisplayFrom,
    /// The first To address as it is shown (RFC 5957).
    DisplayTo,
}

const KEYS: [(SortKey, &str); 9] = [
    (SortKey::Arrival, "ARRIVAL"),
    (SortKey::Cc, "CC"),
    (SortKey::Date, "DATE"),
    (SortKey::From, "FROM"),
    (SortKey::Size, "SIZE"),
    (SortKey::Subject, "SUBJECT"),
    (SortKey::To, "TO"),
    (SortKey::DisplayFrom, "DISPLAYFROM"),
    (SortKey::DisplayTo, "DISPLAYTO"),
];

/// One criterion; those before it are stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Criterion {
    /// What by.
    pub key: SortKey,
    /// The other way round.
    pub reverse: bool,
}

/// A SORT, or a UID SORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// How to answer: with ESEARCH, or (none) with SORT.
    pub returns: Option<Return>,
    /// What `UPDATE` tells of new results (RFC 5465 §7).
    pub update_items: Vec<FetchItem>,
    /// At least one.
    pub criteria: Vec<Criterion>,
    /// Of which messages.
    pub key: SearchKey,
}

impl Sort {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that, or the charset is not known.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let (returns, update_items) = search::parse_return_clause(c)?;
        let criteria = c.list(limits::SORT_CRITERIA, false, |c| {
            let reverse = c.take_word("REVERSE ");
            let start = c.clone();
            let word = c.word("a sort criterion")?;
            let key = KEYS.iter().find(|k| k.1 == word).map(|k| k.0);
            let key = key.ok_or_else(|| {
                start.expected("a sort criterion: ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO, DISPLAYFROM or DISPLAYTO")
            })?;
            Ok(Criterion { key, reverse })
        })?;
        c.sp()?;
        search::parse_charset(c)?;
        c.sp()?;
        Ok(Self {
            returns,
            update_items,
            criteria,
            key: search::parse_keys(c)?,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        search::write_return_clause(self.returns, &self.update_items, out);
        out.push(b'(');
        for (i, criterion) in self.criteria.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            if criterion.reverse {
                out.extend_from_slice(b"REVERSE ");
            }
            let name = KEYS.iter().find(|k| k.0 == criterion.key).map_or("", |k| k.1);
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(b") UTF-8 ");
        self.key.write_program(out);
    }
}

/// How messages are put in threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// By subject and date.
    OrderedSubject,
    /// By what replies refer to.
    References,
}

/// A THREAD, or a UID THREAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// How.
    pub algorithm: Algorithm,
    /// Which messages.
    pub key: SearchKey,
}

impl Thread {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that, or the charset is not known.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let start = c.clone();
        let algorithm = match c.word("a threading algorithm")?.as_str() {
            "ORDEREDSUBJECT" => Algorithm::OrderedSubject,
            "REFERENCES" => Algorithm::References,
            _ => return Err(start.expected("a threading algorithm: REFERENCES or ORDEREDSUBJECT")),
        };
        c.sp()?;
        search::parse_charset(c)?;
        c.sp()?;
        Ok(Self {
            algorithm,
            key: search::parse_keys(c)?,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.algorithm {
            Algorithm::OrderedSubject => b"ORDEREDSUBJECT",
            Algorithm::References => b"REFERENCES",
        });
        out.extend_from_slice(b" UTF-8 ");
        self.key.write_program(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Names;
    use crate::error::ErrorKind;

    fn parse<T>(s: &str, parser: impl Fn(&mut Cursor<'_>) -> Result<T, ParseError>) -> Result<T, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let value = parser(&mut c)?;
        c.end()?;
        Ok(value)
    }

    #[test]
    fn sorts_are_read() {
        let sort = parse("(subject reverse date) utf-8 ALL", Sort::parse).unwrap();
        let want = [(SortKey::Subject, false), (SortKey::Date, true)];
        assert_eq!(sort.criteria, want.map(|(key, reverse)| Criterion { key, reverse }));
        assert_eq!((sort.returns, sort.key), (None, SearchKey::All));
        let sort = parse(
            "RETURN () (REVERSE DISPLAYFROM) \"US-ASCII\" UNDELETED UNKEYWORD $Junk",
            Sort::parse,
        );
        assert!(sort.unwrap().returns.unwrap().all);
        for bad in [
            "",
            "() UTF-8 ALL",
            "SUBJECT UTF-8 ALL",
            "(REVERSE) UTF-8 ALL",
            "(REVERSE REVERSE DATE) UTF-8 ALL",
            "(COLOUR) UTF-8 ALL",
            "(DATE) UTF-8",
            "(DATE) UTF-8 ",
        ] {
            assert_eq!(parse(bad, Sort::parse).unwrap_err().kind, ErrorKind::Syntax, "{bad:?}");
        }
        // RFC 5256: the charset must be named.
        let error = parse("(DATE) ALL", Sort::parse).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Charset);
    }

    #[test]
    fn threads_are_read() {
        let thread = parse("references UTF-8 SINCE 5-MAR-2000", Thread::parse).unwrap();
        assert_eq!(thread.algorithm, Algorithm::References);
        for bad in ["", "REFERENCES", "REFS UTF-8 ALL", "ORDEREDSUBJECT UTF-8"] {
            assert_eq!(
                parse(bad, Thread::parse).unwrap_err().kind,
                ErrorKind::Syntax,
                "{bad:?}"
            );
        }
    }
}
