//! Annotations (RFC 5464): reading, changing, and what changed.

use bytes::Bytes;
use mox_proto::mail::v1 as mail;
use mox_proto::mail::v1::get_metadata_request::Depth;
use mox_proto::mail::v1::list_metadata_changes_response::Changed;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, MailboxId};
use prost::Message as _;
use tonic::Status;

use super::{Mail, digest, mailbox_id, step_key};
use crate::account::AccountError;
use crate::account::ops::{ANNOTATION_BYTES_MAX, ANNOTATION_NAME_MAX, SetMetadata};
use crate::engine::{Limit, Order, Snapshot, after};
use crate::keys;

/// Bytes of annotations in one answer, with room for one more.
const PAGE_BYTES: usize = 700 << 10;
/// Most annotations that one request names.
const ENTRIES_MAX: usize = 200;
/// Most entries of the log that are read for one answer.
const LOG_ENTRIES: usize = 5000;
/// Most changed annotations of one answer.
const CHANGES_MAX: usize = 5000;

/// RFC 5464 §3.2: a name has one form, in lower case.
fn canonical(name: &str) -> Result<String, Status> {
    let name = name.to_ascii_lowercase();
    let bad = name.len() > ANNOTATION_NAME_MAX
        || !(name.starts_with("/private/") || name.starts_with("/shared/"))
        || name.ends_with('/')
        || name.contains("//")
        || name
            .bytes()
            .any(|b| !matches!(b, 0x20..=0x7e) || matches!(b, b'*' | b'%'));
    if bad {
        return Err(Status::invalid_argument(format!(
            "annotation name {name:?} is not valid"
        )));
    }
    Ok(name)
}

fn of_mailbox(id: &Bytes) -> Result<Option<MailboxId>, Status> {
    if id.is_empty() {
        Ok(None)
    } else {
        mailbox_id(id).map(Some)
    }
}

impl Mail {
    pub(super) async fn do_get_metadata(
        &self,
        account: AccountId,
        request: &mail::GetMetadataRequest,
    ) -> Result<mail::GetMetadataResponse, Status> {
        if request.entries.len() > ENTRIES_MAX {
            return Err(Status::invalid_argument("at most 200 annotations in a request"));
        }
        let mailbox = of_mailbox(&request.mailbox_id)?;
        let depth = Depth::try_from(request.depth).map_err(|_| Status::invalid_argument("unknown depth"))?;
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        if let Some(id) = mailbox {
            let found = snapshot
                .get(keys::mailbox(account, id))
                .await
                .map_err(AccountError::from)?;
            found.ok_or(AccountError::NoMailbox)?;
        }
        let mut page = Page::new(request.max_value_bytes);
        let (skip, resume) = parse_token(&request.page_token)?;
        for (n, entry) in request.entries.iter().enumerate().skip(skip) {
            let name = entry.to_ascii_lowercase();
            let resume = resume.filter(|_| n == skip);
            if let Some(after) = page.entry(&*snapshot, account, mailbox, &name, depth, resume).await? {
                page.answer.next_page_token = format!("{n} {after}");
                break;
            }
            if page.bytes > PAGE_BYTES && n + 1 < request.entries.len() {
                page.answer.next_page_token = format!("{} ", n + 1);
                break;
            }
        }
        Ok(page.answer)
    }

    pub(super) async fn do_set_metadata(
        &self,
        account: AccountId,
        request: mail::SetMetadataRequest,
    ) -> Result<mail::SetMetadataResponse, Status> {
        if request.annotations.len() > ENTRIES_MAX {
            return Err(Status::invalid_argument("at most 200 annotations in a request"));
        }
        let key = step_key(account, &request.key, &digest!(request), 0)?;
        let mailbox = of_mailbox(&request.mailbox_id)?;
        let mut annotations: Vec<(String, Option<Bytes>)> = Vec::with_capacity(request.annotations.len());
        for annotation in request.annotations {
            let name = canonical(&annotation.name)?;
            if annotation
                .value
                .as_ref()
                .is_some_and(|v| v.len() > ANNOTATION_BYTES_MAX)
            {
                return Err(AccountError::Limit("maxsize: at most 64 KiB an annotation").into());
            }
            // Of several for one name, the last counts.
            annotations.retain(|(known, _)| *known != name);
            annotations.push((name, annotation.value));
        }
        let op = SetMetadata { mailbox, annotations };
        Ok(self.accounts.submit(account, Some(key), op).await?)
    }

