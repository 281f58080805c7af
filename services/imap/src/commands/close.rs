//! CLOSE (RFC 9051 §6.4.1): expunges without saying so, and unselects.

use mox_proto::mail::v1::ExpungeRequest;

use crate::commands::expunge;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session) -> Outcome {
    let selected = session.selected()?;
    if !selected.read_only {
        let request = ExpungeRequest {
            session: session.token()?,
            key: mox_rpc::key(),
            mailbox_id: selected.id.clone(),
            uids: Vec::new(),
        };
        expunge::all(&session.shared, request).await?;
    }
    session.selected = None;
    Ok(Reply::ok("Closed"))
}
