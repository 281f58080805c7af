//! What of an APPEND was read, and what its client may still send.

use bytes::BufMut;
use mox_imap_proto::append::{Next, Place, Segment};
use mox_imap_proto::{ErrorKind, Event, LiteralHeader, ParseError};

use crate::limits;
use crate::reply::{Failed, Reply, Stop};
use crate::session::Session;

/// What a command costs for each literal that is thrown away, beside its octets.
const LITERAL_COST: u64 = 1 << 10;

/// What is left of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// The command was read to its end.
    Nothing,
    /// A literal was announced.
    Literal(LiteralHeader),
    /// A literal was read, and the line goes on.
    Line,
}

/// See the module.
pub(super) struct Reading {
    /// The command's name.
    pub name: &'static str,
    pub unread: Unread,
}

impl Reading {
    /// Reads what follows a streamed literal, up to the next one or to the end.
    pub(super) async fn segment(&mut self, session: &mut Session, place: Place) -> Result<Segment, Failed> {
        loop {
            let event = session.framer.next(&mut session.connection.input);
            match event.map_err(|error| Stop::Bye(error.to_string().into()))? {
                Event::NeedMore => session.connection.fill_soon(limits::COMMAND_ROOM).await?,
                Event::Command(rest) => {
                    self.unread = Unread::Nothing;
                    return Segment::parse(&rest, session.names, place, false).map_err(|e| self.refuse(&e));
                }
                Event::Literal(header) => {
                    let start = session.framer.start(&session.connection.input);
                    let parsed = Segment::parse(start, session.names, place, true);
                    if let Ok(Segment { next: Next::Accept, .. }) = parsed
                        && session.framer.accept(mox_imap_proto::limits::COMMAND_LITERALS).is_ok()
                    {
                        if header.synchronizing {
                            session.connection.out.put_slice(b"+ Ready for literal data\r\n");
                        }
                        continue;
                    }
                    session.framer.take_start(&mut session.connection.input);
                    self.unread = Unread::Literal(header);
                    return match parsed {
                        Ok(Segment { next: Next::Accept, .. }) => {
                            Err(Reply::bad("The URL is too long").code("TOOBIG").into())
                        }
                        Ok(segment) => Ok(segment),
                        Err(error) => Err(self.refuse(&error)),
                    };
                }
            }
        }
    }

    fn refuse(&self, error: &ParseError) -> Failed {
        let reply = Reply::bad(format!("{}: {error}, and nothing was kept", self.name));
        match error.kind {
            ErrorKind::Limit => reply.code("LIMIT").into(),
            _ => reply.into(),
        }
    }

    /// Reads the rest of the command and throws it away. A client that asked whether it may send a literal does not, when
    /// it is refused; what comes without asking (RFC 7888) can only be read, or cut off.
    pub(super) async fn drain(&mut self, session: &mut Session) -> Result<(), Stop> {
        let mut left = limits::DISCARD;
        loop {
            match std::mem::replace(&mut self.unread, Unread::Line) {
                Unread::Nothing => return Ok(()),
                Unread::Literal(header) if header.synchronizing => return Ok(()),
                Unread::Literal(header) => {
                    left = left
                        .checked_sub(header.size.saturating_add(LITERAL_COST))
                        .ok_or_else(|| Stop::Bye("The message is too large".into()))?;
                    session.connection.discard(header.size).await?;
                }
                Unread::Line => {}
            }
            let event = session.framer.next(&mut session.connection.input);
            match event.map_err(|error| Stop::Bye(error.to_string().into()))? {
                Event::NeedMore => session.connection.fill_soon(limits::COMMAND_ROOM).await?,
                Event::Command(_) => return Ok(()),
                Event::Literal(header) => {
                    session.framer.take_start(&mut session.connection.input);
                    self.unread = Unread::Literal(header);
                }
            }
        }
    }
}
