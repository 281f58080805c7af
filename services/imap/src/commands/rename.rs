//! RENAME (RFC 9051 §6.3.6).

use mox_imap_proto::acl::Right;
use mox_imap_proto::mailbox;
use mox_proto::mail::v1::RenameMailboxRequest;

use crate::commands::create;
use crate::names;
use crate::reply::{Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, from: &str, to: &str) -> Outcome {
    let session_token = session.token()?;
    if mailbox::is_inbox(to) {
        return Err(Reply::no("INBOX is always there").code("ALREADYEXISTS").into());
    }
    let (from, to) = (names::kept(from), names::kept(to));
    if !mailbox::is_inbox(&from) {
        let old = session.shared.mailbox(&session_token, &from).await?;
        rights::allow(&old, Right::Delete)?;
    }
    create::may_create(session, &to).await?;
    let request = RenameMailboxRequest {
        session: session_token,
        key: mox_rpc::key(),
        from: from.clone(),
        to: to.clone(),
    };
    session.shared.mail().rename_mailbox(request).await?;
    // A selected mailbox stays selected under its new name; the inbox stays, and its messages are seen to go.
    if let Some(selected) = &mut session.selected
        && !mailbox::is_inbox(&from)
        && let Some(rest) = selected.name.strip_prefix(from.as_str())
        && (rest.is_empty() || rest.starts_with(mailbox::SEPARATOR))
    {
        selected.name = format!("{to}{rest}");
    }
    create::old_name(session, &to, &from);
    Ok(Reply::ok("Renamed"))
}
