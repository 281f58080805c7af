//! Giving up an entry because an administrator said so.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt as _;
use mox_message::dsn::{self, Action, Dsn, Return};
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::{AttemptResult, CompleteResponse, Entry};
use mox_webhook::Event;

use super::outcome::Happened;
use super::record::{self, Stored};
use super::{ATTEMPTS, Queue, QueueError, dsn as notice};
use crate::account::{AccountError, Key};
use crate::engine::{Commit, EngineError};

/// Of a message that is given up as much comes back, if its sender asked for all of it; of a larger one, the header.
const RETURN_MAX: u64 = 1 << 20;
/// Of a message of which the header comes back, as much is looked at for it.
const HEADER_MAX: u64 = 256 << 10;
/// Who makes the keys of notifications.
const SCOPE: &[u8] = b"queue-cancel";
/// What the sender is told.
const TEXT: &str = "delivery was canceled by the administrator";

/// RFC 3461 §4.1: whether the sender wants to be told of failures. A notification never causes another.
fn wants_failure(entry: &Entry) -> bool {
    !entry.dsn
        && !entry.mail_from.is_empty()
        && (entry.dsn_notify.is_empty()
            || entry
                .dsn_notify
                .split(',')
                .any(|event| event.trim().eq_ignore_ascii_case("FAILURE")))
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl Queue {
    /// Gives an entry up, with the notification to its sender. Answers whether it was there.
    pub(super) async fn cancel(&self, id: u64) -> Result<bool, QueueError> {
        let key = mox_rpc::key();
        for _ in 0..ATTEMPTS {
            let Some(stored) = record::load(self.db().as_ref(), &[id]).await?.pop().flatten() else {
                return Ok(false);
            };
            let now = self.now();
            let (commit, told) = self.cancellation(&stored, now).await?;
            if wants_failure(&stored.entry) {
                let message = notice::Notification {
                    content: self.cancel_notice(&stored.entry, now).await?,
                    mailbox: String::new(),
                    received: now / 1000,
                };
                let key = Key {
                    scope: SCOPE.into(),
                    key: key.clone(),
                    digest: Bytes::copy_from_slice(&id.to_be_bytes()),
                };
                let response = CompleteResponse::default();
                match self.notify(&stored.entry, message, commit.clone(), response, key).await {
                    Ok(_) => {
                        self.publish_told(told);
                        return Ok(true);
                    }
                    Err(QueueError::Account(AccountError::Contended)) => continue,
                    Err(QueueError::Account(error @ (AccountError::AccountGone | AccountError::Limit(_)))) => {
                        tracing::warn!(entry = id, %error, "sender is not notified");
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.db().commit(commit).await {
                Ok(_) => {
                    self.publish_told(told);
                    return Ok(true);
                }
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }

    async fn cancellation(&self, stored: &Stored, now: i64) -> Result<(Commit, bool), QueueError> {
        let mut commit = Commit::new();
        commit.set_frees();
        let mut last = stored.entry.clone();
        let result = AttemptResult {
            start: now,
            error: TEXT.to_owned(),
            ..AttemptResult::default()
        };
        last.results.push(result);
        self.leave(&mut commit, stored, &last, Reason::Canceled, now)?;
        let happened = Happened {
            event: Event::Canceled,
            entry: &last,
            suppressing: false,
        };
        let told = self.follow(&mut commit, &happened).await?;
        Ok((commit, told))
    }

    async fn cancel_notice(&self, entry: &Entry, now: i64) -> Result<Bytes, QueueError> {
        let full = entry.dsn_ret.eq_ignore_ascii_case("FULL") && entry.size <= RETURN_MAX;
        let original = self
            .beginning(entry, if full { RETURN_MAX } else { HEADER_MAX })
            .await?;
        let report = dsn::compose(&Dsn {
            hostname: self.hostname(),
            to: &entry.mail_from,
            at: time(now),
            arrival: time(entry.queued),
            envid: &entry.dsn_envid,
            smtputf8: entry.smtputf8,
            original: &original,
            ret: if full { Return::Full } else { Return::Headers },
            recipients: vec![dsn::Recipient {
                address: &entry.recipient,
                orcpt: &entry.dsn_orcpt,
                action: Action::Failed,
                // RFC 3463 §2: permanent failure, without a closer reason.
                status: "5.0.0",
                remote_mta: "",
                diagnostic: TEXT,
                is_smtp_reply: false,
                last_attempt: (entry.last_attempt != 0).then(|| time(entry.last_attempt)),
                retry_until: None,
            }],
        });
        Ok(report.into())
    }

    /// The beginning of an entry's message, with at most so many bytes of its content.
    async fn beginning(&self, entry: &Entry, most: u64) -> Result<Vec<u8>, QueueError> {
        let mut all = entry.prefix.to_vec();
        let mut pieces = self.0.contents.read(record::content_of(entry)?, 0..most);
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece.map_err(tonic::Status::from)?);
        }
        Ok(all)
    }
}
