//! A message while it comes in, by DATA or by BDAT: within its size, its time, and what the process can keep.

use std::time::Instant;

use mox_smtp::{Fault, Reply};
use mox_spool::{Message, Spool, SpoolError};

use crate::limits;
use crate::session::{Session, Stop};

/// What has come so far. It is read to its end whatever is wrong with it: what comes after is commands, and nothing
/// else is.
pub(crate) struct Incoming {
    /// None once something was wrong.
    spool: Option<Spool>,
    refused: Option<Reply>,
    most: u64,
    /// Octets that were read for nothing.
    unwanted: u64,
    received: u64,
    started: Instant,
}

impl Incoming {
    pub(crate) fn new(session: &Session) -> Self {
        let most = session.place.listener.smtp_max_message_size;
        Self {
            spool: Some(Spool::new(&session.place.shared.spool, most)),
            refused: None,
            most,
            unwanted: 0,
            received: 0,
            started: Instant::now(),
        }
    }

    /// What is wrong with it, up to now.
    pub(crate) fn refused(&self) -> Option<&Reply> {
        self.refused.as_ref()
    }

    /// That it is refused, and why. What is kept of it is let go.
    pub(crate) fn refuse(&mut self, reply: Reply) {
        self.spool = None;
        self.refused.get_or_insert(reply);
    }

    /// So many more octets are announced. If they are too many it is refused at once, and if they are too many even to
    /// be read the session ends.
    pub(crate) fn announce(&mut self, octets: u64) -> Result<(), Stop> {
        if self.received.saturating_add(octets) > self.most {
            self.refuse(too_large(self.most));
        }
        match self.refused.is_some() && self.unwanted.saturating_add(octets) > limits::OVERSIZE_BYTES {
            true => Err(Stop::Reply(closing(self.most))),
            false => Ok(()),
        }
    }

    /// Takes what came.
    pub(crate) async fn write(&mut self, piece: &[u8]) -> Result<(), Stop> {
        self.received += piece.len() as u64;
        match &mut self.spool {
            Some(spool) => {
                if let Err(error) = spool.write(piece).await {
                    self.refuse(reply_to(&error, self.most));
                }
            }
            None => self.unwanted += piece.len() as u64,
        }
        if self.unwanted > limits::OVERSIZE_BYTES {
            return Err(Stop::Reply(closing(self.most)));
        }
        let time = self.started.elapsed();
        let slow = time > limits::SLOW_DATA && self.received < time.as_secs() * limits::DATA_RATE;
        if slow || time > limits::DATA_TIME {
            return Err(Stop::Reply(Reply::new(421, (4, 2), "too slow, closing the connection")));
        }
        Ok(())
    }

    /// The whole message, if nothing is wrong with it.
    pub(crate) async fn finish(mut self, fault: Option<Fault>) -> Result<Message, Reply> {
        if let Some(fault) = fault {
            return Err(faulty(fault));
        }
        match (self.refused.take(), self.spool.take()) {
            (None, Some(spool)) => spool.finish().await.map_err(|error| reply_to(&error, self.most)),
            (refused, _) => Err(refused.unwrap_or_else(|| Reply::new(451, (3, 0), "the message was not kept"))),
        }
    }
}

/// RFC 5321 §2.3.8: a message with other line ends is refused, since servers would disagree on where it ends.
pub(crate) fn faulty(fault: Fault) -> Reply {
    Reply::new(554, (5, 2), format!("the message has {fault}"))
}

fn too_large(most: u64) -> Reply {
    // RFC 1870 §6.3.
    Reply::new(552, (3, 4), format!("a message may have at most {most} bytes"))
}

fn closing(most: u64) -> Reply {
    let text = format!("a message may have at most {most} bytes, closing the connection");
    Reply::new(552, (3, 4), text)
}

fn reply_to(error: &SpoolError, most: u64) -> Reply {
    match error {
        SpoolError::TooLarge { .. } => too_large(most),
        SpoolError::Budget { .. } => {
            tracing::warn!(%error, "receiving a message");
            Reply::new(452, (3, 1), "too many messages are being received, try again later")
        }
        SpoolError::Io { .. } => {
            tracing::error!(%error, "receiving a message");
            Reply::new(452, (3, 1), "the message can't be kept now, try again later")
        }
    }
}
