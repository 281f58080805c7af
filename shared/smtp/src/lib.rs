//! SMTP (RFC 5321) as a protocol, for those who serve it and those who send with it.
//!
//! - [`Command`], [`Path`], [`MailParams`], [`RcptParams`]: what a client may say, parsed from one line without I/O.
//! - [`Reply`] and [`Enhanced`]: what a server may say, written and parsed.
//! - [`DataDecoder`] and [`DataEncoder`]: the transparency of DATA (RFC 5321 §4.5.2), as state machines over buffers of
//!   any size, which end at `CRLF . CRLF` and at nothing else. [`ChunkDecoder`]: the chunks of BDAT (RFC 3030).
//! - [`Connection`]: lines in, replies out, for the server's side of a byte stream. Replies are written when there is
//!   nothing more to read, so that what was pipelined is answered in one packet.
//! - [`client`]: a session with another server, with STARTTLS, AUTH, PIPELINING and a result for each recipient.
//!
//! Everything that a peer sends has a bound, see [`limits`].

mod chunks;
pub mod client;
mod command;
mod data;
pub mod limits;
mod reply;
mod server;
mod stream;
mod xtext;

pub use chunks::ChunkDecoder;
pub use command::{
    AuthIdentity, Body, Command, Hold, HostName, MailParams, Notify, Orcpt, ParseError, Path, PathHost, RcptParams,
    Recipient, Ret,
};
pub use data::{DataDecoder, DataEncoder, Decode, Decoded, Fault, Lines};
pub use reply::{Enhanced, Reply, ReplyError};
pub use server::{Connection, ReadError};
pub use stream::{AsyncStream, Stream};
pub use xtext::{decode as decode_xtext, encode as encode_xtext};
