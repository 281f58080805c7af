//! CLOSE (RFC 9051 §6.4.1): expunges without saying so, and unselects.

use mox_imap_proto::acl::Right;
use mox_proto::mail::v1::ExpungeRequest;

use crate::commands::expunge;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str) -> Outcome {
    let selected = session.selected()?;
    let mut reply = Reply::ok("Closed");
    // RFC 4314 §4: without the right, CLOSE is UNSELECT.
    if !selected.read_only && selected.rights.has(Right::Expunge) {
        let token = session.token()?;
        let shared = session.shared.clone();
        let request = ExpungeRequest {
            session: token.clone(),
            key: mox_rpc::key(),
            mailbox_id: selected.id.clone(),
            uids: Vec::new(),
        };
        let resyncs = session.enabled.qresync;
        if resyncs {
            session.selected_mut()?.catch_up(&shared, &token).await?;
        }
        let knew_all = session.selected()?.is_all_told();
        let gone = expunge::all(&shared, &mut session.connection, tag, request).await?;
        if resyncs && knew_all && !gone.is_empty() {
            let selected = session.selected_mut()?;
            selected.catch_up(&shared, &token).await?;
            // RFC 7162 §3.2.8: where the client is then. It knows what it marked as deleted; had another session changed
            // something meanwhile, it would miss that.
            if selected.is_all_told_but(&gone) {
                reply = reply.code(format!("HIGHESTMODSEQ {}", selected.highest));
            }
        }
    }
    session.selected = None;
    Ok(reply)
}
