//! ESEARCH: a search of several mailboxes (RFC 7377). One mailbox and one page at a time.

use std::collections::HashSet;

use bytes::{BufMut, Bytes};
use mox_imap_proto::NumberSet;
use mox_imap_proto::acl::Right;
use mox_imap_proto::multisearch::MultiSearch;
use mox_imap_proto::notify::Filter;
use mox_imap_proto::search::Return;
use mox_imap_proto::write::{put_number, put_string};
use mox_proto::mail::v1::{Mailbox, SearchRequest};

use crate::contexts::{self, Found};
use crate::enabled::Extension;
use crate::esearch::{self, Results};
use crate::filters;
use crate::limits;
use crate::names;
use crate::progress::Progress;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::searching::{asks_modseq, asks_numbers, translate};
use crate::selected::{Selected, number_set};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str, search: &MultiSearch) -> Outcome {
    let token = session.token()?;
    let search_key = &search.search.key;
    if session.enabled.utf8 && search.search.charset {
        // RFC 6855 §3.
        return Err(Reply::bad("With UTF8=ACCEPT, everything is UTF-8 and no charset is named").into());
    }
    let only_selected = search.sources.iter().all(|s| *s == Filter::Selected);
    let returns = search.search.returns.unwrap_or(Return {
        all: true,
        ..Return::default()
    });
    // RFC 7377 §2.2.
    if search.sources.is_empty() || search.sources.contains(&Filter::Selected) || returns.update {
        session.selected()?;
    }
    if returns.save && !only_selected {
        return Err(Reply::bad("SAVE is for a search of the selected mailbox alone").into());
    }
    if returns.update {
        let selected = session.selected()?;
        if selected.contexts.has(tag) {
            return Err(Reply::bad("A result with this tag is being kept current").into());
        }
    }
    let asks_modseq = asks_modseq(search_key);
    if asks_modseq {
        session.enable(Extension::CondStore);
    }
    let all = session.shared.mailboxes(&token).await?;
    let selected = session.selected.as_ref().map(|s| &s.id);
    let mailboxes = sources(all, selected, search);
    if mailboxes.len() > limits::SEARCHED_MAILBOXES {
        let text = "These are too many mailboxes to search at once";
        return Err(Reply::no(text).code("LIMIT").into());
    }
    // RFC 5182 §2.1: what is only saved is not told.
    let only_saved = returns
        == Return {
            save: true,
            ..Return::default()
        };
    let mut kept = false;
    let mut progress = Progress::new(tag, mailboxes.len() as u64);
    for mailbox in &mailboxes {
        let is_selected = session.selected.as_ref().is_some_and(|s| s.id == mailbox.id);
        let key = match &session.selected {
            Some(selected) if is_selected => translate(search_key, selected)?,
            // Sequence numbers are those of each mailbox, whose messages have to be known for that.
            _ if asks_numbers(search_key) => {
                let seen = session.login()?.subscription.hint().modseq;
                let shared = session.shared.clone();
                match Selected::open(&shared, &token, mailbox, true, session.enabled, seen).await {
                    Ok(opened) => translate(search_key, &opened)?,
                    // Deleted meanwhile.
                    Err(Failed::Reply(_)) => continue,
                    Err(stop) => return Err(stop),
                }
            }
            _ => translate(search_key, &Selected::unopened(mailbox, session.enabled))?,
        };
        let (mut uids, modseq) = find(session, &token, mailbox, key.clone(), &mut progress).await?;
        progress.done += 1;
        if is_selected {
            // What the client was not told of is told next.
            uids = session.selected()?.view.known(&uids);
        }
        // RFC 7377 §2.1: nothing is said of a mailbox where nothing was found.
        if !uids.is_empty() && !only_saved {
            write(session, tag, mailbox, &returns, &uids, modseq.filter(|_| asks_modseq));
            session.connection.flush_if_large().await?;
        }
        if let (true, Some(selected)) = (is_selected, &mut session.selected) {
            if returns.save {
                if uids.ranges().len() > limits::SAVED_RANGES {
                    let text = "The result is too scattered to be saved";
                    return Err(Reply::no(text).code("NOTSAVED").into());
                }
                selected.saved = uids.clone();
            }
            if returns.update {
                let items = &search.search.update_items;
                let out = &mut session.connection.out;
                contexts::keep(selected, tag, true, key, items, Found::Set(uids), out);
                kept = true;
            }
        }
    }
    if returns.update && !kept {
        // RFC 7377 §2.2: only results in the selected mailbox can be kept current, and it is not among them.
        let out = &mut session.connection.out;
        out.put_slice(b"* NO [NOUPDATE ");
        put_string(out, tag.as_bytes(), false);
        out.put_slice(b"] The selected mailbox was not searched\r\n");
    }
    Ok(Reply::ok("Done"))
}

/// The mailboxes that are meant, each once.
fn sources(mut all: Vec<Mailbox>, selected: Option<&Bytes>, search: &MultiSearch) -> Vec<Mailbox> {
    let is_selected = |m: &Mailbox| Some(&m.id) == selected;
    let mut seen = HashSet::new();
    // RFC 7377 §2.2: what may not be read, or, unless it is named, not be listed, is passed over.
    all.retain(|m| m.exists && rights::of(m).has(Right::Read) && rights::of(m).has(Right::Lookup));
    all.retain(|mailbox| {
        let meant = search.sources.is_empty() && is_selected(mailbox)
            || search.sources.iter().any(|source| match source {
                Filter::Selected => is_selected(mailbox),
                source => filters::covers(source, &names::shown(&mailbox.name), mailbox.subscribed),
            });
        meant && seen.insert(mailbox.id.clone())
    });
    all
}

async fn find(
    session: &mut Session,
    token: &Bytes,
    mailbox: &Mailbox,
    key: mox_proto::mail::v1::SearchKey,
    progress: &mut Progress<'_>,
) -> Result<(NumberSet, Option<u64>), Failed> {
    let mut request = SearchRequest {
        session: token.clone(),
        mailbox_id: mailbox.id.clone(),
        key: Some(key),
        ..Default::default()
    };
    let mut found = NumberSet::default();
    let mut modseq = None;
    loop {
        let mut mail = session.shared.mail();
        let call = mail.search(request.clone());
        let answer = match progress.during(&mut session.connection, call).await? {
            Ok(answer) => answer.into_inner(),
            // Deleted meanwhile.
            Err(status) if status.code() == tonic::Code::NotFound => return Ok((found, modseq)),
            Err(status) => return Err(status.into()),
        };
        let page = number_set(&answer.uids);
        if !page.is_empty() {
            modseq = modseq.max(Some(answer.highest_modseq));
        }
        for &(first, last) in page.ranges() {
            found.push_range(first, last);
        }
        if answer.next_uid == 0 {
            return Ok((found, modseq));
        }
        request.from_uid = answer.next_uid;
    }
}

/// RFC 7377 §2.1: with the tag, the mailbox and its UIDVALIDITY, and always UIDs.
fn write(session: &mut Session, tag: &str, mailbox: &Mailbox, returns: &Return, uids: &NumberSet, modseq: Option<u64>) {
    let naming = session.names;
    let out = &mut session.connection.out;
    out.put_slice(b"* ESEARCH (TAG ");
    put_string(out, tag.as_bytes(), false);
    out.put_slice(b" MAILBOX ");
    names::write(&mailbox.name, naming, out);
    out.put_slice(b" UIDVALIDITY ");
    put_number(out, u64::from(mailbox.uid_validity));
    out.put_slice(b") UID");
    esearch::data(returns, Results::Set(uids), modseq, out);
}
