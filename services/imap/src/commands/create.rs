//! CREATE (RFC 9051 §6.3.4, RFC 6154).

use mox_imap_proto::mailbox;
use mox_proto::mail::v1::CreateMailboxRequest;

use crate::names;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

/// RFC 6154 §2. `\All` and `\Flagged` would be views of other mailboxes; `\Important` (RFC 8457) too.
const USES: [&str; 5] = ["\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"];

pub(super) async fn run(session: &mut Session, name: &str, special_use: Vec<String>) -> Outcome {
    let token = session.token()?;
    if mailbox::is_inbox(name) {
        return Err(Reply::no("INBOX is always there").code("ALREADYEXISTS").into());
    }
    let mut uses = Vec::new();
    for given in &special_use {
        match USES.iter().find(|u| u.eq_ignore_ascii_case(given)) {
            Some(known) => uses.push((*known).to_owned()),
            None => return Err(Reply::no("Mailboxes can't have this use").code("USEATTR").into()),
        }
    }
    let request = CreateMailboxRequest {
        session: token,
        key: mox_rpc::key(),
        name: names::kept(name),
        special_use: uses,
        // Clients subscribe to what they want to see.
        subscribe: false,
    };
    session.shared.mail().create_mailbox(request).await?;
    Ok(Reply::ok("Created"))
}
