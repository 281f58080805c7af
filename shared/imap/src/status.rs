//! STATUS, and the parameters of SELECT and EXAMINE.

use crate::cursor::Cursor;
use crate::error::ParseError;
use crate::sequence::SequenceSet;

/// What STATUS tells (RFC 9051 §6.3.11, RFC 7162, RFC 7889, RFC 8438, RFC 8474, RFC 9208).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// How many messages.
    Messages,
    /// How many are `\Recent` (IMAP4rev1).
    Recent,
    /// The next UID.
    UidNext,
    /// The validity of UIDs.
    UidValidity,
    /// How many are not `\Seen`.
    Unseen,
    /// How many are `\Deleted`.
    Deleted,
    /// How many octets could be had back by expunging.
    DeletedStorage,
    /// Octets of all messages.
    Size,
    /// The highest modification sequence.
    HighestModSeq,
    /// The largest message that can be appended.
    AppendLimit,
    /// The mailbox's identifier.
    MailboxId,
}

const ITEMS: [StatusItem; 11] = [
    StatusItem::Messages,
    StatusItem::Recent,
    StatusItem::UidNext,
    StatusItem::UidValidity,
    StatusItem::Unseen,
    StatusItem::Deleted,
    StatusItem::DeletedStorage,
    StatusItem::Size,
    StatusItem::HighestModSeq,
    StatusItem::AppendLimit,
    StatusItem::MailboxId,
];

impl StatusItem {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Deleted => "DELETED",
            Self::DeletedStorage => "DELETED-STORAGE",
            Self::Size => "SIZE",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::AppendLimit => "APPENDLIMIT",
            Self::MailboxId => "MAILBOXID",
        }
    }

    fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let start = c.clone();
        let word = c.word("an item of STATUS")?;
        ITEMS
            .into_iter()
            .find(|i| i.name() == word)
            .ok_or_else(|| start.expected("an item of STATUS"))
    }
}

/// Parses a list of items in parentheses.
///
/// # Errors
/// If there is none.
pub fn parse_items(c: &mut Cursor<'_>) -> Result<Vec<StatusItem>, ParseError> {
    c.list(2 * ITEMS.len(), false, StatusItem::parse)
}

/// Serializes a list of items in parentheses.
pub fn write_items(items: &[StatusItem], out: &mut Vec<u8>) {
    let names: Vec<_> = items.iter().map(|i| i.name()).collect();
    out.extend_from_slice(format!("({})", names.join(" ")).as_bytes());
}

/// A parameter of SELECT or EXAMINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectParameter {
    /// `CONDSTORE` (RFC 7162 §3.1.8)
    CondStore,
    /// `QRESYNC (…)` (RFC 7162 §3.2.5)
    QResync {
        /// The last known UIDVALIDITY.
        uid_validity: u32,
        /// The last known modification sequence.
        modseq: u64,
        /// UIDs the client has.
        known_uids: Option<SequenceSet>,
        /// Sequence numbers and their UIDs, so that the server can tell less.
        matches: Option<(SequenceSet, SequenceSet)>,
    },
}

impl SelectParameter {
    /// Parses the list of parameters in parentheses.
    ///
    /// # Errors
    /// If there is none, or one that we don't know.
    pub fn parse_list(c: &mut Cursor<'_>) -> Result<Vec<Self>, ParseError> {
        c.list(4, false, |c| match c.word("a parameter")?.as_str() {
            "CONDSTORE" => Ok(Self::CondStore),
            "QRESYNC" => {
                c.sp()?;
                Self::parse_qresync(c)
            }
            _ => Err(c.expected("the parameter CONDSTORE or QRESYNC")),
        })
    }

    fn parse_qresync(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        c.need(b'(', "an opening parenthesis")?;
        let uid_validity = c.nz_number("a UIDVALIDITY")?;
        c.sp()?;
        let modseq = c.number64("a modification sequence")?;
        let mut known_uids = None;
        let mut matches = None;
        if c.take(b' ') {
            if c.peek() != Some(b'(') {
                known_uids = Some(SequenceSet::parse(c)?);
            }
            if known_uids.is_none() || c.take(b' ') {
                c.need(b'(', "an opening parenthesis")?;
                let numbers = SequenceSet::parse(c)?;
                c.sp()?;
                matches = Some((numbers, SequenceSet::parse(c)?));
                c.need(b')', "a closing parenthesis")?;
            }
        }
        c.need(b')', "a closing parenthesis")?;
        Ok(Self::QResync {
            uid_validity,
            modseq,
            known_uids,
            matches,
        })
    }

    /// Serializes the list of parameters in parentheses.
    pub fn write_list(parameters: &[Self], out: &mut Vec<u8>) {
        out.push(b'(');
        for (i, parameter) in parameters.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            match parameter {
                Self::CondStore => out.extend_from_slice(b"CONDSTORE"),
                Self::QResync {
                    uid_validity,
                    modseq,
                    known_uids,
                    matches,
                } => {
                    out.extend_from_slice(format!("QRESYNC ({uid_validity} {modseq}").as_bytes());
                    if let Some(set) = known_uids {
                        out.push(b' ');
                        set.write(out);
                    }
                    if let Some((numbers, uids)) = matches {
                        out.extend_from_slice(b" (");
                        numbers.write(out);
                        out.push(b' ');
                        uids.write(out);
                        out.push(b')');
                    }
                    out.push(b')');
                }
            }
        }
        out.push(b')');
    }
}
