//! Search, by looking at every message that may match.
//!
//! What the rows in memory and the index of texts know is tested first: most messages are decided by it without being
//! read. The others, such as those that are so new that the index of texts has not got them yet, are read in
//! batches: their records, then as much of their bytes as the search needs. One call does so much work and then says
//! where to go on, so that a search of a large mailbox holds up nothing and can be given up.

mod key;
#[cfg(test)]
mod tests;
mod text;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MailboxId};
use prost::Message as _;
use std::sync::Arc;
use tonic::Status;

use self::key::{More, Row, Search};
use self::text::Needle;
use super::messages::message_id;
use super::{Mail, mailbox_id};
use crate::account::{AccountError, Collector, FromSnapshot, Index, NO_DAY, ranges_of, read_rows};
use crate::content::{ContentError, INLINE_BYTES};
use crate::keys;
use crate::search::Found;

/// Messages that are read at a time.
const BATCH: usize = 64;
/// Messages that are decided at a time, read or not.
const DECIDED: usize = 10_000;
/// Bytes of messages that one call reads.
const CALL_BYTES: usize = 64 << 20;
/// Time that one call takes, about.
const CALL_TIME: Duration = Duration::from_secs(2);
/// Ranges of UIDs in an answer.
const ANSWER_RANGES: usize = 60_000;

/// Messages of a mailbox that are sooner read than looked up.
const LOOK_UP_MIN: usize = if cfg!(test) { 1 } else { 16 };

/// A message to be decided.
struct Candidate<'a> {
    row: Row<'a>,
    matches: Option<bool>,
}

impl Mail {
    pub(super) async fn do_search(
        &self,
        account: AccountId,
        request: mail::SearchRequest,
    ) -> Result<mail::SearchResponse, Status> {
        let id = mailbox_id(&request.mailbox_id)?;
        let (state, index) = self.accounts.view(account, id, 0).await?;
        let key = request
            .key
            .ok_or_else(|| Status::invalid_argument("a search without conditions"))?;
        let uid_next = state.mailbox(id)?.uid_next;
        let search = Arc::new(Search::compile(&key, &state.keywords, uid_next, self.accounts.now())?);
        let index_of_texts = self.look_up(account, &search, index.len()).await?;
        let known = More {
            index: index_of_texts.as_ref(),
            ..More::default()
        };
        let start = Instant::now();
        let mut found = Matches::default();
        let mut rows = rows(&index, request.from_uid);
        let mut bytes = 0;
        loop {
            let mut batch: Vec<Candidate<'_>> = Vec::new();
            let mut open = 0;
            for row in rows.by_ref() {
                let matches = search.root.test(&row, &known);
                open += usize::from(matches.is_none());
                batch.push(Candidate { row, matches });
                if open >= BATCH || batch.len() >= DECIDED {
                    break;
                }
            }
            // A million rows take a while: others go on meanwhile.
            tokio::task::yield_now().await;
            let Some(last) = batch.last().map(|c| c.row.uid) else {
                break;
            };
            if open > 0 {
                bytes += self.decide(account, id, &search, &known, &mut batch).await?;
            }
            for candidate in batch.iter().filter(|c| c.matches == Some(true)) {
                found.uids.push(candidate.row.uid);
                found.modseq = found.modseq.max(candidate.row.modseq);
            }
            let enough = bytes >= CALL_BYTES || start.elapsed() >= CALL_TIME || found.uids.len() >= ANSWER_RANGES;
            if enough && last < uid_next {
                found.next = last + 1;
                break;
            }
        }
        let uids = found.uids.into_ranges();
        Ok(mail::SearchResponse {
            uids,
            next_uid: found.next,
            highest_modseq: found.modseq,
        })
    }

    /// What the index of texts knows of those of a search. It is not asked for a few messages, and never an obstacle.
    async fn look_up(
        &self,
        account: AccountId,
        search: &Search,
        messages: usize,
    ) -> Result<Option<Found>, AccountError> {
        if search.texts.is_empty() || messages < LOOK_UP_MIN {
            return Ok(None);
        }
        let texts: Vec<_> = search.texts.iter().map(Needle::wanted).collect();
        let text = self.accounts.text();
        let snapshot = self.accounts.db().snapshot().await?;
        match text.look_up(&*snapshot, account, &texts).await {
            Err(AccountError::Damaged(_)) => {
                tracing::error!(%account, "the search index cannot be read: it is made anew, and searches are slow until then");
                text.note_damaged(account);
                Ok(None)
            }
            found => found,
        }
    }

