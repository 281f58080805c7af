//! FETCH (RFC 9051 §6.4.5).
//!
//! Rows of flags, sizes and dates come in columns; envelopes and structures in pages of messages; contents in streams.
//! Each page is written and sent before the next is asked for.

use std::collections::HashMap;

use bytes::Bytes;
use mox_imap_proto::NumberSet;
use mox_imap_proto::fetch::{Fetch, FetchItem};
use mox_proto::mail::v1::store_flags_request::Mode;
use mox_proto::mail::v1::{
    Column, Flag, Flags, GetMessagesRequest, ListRowsRequest, ListRowsResponse, Message, Rows, StoreFlagsRequest,
    UidRange,
};

use crate::Shared;
use crate::changes::{self, Since};
use crate::commands::{Limited, expunge_issued, limit, uids};
use crate::connection::Connection;
use crate::enabled::Extension;
use crate::fetch::body::{self, Source, Told};
use crate::fetch::plan::Plan;
use crate::fetch::write::{self, Facts, FlagWriter};
use crate::notices;
use crate::reply::{Failed, Outcome, Reply};
use crate::rows;
use crate::selected::{Selected, ranges, ranges_from};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, fetch: &Fetch, uid: bool) -> Outcome {
    session.selected()?;
    if fetch.vanished && !(uid && session.enabled.qresync && fetch.changed_since.is_some()) {
        // RFC 7162 §3.2.6.
        let text = "VANISHED needs UID FETCH, CHANGEDSINCE, and QRESYNC to be enabled";
        return Err(Reply::bad(text).into());
    }
    if fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq) {
        session.enable(Extension::CondStore);
    }
    if fetch.vanished {
        // What is gone and was not told is told first, so that it is not told to have been gone earlier.
        let token = session.token()?;
        let shared = session.shared.clone();
        if let Some(selected) = &mut session.selected {
            selected.update(&shared, &token, true, &mut session.connection).await?;
        }
    }
    let selected = session.selected()?;
    let mut set = uids(selected, &fetch.set, uid)?;
    if let Some(window) = fetch.partial {
        if !uid {
            return Err(Reply::bad("PARTIAL is a modifier of UID FETCH").into());
        }
        // RFC 9394 §3.4: first the part of the messages, then which of them changed.
        set = set.slice(window.of(set.count()));
    }
    let mut items = fetch.items.clone();
    if fetch.changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
        // RFC 7162 §3.1.4.1: CHANGEDSINCE asks for it.
        items.push(FetchItem::ModSeq);
    }
    let mut plan = Plan::new(&items, uid, session.enabled);
    plan.sets_seen &= !selected.read_only;
    let token = session.token()?;
    let shared = session.shared.clone();
    if let Some(modseq) = fetch.changed_since {
        set = since(session, fetch, modseq, &set).await?;
    }
    let Limited { set, code } = limit(set);
    if set.is_empty() {
        return Ok(Reply::ok("Done"));
    }
    let Session {
        selected: Some(selected),
        connection,
        enabled,
        ..
    } = session
    else {
        return Err(Reply::bad("Select a mailbox first").into());
    };
    let mut run = Run {
        shared: &shared,
        token,
        selected,
        connection,
        plan,
        flags: FlagWriter::new(*enabled),
        undecodable: 0,
    };
    let told = if run.plan.parts() == 0 || run.plan.is_summary() {
        run.rows(&set).await?
    } else {
        run.messages(&set).await?
    };
    if run.undecodable > 0 {
        // RFC 3516 §4.3.
        let text = "Some parts have a transfer encoding that is not known";
        return Err(Reply::no(text).code("UNKNOWN-CTE").into());
    }
    Ok(match code {
        _ if told < set.count() => expunge_issued(uid),
        Some(code) => Reply::ok("Done in part").code(code),
        None => Reply::ok("Done"),
    })
}

