//! COPY and MOVE (RFC 9051 §6.4.7, §6.4.8, RFC 4315).

use bytes::BufMut;
use mox_imap_proto::acl::Right;
use mox_imap_proto::command::Copy;
use mox_imap_proto::sequence::write_in_order;
use mox_proto::mail::v1::{CopyRequest, CopyResponse};
use tonic::Code;

use crate::commands::{Limited, limit, uids};
use crate::names;
use crate::progress::Progress;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::selected::{ranges, ranges_from};
use crate::session::Session;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Copy,
    Move,
}

pub(super) async fn run(session: &mut Session, tag: &str, copy: &Copy, uid: bool, kind: Kind) -> Outcome {
    let selected = if kind == Kind::Move {
        session.writable()?
    } else {
        session.selected()?
    };
    if kind == Kind::Move {
        // RFC 6851 §3.3.
        for right in [Right::DeleteMessages, Right::Expunge] {
            rights::of_selected(selected, right)?;
        }
    }
    let Limited { set, code: limited } = limit(uids(selected, &copy.set, uid)?);
    if set.is_empty() {
        return Ok(Reply::ok("Nothing to do"));
    }
    if limited.is_some() && kind == Kind::Copy {
        // RFC 9738 §3.1: messages are copied all or none.
        let code = format!("MESSAGELIMIT {}", crate::limits::MESSAGES);
        return Err(Reply::no("That is too many messages at once, copy fewer")
            .code(code)
            .into());
    }
    let selected_id = selected.id.clone();
    rights::insert_into(session, &names::kept(&copy.mailbox)).await?;
    let mut request = CopyRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox_id: selected_id,
        uids: ranges(&set),
        destination: names::kept(&copy.mailbox),
    };
    let mut mail = session.shared.mail();
    let mut progress = Progress::new(tag, set.count());
    let mut answer = CopyResponse::default();
    loop {
        let result = match kind {
            Kind::Copy => {
                progress
                    .during(&mut session.connection, mail.copy(request.clone()))
                    .await?
            }
            Kind::Move => {
                progress
                    .during(&mut session.connection, mail.r#move(request.clone()))
                    .await?
            }
        };
        let part = match result {
            Ok(part) => part.into_inner(),
            Err(status) => {
                // What was moved so far is told: it is where it is now.
                if kind == Kind::Move {
                    write_moved(session, &answer);
                }
                return Err(no_destination(status));
            }
        };
        answer.uid_validity = part.uid_validity;
        answer.source_uids.extend(part.source_uids);
        answer.destination_uids.extend(part.destination_uids);
        progress.done = answer.source_uids.len() as u64;
        request.key = mox_rpc::key();
        request.uids = ranges_from(&request.uids, part.next_uid);
        if part.next_uid == 0 || request.uids.is_empty() {
            break;
        }
    }
    let Some(code) = copyuid(&answer) else {
        return Ok(Reply::ok("Nothing to do"));
    };
    Ok(match kind {
        Kind::Copy => Reply::ok("Copied").code(code),
        Kind::Move => {
            write_moved(session, &answer);
            match limited {
                Some(code) => Reply::ok("Moved in part").code(code),
                // RFC 7162 §3.2.9.
                None => Reply::ok("Done").with_highest_modseq(),
            }
        }
    })
}

/// RFC 6851 §4.3: the UIDs of what was moved come before the EXPUNGE responses.
fn write_moved(session: &mut Session, answer: &CopyResponse) {
    if let Some(code) = copyuid(answer) {
        let line = format!("* OK [{code}] Moved\r\n");
        session.connection.out.put_slice(line.as_bytes());
    }
}

/// RFC 9051 §6.4.7: a destination that could be created is told as such.
pub(super) fn no_destination(status: tonic::Status) -> Failed {
    if status.code() == Code::NotFound {
        return Reply::no("There is no such mailbox, create it first")
            .code("TRYCREATE")
            .into();
    }
    status.into()
}

fn copyuid(answer: &CopyResponse) -> Option<String> {
    if answer.source_uids.is_empty() {
        return None;
    }
    let mut code = format!("COPYUID {} ", answer.uid_validity).into_bytes();
    write_in_order(&answer.source_uids, &mut code);
    code.push(b' ');
    write_in_order(&answer.destination_uids, &mut code);
    String::from_utf8(code).ok()
}
