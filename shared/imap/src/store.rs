//! STORE (RFC 9051 §6.4.6).

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::flags::{self, Flag};
use crate::sequence::SequenceSet;

/// What happens to the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// A STORE, or a UID STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Which messages.
    pub set: SequenceSet,
    /// `UNCHANGEDSINCE` (RFC 7162)
    pub unchanged_since: Option<u64>,
    /// What happens.
    pub mode: Mode,
    /// `.SILENT`: the client doesn't want to be told.
    pub silent: bool,
    /// With which flags.
    pub flags: Vec<Flag>,
}

impl Store {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let set = SequenceSet::parse(c)?;
        c.sp()?;
        let mut unchanged_since = None;
        if c.peek() == Some(b'(') {
            c.list(1, false, |c| {
                if !c.take_word("UNCHANGEDSINCE ") {
                    return Err(c.expected("the modifier UNCHANGEDSINCE"));
                }
                unchanged_since = Some(c.number64("a modification sequence")?);
                Ok(())
            })?;
            c.sp()?;
        }
        let mode = if c.take(b'+') {
            Mode::Add
        } else if c.take(b'-') {
            Mode::Remove
        } else {
            Mode::Replace
        };
        if !c.take_word("FLAGS") {
            return Err(c.expected("FLAGS, +FLAGS or -FLAGS"));
        }
        let silent = c.take_word(".SILENT");
        c.sp()?;
        let flags = flags::parse_store(c)?;
        Ok(Self {
            set,
            unchanged_since,
            mode,
            silent,
            flags,
        })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.set.write(out);
        if let Some(n) = self.unchanged_since {
            out.extend_from_slice(format!(" (UNCHANGEDSINCE {n})").as_bytes());
        }
        out.extend_from_slice(match self.mode {
            Mode::Replace => b" FLAGS",
            Mode::Add => b" +FLAGS",
            Mode::Remove => b" -FLAGS",
        });
        out.extend_from_slice(if self.silent { b".SILENT " } else { b" " });
        flags::write_list(&self.flags, out);
    }
}