/// Tells items of messages that the client did not ask for now, but to be told of as they come (RFC 5465 §5.2, §7). They
/// stay as seen as they were: nobody looks at them yet.
pub(crate) async fn tell(session: &mut Session, set: &NumberSet, items: &[FetchItem]) -> Result<(), Failed> {
    if set.is_empty() {
        return Ok(());
    }
    let mut plan = Plan::new(items, true, session.enabled);
    plan.sets_seen = false;
    let token = session.token()?;
    let shared = session.shared.clone();
    let Session {
        selected: Some(selected),
        connection,
        enabled,
        ..
    } = session
    else {
        return Ok(());
    };
    let mut run = Run {
        shared: &shared,
        token,
        selected,
        connection,
        plan,
        flags: FlagWriter::new(*enabled),
        undecodable: 0,
    };
    if run.plan.parts() == 0 {
        run.rows(set).await?;
    } else {
        run.messages(set).await?;
    }
    Ok(())
}

/// Those of the messages that changed since (RFC 7162 §3.1.4.1); what vanished of what was asked for is told (§3.2.6).
async fn since(session: &mut Session, fetch: &Fetch, modseq: u64, set: &NumberSet) -> Result<NumberSet, Failed> {
    let token = session.token()?;
    let shared = session.shared.clone();
    let selected = session.selected_mut()?;
    if modseq > selected.modseq {
        // The client knows of a change, perhaps its own, that we have not looked at.
        selected.catch_up(&shared, &token).await?;
    }
    // Of what vanished, more was once there than is now.
    let asked = match fetch.vanished {
        true => fetch.set.resolve(selected.uid_next.saturating_sub(1)),
        false => None,
    };
    let asked = asked.as_ref().unwrap_or(set);
    let Since { changed, vanished } = changes::since(&shared, &token, selected, modseq, asked, fetch.vanished).await?;
    notices::vanished(&vanished, true, &mut session.connection.out);
    Ok(changed.intersection(set))
}

struct Run<'s> {
    shared: &'s Shared,
    token: Bytes,
    selected: &'s mut Selected,
    connection: &'s mut Connection,
    plan: Plan,
    flags: FlagWriter,
    undecodable: u64,
}

