//! STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use bytes::BufMut;
use mox_imap_proto::NumberSet;
use mox_imap_proto::store::{Mode, Store};
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::store_flags_request::Mode as StoreMode;
use mox_proto::mail::v1::{StoreFlagsRequest, StoreFlagsResponse};

use crate::commands::{Limited, expunge_issued, limit, uids};
use crate::enabled::{Enabled, Extension};
use crate::names;
use crate::notices;
use crate::progress::Progress;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::rows;
use crate::selected::{number_set, ranges, ranges_from};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, store: &Store, uid: bool) -> Outcome {
    session.writable()?;
    if store.unchanged_since.is_some() {
        // RFC 7162 §3.1: the client shows that it keeps modification sequences.
        session.enable(Extension::CondStore);
    }
    let selected = session.writable()?;
    rights::change_flags(selected, &store.flags)?;
    let Limited { set, code } = limit(uids(selected, &store.set, uid)?);
    if set.is_empty() {
        return Ok(Reply::ok("Nothing to do"));
    }
    let mode = match store.mode {
        Mode::Replace => StoreMode::Replace,
        Mode::Add => StoreMode::Add,
        Mode::Remove => StoreMode::Remove,
    };
    let mut request = StoreFlagsRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox_id: selected.id.clone(),
        uids: ranges(&set),
        mode: mode.into(),
        flags: Some(names::flags(&store.flags)),
        unchanged_since: store.unchanged_since,
    };
    let mut progress = Progress::new(tag, set.count());
    let mut modified = NumberSet::default();
    loop {
        let mut mail = session.shared.mail();
        let call = mail.store_flags(request.clone());
        let answer = progress.during(&mut session.connection, call).await??.into_inner();
        modified = modified.union(&number_set(&answer.modified));
        progress.done += tell(session, store, uid, &answer).await?;
        // The change has been told, or the client does not want to be told.
        session.selected_mut()?.told.extend(&answer.made);
        request.key = mox_rpc::key();
        request.uids = ranges_from(&request.uids, answer.next_uid);
        if answer.next_uid == 0 || request.uids.is_empty() {
            break;
        }
    }
    let gone = progress.done < set.count();
    let reply = if gone { expunge_issued(uid) } else { Reply::ok("Done") };
    if modified.is_empty() {
        return Ok(match code {
            Some(code) if !gone => reply.code(code),
            _ => reply,
        });
    }
    // RFC 7162 §3.1.3: which were not changed, in the numbers that the command used.
    let modified = match uid {
        true => modified,
        false => session.selected()?.view.numbers_of(&modified),
    };
    let mut code = b"MODIFIED ".to_vec();
    modified.write(&mut code);
    let mut reply = reply.code(String::from_utf8_lossy(&code).into_owned());
    reply.text = "Some messages have changed since".into();
    Ok(reply)
}

/// Tells the flags that messages have now; answers how many there are, those that were left as they are included.
async fn tell(session: &mut Session, store: &Store, uid: bool, answer: &StoreFlagsResponse) -> Result<u64, Failed> {
    let Session {
        selected: Some(selected),
        connection,
        enabled,
        ..
    } = session
    else {
        return Ok(0);
    };
    let Some(rows) = &answer.rows else { return Ok(0) };
    let modified = number_set(&answer.modified);
    let mut count = 0;
    let mut keyword_set = 0;
    for row in rows::iter(rows) {
        count += 1;
        if row.keyword_set != keyword_set {
            keyword_set = row.keyword_set;
            selected.announce(row.keywords, &mut connection.out);
        }
        // What another session changed is told as its change.
        if modified.contains(row.uid) {
            continue;
        }
        // RFC 7162 §3.1.3: the modification sequence is told also where the flags are not to be.
        let made = answer.made.contains(&row.modseq);
        let told = Told {
            uid: (uid || enabled.qresync) && !enabled.uidonly,
            flags: !store.silent,
            modseq: enabled.condstore && (!store.silent || made),
        };
        let Some(number) = selected.view.number_of(row.uid).filter(|_| told.flags || told.modseq) else {
            continue;
        };
        write(&row, number, &told, *enabled, &mut connection.out);
        connection.flush_if_large().await?;
    }
    Ok(count)
}

/// What is told of a message.
struct Told {
    uid: bool,
    flags: bool,
    modseq: bool,
}

fn write(row: &rows::Row<'_>, number: u32, told: &Told, enabled: Enabled, out: &mut bytes::BytesMut) {
    notices::begin(number, row.uid, enabled, out);
    let mut before = false;
    if told.uid {
        out.put_slice(b"UID ");
        put_number(out, u64::from(row.uid));
        before = true;
    }
    if told.flags {
        out.put_slice(if before { b" FLAGS " } else { b"FLAGS " });
        names::write_flags(row.bits, row.keywords, out);
        before = true;
    }
    if told.modseq {
        if before {
            out.put_u8(b' ');
        }
        notices::modseq(row.modseq, out);
    }
    out.put_slice(b")\r\n");
}
