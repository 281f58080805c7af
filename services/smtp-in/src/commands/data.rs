//! DATA (RFC 5321 §4.1.1.4): the message.

use std::time::Instant;

use mox_smtp::{DataDecoder, Lines, Reply};
use mox_spool::{Message, Spool, SpoolError};
use mox_telemetry::TraceKind;

use crate::localserve::Special;
use crate::session::{Session, Stop};
use crate::transaction::Transaction;
use crate::{deliver, limits};

pub(super) async fn run(session: &mut Session) -> Result<Reply, Stop> {
    let Some(transaction) = &session.transaction else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    if transaction.accepted == 0 {
        return Ok(Reply::new(554, (5, 1), "there are no recipients"));
    }
    session.say(&Reply::plain(354, "end the message with a line that has only a dot"))?;
    let received = receive(session).await?;
    // Whatever becomes of the message, the transaction is over (RFC 5321 §4.1.1.4).
    let Some(transaction) = session.transaction.take() else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    let (reply, size) = match received {
        Ok(message) => {
            let size = message.len() as u64;
            let reply = match special(session, &transaction) {
                Some(special) => special.reply(session).await?,
                None => deliver::run(session, &transaction, message).await?,
            };
            (reply, size)
        }
        Err(reply) => {
            tracing::info!(remote = %session.info.remote, mail_from = transaction.reverse_path(), %reply, "message refused");
            (reply, 0)
        }
    };
    session.place.shared.metrics.message(reply.code, size);
    Ok(reply)
}

/// What the address of a recipient asks for, in developer's mode.
fn special(session: &Session, transaction: &Transaction) -> Option<Special> {
    session.place.shared.config.localserve.as_ref()?;
    let localpart = |rcpt_to: &str| {
        rcpt_to
            .rsplit_once('@')
            .map_or(String::new(), |(l, _)| l.replace('"', ""))
    };
    transaction
        .recipients
        .iter()
        .find_map(|r| Special::of(&localpart(&r.rcpt_to)))
}

/// Reads the message to its end, whatever is wrong with it: what comes after is commands, and nothing else is.
async fn receive(session: &mut Session) -> Result<Result<Message, Reply>, Stop> {
    let most = session.place.listener.smtp_max_message_size;
    let mut spool = Spool::new(&session.place.shared.spool, most);
    let mut decoder = DataDecoder::new(Lines::Strict);
    let mut failed = None;
    let mut unwanted = 0;
    let started = Instant::now();
    let traces = session.traces(TraceKind::Data);
    let connection = session.connection()?;
    while let Some(piece) = connection.read_data(&mut decoder).await? {
        match failed {
            None => failed = spool.write(piece).await.err(),
            Some(_) => unwanted += piece.len() as u64,
        }
        if unwanted > limits::OVERSIZE_BYTES {
            let text = format!("a message may have at most {most} bytes, closing the connection");
            return Err(Stop::Reply(Reply::new(552, (3, 4), text)));
        }
        if started.elapsed() > limits::DATA_TIME {
            return Err(Stop::Reply(Reply::new(421, (4, 2), "too slow, closing the connection")));
        }
    }
    // RFC 5321 §2.3.8: a message with other line ends is refused, since servers would disagree on where it ends.
    if let Some(fault) = decoder.fault() {
        return Ok(Err(Reply::new(554, (5, 2), format!("the message has {fault}"))));
    }
    let error = match failed {
        Some(error) => error,
        None => match spool.finish().await {
            Ok(message) => {
                if traces {
                    tracing::trace!(message = %String::from_utf8_lossy(&message), "C: DATA");
                }
                return Ok(check(message));
            }
            Err(error) => error,
        },
    };
    Ok(Err(match error {
        SpoolError::TooLarge { .. } => Reply::new(552, (3, 4), format!("a message may have at most {most} bytes")),
        SpoolError::Budget { .. } => {
            tracing::warn!(%error, "receiving a message");
            Reply::new(452, (3, 1), "too many messages are being received, try again later")
        }
        SpoolError::Io { .. } => {
            tracing::error!(%error, "receiving a message");
            Reply::new(452, (3, 1), "the message can't be kept now, try again later")
        }
    }))
}

/// Whether it goes in circles.
fn check(message: Message) -> Result<Message, Reply> {
    if mox_message::received_count(&message) > limits::HOPS {
        // RFC 3463 §3.5: X.4.6, routing loop detected.
        return Err(Reply::new(
            554,
            (4, 6),
            "the message was passed on too often, it seems to go in circles",
        ));
    }
    Ok(message)
}
