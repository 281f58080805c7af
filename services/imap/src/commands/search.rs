//! SEARCH (RFC 9051 §6.4.4, RFC 3501 §6.4.4, RFC 4731).

use bytes::{BufMut, BytesMut};
use mox_imap_proto::NumberSet;
use mox_imap_proto::datetime::Date;
use mox_imap_proto::search::{Return, Search, SearchKey};
use mox_imap_proto::window::Window;
use mox_imap_proto::write::put_number;
use mox_proto::mail::v1::search_key::{All, Day, Header, Key, List, Uids};
use mox_proto::mail::v1::{SearchKey as StoreKey, SearchRequest};

use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::selected::{Selected, ranges};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, search: &Search, uid: bool) -> Outcome {
    let selected = session.selected()?;
    if search.returns.is_some_and(|r| r.save) {
        return Err(Reply::bad("SEARCHRES is not offered").into());
    }
    if search.returns.is_some_and(|r| r.update) {
        return Err(Reply::bad("CONTEXT=SEARCH is not offered").into());
    }
    let mut request = SearchRequest {
        session: session.token()?,
        mailbox_id: selected.id.clone(),
        key: Some(translate(&search.key, selected)?),
        from_uid: 0,
    };
    let mut found = Vec::new();
    loop {
        let answer = session.shared.mail().search(request.clone()).await?.into_inner();
        found.extend(
            answer
                .uids
                .iter()
                .filter(|r| r.first <= r.last)
                .map(|r| (r.first, r.last)),
        );
        if answer.next_uid == 0 {
            break;
        }
        request.from_uid = answer.next_uid;
    }
    // What the client was not told of has no number, and is told next.
    let selected = session.selected()?;
    let found = NumberSet::from_ranges(found);
    let found = if uid {
        selected.view.known(&found)
    } else {
        selected.view.numbers_of(&found)
    };
    match search.returns {
        None => write_all(session, &found).await?,
        Some(returns) => write_extended(session, tag, uid, returns, &found),
    }
    Ok(Reply::ok("Done"))
}

/// RFC 3501 §7.2.5.
async fn write_all(session: &mut Session, found: &NumberSet) -> Result<(), Failed> {
    session.connection.out.put_slice(b"* SEARCH");
    for &(first, last) in found.ranges() {
        for number in first..=last {
            session.connection.out.put_u8(b' ');
            put_number(&mut session.connection.out, u64::from(number));
        }
        session.connection.flush_if_large().await?;
    }
    session.connection.out.put_slice(b"\r\n");
    Ok(())
}

/// RFC 4731 §3.1.
fn write_extended(session: &mut Session, tag: &str, uid: bool, returns: Return, found: &NumberSet) {
    let out = &mut session.connection.out;
    out.put_slice(b"* ESEARCH (TAG ");
    mox_imap_proto::write::put_string(out, tag.as_bytes(), false);
    out.put_u8(b')');
    if uid {
        out.put_slice(b" UID");
    }
    let mut number = |name: &[u8], value: u64| {
        out.put_slice(name);
        put_number(out, value);
    };
    // MIN, MAX and ALL are left out where nothing was found.
    if let (true, Some(first)) = (returns.min, found.first()) {
        number(b" MIN ", first.into());
    }
    if let (true, Some(last)) = (returns.max, found.last()) {
        number(b" MAX ", last.into());
    }
    if returns.count {
        number(b" COUNT ", found.count());
    }
    if returns.all && !found.is_empty() {
        out.put_slice(b" ALL ");
        found.write(out);
    }
    if let Some(window) = returns.partial {
        write_partial(window, found, out);
    }
    out.put_slice(b"\r\n");
}

/// RFC 9394 §3.1: the window as it was asked for, and what is in it.
fn write_partial(window: Window, found: &NumberSet, out: &mut BytesMut) {
    out.put_slice(b" PARTIAL (");
    window.write(out);
    out.put_u8(b' ');
    let part = found.slice(window.of(found.count()));
    if part.is_empty() {
        out.put_slice(b"NIL");
    } else {
        part.write(out);
    }
    out.put_u8(b')');
}

/// The key as the store takes it: numbers become UIDs, and what is never true or always is said so.
fn translate(key: &SearchKey, selected: &Selected) -> Result<StoreKey, Reply> {
    let key = match key {
        SearchKey::All | SearchKey::Old => Key::All(All {}),
        // No message is \Recent.
        SearchKey::New | SearchKey::Recent => Key::Not(Box::new(StoreKey {
            key: Some(Key::All(All {})),
        })),
        SearchKey::Numbers(set) => {
            let numbers = set.resolve(selected.view.count()).ok_or_else(saved)?;
            Key::Uids(Uids {
                ranges: ranges(&selected.view.uids_of(&numbers)),
            })
        }
        SearchKey::Uids(set) => {
            let uids = set.resolve(selected.view.last_uid()).ok_or_else(saved)?;
            Key::Uids(Uids { ranges: ranges(&uids) })
        }
        SearchKey::Flag(flag) => match names::bit(flag) {
            Some(bit) => Key::Flag(bit),
            None => Key::Keyword(flag.as_str().to_ascii_lowercase()),
        },
        SearchKey::Header(name, value) => Key::Header(Header {
            name: name.clone(),
            value: value.clone(),
        }),
        SearchKey::Body(text) => Key::Body(text.clone()),
        SearchKey::Text(text) => Key::Text(text.clone()),
        SearchKey::Before(date) => Key::Before(day(date)),
        SearchKey::On(date) => Key::On(day(date)),
        SearchKey::Since(date) => Key::Since(day(date)),
        SearchKey::SentBefore(date) => Key::SentBefore(day(date)),
        SearchKey::SentOn(date) => Key::SentOn(day(date)),
        SearchKey::SentSince(date) => Key::SentSince(day(date)),
        SearchKey::Larger(n) => Key::Larger(*n),
        SearchKey::Smaller(n) => Key::Smaller(*n),
        SearchKey::Older(seconds) => Key::Older((*seconds).into()),
        SearchKey::Younger(seconds) => Key::Younger((*seconds).into()),
        SearchKey::ModSeq(_) => return Err(Reply::bad("CONDSTORE is not offered")),
        SearchKey::SavedBefore(_) | SearchKey::SavedOn(_) | SearchKey::SavedSince(_) | SearchKey::SaveDateSupported => {
            return Err(Reply::bad("SAVEDATE is not offered"));
        }
        SearchKey::And(keys) => Key::And(List {
            keys: keys.iter().map(|k| translate(k, selected)).collect::<Result<_, _>>()?,
        }),
        SearchKey::Or(a, b) => Key::Or(List {
            keys: vec![translate(a, selected)?, translate(b, selected)?],
        }),
        SearchKey::Not(key) => Key::Not(Box::new(translate(key, selected)?)),
    };
    Ok(StoreKey { key: Some(key) })
}

fn saved() -> Reply {
    Reply::bad("There is no saved search result")
}

fn day(date: &Date) -> Day {
    Day {
        year: date.year.into(),
        month: date.month.into(),
        day: date.day.into(),
    }
}
