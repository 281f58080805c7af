//! NAMESPACE (RFC 2342): one's own mailboxes, without a prefix.

use bytes::BufMut;

use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) fn run(session: &mut Session) -> Outcome {
    session.login()?;
    session
        .connection
        .out
        .put_slice(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    Ok(Reply::ok("Done"))
}
