//! SELECT (RFC 9051 §6.3.2, RFC 3501 §6.3.1).

use bytes::{BufMut, Bytes};
use mox_imap_proto::acl::Right;
use mox_imap_proto::mailbox::SEPARATOR;
use mox_imap_proto::status::SelectParameter;
use mox_proto::mail::v1::{Flag, Mailbox, SearchKey, SearchRequest, search_key};

use crate::Shared;
use crate::commands::resync::{self, Resync};
use crate::enabled::Extension;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
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
    let resync = Resync::new(parameters, session.enabled)?;
    // RFC 9051 §6.3.2: a mailbox that was selected is not any more, also if this fails.
    if session.selected.take().is_some() {
        session
            .connection
            .out
            .put_slice(b"* OK [CLOSED] The other mailbox was closed\r\n");
    }
    if !parameters.is_empty() {
        // RFC 7162 §3.1.8: CONDSTORE as a parameter enables it.
        session.enable(Extension::CondStore);
    }
    let seen = session.login()?.subscription.hint().modseq;
    let shared = session.shared.clone();
    let mailbox = shared.mailbox_with_uids(&token, &names::kept(name), seen).await?;
    rights::allow(&mailbox, Right::Read)?;
    let unseen_known = mailbox.uids.as_ref().map(|uids| uids.first_unseen);
    let selected = Selected::open(&shared, &token, &mailbox, read_only, session.enabled, seen).await?;
    let enabled = session.enabled;
    // RFC 9051 §7.3: neither RECENT nor UNSEEN are of IMAP4rev2; RFC 9586 §3 has no sequence numbers.
    let first_unseen = match mailbox.unseen {
        0 => None,
        _ if enabled.rev2 || enabled.uidonly => None,
        _ if unseen_known.is_some() => unseen_known.and_then(|uid| selected.view.number_of(uid)),
        _ => first_unseen(&shared, token.clone(), &mailbox)
            .await?
            .and_then(|uid| selected.view.number_of(uid)),
    };

    let out = &mut session.connection.out;
    selected.write_flags(out);
    numbered(out, selected.view.count(), b" EXISTS\r\n");
    if !enabled.rev2 {
        // No message is \Recent: no session could tell whether it is the first to be told of one without a write at
        // every SELECT, and RFC 9051 abolished it.
        numbered(out, 0, b" RECENT\r\n");
    }
    if let Some(number) = first_unseen {
        out.put_slice(format!("* OK [UNSEEN {number}] The first unseen message\r\n").as_bytes());
    }
    out.put_slice(format!("* OK [UIDVALIDITY {}] UIDs are valid\r\n", mailbox.uid_validity).as_bytes());
    out.put_slice(format!("* OK [UIDNEXT {}] The next UID\r\n", selected.uid_next).as_bytes());
    // RFC 7162 §3.1.2.1: for everybody, as every mailbox keeps them.
    out.put_slice(format!("* OK [HIGHESTMODSEQ {}] Of the last change\r\n", selected.highest).as_bytes());
    // RFC 8474 §4.2.
    let id = names::mailbox_id(&mailbox.id);
    out.put_slice(format!("* OK [MAILBOXID ({id})] The mailbox's identifier\r\n").as_bytes());
    selected.write_permanent_flags(out);
    if enabled.rev2 {
        // RFC 9051 §6.3.2: a LIST response says what the mailbox is called.
        let mut attributes = mailbox.special_use.clone();
        if mailbox.subscribed {
            attributes.push("\\Subscribed".to_owned());
        }
        out.put_slice(format!("* LIST ({}) \"{SEPARATOR}\" ", attributes.join(" ")).as_bytes());
        names::write(&mailbox.name, session.names, out);
        out.put_slice(b"\r\n");
    }
    if let Some(resync) = resync.filter(|r| r.uid_validity == mailbox.uid_validity) {
        resync::tell(&shared, &token, &selected, &resync, &mut session.connection).await?;
    }
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
