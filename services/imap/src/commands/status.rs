//! STATUS (RFC 9051 §6.3.11).

use bytes::{BufMut, BytesMut};
use mox_imap_proto::cursor::Names;
use mox_imap_proto::status::StatusItem;
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::Mailbox;

use crate::names;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str, items: &[StatusItem]) -> Outcome {
    let token = session.token()?;
    check(items)?;
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    write(&mailbox, items, session.names, &mut session.connection.out);
    Ok(Reply::ok("Done"))
}

/// Items of extensions that are not offered are not known.
pub(super) fn check(items: &[StatusItem]) -> Result<(), Reply> {
    match items.iter().find(|item| value(item, &Mailbox::default()).is_none()) {
        Some(item) => Err(Reply::bad(format!("{} is not offered", item.name()))),
        None => Ok(()),
    }
}

/// Writes the response.
pub(super) fn write(mailbox: &Mailbox, items: &[StatusItem], naming: Names, out: &mut BytesMut) {
    out.put_slice(b"* STATUS ");
    names::write(&mailbox.name, naming, out);
    let mut before: &[u8] = b" (";
    for item in items {
        if let Some(value) = value(item, mailbox) {
            out.put_slice(before);
            out.put_slice(item.name().as_bytes());
            out.put_u8(b' ');
            put_number(out, value);
            before = b" ";
        }
    }
    out.put_slice(b")\r\n");
}

fn value(item: &StatusItem, mailbox: &Mailbox) -> Option<u64> {
    Some(match item {
        StatusItem::Messages => mailbox.messages.into(),
        StatusItem::Recent => 0,
        StatusItem::UidNext => mailbox.uid_next.into(),
        StatusItem::UidValidity => mailbox.uid_validity.into(),
        StatusItem::Unseen => mailbox.unseen.into(),
        StatusItem::Deleted => mailbox.deleted.into(),
        StatusItem::Size => mailbox.size,
        StatusItem::AppendLimit => crate::limits::APPEND,
        StatusItem::DeletedStorage | StatusItem::HighestModSeq | StatusItem::MailboxId => return None,
    })
}
