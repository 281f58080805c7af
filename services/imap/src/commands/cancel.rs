//! CANCELUPDATE (RFC 5267 §4.3.5).

use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) fn run(session: &mut Session, tags: &[String]) -> Outcome {
    let contexts = &mut session.selected_mut()?.contexts;
    let mut unknown = 0;
    for tag in tags {
        unknown += usize::from(!contexts.cancel(tag));
    }
    // What ended meanwhile, or never was, is not kept current: as asked for.
    Ok(Reply::ok(match unknown {
        0 => "No further updates",
        _ => "No further updates; some there were none for",
    }))
}
