//! SEARCH (RFC 9051 §6.4.4, RFC 3501 §6.4.4, RFC 4731, RFC 5182, RFC 7162 §3.1.5).

use bytes::BufMut;
use mox_imap_proto::NumberSet;
use mox_imap_proto::search::{Return, Search};
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::{Column, ListRowsRequest, SearchRequest};

use crate::commands::{Limited, limit, uid_required};
use crate::contexts;
use crate::enabled::Extension;
use crate::esearch::{self, Results};
use crate::limits;
use crate::progress::Progress;
use crate::reply::{Condition, Failed, Outcome, Reply};
use crate::rows;
use crate::searching::{asks_modseq, translate, within};
use crate::selected::{number_set, ranges};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, search: &Search, uid: bool) -> Outcome {
    session.selected()?;
    let saves = search.returns.is_some_and(|r| r.save);
    let outcome = answer(session, tag, search, uid).await;
    if let (true, Err(Failed::Reply(reply)), Some(selected)) = (saves, &outcome, &mut session.selected)
        && reply.condition == Condition::No
    {
        // RFC 5182 §2.1: after a search that failed, the saved result is empty; after one that was no search, it stays.
        selected.saved = NumberSet::default();
    }
    outcome
}

async fn answer(session: &mut Session, tag: &str, search: &Search, uid: bool) -> Outcome {
    if session.enabled.uidonly && !uid {
        return Err(uid_required().into());
    }
    if session.enabled.utf8 && search.charset {
        // RFC 6855 §3.
        return Err(Reply::bad("With UTF8=ACCEPT, everything is UTF-8 and no charset is named").into());
    }
    let updates = search.returns.is_some_and(|r| r.update);
    if updates && session.selected()?.contexts.has(tag) {
        // RFC 5267 §4.3.
        return Err(Reply::bad("A result with this tag is being kept current").into());
    }
    let asks_modseq = asks_modseq(&search.key);
    if asks_modseq {
        session.enable(Extension::CondStore);
    }
    let Found { uids, modseq, limited } = find(session, tag, search, asks_modseq).await?;
    // RFC 9051 §6.4.4: IMAP4rev2 has only ESEARCH.
    let returns = match search.returns {
        None if session.enabled.rev2 => Some(Return {
            all: true,
            ..Return::default()
        }),
        returns => returns,
    };
    let kept = match returns {
        Some(returns) if returns.save => Some(saved(&returns, &uids)),
        _ => None,
    };
    let modseq = match returns {
        Some(returns) if asks_modseq && only_ends(&returns) => {
            modseq_of(session, &Return { save: true, ..returns }, &uids).await?
        }
        _ => modseq.filter(|_| asks_modseq),
    };
    let selected = session.selected()?;
    let context = match updates {
        true => Some((translate(&search.key, selected)?, uids.clone())),
        false => None,
    };
    let found = if uid { uids } else { selected.view.numbers_of(&uids) };
    match returns {
        None => write_all(session, &found, modseq).await?,
        // RFC 5182 §2.1: what is only saved is not told.
        Some(returns) if is_only_saved(&returns) => {}
        Some(returns) => write_extended(session, tag, uid, returns, &found, modseq),
    }
    if let Some(kept) = kept {
        if kept.ranges().len() > limits::SAVED_RANGES {
            return Err(Reply::no("The result is too scattered to be saved")
                .code("NOTSAVED")
                .into());
        }
        session.selected_mut()?.saved = kept;
    }
    if let (Some((key, uids)), Some(selected)) = (context, &mut session.selected) {
        let found = contexts::Found::Set(uids);
        let out = &mut session.connection.out;
        contexts::keep(selected, tag, uid, key, &search.update_items, found, out);
    }
    let reply = Reply::ok("Done");
    Ok(match limited {
        Some(code) => reply.code(code),
        None => reply,
    })
}

/// What a search found.
struct Found {
    /// Messages that the client knows of.
    uids: NumberSet,
    /// The highest of theirs, if there are any.
    modseq: Option<u64>,
    /// Response code: only a part of the messages was looked at.
    limited: Option<String>,
}

