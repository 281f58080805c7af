//! Adding messages, and changing those that are there.

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::UidRange;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;
use tonic::Status;

use super::listing::check_ranges;
use super::{Mail, digest, mailbox_id, step_key};
use crate::account::ops::{Append, Copy, Expunge, NewMessage, STEP_MESSAGES, StoreFlags};
use crate::account::{
    AccountError, DELETED, Facts, Ingested, Key, Wanted, canonical, find_thread, ingest, join_rows, normalize,
    ranges_from, ranges_of,
};
use crate::content::{Staged, Whole};
use crate::idempotency;

/// Most messages of one APPEND (RFC 3502): they are one commit.
const APPEND_MAX: usize = 1000;
/// Rows of one answer to a change of flags; each takes some 10 bytes.
const ANSWER_ROWS: usize = 60_000;

impl Mail {
    pub(super) async fn do_append(
        &self,
        account: AccountId,
        request: mail::AppendRequest,
    ) -> Result<mail::AppendResponse, Status> {
        if request.messages.is_empty() || request.messages.len() > APPEND_MAX {
            return Err(Status::invalid_argument("1 to 1000 messages can be appended at once"));
        }
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        if let Some(answer) = self.kept(&key).await? {
            return mail::AppendResponse::decode(answer).map_err(|_| AccountError::Damaged("a kept result").into());
        }
        let mailbox = canonical(&request.mailbox)?;
        let replaces = match request.replaces_uid {
            0 => None,
            uid => Some((mailbox_id(&request.replaces_mailbox_id)?, uid)),
        };
        let now = self.accounts.now();
        let mut messages = Vec::with_capacity(request.messages.len());
        for message in request.messages {
            let flags = Wanted::new(&message.flags.unwrap_or_default())?;
            let staged = self.contents.stage(&message.content.unwrap_or_default()).await?;
            let whole = self.staged_bytes(&staged).await?;
            let read = ingest(whole.clone()).await?;
            drop(whole);
            let thread = find_thread(self.accounts.db(), account, &read.facts).await?;
            messages.push(NewMessage {
                record: record::Message {
                    received: message.received.unwrap_or(now),
                    saved: now,
                    ..of_content(&read)
                },
                flags,
                computed: read.computed(0),
                thread,
                content: staged,
            });
        }
        Ok(self
            .accounts
            .submit(
                account,
                Some(key),
                Append {
                    mailbox,
                    messages,
                    replaces,
                },
            )
            .await?)
    }

    /// What was answered to a change with this key before. Asked first where a change could not begin again, as its
    /// upload was used.
    pub(super) async fn kept(&self, key: &Key) -> Result<Option<Bytes>, Status> {
        idempotency::find(
            self.accounts.db(),
            self.accounts.now(),
            &key.scope,
            &key.key,
            &key.digest,
        )
        .await
    }

    async fn staged_bytes(&self, staged: &Staged) -> Result<Whole, Status> {
        match staged.bytes() {
            Some(bytes) => Ok(bytes.clone().into()),
            None => Ok(self.contents.whole(staged.id()).await?),
        }
    }

