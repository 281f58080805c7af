//! Access control lists (RFC 4314). Mailboxes are not shared yet: a mailbox's owner has all rights, which can't be taken
//! away, and nobody else can be given any.

use bytes::BufMut;
use mox_imap_proto::acl::{Acl, Change, Right, Rights};
use mox_imap_proto::write::put_astring;
use mox_proto::mail::v1::Mailbox;

use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, acl: &Acl) -> Outcome {
    match acl {
        Acl::Mine(name) => my_rights(session, name).await,
        Acl::Get(name) => get(session, name).await,
        Acl::List { mailbox, identifier } => list(session, mailbox, identifier).await,
        Acl::Set {
            mailbox,
            identifier,
            change,
            rights,
        } => set(session, mailbox, identifier, *change, *rights).await,
        Acl::Delete { mailbox, identifier } => {
            // RFC 4314 §3.2: as giving no rights.
            set(session, mailbox, identifier, Change::Replace, Rights::NONE).await
        }
    }
}

/// Writes `* MYRIGHTS`: also for LIST (RFC 8440).
pub(super) fn write_mine(session: &mut Session, mailbox: &Mailbox) {
    let out = &mut session.connection.out;
    out.put_slice(b"* MYRIGHTS ");
    names::write(&mailbox.name, session.names, out);
    out.put_slice(format!(" {}\r\n", rights::of(mailbox)).as_bytes());
}

async fn my_rights(session: &mut Session, name: &str) -> Outcome {
    // RFC 4314 §4: who has any of these may know.
    let mailbox = mailbox(session, name, Right::Lookup).await?;
    write_mine(session, &mailbox);
    Ok(Reply::ok("Done"))
}

async fn get(session: &mut Session, name: &str) -> Outcome {
    let mailbox = mailbox(session, name, Right::Administer).await?;
    let owner = session.login()?.address.clone();
    let out = &mut session.connection.out;
    out.put_slice(b"* ACL ");
    names::write(&mailbox.name, session.names, out);
    out.put_u8(b' ');
    put_astring(out, owner.as_bytes(), true);
    out.put_slice(format!(" {}\r\n", rights::of(&mailbox)).as_bytes());
    Ok(Reply::ok("Done"))
}

async fn list(session: &mut Session, name: &str, identifier: &str) -> Outcome {
    let mailbox = mailbox(session, name, Right::Administer).await?;
    let owner = is_owner(session, identifier)?;
    let out = &mut session.connection.out;
    out.put_slice(b"* LISTRIGHTS ");
    names::write(&mailbox.name, session.names, out);
    out.put_u8(b' ');
    put_astring(out, identifier.as_bytes(), true);
    // RFC 4314 §3.7: what is always granted comes first; what could be granted or taken away follows, and is nothing.
    let always = if owner { rights::of(&mailbox) } else { Rights::NONE };
    out.put_u8(b' ');
    put_astring(out, always.to_string().as_bytes(), false);
    out.put_slice(b"\r\n");
    Ok(Reply::ok("Done"))
}

async fn set(session: &mut Session, name: &str, identifier: &str, change: Change, given: Rights) -> Outcome {
    let mailbox = mailbox(session, name, Right::Administer).await?;
    // RFC 4314 §2: "-fred" would say what fred may not do.
    if identifier.is_empty() || identifier.starts_with('-') {
        return Err(Reply::bad("Negative and empty identifiers are not offered").into());
    }
    let now = if is_owner(session, identifier)? {
        rights::of(&mailbox)
    } else {
        Rights::NONE
    };
    let then = match change {
        Change::Replace => given,
        Change::Add => now.with(given),
        Change::Remove => now.without(given),
    };
    // What is so already is done.
    if then == now {
        return Ok(Reply::ok("Done"));
    }
    let text = if now == Rights::NONE {
        "Mailboxes can't be shared with others yet"
    } else {
        "The owner's rights can't be taken away"
    };
    // RFC 4314 §3.1: NO, when the rights can't be set.
    Err(Reply::no(text).code("CANNOT").into())
}

async fn mailbox(session: &mut Session, name: &str, right: Right) -> Result<Mailbox, Failed> {
    let token = session.token()?;
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    rights::allow(&mailbox, right)?;
    Ok(mailbox)
}

/// Whether somebody is who owns the session's mailboxes: by account, or by the address that was logged in with.
fn is_owner(session: &Session, identifier: &str) -> Result<bool, Failed> {
    let login = session.login()?;
    Ok(identifier == login.account || identifier.eq_ignore_ascii_case(&login.address))
}
