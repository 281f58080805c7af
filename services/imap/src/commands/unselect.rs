//! UNSELECT (RFC 3691): as CLOSE, without expunging.

use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) fn run(session: &mut Session) -> Outcome {
    session.selected()?;
    session.selected = None;
    Ok(Reply::ok("Closed"))
}