    pub(super) async fn do_store_flags(
        &self,
        account: AccountId,
        request: mail::StoreFlagsRequest,
    ) -> Result<mail::StoreFlagsResponse, Status> {
        check_ranges(&request.uids)?;
        let digest = digest!(request);
        let mailbox = mailbox_id(&request.mailbox_id)?;
        let flags = Wanted::new(&request.flags.clone().unwrap_or_default())?;
        let mode = mail::store_flags_request::Mode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument("unknown mode of storing flags"))?;
        let mut uids = self.known(account, mailbox, &request.uids).await?;
        let mut answer = mail::StoreFlagsResponse::default();
        for step in 0.. {
            let key = step_key(account, &request.key, &digest, step)?;
            let flags = flags.clone();
            let unchanged_since = request.unchanged_since;
            let op = StoreFlags {
                mailbox,
                uids: uids.clone(),
                mode,
                flags,
                unchanged_since,
            };
            let part = self.accounts.submit(account, Some(key), op).await?;
            join_rows(answer.rows.get_or_insert_default(), part.rows.unwrap_or_default());
            answer.modified.extend(part.modified);
            answer.made.extend(part.made);
            answer.modseq = part.modseq;
            let full = answer.rows.as_ref().is_some_and(|r| r.uid_delta.len() >= ANSWER_ROWS);
            if part.next_uid == 0 || full {
                answer.next_uid = part.next_uid;
                break;
            }
            uids = ranges_from(&uids, part.next_uid);
        }
        Ok(answer)
    }

    pub(super) async fn do_copy(
        &self,
        account: AccountId,
        request: mail::CopyRequest,
        moving: bool,
    ) -> Result<mail::CopyResponse, Status> {
        check_ranges(&request.uids)?;
        let mut digest = digest!(request).to_vec();
        digest.push(u8::from(moving));
        let digest = Bytes::from(digest);
        let mailbox = mailbox_id(&request.mailbox_id)?;
        let destination = canonical(&request.destination)?;
        let mut uids = self.known(account, mailbox, &request.uids).await?;
        if !moving && crate::account::ranges_span(&uids) > STEP_MESSAGES as u64 {
            // When it is repeated, its own copies fill the room.
            let first = step_key(account, &request.key, &digest, 0)?;
            if self.kept(&first).await?.is_none() {
                self.check_room(account, mailbox, &uids).await?;
            }
        }
        let mut answer = mail::CopyResponse::default();
        for step in 0.. {
            let key = step_key(account, &request.key, &digest, step)?;
            let op = Copy {
                mailbox,
                uids: uids.clone(),
                destination: destination.clone(),
                moving,
            };
            let part = self.accounts.submit(account, Some(key), op).await?;
            answer.uid_validity = part.uid_validity;
            answer.destination_id = part.destination_id;
            answer.source_uids.extend(part.source_uids);
            answer.destination_uids.extend(part.destination_uids);
            answer.modseq = part.modseq;
            if part.next_uid == 0 || answer.source_uids.len() >= ANSWER_ROWS {
                answer.next_uid = part.next_uid;
                break;
            }
            uids = ranges_from(&uids, part.next_uid);
        }
        Ok(answer)
    }

    pub(super) async fn do_expunge(
        &self,
        account: AccountId,
        request: mail::ExpungeRequest,
    ) -> Result<mail::ExpungeResponse, Status> {
        check_ranges(&request.uids)?;
        let digest = digest!(request);
        let mailbox = mailbox_id(&request.mailbox_id)?;
        let state = self.accounts.state(account, 0).await?;
        let counts = state.mailbox(mailbox)?;
        let all = [UidRange { first: 1, last: 0 }];
        let wanted = if request.uids.is_empty() {
            &all[..]
        } else {
            &request.uids
        };
        let wanted = normalize(wanted, counts.uid_next);
        let mut uids = wanted.clone();
        if crate::account::ranges_span(&wanted) > u64::from(counts.counts.deleted) {
            // Few of many: the index knows which, so that the writer need not read all rows.
            let (_, index) = self.accounts.view(account, mailbox, 0).await?;
            let marked = index.ranges(&wanted).filter(|(c, at)| c.flags[*at] & DELETED != 0);
            uids = ranges_of(marked.map(|(c, at)| c.uids[at]));
        }
        let mut answer = mail::ExpungeResponse {
            modseq: state.modseq(),
            ..Default::default()
        };
        for step in 0.. {
            let key = step_key(account, &request.key, &digest, step)?;
            let part = self
                .accounts
                .submit(
                    account,
                    Some(key),
                    Expunge {
                        mailbox,
                        uids: uids.clone(),
                    },
                )
                .await?;
            answer.uids.extend(part.uids);
            answer.modseq = part.modseq;
            if part.next_uid == 0 || answer.uids.len() >= ANSWER_ROWS {
                answer.next_uid = part.next_uid;
                break;
            }
            uids = ranges_from(&uids, part.next_uid);
        }
        Ok(answer)
    }

    /// Whether copies of messages are within the quota. RFC 9051 §6.4.7 has all of them copied or none, and what takes
    /// several steps can't be taken back.
    async fn check_room(
        &self,
        account: AccountId,
        mailbox: mox_types::MailboxId,
        uids: &[UidRange],
    ) -> Result<(), Status> {
        let (state, index) = self.accounts.view(account, mailbox, 0).await?;
        let quota = self.accounts.quota(&state.record.name);
        let more: u64 = index.ranges(uids).map(|(chunk, at)| chunk.sizes[at]).sum();
        if quota != 0 && state.record.size.saturating_add(more) > quota {
            return Err(AccountError::OverQuota.into());
        }
        Ok(())
    }

    /// Ranges in their normal form as of now: "*" stays what it is now in all steps of a change.
    async fn known(
        &self,
        account: AccountId,
        mailbox: mox_types::MailboxId,
        uids: &[UidRange],
    ) -> Result<Vec<UidRange>, Status> {
        let state = self.accounts.state(account, 0).await?;
        Ok(normalize(uids, state.mailbox(mailbox)?.uid_next))
    }
}

/// What a message's record says that comes from its content alone.
pub(crate) fn of_content(read: &Ingested) -> record::Message {
    let facts: &Facts = &read.facts;
    let from = facts.from_address();
    record::Message {
        size: read.size,
        date: facts.date,
        sent_day: facts.sent_day,
        message_id: facts.message_id.clone().unwrap_or_default(),
        base_subject: facts.base_subject.clone(),
        msg_from_localpart: from.map(|a| a.localpart.as_str().to_owned()).unwrap_or_default(),
        msg_from_domain: from.map(|a| a.domain.as_str().to_owned()).unwrap_or_default(),
        dsn: facts.is_dsn,
        list: facts.is_list,
        ..record::Message::default()
    }
}
