//! CREATE (RFC 9051 §6.3.4, RFC 6154, RFC 8474).

use bytes::BufMut;
use mox_imap_proto::acl::Right;
use mox_imap_proto::cursor::Names;
use mox_imap_proto::mailbox::{self, SEPARATOR};
use mox_imap_proto::write::put_string;
use mox_proto::mail::v1::CreateMailboxRequest;

use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

/// RFC 6154 §2 and RFC 8457 §3: uses that a mailbox can be given. `\All` and `\Flagged` would be views of others.
const USES: [&str; 6] = ["\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Trash"];

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
    let kept = names::kept(name);
    may_create(session, &kept).await?;
    let request = CreateMailboxRequest {
        session: token,
        key: mox_rpc::key(),
        name: kept.clone(),
        special_use: uses,
        // Clients subscribe to what they want to see.
        subscribe: false,
    };
    let created = session.shared.mail().create_mailbox(request).await?.into_inner();
    let created = created.mailbox.unwrap_or_default();
    if created.name != kept {
        // RFC 9051 §6.3.4: the name has another form here.
        old_name(session, &created.name, &kept);
    }
    // RFC 8474 §4.1.
    let id = names::mailbox_id(&created.id);
    Ok(Reply::ok("Created").code(format!("MAILBOXID ({id})")))
}

/// Whether there may be a mailbox of this name: that is its parent's matter (RFC 4314 §4). At the top, all are one's own.
pub(super) async fn may_create(session: &mut Session, name: &str) -> Result<(), Failed> {
    let token = session.token()?;
    for (at, _) in name.rmatch_indices(SEPARATOR) {
        match session.shared.mailbox(&token, &name[..at]).await {
            Ok(parent) => return Ok(rights::allow(&parent, Right::Create)?),
            // The next one above; what is no name at all is for the store to refuse.
            Err(Failed::Reply(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// RFC 9051 §6.3.9.7: tells clients that know of it which name became which.
pub(super) fn old_name(session: &mut Session, new: &str, old: &str) {
    if !session.enabled.rev2 {
        return;
    }
    let out = &mut session.connection.out;
    out.put_slice(format!("* LIST () \"{SEPARATOR}\" ").as_bytes());
    names::write(new, Names::Utf8, out);
    out.put_slice(b" (\"OLDNAME\" (");
    put_string(out, names::shown(old).as_bytes(), true);
    out.put_slice(b"))\r\n");
}
