//! BDAT (RFC 3030): the message, in chunks of announced sizes.
//!
//! A chunk is read to its end also when it is not wanted: otherwise its octets would be taken for commands.

use mox_smtp::{ChunkDecoder, Fault, Lines, Reply};
use mox_spool::{Spool, SpoolError};

use crate::data::{conclude, not_kept};
use crate::limits;
use crate::session::{Session, Stop};

/// The chunks of a transaction.
#[derive(Debug)]
pub(crate) struct Chunks {
    decoder: ChunkDecoder,
    spool: Spool,
    /// One was refused, and the client told so.
    failed: bool,
}

/// A chunk of so many octets, and whether it is the last.
pub(crate) async fn run(session: &mut Session, octets: u64, last: bool) -> Result<Reply, Stop> {
    let most = session.place.listener.smtp_max_message_size;
    let wrong = match &session.transaction {
        None => Some(Reply::new(503, (5, 1), "say MAIL first")),
        Some(transaction) if transaction.recipients.is_empty() => {
            Some(Reply::new(554, (5, 1), "there are no recipients"))
        }
        // RFC 3030 §2: after a refusal, RSET is to be said.
        Some(transaction) if transaction.chunks.as_ref().is_some_and(|c| c.failed) => {
            Some(Reply::new(503, (5, 1), "a chunk of the message was refused, say RSET"))
        }
        Some(_) => None,
    };
    let known = session.transaction.as_mut().and_then(|t| t.chunks.take());
    let mut chunks = known.unwrap_or_else(|| Chunks {
        decoder: ChunkDecoder::new(Lines::Mend),
        spool: Spool::new(&session.place.shared.spool, most),
        failed: false,
    });
    let too_large = chunks.spool.len().saturating_add(octets) > most;
    let mut error = too_large.then_some(SpoolError::TooLarge { limit: most });
    if (too_large || wrong.is_some()) && octets > most.saturating_add(limits::OVERSIZE_BYTES) {
        let text = format!("a message may have at most {most} bytes, closing the connection");
        return Err(Stop::Reply(Reply::new(552, (3, 4), text)));
    }
    chunks.decoder.begin(octets);
    let connection = session.connection()?;
    while let Some(piece) = connection.read_data(&mut chunks.decoder).await? {
        if wrong.is_none() && error.is_none() {
            error = chunks.spool.write(piece).await.err();
        }
    }
    if let Some(reply) = wrong {
        if chunks.failed && !last {
            if let Some(transaction) = &mut session.transaction {
                transaction.chunks = Some(chunks);
            }
        } else if chunks.failed {
            session.transaction = None;
        }
        return Ok(reply);
    }
    if last && error.is_none() {
        error = chunks.spool.write(chunks.decoder.finish()).await.err();
    }
    let refused = match (&error, chunks.decoder.fault()) {
        (Some(error), _) => Some(not_kept(error, most)),
        (None, Some(fault)) => Some(faulty(fault)),
        (None, None) => None,
    };
    if last {
        let received = match refused {
            Some(reply) => Err(reply),
            None => chunks.spool.finish().await.map_err(|error| not_kept(&error, most)),
        };
        return Ok(conclude(session, received).await);
    }
    chunks.failed = refused.is_some();
    if let Some(transaction) = &mut session.transaction {
        transaction.chunks = Some(chunks);
    }
    Ok(refused.unwrap_or_else(|| Reply::new(250, (0, 0), format!("{octets} octets received"))))
}

fn faulty(fault: Fault) -> Reply {
    Reply::new(550, (5, 2), format!("the message has {fault}"))
}
