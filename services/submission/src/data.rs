//! DATA: the message, into the queue.

use mox_message::{compose, received};
use mox_smtp::{DataDecoder, Lines, Reply};
use mox_spool::{Message, Spool, SpoolError};
use mox_submit::{Enqueued, Refused, Submission};
use mox_telemetry::TraceKind;

use crate::session::{Session, Stop};
use crate::transaction::{Transaction, reply_to};

/// Ids of queue entries that a reply names, so that it stays short.
const IDS_SHOWN: usize = 10;

pub(crate) async fn run(session: &mut Session) -> Result<Reply, Stop> {
    let Some(transaction) = &session.transaction else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    if transaction.chunks.is_some() {
        return Ok(Reply::new(503, (5, 1), "the message is being sent with BDAT"));
    }
    if transaction.recipients.is_empty() {
        return Ok(Reply::new(554, (5, 1), "there are no recipients"));
    }
    session.say(&Reply::plain(354, "end the message with a line that has only a dot"))?;
    let received = receive(session).await?;
    Ok(conclude(session, received).await)
}

/// What becomes of a message that was read to its end.
pub(crate) async fn conclude(session: &mut Session, received: Result<Message, Reply>) -> Reply {
    let Some(transaction) = session.transaction.take() else {
        return Reply::new(503, (5, 1), "say MAIL first");
    };
    let reply = match received {
        Ok(message) => submit(session, transaction, message).await,
        Err(reply) => reply,
    };
    let result = match reply.code / 100 {
        2 => "queued",
        4 => "deferred",
        _ => "refused",
    };
    session.place.shared.metrics.message(result);
    reply
}

/// Reads the message to its end, whatever is wrong with it, so that the next command is one.
async fn receive(session: &mut Session) -> Result<Result<Message, Reply>, Stop> {
    let most = session.place.listener.smtp_max_message_size;
    let mut spool = Spool::new(&session.place.shared.spool, most);
    let mut decoder = DataDecoder::new(Lines::Mend);
    let mut failed = None;
    let connection = session.connection()?;
    while let Some(piece) = connection.read_data(&mut decoder).await? {
        if failed.is_none()
            && let Err(error) = spool.write(piece).await
        {
            failed = Some(error);
        }
    }
    let error = match failed {
        None => match spool.finish().await {
            Ok(message) => match decoder.fault() {
                None => return Ok(Ok(message)),
                Some(fault) => return Ok(Err(Reply::new(550, (5, 2), format!("the message has {fault}")))),
            },
            Err(error) => error,
        },
        Some(error) => error,
    };
    Ok(Err(not_kept(&error, most)))
}

/// Why a message that came in could not be kept.
pub(crate) fn not_kept(error: &SpoolError, most: u64) -> Reply {
    match error {
        SpoolError::TooLarge { .. } => Reply::new(552, (3, 4), format!("a message may have at most {most} bytes")),
        SpoolError::Budget { .. } => Reply::new(452, (3, 1), "too many messages are being received, try again later"),
        error @ SpoolError::Io { .. } => {
            tracing::error!(%error, "receiving a message");
            Reply::new(452, (3, 1), "the message can't be kept now, try again later")
        }
    }
}

async fn submit(session: &mut Session, transaction: Transaction, message: Message) -> Reply {
    let Some(login) = &session.login else {
        return Reply::new(530, (7, 0), "log in first");
    };
    let (token, user) = (login.token.clone(), login.address.clone());
    if session.traces(TraceKind::Data) {
        tracing::trace!(message = %String::from_utf8_lossy(&message), "C: DATA");
    }
    let shared = &session.place.shared;
    let hostname = &session.place.hostname;
    let now = shared.clock.now();
    let (whole, host) = (message.clone(), hostname.clone());
    let prepared = message.read(move |_| mox_submit::prepare(&whole, &host, now)).await;
    let mut prepared = match prepared {
        Ok(Ok(prepared)) => prepared,
        // RFC 3463 §3.5: X.4.6, routing loop detected.
        Ok(Err(refused @ Refused::Loop(_))) => return Reply::new(554, (4, 6), refused.to_string()),
        Ok(Err(refused)) => return Reply::new(550, (6, 0), refused.to_string()),
        Err(error) => {
            tracing::error!(user, %error, "reading a message");
            return Reply::new(451, (3, 0), "the message can't be read now, try again later");
        }
    };
    match shared.sender.may_use(&token, &prepared.msg_from).await {
        Ok(true) => {}
        Ok(false) => {
            let from = &prepared.msg_from;
            return Reply::new(
                550,
                (7, 1),
                format!("{from} in the From field is not an address of your account"),
            );
        }
        Err(error) => return reply_to(&error),
    }
    // In this order: what is newer than its version is only made ready once more.
    let version = shared.config.version();
    let config = shared.config.current();
    if let Err(error) = shared.signing.sign(&config, version, &mut prepared).await {
        tracing::error!(user, %error, "message not queued");
        return Reply::new(451, (3, 5), "the message can't be signed now, try again later");
    }
    let recipients = transaction.recipients.len();
    let submission = Submission {
        session: token,
        mail_from: transaction.mail_from,
        recipients: transaction.recipients,
        trace: trace(session, transaction.smtputf8),
        smtputf8: transaction.smtputf8,
        dsn_ret: transaction.dsn_ret,
        dsn_envid: transaction.dsn_envid,
        trace_id: mox_telemetry::trace_id(),
        requiretls: transaction.requiretls,
        release_at: transaction.release_at,
    };
    let size = message.len();
    match shared.sender.enqueue(submission, prepared).await {
        Ok(Enqueued { ids, .. }) => {
            tracing::info!(user, ?ids, size, recipients, "queued");
            let shown: Vec<String> = ids.iter().take(IDS_SHOWN).map(u64::to_string).collect();
            let more = if ids.len() > IDS_SHOWN { " and more" } else { "" };
            Reply::new(250, (6, 0), format!("queued as {}{more}", shown.join(" ")))
        }
        Err(error) => {
            tracing::warn!(user, %error, "message not queued");
            reply_to(&error)
        }
    }
}

/// The Received field (RFC 5321 §4.4), without what would tell recipients where a user is.
fn trace(session: &Session, smtputf8: bool) -> String {
    let tls = session.info.tls.as_ref();
    let with = received::with(true, smtputf8, tls.is_some(), true);
    let tls = tls
        .map(|t| format!(" tls {} ({})", t.cipher, t.version))
        .unwrap_or_default();
    format!(
        "Received: by {} with {with}{tls}\r\n\tid {};\r\n\t{}\r\n",
        session.place.hostname,
        session.place.shared.config.cid_key().seal(session.info.cid),
        compose::date(session.place.shared.clock.now())
    )
}