    pub(super) async fn do_list_metadata_changes(
        &self,
        account: AccountId,
        request: &mail::ListMetadataChangesRequest,
    ) -> Result<mail::ListMetadataChangesResponse, Status> {
        let state = self.accounts.state(account, request.since_modseq).await?;
        let since = request.since_modseq;
        let mut answer = mail::ListMetadataChangesResponse {
            modseq: state.modseq(),
            ..Default::default()
        };
        if request.now {
            return Ok(answer);
        }
        if since < state.record.log_watermark {
            answer.resync = true;
            return Ok(answer);
        }
        let log = keys::change(account, since.saturating_add(1))..keys::account_table(account, keys::TABLE_LOG).end;
        let limit = Limit::rows(LOG_ENTRIES);
        let page = self
            .accounts
            .db()
            .scan(log, limit, Order::Ascending)
            .await
            .map_err(AccountError::from)?;
        answer.more = page.more;
        let mut read = since;
        let mut count = 0;
        for (key, value) in page.rows {
            if count >= CHANGES_MAX {
                answer.more = true;
                break;
            }
            let damaged = || AccountError::Damaged("the change log");
            let entry = record::Change::decode(value.data).map_err(|_| damaged())?;
            read = keys::parse_change(&key).ok_or_else(damaged)?;
            for change in entry.mailboxes.into_iter().filter(|c| !c.metadata.is_empty()) {
                // Annotations of a mailbox that is gone are gone too.
                let Ok(mailbox) = state.mailbox(mailbox_id(&change.mailbox_id)?) else {
                    continue;
                };
                count += change.metadata.len();
                answer.changed.push(Changed {
                    mailbox_id: change.mailbox_id,
                    mailbox: mailbox.name.to_string(),
                    entries: change.metadata,
                    modseq: read,
                });
            }
            if !entry.server_metadata.is_empty() {
                count += entry.server_metadata.len();
                answer.changed.push(Changed {
                    entries: entry.server_metadata,
                    modseq: read,
                    ..Default::default()
                });
            }
        }
        answer.modseq = if answer.more { read } else { read.max(answer.modseq) };
        Ok(answer)
    }
}

/// Which entry a page goes on with, and after which annotation of it.
fn parse_token(token: &str) -> Result<(usize, Option<&str>), Status> {
    if token.is_empty() {
        return Ok((0, None));
    }
    let bad = || Status::invalid_argument("page token is none of ours");
    let (entry, after) = token.split_once(' ').ok_or_else(bad)?;
    let entry = entry.parse().map_err(|_| bad())?;
    Ok((entry, Some(after).filter(|a| !a.is_empty())))
}

/// A page of annotations.
struct Page {
    answer: mail::GetMetadataResponse,
    bytes: usize,
    max_value: u64,
}

impl Page {
    fn new(max_value: Option<u64>) -> Self {
        Self {
            answer: mail::GetMetadataResponse::default(),
            bytes: 0,
            max_value: max_value.unwrap_or(u64::MAX),
        }
    }

    /// Adds what was asked for by one name. If the page is full before its end, answers with the last one that is in it.
    async fn entry(
        &mut self,
        snapshot: &dyn Snapshot,
        account: AccountId,
        mailbox: Option<MailboxId>,
        name: &str,
        depth: Depth,
        resume: Option<&str>,
    ) -> Result<Option<String>, Status> {
        if resume.is_none() {
            let key = keys::annotation(account, mailbox, name);
            match snapshot.get(key).await.map_err(AccountError::from)? {
                Some(value) => self.add(name, value.data)?,
                None if depth == Depth::Entry => self.answer.annotations.push(mail::Annotation {
                    name: name.to_owned(),
                    value: None,
                }),
                None => {}
            }
        }
        if depth == Depth::Entry {
            return Ok(None);
        }
        let prefix = format!("{name}/");
        let mut range = keys::annotations_below(account, mailbox, &prefix);
        if let Some(resume) = resume {
            range.start = after(&keys::annotation(account, mailbox, resume));
        }
        let mut left = Some(range);
        let mut last = resume.unwrap_or(name).to_owned();
        while let Some(range) = left.take() {
            let page = snapshot
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await
                .map_err(AccountError::from)?;
            left = page.rest(&range);
            for (key, value) in page.rows {
                if self.bytes > PAGE_BYTES {
                    return Ok(Some(last));
                }
                let found = keys::parse_annotation(&key).ok_or(AccountError::Damaged("an annotation"))?;
                last = found.to_owned();
                // RFC 5464 §4.2.2: one level below, or all.
                let rest = found.strip_prefix(&prefix).unwrap_or_default();
                if depth == Depth::All || !rest.contains('/') {
                    self.add(found, value.data)?;
                }
            }
        }
        Ok(None)
    }

    fn add(&mut self, name: &str, value: Bytes) -> Result<(), AccountError> {
        let annotation = record::Annotation::decode(value).map_err(|_| AccountError::Damaged("an annotation"))?;
        let size = annotation.value.len() as u64;
        if size > self.max_value {
            self.answer.longest_left_out = self.answer.longest_left_out.max(size);
            return Ok(());
        }
        self.bytes += name.len() + annotation.value.len() + 16;
        self.answer.annotations.push(mail::Annotation {
            name: name.to_owned(),
            value: Some(annotation.value),
        });
        Ok(())
    }
}
