//! Untagged IMAP responses as values.

use anyhow::{Context, Result, bail, ensure};

/// What responses are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Also numbers, flags, `NIL` and `BODY[…]`.
    Atom(String),
    /// Quoted or literal.
    Text(String),
    /// In parentheses.
    List(Vec<Self>),
}

impl Node {
    /// As an atom.
    #[must_use]
    pub fn atom(&self) -> Option<&str> {
        match self {
            Self::Atom(atom) => Some(atom),
            _ => None,
        }
    }

    /// As a number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.atom()?.parse().ok()
    }

    /// As a list.
    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    fn node(&mut self) -> Result<Node> {
        match self.text.as_bytes().first() {
            Some(b'(') => {
                self.text = &self.text[1..];
                let list = self.nodes()?;
                self.text = self.text.strip_prefix(')').context("a list without an end")?;
                Ok(Node::List(list))
            }
            Some(b'"') => self.quoted(),
            Some(b'{') => {
                let (length, rest) = self.text[1..].split_once('}').context("a literal without an end")?;
                let length: usize = length.parse().context("the length of a literal")?;
                let (literal, rest) = rest.split_at_checked(length).context("a short literal")?;
                self.text = rest;
                Ok(Node::Text(literal.to_owned()))
            }
            _ => self.atom(),
        }
    }

    fn nodes(&mut self) -> Result<Vec<Node>> {
        let mut list = Vec::new();
        loop {
            self.text = self.text.trim_start_matches(' ');
            if self.text.is_empty() || self.text.starts_with(')') {
                return Ok(list);
            }
            list.push(self.node()?);
        }
    }

    fn quoted(&mut self) -> Result<Node> {
        let mut out = String::new();
        let mut chars = self.text[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.text = &self.text[at + 2..];
                    return Ok(Node::Text(out));
                }
                '\\' => out.push(chars.next().context("a backslash at the end")?.1),
                other => out.push(other),
            }
        }
        bail!("a quoted string without an end")
    }

    /// Spaces and parentheses within brackets belong to it.
    fn atom(&mut self) -> Result<Node> {
        let mut depth = 0;
        let end = self.text.find(|c| match c {
            '[' => {
                depth += 1;
                false
            }
            ']' => {
                depth -= 1;
                false
            }
            ' ' | '(' | ')' => depth == 0,
            _ => false,
        });
        let (atom, rest) = self.text.split_at(end.unwrap_or(self.text.len()));
        ensure!(!atom.is_empty(), "nothing where something must be: {:?}", self.text);
        self.text = rest;
        Ok(Node::Atom(atom.to_owned()))
    }
}

/// Reads the response behind `* `, as [`super::Imap::attempt`] gives it. Not for responses with text for people.
///
/// # Errors
/// If it is misformed.
pub fn parse_response(response: &str) -> Result<Vec<Node>> {
    let text = response.strip_prefix("* ").context("not an untagged response")?;
    let mut reader = Reader { text };
    let nodes = reader.nodes()?;
    ensure!(reader.text.is_empty(), "more than a response: {:?}", reader.text);
    Ok(nodes)
}

/// The numbers of a set like `1:3,7`.
///
/// # Errors
/// If it is none.
pub fn parse_set(set: &str) -> Result<Vec<u32>> {
    let mut out = Vec::new();
    for range in set.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse()?, last.parse()?);
        ensure!(first > 0 && last > 0, "0 is no number of a message");
        out.extend(first.min(last)..=first.max(last));
    }
    Ok(out)
}
