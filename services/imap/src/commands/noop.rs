//! NOOP and CHECK (RFC 9051 §6.1.2, RFC 3501 §6.4.1): what changed is told after every command, and everything is
//! durable when it is acknowledged.

use crate::reply::Reply;

pub(super) fn run() -> Reply {
    Reply::ok("Done")
}
