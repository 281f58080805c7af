//! BDAT (RFC 3030): the message, in chunks of announced sizes.
//!
//! A chunk is read to its end also when it is not wanted: pipelined with commands that were refused, or after one that
//! was. Otherwise its octets would be taken for commands.

use mox_smtp::{ChunkDecoder, Lines, Reply};

use super::data::conclude;
use crate::incoming::{self, Incoming};
use crate::session::{Session, Stop};

/// The chunks of a transaction.
pub(crate) struct Chunks {
    decoder: ChunkDecoder,
    incoming: Incoming,
    /// One was refused, and its client told so.
    failed: bool,
}

pub(super) async fn run(session: &mut Session, octets: u64, last: bool) -> Result<Reply, Stop> {
    let wrong = match &session.transaction {
        None => Some(Reply::new(503, (5, 1), "say MAIL first")),
        Some(transaction) if transaction.rcpts.is_empty() => Some(Reply::new(554, (5, 1), "there are no recipients")),
        // RFC 3030 §2: after a refusal, RSET is to be said.
        Some(transaction) if transaction.chunks.as_ref().is_some_and(|c| c.failed) => {
            Some(Reply::new(503, (5, 1), "a chunk of the message was refused, say RSET"))
        }
        Some(_) => None,
    };
    let known = session.transaction.as_mut().and_then(|t| t.chunks.take());
    let mut chunks = known.unwrap_or_else(|| Chunks {
        decoder: ChunkDecoder::new(Lines::Strict),
        incoming: Incoming::new(session),
        failed: false,
    });
    if let Some(reply) = &wrong {
        chunks.incoming.refuse(reply.clone());
    }
    chunks.incoming.announce(octets)?;
    chunks.decoder.begin(octets);
    let connection = session.connection()?;
    while let Some(piece) = connection.read_data(&mut chunks.decoder).await? {
        chunks.incoming.write(piece).await?;
    }
    if let Some(reply) = wrong {
        match &mut session.transaction {
            // The last chunk ends the transaction, as the end of DATA does.
            Some(_) if last && chunks.failed => session.transaction = None,
            Some(transaction) if chunks.failed => transaction.chunks = Some(chunks),
            _ => {}
        }
        return Ok(reply);
    }
    if last {
        let rest = chunks.decoder.finish();
        chunks.incoming.write(rest).await?;
        let received = chunks.incoming.finish(chunks.decoder.fault()).await;
        return conclude(session, received).await;
    }
    let fault = chunks.decoder.fault().map(incoming::faulty);
    let refused = fault.or_else(|| chunks.incoming.refused().cloned());
    if let Some(reply) = &refused {
        chunks.failed = true;
        chunks.incoming.refuse(reply.clone());
    }
    if let Some(transaction) = &mut session.transaction {
        transaction.chunks = Some(chunks);
    }
    Ok(refused.unwrap_or_else(|| Reply::new(250, (0, 0), format!("{octets} octets received"))))
}
