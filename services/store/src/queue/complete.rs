//! What became of an attempt.

use bytes::Bytes;
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::retired::Reason;
use mox_proto::queue::v1::{AttemptResult, CompleteRequest, CompleteResponse, Entry};
use mox_proto::record::v1::QueueState;
use mox_webhook::Event;
use prost::Message;

use super::outcome::Happened;
use super::record::{self, Stored};
use super::{ATTEMPTS, Queue, QueueError, dsn};
use crate::account::{AccountError, Key};
use crate::engine::{Commit, EngineError};
use crate::idempotency;

/// Results that an entry keeps, the latest.
pub(super) const RESULTS_MAX: usize = 20;
/// Octets of an error that are kept.
const ERROR_MAX: usize = 2000;
/// Addresses that a result keeps.
const DIALED_MAX: usize = 32;
/// A notification is a message with its header, or all of it, and a few reports.
pub(super) const DSN_MAX: usize = 3 << 20;
/// Who makes the keys of completions.
const SCOPE: &[u8] = b"queue-complete";

/// What an outcome leads to.
struct Consequence {
    commit: Commit,
    response: CompleteResponse,
    /// The entry, when its sender is to be notified.
    notify: Option<Entry>,
    /// There is a webhook to be called.
    told: bool,
}

impl Consequence {
    fn stale() -> Self {
        Self {
            commit: Commit::new(),
            response: CompleteResponse { stale: true },
            notify: None,
            told: false,
        }
    }
}

impl Queue {
    /// Commits the outcome of an attempt with all that follows from it. An attempt whose lease was lost may report a
    /// delivery only: the message is at its recipient, whoever tries it now.
    ///
    /// # Errors
    /// If the request makes no sense, the key was used for another, or the engine fails.
    pub async fn complete(&self, request: &CompleteRequest) -> Result<CompleteResponse, QueueError> {
        if !(8..=64).contains(&request.key.len()) {
            return Err(QueueError::Invalid("a key must have 8 to 64 bytes".into()));
        }
        if request.dsn.len() > DSN_MAX {
            return Err(QueueError::Invalid(format!(
                "a notification must not have more than {DSN_MAX} bytes"
            )));
        }
        let digest = idempotency::digest(request);
        for _ in 0..ATTEMPTS {
            let now = self.now();
            if let Some(kept) = idempotency::find(self.db(), now / 1000, SCOPE, &request.key, &digest).await? {
                return CompleteResponse::decode(kept).map_err(|_| QueueError::Damaged("a kept result"));
            }
            let Consequence {
                mut commit,
                response,
                notify,
                told,
            } = self.consequence(request, now).await?;
            if commit.operations.is_empty() {
                return Ok(response);
            }
            let kept: Bytes = response.encode_to_vec().into();
            if let Some(entry) = notify {
                let key = Key {
                    scope: SCOPE.into(),
                    key: request.key.clone(),
                    digest: digest.clone(),
                };
                let message = dsn::Notification {
                    content: request.dsn.clone(),
                    mailbox: request.dsn_mailbox.clone(),
                    received: now / 1000,
                };
                match self.notify(&entry, message, commit.clone(), response, key).await {
                    Ok(response) => {
                        self.publish_told(told);
                        return Ok(response);
                    }
                    Err(QueueError::Account(AccountError::Contended)) => continue,
                    Err(QueueError::Account(error @ (AccountError::AccountGone | AccountError::Limit(_)))) => {
                        // There is nobody to tell, or no room: what became of the message stays true.
                        tracing::warn!(entry = entry.id, account = entry.account, %error, "sender is not notified");
                    }
                    Err(error) => return Err(error),
                }
            }
            idempotency::record(&mut commit, now / 1000, SCOPE, &request.key, &digest, &kept);
            match self.db().commit(commit).await {
                Ok(_) => {
                    self.publish_told(told);
                    return Ok(response);
                }
                Err(EngineError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(QueueError::Contended)
    }

    async fn consequence(&self, request: &CompleteRequest, now: i64) -> Result<Consequence, QueueError> {
        let lease = request.lease.unwrap_or_default();
        let Some(stored) = record::load(self.db().as_ref(), &[lease.id]).await?.pop().flatten() else {
            return Ok(Consequence::stale());
        };
        // A lease that ended is good for as long as nobody else took the entry.
        let current = stored.state.attempt == lease.attempt && !stored.state.worker.is_empty();
        let mut commit = Commit::new();
        let notify = (current && !request.dsn.is_empty()).then(|| stored.entry.clone());
        let outcome = request.outcome();
        match outcome {
            Outcome::Unspecified => return Err(QueueError::Invalid("an outcome must be given".into())),
            Outcome::Delivered => {}
            _ if !current => return Ok(Consequence::stale()),
            Outcome::Released => {
                record::update_state(&mut commit, &stored, &released(&stored, request.next_attempt.max(0)));
                return Ok(Consequence {
                    commit,
                    response: CompleteResponse::default(),
                    notify: None,
                    told: false,
                });
            }
            Outcome::Failed | Outcome::Retry => {}
        }
        let entry = after(&stored, request, now);
        let is_report = entry.dmarc_report || entry.tls_report;
        let mut suppressing = false;
        let event = match outcome {
            Outcome::Delivered => {
                let (event, reason) = if request.relayed {
                    (Event::Relayed, Reason::Relayed)
                } else {
                    (Event::Delivered, Reason::Delivered)
                };
                self.leave(&mut commit, &stored, &entry, reason, now)?;
                event
            }
            Outcome::Retry => {
                record::update(&mut commit, &stored, &entry, &released(&stored, entry.next_attempt));
                Event::Delayed
            }
            _ if entry.suppressed => {
                self.leave(&mut commit, &stored, &entry, Reason::Suppressed, now)?;
                Event::Suppressed
            }
            _ => {
                self.leave(&mut commit, &stored, &entry, Reason::Failed, now)?;
                if let Some(result) = &request.result
                    && !is_report
                {
                    suppressing = self.suppress_failed(&mut commit, &entry, result, now).await?;
                }
                Event::Failed
            }
        };
        let happened = Happened {
            event,
            entry: &entry,
            suppressing,
        };
        let told = self.follow(&mut commit, &happened).await?;
        crate::report::on_outcome(&mut commit, &stored.entry, request, now);
        commit.set_frees();
        Ok(Consequence {
            commit,
            response: CompleteResponse { stale: !current },
            notify,
            told,
        })
    }
}

/// The entry after an attempt.
fn after(stored: &Stored, request: &CompleteRequest, now: i64) -> Entry {
    let mut entry = stored.entry.clone();
    let mut result = request.result.clone().unwrap_or_else(|| AttemptResult {
        start: now,
        ..AttemptResult::default()
    });
    if result.error.len() > ERROR_MAX {
        result.error.truncate(result.error.floor_char_boundary(ERROR_MAX));
    }
    result.dialed.truncate(DIALED_MAX);
    entry.attempts += 1;
    entry.last_attempt = result.start;
    if request.outcome() == Outcome::Retry {
        entry.next_attempt = request.next_attempt.max(0);
    }
    entry.results.push(result);
    let surplus = entry.results.len().saturating_sub(RESULTS_MAX);
    entry.results.drain(..surplus);
    entry
}

/// Under no lease, and due at a time. The attempt keeps its number, so that the next has another.
fn released(stored: &Stored, due: i64) -> QueueState {
    QueueState {
        due,
        attempt: stored.state.attempt,
        worker: String::new(),
    }
}
