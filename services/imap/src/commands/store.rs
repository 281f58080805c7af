//! STORE (RFC 9051 §6.4.6).

use bytes::BufMut;
use mox_imap_proto::store::{Mode, Store};
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::store_flags_request::Mode as StoreMode;
use mox_proto::mail::v1::{Rows, StoreFlagsRequest};

use crate::commands::{expunge_issued, uids};
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rows;
use crate::selected::{numbered, ranges, ranges_from};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, store: &Store, uid: bool) -> Outcome {
    let selected = session.writable()?;
    if store.unchanged_since.is_some() {
        return Err(Reply::bad("CONDSTORE is not offered").into());
    }
    let set = uids(selected, &store.set, uid)?;
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
        unchanged_since: None,
    };
    let mut seen = 0;
    loop {
        let answer = session.shared.mail().store_flags(request.clone()).await?.into_inner();
        seen += tell(session, store, uid, answer.rows.unwrap_or_default()).await?;
        // The change has been told, or the client does not want to be told.
        session.selected_mut()?.told.push(answer.modseq);
        request.key = mox_rpc::key();
        request.uids = ranges_from(&request.uids, answer.next_uid);
        if answer.next_uid == 0 || request.uids.is_empty() {
            break;
        }
    }
    Ok(if seen < set.count() {
        expunge_issued(uid)
    } else {
        Reply::ok("Done")
    })
}

/// Tells the flags that messages have now; answers how many there are.
async fn tell(session: &mut Session, store: &Store, uid: bool, rows: Rows) -> Result<u64, Failed> {
    let Session {
        selected: Some(selected),
        connection,
        ..
    } = session
    else {
        return Ok(0);
    };
    let mut count = 0;
    let mut keyword_set = 0;
    for row in rows::iter(&rows) {
        count += 1;
        if row.keyword_set != keyword_set {
            keyword_set = row.keyword_set;
            selected.announce(row.keywords, &mut connection.out);
        }
        if store.silent {
            continue;
        }
        let Some(number) = selected.view.number_of(row.uid) else {
            continue;
        };
        let out = &mut connection.out;
        numbered(out, number, b" FETCH (");
        if uid {
            out.put_slice(b"UID ");
            put_number(out, u64::from(row.uid));
            out.put_u8(b' ');
        }
        out.put_slice(b"FLAGS ");
        names::write_flags(row.bits, row.keywords, out);
        out.put_slice(b")\r\n");
        connection.flush_if_large().await?;
    }
    Ok(count)
}