    /// Reads the messages that are not decided yet, decides them, and answers with how many bytes that were.
    async fn decide(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        search: &Arc<Search>,
        known: &More<'_>,
        batch: &mut [Candidate<'_>],
    ) -> Result<usize, Status> {
        let uids = ranges_of(batch.iter().filter(|c| c.matches.is_none()).map(|c| c.row.uid));
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let reader = FromSnapshot(&*snapshot);
        let (rows, _) = read_rows(&reader, account, mailbox, &uids, usize::MAX).await?;
        let ids = rows
            .iter()
            .map(|(_, row)| message_id(row))
            .collect::<Result<Vec<_>, _>>()?;
        let messages = super::messages::records(&reader, account, &ids).await?;
        let computed = match search.sent {
            false => vec![None; ids.len()],
            true => {
                let keys = ids.iter().map(|id| keys::computed(account, *id)).collect();
                crate::account::Reader::get_many(&reader, keys).await?
            }
        };
        drop(snapshot);
        let uids: Vec<u32> = rows.iter().map(|(uid, _)| *uid).collect();
        let mut records = uids.into_iter().zip(messages.into_iter().zip(computed)).peekable();
        let mut bytes = 0;
        for candidate in batch.iter_mut().filter(|c| c.matches.is_none()) {
            let Some((_, (message, computed))) = records.next_if(|(uid, _)| *uid == candidate.row.uid) else {
                // Expunged meanwhile.
                candidate.matches = Some(false);
                continue;
            };
            let sent = match computed {
                None => None,
                Some(computed) => {
                    let computed =
                        mail::Computed::decode(computed).map_err(|_| AccountError::Damaged("a message's structure"))?;
                    let date = computed.envelope.and_then(|e| e.date);
                    Some(date.and_then(|date| mox_message::sent_day(&date)).map(i64::from))
                }
            };
            let mut more = More {
                saved: Some(message.saved),
                ids: search
                    .ids
                    .then(|| (super::messages::email_id(&message), message.thread_id.clone())),
                sent: sent.or(Some(None)),
                ..known.clone()
            };
            candidate.matches = search.root.test(&candidate.row, &more);
            if candidate.matches.is_none() {
                bytes += self.read_texts(search, &message, &candidate.row, &mut more).await?;
                candidate.matches = search.root.test(&candidate.row, &more).or(Some(false));
            }
        }
        Ok(bytes)
    }

    /// Looks for the texts of a search in a message, in its header first if that may be enough and saves reading.
    async fn read_texts(
        &self,
        search: &Arc<Search>,
        message: &record::Message,
        row: &Row<'_>,
        more: &mut More<'_>,
    ) -> Result<usize, Status> {
        let known: Vec<Option<bool>> = (0..search.texts.len())
            .map(|n| more.index?.test(n, row.number))
            .collect();
        more.texts.clone_from(&known);
        let content = ContentId::try_from(&message.content_id).map_err(|_| AccountError::Damaged("a message"))?;
        let large = message.size > INLINE_BYTES as u64;
        let open = |(t, known): (&Needle, &Option<bool>)| known.is_none() && !t.needs_body();
        let headers = search.texts.iter().zip(&known).any(open);
        let mut read = 0;
        if large && headers {
            let Some(start) = self.bytes_of(message, content, INLINE_BYTES as u64).await? else {
                return Ok(0);
            };
            read += start.len();
            // A header that goes on further is for the whole message to show.
            if mox_message::header_end(&start) < start.len() {
                text::search_header(&search.texts, &start, &mut more.texts);
                if search.root.test(row, more).is_some() {
                    return Ok(read);
                }
            }
        }
        let Some(whole) = self.bytes_of(message, content, u64::MAX).await? else {
            return Ok(read);
        };
        read += whole.len();
        let mut texts = known;
        more.texts = if large {
            let search = search.clone();
            let look = move || {
                text::search_message(&search.texts, &whole, &mut texts);
                texts
            };
            tokio::task::spawn_blocking(look)
                .await
                .map_err(|_| Status::unavailable("the store is shutting down"))?
        } else {
            text::search_message(&search.texts, &whole, &mut texts);
            texts
        };
        Ok(read)
    }

    /// The first bytes of a message, prefix included; `None` if it is gone by now.
    async fn bytes_of(
        &self,
        message: &record::Message,
        content: ContentId,
        most: u64,
    ) -> Result<Option<Bytes>, Status> {
        let mut whole = BytesMut::from(&message.prefix[..]);
        if most == u64::MAX {
            match self.contents.bytes(content).await {
                Ok(bytes) if whole.is_empty() => return Ok(Some(bytes)),
                Ok(bytes) => whole.extend_from_slice(&bytes),
                Err(ContentError::Gone(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            return Ok(Some(whole.freeze()));
        }
        let mut pieces = self.contents.read(content, 0..most);
        while let Some(piece) = futures::StreamExt::next(&mut pieces).await {
            match piece {
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(ContentError::Gone(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(whole.freeze()))
    }
}

#[derive(Default)]
struct Matches {
    uids: Collector,
    modseq: u64,
    next: u32,
}

fn rows(index: &Index, from: u32) -> impl Iterator<Item = Row<'_>> {
    index.range(from, u32::MAX).map(|(chunk, at)| Row {
        uid: chunk.uids[at],
        flags: chunk.flags[at],
        keywords: index.keyword_set(chunk.keywords[at]),
        modseq: chunk.modseqs[at],
        size: chunk.sizes[at],
        received: chunk.received[at],
        saved: (chunk.numbers[at] != 0).then(|| i64::from(chunk.saved[at])),
        sent: (chunk.numbers[at] != 0).then(|| (chunk.sent_days[at] != NO_DAY).then(|| i64::from(chunk.sent_days[at]))),
        number: chunk.numbers[at],
    })
}
