//! ESEARCH: searching several mailboxes (RFC 7377).

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::limits;
use crate::notify::Filter;
use crate::search::Search;

/// An ESEARCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiSearch {
    /// Where; nowhere means the selected mailbox.
    pub sources: Vec<Filter>,
    /// What for.
    pub search: Search,
}

impl MultiSearch {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that, or the charset is not known.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut sources = Vec::new();
        if c.take_word("IN (") {
            loop {
                if sources.len() >= limits::SOURCES {
                    return Err(c.limit("ESEARCH has too many sources"));
                }
                let start = c.clone();
                match Filter::parse(c)? {
                    // RFC 7377 §2.2.
                    Filter::SelectedDelayed => return Err(start.expected("another source than SELECTED-DELAYED")),
                    filter => sources.push(filter),
                }
                if c.take(b')') {
                    break;
                }
                c.sp()?;
                if c.peek() == Some(b'(') {
                    return Err(c.expected("no scope options, as none are defined"));
                }
            }
            c.sp()?;
        }
        Ok(Self {
            sources,
            search: Search::parse(c)?,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        if !self.sources.is_empty() {
            out.extend_from_slice(b"IN (");
            for (i, source) in self.sources.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                source.write(names, out);
            }
            out.extend_from_slice(b") ");
        }
        self.search.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<MultiSearch, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let search = MultiSearch::parse(&mut c)?;
        c.end()?;
        Ok(search)
    }

    #[test]
    fn sources_are_read() {
        let got = parse("IN (mailboxes \"folder1\" subtree-one (a b) personal) RETURN (COUNT) unseen").unwrap();
        assert_eq!(
            got.sources,
            [
                Filter::Mailboxes(vec!["folder1".into()]),
                Filter::SubtreeOne(vec!["a".into(), "b".into()]),
                Filter::Personal
            ]
        );
        assert!(got.search.returns.unwrap().count);
        assert_eq!(parse("ALL").unwrap().sources, []);
        for bad in [
            "IN () ALL",
            "IN (selected-delayed) ALL",
            "IN (personal (x)) ALL",
            "IN (personal)",
            "IN personal ALL",
            "IN (mailboxes) ALL",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
