//! LIST and LSUB, with the options of RFC 5258 and what extends them (RFC 9051 §6.3.9).

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::status::{self, StatusItem};
use crate::{limits, mailbox, metadata};

/// `LIST (…)`: which mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Select {
    /// Subscribed names, also of mailboxes that don't exist.
    pub subscribed: bool,
    /// Remote mailboxes too; we have none.
    pub remote: bool,
    /// Parents that don't match, of children that do.
    pub recursive_match: bool,
    /// Mailboxes with a special use (RFC 6154).
    pub special_use: bool,
}

/// `RETURN (…)`: what is told about each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Return {
    /// `\Subscribed`
    pub subscribed: bool,
    /// `\HasChildren`, `\HasNoChildren`
    pub children: bool,
    /// Special uses (RFC 6154).
    pub special_use: bool,
    /// Rights (RFC 8440).
    pub my_rights: bool,
    /// STATUS of each (RFC 5819).
    pub status: Option<Vec<StatusItem>>,
    /// Entries of METADATA of each (RFC 9590).
    pub metadata: Option<Vec<String>>,
}

/// A LIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// It has an option, or several patterns, as only clients that know RFC 5258 send.
    pub extended: bool,
    /// Which mailboxes.
    pub select: Select,
    /// Where the patterns start.
    pub reference: String,
    /// Names with wildcards.
    pub patterns: Vec<String>,
    /// What is told.
    pub returns: Return,
}

impl List {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut select = Select::default();
        let mut extended = c.peek() == Some(b'(');
        if extended {
            parse_select(c, &mut select)?;
            c.sp()?;
        }
        let reference = mailbox::parse(c)?;
        c.sp()?;
        let patterns = if c.peek() == Some(b'(') {
            extended = true;
            c.list(limits::LIST_PATTERNS, false, mailbox::parse_pattern)?
        } else {
            vec![mailbox::parse_pattern(c)?]
        };
        let mut returns = Return::default();
        if c.take(b' ') {
            extended = true;
            if !c.take_word("RETURN ") {
                return Err(c.expected("RETURN"));
            }
            parse_return(c, &mut returns)?;
        }
        Ok(Self {
            extended,
            select,
            reference,
            patterns,
            returns,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        if self.extended {
            let s = &self.select;
            let options = [
                (s.subscribed, "SUBSCRIBED"),
                (s.remote, "REMOTE"),
                (s.recursive_match, "RECURSIVEMATCH"),
                (s.special_use, "SPECIAL-USE"),
            ];
            out.extend_from_slice(format!("({}) ", chosen(&options)).as_bytes());
        }
        mailbox::write(&self.reference, names, out);
        out.push(b' ');
        if self.extended {
            out.push(b'(');
        }
        for (i, pattern) in self.patterns.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            mailbox::write(pattern, names, out);
        }
        if !self.extended {
            return;
        }
        let r = &self.returns;
        let options = [
            (r.subscribed, "SUBSCRIBED"),
            (r.children, "CHILDREN"),
            (r.special_use, "SPECIAL-USE"),
            (r.my_rights, "MYRIGHTS"),
            (r.status.is_some(), "STATUS"),
        ];
        out.extend_from_slice(format!(") RETURN ({}", chosen(&options)).as_bytes());
        if let Some(items) = &r.status {
            out.push(b' ');
            status::write_items(items, out);
        }
        if let Some(entries) = &r.metadata {
            if out.last() != Some(&b'(') {
                out.push(b' ');
            }
            out.extend_from_slice(b"METADATA ");
            metadata::write_entries(entries, out);
        }
        out.push(b')');
    }
}

fn chosen(options: &[(bool, &'static str)]) -> String {
    options
        .iter()
        .filter(|o| o.0)
        .map(|o| o.1)
        .collect::<Vec<_>>()
        .join(" ")
}

fn parse_select(c: &mut Cursor<'_>, select: &mut Select) -> Result<(), ParseError> {
    let start = c.clone();
    c.list(8, true, |c| {
        let start = c.clone();
        match c.word("a selection option")?.as_str() {
            "SUBSCRIBED" => select.subscribed = true,
            "REMOTE" => select.remote = true,
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            _ => {
                return Err(start.expected("a selection option: SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE"));
            }
        }
        Ok(())
    })?;
    // RFC 5258 §3: it needs another option whose matches it asks for.
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err(start.expected("SUBSCRIBED or SPECIAL-USE with RECURSIVEMATCH"));
    }
    Ok(())
}

fn parse_return(c: &mut Cursor<'_>, returns: &mut Return) -> Result<(), ParseError> {
    c.list(8, true, |c| {
        let start = c.clone();
        match c.word("a return option")?.as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            "CHILDREN" => returns.children = true,
            "SPECIAL-USE" => returns.special_use = true,
            "MYRIGHTS" => returns.my_rights = true,
            "STATUS" => {
                c.sp()?;
                returns.status = Some(status::parse_items(c)?);
            }
            "METADATA" => {
                c.sp()?;
                returns.metadata = Some(metadata::parse_entries(c)?);
            }
            _ => {
                return Err(
                    start.expected("a return option: SUBSCRIBED, CHILDREN, SPECIAL-USE, MYRIGHTS, STATUS or METADATA")
                );
            }
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<List, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let list = List::parse(&mut c)?;
        c.end()?;
        Ok(list)
    }

    #[test]
    fn lists_are_read() {
        let plain = parse("\"\" %/*").unwrap();
        assert!(!plain.extended);
        assert_eq!((plain.reference.as_str(), plain.patterns), ("", vec!["%/*".to_owned()]));
        let l = parse("(SUBSCRIBED RECURSIVEMATCH) a (b* \"c\") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))").unwrap();
        assert!(l.extended && l.select.subscribed && l.select.recursive_match && l.returns.children);
        assert_eq!(l.patterns, ["b*", "c"]);
        assert_eq!(l.returns.status, Some(vec![StatusItem::Messages, StatusItem::Unseen]));
        for bad in [
            "\"\"",
            "\"\" a b",
            "(X) \"\" *",
            "(RECURSIVEMATCH) \"\" *",
            "\"\" ()",
            "\"\" * RETURN (X)",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
