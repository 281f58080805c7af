//! Into the queue.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use mox_proto::mail::v1::{Content, content};
use mox_proto::queue::v1::submit_service_client::SubmitServiceClient;
use mox_proto::queue::v1::{CheckSenderRequest, EnqueueRecipient, EnqueueRequest, RequireTls, SubmitUploadRequest};
use mox_rpc::{Channel, INLINE_CONTENT_BYTES};
use mox_spool::Excerpt;
use mox_types::Address;
use tonic::{Code, Status};

use crate::Prepared;

/// Times that a change is repeated, with its key, while the store is away.
const ATTEMPTS: u32 = 5;
/// Before the first repetition; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(200);

/// How long delivery can be put off (RFC 4865), in seconds: 60 days.
pub const FUTURE_RELEASE: u32 = 60 * 24 * 3600;

/// Why something was not enqueued. Nothing of it will be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session ended: log in again.
    #[error("the session has ended, log in again")]
    SessionEnded,
    /// The account may not use an address.
    #[error("{0}")]
    NotAllowed(String),
    /// A limit of the account: try again later.
    #[error("{0}")]
    Limit(String),
    /// There is no room: try again later.
    #[error("there is too little disk space, try again later")]
    NoSpace,
    /// What was asked is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The store can't do it now: try again later.
    #[error("the store can't take the message now: {0}")]
    Unavailable(String),
}

impl From<Status> for SendError {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::SessionEnded,
            Code::PermissionDenied => Self::NotAllowed(text),
            Code::ResourceExhausted if text == "disk" => Self::NoSpace,
            Code::ResourceExhausted => Self::Limit(text),
            Code::InvalidArgument | Code::FailedPrecondition => Self::Invalid(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// A message on its way, of one session.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// As Authenticate answered.
    pub session: Bytes,
    /// "" is the null reverse-path.
    pub mail_from: String,
    /// One entry of the queue for each.
    pub recipients: Vec<EnqueueRecipient>,
    /// Header fields for the very top: Received.
    pub trace: String,
    /// Whether SMTPUTF8 is needed.
    pub smtputf8: bool,
    /// RET (RFC 3461): "", "FULL" or "HDRS".
    pub dsn_ret: String,
    /// ENVID, as xtext.
    pub dsn_envid: String,
    /// Of the session, so that one trace follows the message to its delivery; empty if traces are not collected.
    pub trace_id: String,
    /// REQUIRETLS was asked for (RFC 8689). Without it, `TLS-Required: No` in the header says the contrary.
    pub requiretls: bool,
    /// Not to be delivered before (FUTURERELEASE, RFC 4865), seconds since 1970, at most [`FUTURE_RELEASE`] ahead.
    pub release_at: Option<i64>,
}

/// What was put into the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// One for each recipient, in their order.
    pub ids: Vec<u64>,
    /// The ids in the senders of each, in the same order, by which what comes back is recognized; empty if they have
    /// none.
    pub fromids: Vec<String>,
}

/// Sends for sessions of the calling service.
#[derive(Clone)]
pub struct Sender {
    client: SubmitServiceClient<Channel>,
}

impl Sender {
    /// Over a channel to the store.
    #[must_use]
    pub fn new(store: Channel) -> Self {
        Self {
            client: SubmitServiceClient::new(store),
        }
    }

    /// Whether a session's account may use an address as From or MAIL FROM.
    ///
    /// # Errors
    /// If the store can't say, or the session ended.
    pub async fn may_use(&self, session: &Bytes, address: &Address) -> Result<bool, SendError> {
        let request = CheckSenderRequest {
            session: session.clone(),
            addresses: vec![address.to_string()],
        };
        let answer = self.client.clone().check_sender(request).await?.into_inner();
        Ok(answer.allowed.first().copied().unwrap_or(false))
    }

    /// Puts a message into the queue, one entry for each recipient, all or none. Durable when it returns.
    ///
    /// # Errors
    /// If it was not put there; see [`SendError`] for what to do.
    pub async fn enqueue(&self, submission: Submission, message: Prepared) -> Result<Enqueued, SendError> {
        let size = message.content.len();
        let prefix = format!("{}{}", submission.trace, message.added);
        let place = if size <= INLINE_CONTENT_BYTES {
            content::Where::Inline(message.content.to_bytes())
        } else {
            content::Where::UploadId(self.upload(&submission.session, message.content).await?)
        };
        // Domains can be written as A-labels.
        let in_utf8 = |a: &String| !a.rsplit_once('@').map_or("", |(localpart, _)| localpart).is_ascii();
        let international = message.international
            || in_utf8(&submission.mail_from)
            || submission.recipients.iter().any(|r| in_utf8(&r.address));
        // RFC 8689 §4.1: with REQUIRETLS, the header field is not looked at.
        let requiretls = match (submission.requiretls, message.tls_optional) {
            (true, _) => RequireTls::Yes,
            (false, true) => RequireTls::No,
            (false, false) => RequireTls::Unset,
        };
        let request = EnqueueRequest {
            session: submission.session,
            key: mox_rpc::key(),
            mail_from: submission.mail_from,
            msg_from: message.msg_from.to_string(),
            recipients: submission.recipients,
            content: Some(Content { r#where: Some(place) }),
            size: (prefix.len() + size) as u64,
            prefix: prefix.into(),
            eight_bit: message.eight_bit,
            // Who can do SMTPUTF8 says so always; what doesn't need it can go through hosts that don't know it.
            smtputf8: submission.smtputf8 && international,
            requiretls: requiretls.into(),
            release_at: submission.release_at,
            extra: message.extra.into_iter().collect(),
            dsn_ret: submission.dsn_ret,
            dsn_envid: submission.dsn_envid,
            trace_id: submission.trace_id,
            subject: message.subject,
            message_id: message.message_id,
            ..EnqueueRequest::default()
        };
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.client.clone().enqueue(request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok(Enqueued {
                        ids: answer.ids,
                        fromids: answer.fromids,
                    });
                }
                // Whether it took place is not known; the key makes asking again safe.
                Err(status) if attempt < ATTEMPTS && may_repeat(status.code()) => {
                    tracing::info!(%status, attempt, "enqueueing failed, repeating it");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(status) => return Err(status.into()),
            }
        }
        Err(SendError::Unavailable("it did not answer".into()))
    }

    /// Never repeated: what streams is apart from what commits.
    async fn upload(&self, session: &Bytes, content: Excerpt) -> Result<Bytes, SendError> {
        let mut session = session.clone();
        let pieces = content.into_pieces().map(move |data| SubmitUploadRequest {
            // With the first only.
            session: std::mem::take(&mut session),
            data,
        });
        Ok(self
            .client
            .clone()
            .upload(stream::iter(pieces))
            .await?
            .into_inner()
            .upload_id)
    }
}

fn may_repeat(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}
