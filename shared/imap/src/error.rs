//! Why bytes are not a command.

/// What kind of mistake it is, which decides the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is not what the grammar says.
    Syntax,
    /// It is larger, longer or deeper than we take.
    Limit,
    /// There is no command of this name.
    UnknownCommand,
    /// SEARCH named a charset that we don't have: answered with `NO [BADCHARSET]`, not with BAD.
    Charset,
}

/// Why bytes are not a command, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what} at octet {at}", if matches!(.kind, ErrorKind::Syntax) { "expected " } else { "" })]
pub struct ParseError {
    /// What kind of mistake it is.
    pub kind: ErrorKind,
    /// Where, counted from the start of the command.
    pub at: usize,
    /// What was expected there, or what is wrong.
    pub what: &'static str,
}
