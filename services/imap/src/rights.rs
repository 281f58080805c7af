//! What a session may do with a mailbox (RFC 4314). The store decides, once for each mailbox and session; commands ask
//! here.

use mox_imap_proto::acl::{Right, Rights};
use mox_imap_proto::flags::Flag;
use mox_proto::mail::v1::Mailbox;

use crate::reply::{Failed, Reply};
use crate::selected::Selected;
use crate::session::Session;

/// The rights on a mailbox.
pub(crate) fn of(mailbox: &Mailbox) -> Rights {
    Rights::of(&mailbox.rights)
}

/// Whether something may be done with a mailbox.
///
/// # Errors
/// If not: with the reply.
pub(crate) fn allow(mailbox: &Mailbox, right: Right) -> Result<(), Reply> {
    check(of(mailbox), right)
}

/// Whether something may be done with the selected mailbox.
///
/// # Errors
/// If not: with the reply.
pub(crate) fn of_selected(selected: &Selected, right: Right) -> Result<(), Reply> {
    check(selected.rights, right)
}

/// Whether flags of messages in the selected mailbox may be changed. RFC 4314 §4 lets STORE fail only if none may.
///
/// # Errors
/// If not: with the reply.
pub(crate) fn change_flags(selected: &Selected, flags: &[Flag]) -> Result<(), Reply> {
    let needed = |flag: &Flag| match flag {
        Flag::Seen => Right::Seen,
        Flag::Deleted => Right::DeleteMessages,
        _ => Right::Write,
    };
    // To take all away is to change the others too.
    let first = flags.first().map_or(Right::Write, needed);
    if flags.iter().any(|flag| selected.rights.has(needed(flag))) {
        return Ok(());
    }
    check(selected.rights, first)
}

/// The mailbox that messages are to be put into, if they may.
///
/// # Errors
/// If not: with the reply. RFC 9051 §6.3.12: a mailbox that could be created is told as such.
pub(crate) async fn insert_into(session: &mut Session, name: &str) -> Result<(), Failed> {
    let token = session.token()?;
    match session.shared.mailbox(&token, name).await {
        Err(Failed::Reply(reply)) if reply.code.as_deref() == Some("NONEXISTENT") => {
            let reply = Reply::no("There is no such mailbox, create it first");
            Err(reply.code("TRYCREATE").into())
        }
        Err(other) => Err(other),
        Ok(mailbox) => Ok(allow(&mailbox, Right::Insert)?),
    }
}

fn check(rights: Rights, right: Right) -> Result<(), Reply> {
    if rights.has(right) {
        return Ok(());
    }
    // RFC 4314 §6: who may not look a mailbox up is not told that it exists.
    if !rights.has(Right::Lookup) {
        return Err(Reply::no("There is no such mailbox").code("NONEXISTENT"));
    }
    let text = format!("You don't have the right {:?} on the mailbox", right.letter());
    Err(Reply::no(text).code("NOPERM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_asked_for() {
        let mailbox = |rights: &str| Mailbox {
            rights: rights.to_owned(),
            ..Default::default()
        };
        let code = |rights: &str| allow(&mailbox(rights), Right::Insert).err().and_then(|r| r.code);
        assert_eq!(code("lrswipkxteacd"), None);
        assert_eq!(code("lr").as_deref(), Some("NOPERM"));
        assert_eq!(code("").as_deref(), Some("NONEXISTENT"));
    }
}
