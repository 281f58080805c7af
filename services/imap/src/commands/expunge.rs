//! EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9). What is gone is told as everything that changed is, before the
//! reply.

use mox_imap_proto::acl::Right;
use mox_imap_proto::{NumberSet, SequenceSet};
use mox_proto::mail::v1::{ExpungeRequest, UidRange};

use crate::Shared;
use crate::commands::{limit, uids};
use crate::connection::Connection;
use crate::progress::Progress;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::selected::{number_set, ranges, ranges_from};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, set: Option<&SequenceSet>) -> Outcome {
    let selected = session.writable()?;
    rights::of_selected(selected, Right::Expunge)?;
    let mut request = ExpungeRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox_id: selected.id.clone(),
        uids: Vec::new(),
    };
    let mut code = None;
    if let Some(set) = set {
        let limited = limit(uids(selected, set, true)?);
        request.uids = ranges(&limited.set);
        code = limited.code;
        // To the store, none is all.
        if request.uids.is_empty() {
            return Ok(Reply::ok("Nothing to expunge"));
        }
    }
    let shared = session.shared.clone();
    let gone = all(&shared, &mut session.connection, tag, request).await?;
    let reply = Reply::ok("Expunged");
    Ok(match code {
        Some(code) => reply.code(code),
        None if gone.is_empty() => reply,
        None => reply.with_highest_modseq(),
    })
}

/// Expunges in as many calls as it takes. Answers what is gone.
pub(super) async fn all(
    shared: &Shared,
    connection: &mut Connection,
    tag: &str,
    mut request: ExpungeRequest,
) -> Result<NumberSet, Failed> {
    let mut progress = Progress::new(tag, 0);
    let mut gone = NumberSet::default();
    loop {
        let mut mail = shared.mail();
        let call = mail.expunge(request.clone());
        let answer = progress.during(connection, call).await??.into_inner();
        gone = gone.union(&number_set(&answer.uids));
        if answer.next_uid == 0 {
            return Ok(gone);
        }
        request.key = mox_rpc::key();
        request.uids = if request.uids.is_empty() {
            vec![UidRange {
                first: answer.next_uid,
                last: u32::MAX,
            }]
        } else {
            ranges_from(&request.uids, answer.next_uid)
        };
        if request.uids.is_empty() {
            return Ok(gone);
        }
    }
}
