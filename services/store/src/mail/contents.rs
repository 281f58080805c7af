//! Bytes of messages, in and out.

use std::collections::HashMap;

use bytes::Bytes;
use futures::StreamExt as _;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::messages::{message_id, records};
use super::{Answers, Mail, batches, mailbox_id};
use crate::account::{AccountError, FromSnapshot, ranges_of, read_rows};
use crate::content::Contents;

/// Most bytes of a message that a client can add (IMAP APPENDLIMIT): as the default of what SMTP takes.
pub const UPLOAD_MAX: u64 = 100 << 20;
/// Most ranges of one request.
const RANGES_MAX: usize = 10_000;
/// Pieces that are read ahead of the client.
const AHEAD: usize = 2;

impl Mail {
    pub(super) async fn do_upload(
        &self,
        request: Request<Streaming<mail::UploadRequest>>,
    ) -> Result<mail::UploadResponse, Status> {
        let caller = mox_rpc::caller(&request)?;
        let mut parts = request.into_inner();
        let first = parts
            .next()
            .await
            .ok_or_else(|| Status::invalid_argument("an upload without any message"))??;
        self.session(&caller, &first.session).await?;
        let first = futures::stream::once(async move { Ok(first.data) });
        let rest = parts.map(|part| part.map(|part| part.data));
        let uploaded = self.contents.upload(Box::pin(first.chain(rest)), UPLOAD_MAX).await?;
        Ok(mail::UploadResponse {
            upload_id: uploaded.id.to_bytes(),
            size: uploaded.size,
        })
    }

    pub(super) async fn do_read_contents(
        &self,
        account: AccountId,
        request: mail::ReadContentsRequest,
    ) -> Result<Answers<mail::ReadContentsResponse>, Status> {
        if request.ranges.len() > RANGES_MAX {
            return Err(Status::invalid_argument("at most 10000 ranges in a request"));
        }
        let id = mailbox_id(&request.mailbox_id)?;
        let snapshot = self.accounts.db().snapshot().await.map_err(AccountError::from)?;
        let reader = FromSnapshot(&*snapshot);
        let uids = ranges_of(request.ranges.iter().map(|r| r.uid));
        let (rows, _) = read_rows(&reader, account, id, &uids, usize::MAX).await?;
        let ids = rows
            .iter()
            .map(|(_, row)| message_id(row))
            .collect::<Result<Vec<_>, _>>()?;
        let messages = records(&reader, account, &ids).await?;
        drop(snapshot);
        let messages: HashMap<u32, record::Message> = rows.iter().map(|(uid, _)| *uid).zip(messages).collect();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let contents = self.contents.clone();
        tokio::spawn(async move {
            let outcome = if request.batched {
                batches::send(&contents, &messages, &request.ranges, &sender).await
            } else {
                send_ranges(&contents, &messages, &request.ranges, &sender).await
            };
            // Without a status, the client has gone.
            if let Err(Some(status)) = outcome {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

pub(super) type Messages = HashMap<u32, record::Message>;

/// Sends ranges one after the other.
async fn send_ranges(
    contents: &Contents,
    messages: &Messages,
    ranges: &[mail::ContentRange],
    sender: &Sender,
) -> Result<(), Option<Status>> {
    for (n, range) in (0..).zip(ranges) {
        match messages.get(&range.uid) {
            Some(message) => send_range(contents, message, n, range, sender).await?,
            None => {
                let missing = mail::ReadContentsResponse {
                    range: n,
                    end: true,
                    missing: true,
                    ..Default::default()
                };
                sender.send(Ok(missing)).await.map_err(|_| None)?;
            }
        }
    }
    Ok(())
}

pub(super) type Sender = mpsc::Sender<Result<mail::ReadContentsResponse, Status>>;

/// Where in a message a range begins and ends.
pub(super) fn bounds(message: &record::Message, range: &mail::ContentRange) -> (u64, u64) {
    let length = match range.length {
        0 => u64::MAX,
        length => length,
    };
    let start = range.offset;
    (start, start.saturating_add(length).min(message.size).max(start))
}

/// Sends one range of a message: of its prefix, then of its content.
pub(super) async fn send_range(
    contents: &Contents,
    message: &record::Message,
    number: u32,
    range: &mail::ContentRange,
    sender: &Sender,
) -> Result<(), Option<Status>> {
    let damaged = || Some(AccountError::Damaged("a message").into());
    let (start, end) = bounds(message, range);
    let prefix = message.prefix.len() as u64;
    // The last piece says that it is the last, so one is always held back.
    let mut held: Option<Bytes> = None;
    if start < prefix {
        let slice = |at: u64| usize::try_from(at.min(prefix)).unwrap_or(usize::MAX);
        held = Some(message.prefix.slice(slice(start)..slice(end)));
    }
    if end > prefix {
        let id = ContentId::try_from(&message.content_id).map_err(|_| damaged())?;
        let mut pieces = contents.read(id, start.saturating_sub(prefix)..end - prefix);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| Some(error.into()))?;
            if let Some(data) = held.replace(piece) {
                let answer = mail::ReadContentsResponse {
                    range: number,
                    data,
                    ..Default::default()
                };
                sender.send(Ok(answer)).await.map_err(|_| None)?;
            }
        }
    }
    let data = held.unwrap_or_default();
    let last = mail::ReadContentsResponse {
        range: number,
        data,
        end: true,
        ..Default::default()
    };
    sender.send(Ok(last)).await.map_err(|_| None)
}
