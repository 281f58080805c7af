//! STATUS (RFC 9051 §6.3.11, RFC 7162, RFC 7889, RFC 8438, RFC 8474, RFC 9208).

use bytes::{BufMut, BytesMut};
use mox_imap_proto::acl::Right;
use mox_imap_proto::cursor::Names;
use mox_imap_proto::status::StatusItem;
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::Mailbox;

use crate::commands::quota;
use crate::enabled::Extension;
use crate::names;
use crate::reply::{Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str, items: &[StatusItem]) -> Outcome {
    let token = session.token()?;
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    rights::allow(&mailbox, Right::Read)?;
    asked(session, items);
    write(&mailbox, items, session.names, &mut session.connection.out);
    Ok(Reply::ok("Done"))
}

/// RFC 7162 §3.1: asking for HIGHESTMODSEQ enables CONDSTORE.
pub(super) fn asked(session: &mut Session, items: &[StatusItem]) {
    if items.contains(&StatusItem::HighestModSeq) {
        session.enable(Extension::CondStore);
    }
}

/// Writes the response.
pub(super) fn write(mailbox: &Mailbox, items: &[StatusItem], naming: Names, out: &mut BytesMut) {
    out.put_slice(b"* STATUS ");
    names::write(&mailbox.name, naming, out);
    let mut before: &[u8] = b" (";
    for item in items {
        out.put_slice(before);
        out.put_slice(item.name().as_bytes());
        out.put_u8(b' ');
        match value(*item, mailbox) {
            Some(value) => put_number(out, value),
            // RFC 8474 §4.3.
            None => out.put_slice(format!("({})", names::mailbox_id(&mailbox.id)).as_bytes()),
        }
        before = b" ";
    }
    out.put_slice(b")\r\n");
}

fn value(item: StatusItem, mailbox: &Mailbox) -> Option<u64> {
    Some(match item {
        StatusItem::Messages => mailbox.messages.into(),
        StatusItem::Recent => 0,
        StatusItem::UidNext => mailbox.uid_next.into(),
        StatusItem::UidValidity => mailbox.uid_validity.into(),
        StatusItem::Unseen => mailbox.unseen.into(),
        StatusItem::Deleted => mailbox.deleted.into(),
        StatusItem::Size => mailbox.size,
        StatusItem::AppendLimit => crate::limits::APPEND,
        StatusItem::HighestModSeq => mailbox.highest_modseq,
        // RFC 9208 §5.1: in units of storage.
        StatusItem::DeletedStorage => quota::units(mailbox.deleted_size),
        StatusItem::MailboxId => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_a_value() {
        let mailbox = Mailbox {
            id: vec![0x0a; 16].into(),
            name: "Inbox".into(),
            messages: 3,
            deleted: 2,
            deleted_size: 1025,
            highest_modseq: 7,
            ..Default::default()
        };
        let items = [
            StatusItem::Messages,
            StatusItem::Deleted,
            StatusItem::DeletedStorage,
            StatusItem::HighestModSeq,
            StatusItem::MailboxId,
        ];
        let mut out = BytesMut::new();
        write(&mailbox, &items, Names::Utf7, &mut out);
        let want = format!(
            "* STATUS INBOX (MESSAGES 3 DELETED 2 DELETED-STORAGE 2 HIGHESTMODSEQ 7 MAILBOXID (F{}))\r\n",
            "0a".repeat(16)
        );
        assert_eq!(String::from_utf8_lossy(&out), want);
    }
}