impl Run<'_> {
    /// Tells messages of which rows say enough. Answers how many.
    async fn rows(&mut self, set: &NumberSet) -> Result<u64, Failed> {
        let mut request = ListRowsRequest {
            session: self.token.clone(),
            mailbox_id: self.selected.id.clone(),
            columns: self.plan.columns(),
            seen_modseq: self.selected.modseq,
            ..Default::default()
        };
        if self.plan.parts() != 0 {
            request.columns |= Column::Computed as u32;
        }
        match set.ranges() {
            // One range needs no list, and all of the mailbox not even that.
            &[(first, last)] => (request.first_uid, request.last_uid) = (first, last),
            _ => request.uids = ranges(set),
        }
        let mut told = 0;
        let mut answer = self.shared.mail().list_rows(request.clone()).await?.into_inner();
        loop {
            // While a page is written, the next is on its way.
            let next_uid = answer.next_uid;
            let next = (next_uid != 0).then(|| {
                request.first_uid = next_uid;
                request.uids = ranges_from(&request.uids, next_uid);
                let (request, mut mail) = (request.clone(), self.shared.mail());
                async move { mail.list_rows(request).await }
            });
            let page = std::mem::take(&mut answer);
            let write = self.page(page);
            let Some(next) = next else {
                return Ok(told + write.await?);
            };
            let (written, next) = futures::join!(write, next);
            told += written?;
            answer = next?.into_inner();
        }
    }

    async fn page(&mut self, answer: ListRowsResponse) -> Result<u64, Failed> {
        let page = answer.rows.unwrap_or_default();
        self.flags.new_page(&page.keyword_sets);
        if self.plan.has_sections() {
            self.page_with_sections(rows::iter(&page).map(|row| Facts::of_row(&row)))
                .await
        } else {
            self.page_of_rows(&page, &answer.computed).await
        }
    }

    /// The way that `UID FETCH 1:* (UID FLAGS)` takes, which every client takes at every start, and that of a list of
    /// envelopes: nothing is allocated for a message, and nothing awaited until a buffer is full.
    async fn page_of_rows(&mut self, page: &Rows, computed: &[Bytes]) -> Result<u64, Failed> {
        let mut told = 0;
        let mut walk = self.selected.view.walk();
        let mut rows = rows::iter(page).enumerate();
        loop {
            let mut more = false;
            for (at, row) in rows.by_ref() {
                let Some(number) = walk.number_of(row.uid) else {
                    continue;
                };
                let mut facts = Facts::of_row(&row);
                facts.encoded = computed.get(at).map(Bytes::as_ref);
                write::message(
                    &self.plan.items,
                    number,
                    &facts,
                    &mut self.flags,
                    &mut self.connection.out,
                );
                told += 1;
                if self.connection.out.len() >= crate::limits::OUTPUT_BYTES {
                    more = true;
                    break;
                }
            }
            if !more {
                return Ok(told);
            }
            self.connection.flush_if_large().await?;
        }
    }

    /// Tells messages that need their envelope or structure. Answers how many.
    async fn messages(&mut self, set: &NumberSet) -> Result<u64, Failed> {
        let mut request = GetMessagesRequest {
            session: self.token.clone(),
            mailbox_id: self.selected.id.clone(),
            uids: ranges(set),
            parts: self.plan.parts(),
        };
        let mut told = 0;
        loop {
            let answer = self.shared.mail().get_messages(request.clone()).await?.into_inner();
            self.flags.new_page(&[]);
            told += if self.plan.has_sections() {
                self.page_with_sections(answer.messages.iter().map(Facts::of_message))
                    .await?
            } else {
                self.page_of_messages(&answer.messages).await?
            };
            request.uids = ranges_from(&request.uids, answer.next_uid);
            if answer.next_uid == 0 || request.uids.is_empty() {
                return Ok(told);
            }
        }
    }

    async fn page_of_messages(&mut self, messages: &[Message]) -> Result<u64, Failed> {
        let mut told = 0;
        for message in messages {
            let Some(number) = self.selected.view.number_of(message.uid) else {
                continue;
            };
            let facts = Facts::of_message(message);
            write::message(
                &self.plan.items,
                number,
                &facts,
                &mut self.flags,
                &mut self.connection.out,
            );
            told += 1;
            self.connection.flush_if_large().await?;
        }
        Ok(told)
    }

    async fn page_with_sections<'f>(&mut self, page: impl Iterator<Item = Facts<'f>>) -> Result<u64, Failed> {
        let mut walk = self.selected.view.walk();
        let mut messages: Vec<Told<'f>> = page
            .filter_map(|facts| {
                Some(Told {
                    number: walk.number_of(facts.uid)?,
                    facts,
                    changed: false,
                })
            })
            .collect();
        if self.plan.sets_seen {
            self.see(&mut messages).await?;
        }
        let source = Source {
            shared: self.shared,
            token: &self.token,
            mailbox: &self.selected.id,
        };
        let untold = body::send(
            &source,
            self.connection,
            &self.plan.items,
            &messages,
            self.flags.enabled,
        )
        .await?;
        self.undecodable += untold.undecodable;
        Ok(messages.len() as u64 - untold.gone)
    }

    /// Sets `\Seen` on those that are not (RFC 9051 §6.4.5), and has their flags told.
    async fn see(&mut self, messages: &mut [Told<'_>]) -> Result<(), Failed> {
        let unseen = messages
            .iter()
            .filter(|m| !m.facts.is_seen())
            .map(|m| (m.facts.uid, m.facts.uid));
        let mut uids: Vec<UidRange> = ranges(&NumberSet::from_ranges(unseen));
        let mut seen = HashMap::new();
        while !uids.is_empty() {
            let request = StoreFlagsRequest {
                session: self.token.clone(),
                key: mox_rpc::key(),
                mailbox_id: self.selected.id.clone(),
                uids: uids.clone(),
                mode: Mode::Add.into(),
                flags: Some(Flags {
                    bits: Flag::Seen as u32,
                    keywords: Vec::new(),
                }),
                unchanged_since: None,
            };
            let answer = self.shared.mail().store_flags(request).await?.into_inner();
            self.selected.told.extend(&answer.made);
            seen.extend(answer.rows.iter().flat_map(rows::iter).map(|row| (row.uid, row.modseq)));
            uids = if answer.next_uid == 0 {
                Vec::new()
            } else {
                ranges_from(&uids, answer.next_uid)
            };
        }
        for message in messages.iter_mut() {
            if let Some(modseq) = seen.get(&message.facts.uid) {
                message.facts.set_seen();
                message.facts.modseq = *modseq;
                message.changed = true;
            }
        }
        Ok(())
    }
}
