//! The grammar of IMAP (RFC 3501, RFC 9051 and extensions): parser and serializer, without I/O.
//!
//! [`Framer`] finds where a command ends in the bytes of a connection, and hands literals to its caller's judgement.
//! [`parse_command`] turns the bytes of one command, literals included, into a [`Command`]. Everything a command
//! consists of has its own module with its parser, its type and its serializer, so that for every value `x`,
//! parsing what `x` serializes to gives `x`. The modules `write` and `datetime` are what a server composes its
//! responses with.
//!
//! | module       | grammar                                                                         |
//! | ------------ | ------------------------------------------------------------------------------- |
//! | [`framer`]   | lines and literals: synchronizing, LITERAL+ (RFC 7888), literal8 (RFC 3516)      |
//! | [`cursor`]   | atom, astring, string, nstring, number, tag: what everything else is built from  |
//! | [`sequence`] | sequence sets with `*` and `$` (RFC 5182), and sets of numbers                   |
//! | [`utf7`]     | mailbox names of IMAP4rev1                                                       |
//! | [`mailbox`]  | mailbox names and patterns of LIST                                               |
//! | [`flags`]    | flags and keywords                                                               |
//! | [`datetime`] | dates                                                                            |
//! | [`section`]  | `[1.2.HEADER.FIELDS (SUBJECT)]<0.100>`                                           |
//! | [`fetch`]    | FETCH: items, macros and modifiers                                               |
//! | [`search`]   | SEARCH: keys, charset and return options                                         |
//! | [`window`]   | PARTIAL of SEARCH, SORT and FETCH (RFC 9394)                                     |
//! | [`sort`]     | SORT and THREAD                                                                  |
//! | [`multisearch`] | ESEARCH (RFC 7377)                                                            |
//! | [`notify`]   | NOTIFY, and mailbox filters                                                      |
//! | [`store`]    | STORE                                                                            |
//! | [`list`]     | LIST and LSUB, with RFC 5258's options                                           |
//! | [`metadata`] | GETMETADATA and SETMETADATA                                                      |
//! | [`acl`]      | access control lists and rights                                                  |
//! | [`quota`]    | quotas                                                                           |
//! | [`url`]      | IMAP URLs, for CATENATE                                                          |
//! | [`status`]   | STATUS and the parameters of SELECT                                              |
//! | [`append`]   | APPEND and REPLACE around their messages, which are streamed                     |
//! | [`command`]  | the commands                                                                     |
//! | [`write`]    | strings and numbers of responses                                                 |
//!
//! Every length, count and depth is bounded by a constant in [`limits`].

pub mod acl;
pub mod append;
pub mod command;
pub mod cursor;
pub mod datetime;
pub mod error;
pub mod fetch;
pub mod flags;
pub mod framer;
pub mod limits;
pub mod list;
pub mod mailbox;
pub mod metadata;
pub mod multisearch;
pub mod notify;
pub mod quota;
pub mod search;
pub mod section;
pub mod sequence;
pub mod sort;
pub mod status;
pub mod store;
pub mod url;
pub mod utf7;
pub mod window;
pub mod write;

pub use command::{Command, Failure, Tagged, parse_command};
pub use cursor::{Cursor, Names};
pub use error::{ErrorKind, ParseError};
pub use framer::{Event, Framer, FramingError, LiteralHeader};
pub use sequence::{NumberSet, SequenceSet};

#[cfg(test)]
mod roundtrip;
