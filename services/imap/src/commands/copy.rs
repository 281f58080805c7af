//! COPY and MOVE (RFC 9051 §6.4.7, §6.4.8, RFC 4315).

use bytes::BufMut;
use mox_imap_proto::command::Copy;
use mox_imap_proto::sequence::write_in_order;
use mox_proto::mail::v1::{CopyRequest, CopyResponse};
use tonic::Code;

use crate::commands::uids;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::selected::{ranges, ranges_from};
use crate::session::Session;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Copy,
    Move,
}

pub(super) async fn run(session: &mut Session, copy: &Copy, uid: bool, kind: Kind) -> Outcome {
    let selected = if kind == Kind::Move {
        session.writable()?
    } else {
        session.selected()?
    };
    let set = uids(selected, &copy.set, uid)?;
    if set.is_empty() {
        return Ok(Reply::ok("Nothing to do"));
    }
    let mut request = CopyRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox_id: selected.id.clone(),
        uids: ranges(&set),
        destination: names::kept(&copy.mailbox),
    };
    let mut mail = session.shared.mail();
    let mut answer = CopyResponse::default();
    loop {
        let result = match kind {
            Kind::Copy => mail.copy(request.clone()).await,
            Kind::Move => mail.r#move(request.clone()).await,
        };
        let part = result.map_err(no_destination)?.into_inner();
        answer.uid_validity = part.uid_validity;
        answer.source_uids.extend(part.source_uids);
        answer.destination_uids.extend(part.destination_uids);
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
            // RFC 6851 §4.3: it comes before the EXPUNGE responses.
            session
                .connection
                .out
                .put_slice(format!("* OK [{code}] Moved\r\n").as_bytes());
            Reply::ok("Done")
        }
    })
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
