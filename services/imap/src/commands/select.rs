//! SELECT (RFC 9051 §6.3.2).

use bytes::{BufMut, Bytes};
use mox_imap_proto::status::SelectParameter;
use mox_proto::mail::v1::{Flag, Mailbox, SearchKey, SearchRequest, search_key};

use crate::Shared;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::selected::{Selected, numbered};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, name: &str, parameters: &[SelectParameter]) -> Outcome {
    open(session, name, parameters, false).await
}

/// SELECT and EXAMINE.
pub(super) async fn open(
    session: &mut Session,
    name: &str,
    parameters: &[SelectParameter],
    read_only: bool,
) -> Outcome {
    let token = session.token()?;
    // RFC 9051 §6.3.2: a mailbox that was selected is not any more, also if this fails.
    if session.selected.take().is_some() {
        session
            .connection
            .out
            .put_slice(b"* OK [CLOSED] The other mailbox was closed\r\n");
    }
    if !parameters.is_empty() {
        return Err(Reply::bad("CONDSTORE and QRESYNC are not offered").into());
    }
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    let seen = session.login()?.subscription.hint().modseq;
    let shared = session.shared.clone();
    let selected = Selected::open(&shared, &token, &mailbox, read_only, seen).await?;
    let first_unseen = match mailbox.unseen {
        0 => None,
        _ => first_unseen(&shared, token, &mailbox)
            .await?
            .and_then(|uid| selected.view.number_of(uid)),
    };

    let out = &mut session.connection.out;
    selected.write_flags(out);
    numbered(out, selected.view.count(), b" EXISTS\r\n");
    // No message is \Recent: no session could tell whether it is the first to be told of one without a write at every
    // SELECT, and RFC 9051 abolished it.
    numbered(out, 0, b" RECENT\r\n");
    if let Some(number) = first_unseen {
        out.put_slice(format!("* OK [UNSEEN {number}] The first unseen message\r\n").as_bytes());
    }
    out.put_slice(format!("* OK [UIDVALIDITY {}] UIDs are valid\r\n", mailbox.uid_validity).as_bytes());
    let uid_next = mailbox.uid_next.max(selected.view.last_uid().saturating_add(1));
    out.put_slice(format!("* OK [UIDNEXT {uid_next}] The next UID\r\n").as_bytes());
    selected.write_permanent_flags(out);
    session.selected = Some(selected);
    Ok(if read_only {
        Reply::ok("Opened for reading").code("READ-ONLY")
    } else {
        Reply::ok("Opened").code("READ-WRITE")
    })
}

/// RFC 3501 §6.3.1 wants to know where unseen messages start.
async fn first_unseen(shared: &Shared, token: Bytes, mailbox: &Mailbox) -> Result<Option<u32>, Failed> {
    let key = |key| Some(SearchKey { key: Some(key) });
    let seen = SearchKey {
        key: Some(search_key::Key::Flag(Flag::Seen as u32)),
    };
    let mut request = SearchRequest {
        session: token,
        mailbox_id: mailbox.id.clone(),
        key: key(search_key::Key::Not(Box::new(seen))),
        ..Default::default()
    };
    loop {
        let answer = shared.mail().search(request.clone()).await?.into_inner();
        if let Some(range) = answer.uids.first() {
            return Ok(Some(range.first));
        }
        if answer.next_uid == 0 {
            return Ok(None);
        }
        request.from_uid = answer.next_uid;
    }
}
