//! What a session may do with a mailbox (RFC 4314). The store decides, once for each mailbox and session; commands ask
//! here.

use mox_imap_proto::acl::{Right, Rights};
use mox_proto::mail::v1::Mailbox;

use crate::reply::Reply;
use crate::selected::Selected;

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