async fn find(session: &mut Session, tag: &str, search: &Search, asks_modseq: bool) -> Result<Found, Failed> {
    let selected = session.selected()?;
    let mut key = translate(&search.key, selected)?;
    let mut limited = None;
    if u64::from(selected.view.count()) > limits::MESSAGES {
        let Limited { set, code } = limit(selected.view.uids());
        key = within(&set, key);
        limited = code;
    } else if asks_modseq {
        // What the client was not told of must not raise the modification sequence that it is told.
        let known = NumberSet::from_ranges([(1, selected.view.last_uid().max(1))]);
        key = within(&known, key);
    }
    let mut request = SearchRequest {
        session: session.token()?,
        mailbox_id: selected.id.clone(),
        key: Some(key),
        ..Default::default()
    };
    let mut progress = Progress::new(tag, 0);
    let mut found = NumberSet::default();
    let mut modseq = None;
    loop {
        let mut mail = session.shared.mail();
        let call = mail.search(request.clone());
        let answer = progress.during(&mut session.connection, call).await??.into_inner();
        let page = number_set(&answer.uids);
        if !page.is_empty() {
            modseq = modseq.max(Some(answer.highest_modseq));
        }
        for &(first, last) in page.ranges() {
            found.push_range(first, last);
        }
        if answer.next_uid == 0 {
            break;
        }
        request.from_uid = answer.next_uid;
    }
    // What the client was not told of has no number, and is told next.
    let uids = session.selected()?.view.known(&found);
    Ok(Found {
        modseq: modseq.filter(|_| !uids.is_empty()),
        uids,
        limited,
    })
}

/// Whether of what is found only the lowest and the highest is asked for.
fn only_ends(returns: &Return) -> bool {
    (returns.min || returns.max) && !returns.all && !returns.count && returns.partial.is_none()
}

fn is_only_saved(returns: &Return) -> bool {
    let saved = Return {
        save: true,
        ..Return::default()
    };
    *returns == saved
}

/// What `$` is then: RFC 5182 §2.4, RFC 9394 §3.2.
fn saved(returns: &Return, uids: &NumberSet) -> NumberSet {
    if let (Some(window), false) = (returns.partial, returns.all || returns.count) {
        return uids.slice(window.of(uids.count()));
    }
    if !only_ends(returns) {
        return uids.clone();
    }
    let min = uids.first().filter(|_| returns.min);
    let max = uids.last().filter(|_| returns.max);
    NumberSet::from_ranges(min.into_iter().chain(max).map(|uid| (uid, uid)))
}

/// RFC 7162 §3.1.5: of what is told, the highest modification sequence.
async fn modseq_of(session: &mut Session, returns: &Return, uids: &NumberSet) -> Result<Option<u64>, Failed> {
    let told = saved(returns, uids);
    if told.is_empty() {
        return Ok(None);
    }
    let request = ListRowsRequest {
        session: session.token()?,
        mailbox_id: session.selected()?.id.clone(),
        columns: Column::Modseq as u32,
        uids: ranges(&told),
        ..Default::default()
    };
    let answer = session.shared.mail().list_rows(request).await?.into_inner();
    Ok(answer.rows.iter().flat_map(rows::iter).map(|row| row.modseq).max())
}

/// RFC 3501 §7.2.5, RFC 7162 §3.1.5.
async fn write_all(session: &mut Session, found: &NumberSet, modseq: Option<u64>) -> Result<(), Failed> {
    session.connection.out.put_slice(b"* SEARCH");
    for &(first, last) in found.ranges() {
        for number in first..=last {
            session.connection.out.put_u8(b' ');
            put_number(&mut session.connection.out, u64::from(number));
            if number % 4096 == 0 {
                session.connection.flush_if_large().await?;
            }
        }
        session.connection.flush_if_large().await?;
    }
    let out = &mut session.connection.out;
    if let Some(modseq) = modseq {
        out.put_slice(b" (MODSEQ ");
        put_number(out, modseq);
        out.put_u8(b')');
    }
    out.put_slice(b"\r\n");
    Ok(())
}

/// RFC 4731 §3.1.
fn write_extended(
    session: &mut Session,
    tag: &str,
    uid: bool,
    returns: Return,
    found: &NumberSet,
    modseq: Option<u64>,
) {
    let out = &mut session.connection.out;
    esearch::begin(tag, uid, out);
    esearch::data(&returns, Results::Set(found), modseq, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_what_is_asked_for() {
        let uids = NumberSet::from_ranges([(3, 5), (9, 9)]);
        let returns = |min, max, all, count| Return {
            min,
            max,
            all,
            count,
            save: true,
            ..Return::default()
        };
        let text = |returns: Return| {
            let mut out = Vec::new();
            saved(&returns, &uids).write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(returns(false, false, false, false)), "3:5,9");
        assert_eq!(text(returns(true, false, false, false)), "3");
        assert_eq!(text(returns(false, true, false, false)), "9");
        assert_eq!(text(returns(true, true, false, false)), "3,9");
        assert_eq!(text(returns(true, false, false, true)), "3:5,9");
        assert_eq!(text(returns(true, true, true, false)), "3:5,9");
        assert!(is_only_saved(&returns(false, false, false, false)));
        assert!(!is_only_saved(&returns(false, false, false, true)));
    }
}
