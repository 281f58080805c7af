//! LOGOUT (RFC 9051 §6.1.3).

use bytes::BufMut;

use crate::reply::{Outcome, Reply, Stop};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str) -> Outcome {
    session.connection.out.put_slice(b"* BYE Logging out\r\n");
    Reply::ok("Done").write(tag, &mut session.connection.out);
    session.connection.flush().await?;
    Err(Stop::Logout.into())
}
