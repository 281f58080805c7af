//! DATA (RFC 5321 §4.1.1.4): the message, to a line with only a dot.

use mox_smtp::{DataDecoder, Lines, Reply};
use mox_spool::Message;
use mox_telemetry::TraceKind;

use super::mail::put_off;
use crate::incoming::Incoming;
use crate::localserve::Special;
use crate::session::{Session, Stop};
use crate::transaction::Transaction;
use crate::{check, deliver};

pub(super) async fn run(session: &mut Session) -> Result<Reply, Stop> {
    let Some(transaction) = &session.transaction else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    if transaction.chunks.is_some() {
        // RFC 3030 §2.
        return Ok(Reply::new(503, (5, 1), "the message is being sent with BDAT"));
    }
    if transaction.rcpts.is_empty() {
        return Ok(Reply::new(554, (5, 1), "there are no recipients"));
    }
    session.say(&Reply::plain(354, "end the message with a line that has only a dot"))?;
    let mut incoming = Incoming::new(session);
    let mut decoder = DataDecoder::new(Lines::Strict);
    let connection = session.connection()?;
    while let Some(piece) = connection.read_data(&mut decoder).await? {
        incoming.write(piece).await?;
    }
    let received = incoming.finish(decoder.fault()).await;
    conclude(session, received).await
}

/// What becomes of a message that was read to its end. The transaction is over, whatever it is (RFC 5321 §4.1.1.4).
pub(super) async fn conclude(session: &mut Session, received: Result<Message, Reply>) -> Result<Reply, Stop> {
    let Some(transaction) = session.transaction.take() else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    session.idle_commands = 0;
    let checked = received.and_then(|message| {
        let shared = &session.place.shared;
        check::message(&message, &transaction, shared.config.pedantic).map(|()| message)
    });
    let (reply, size) = match checked {
        Ok(message) => {
            if session.traces(TraceKind::Data) {
                tracing::trace!(message = %String::from_utf8_lossy(&message), "C: message");
            }
            let size = message.len() as u64;
            let taken = session.place.shared.rates.take(session.info.remote.ip(), size);
            let reply = match (taken, special(session, &transaction)) {
                (Err(over), _) => put_off(session, over),
                (Ok(()), Some(special)) => special.reply(session).await?,
                (Ok(()), None) => deliver::run(session, &transaction, message).await?,
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
        .rcpts
        .iter()
        .find_map(|r| Special::of(&localpart(&r.rcpt_to)))
}
