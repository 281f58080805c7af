//! DELETE (RFC 9051 §6.3.5).

use bytes::BufMut;
use mox_imap_proto::acl::Right;
use mox_imap_proto::mailbox;
use mox_proto::mail::v1::DeleteMailboxRequest;

use crate::names;
use crate::reply::{Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str) -> Outcome {
    let token = session.token()?;
    if mailbox::is_inbox(name) {
        return Err(Reply::no("INBOX can't be deleted").code("CANNOT").into());
    }
    let name = names::kept(name);
    rights::allow(&session.shared.mailbox(&token, &name).await?, Right::Delete)?;
    let request = DeleteMailboxRequest {
        session: token,
        key: mox_rpc::key(),
        name: name.clone(),
    };
    session.shared.mail().delete_mailbox(request).await?;
    // The mailbox may have been renamed by another session since it was selected; then catching up finds it gone.
    if session.selected.as_ref().is_some_and(|s| s.name == name) {
        session.selected = None;
        session
            .connection
            .out
            .put_slice(b"* OK [CLOSED] The mailbox was selected\r\n");
    }
    Ok(Reply::ok("Deleted"))
}
