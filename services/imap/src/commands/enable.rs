//! ENABLE (RFC 5161). None of what is announced needs it yet.

use bytes::BufMut;

use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) fn run(session: &mut Session, _names: &[String]) -> Outcome {
    session.login()?;
    // RFC 5161 §3.1: what is not known is ignored.
    session.connection.out.put_slice(b"* ENABLED\r\n");
    Ok(Reply::ok("Done"))
}
