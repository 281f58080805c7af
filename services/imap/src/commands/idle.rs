//! IDLE (RFC 2177): what changes in the selected mailbox is told at once, or what the client asked for with NOTIFY
//! (RFC 5465 §4).

use bytes::BufMut;
use mox_imap_proto::framer::take_line;

use crate::limits;
use crate::news::{self, Moment};
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::Session;

/// Longer than DONE, which is all that may come.
const LINE: usize = 100;

pub(super) async fn run(session: &mut Session) -> Outcome {
    session.login()?;
    session.connection.out.put_slice(b"+ Idling\r\n");
    let ends = tokio::time::Instant::now() + limits::INACTIVE;
    // What happened before is told first.
    let mut moment = Some(Moment::Idle);
    loop {
        if let Some(moment) = moment {
            Box::pin(news::tell_waiting(session, moment)).await?;
        }
        session.connection.flush().await?;
        match take_line(&mut session.connection.input, LINE) {
            Ok(None) => {}
            Ok(Some(line)) if line.eq_ignore_ascii_case(b"DONE") => return Ok(Reply::ok("Done")),
            Ok(Some(_)) => return Err(Reply::bad("Only DONE ends IDLE").into()),
            Err(error) => return Err(Stop::Bye(error.to_string().into()).into()),
        }
        session.connection.shrink();
        moment = wait(session, ends).await?.then_some(Moment::Idling);
    }
}

/// Waits until the client sends something, or (true) something may have changed.
async fn wait(session: &mut Session, ends: tokio::time::Instant) -> Result<bool, Failed> {
    let known = news::seen(session);
    let Session {
        connection,
        login: Some(login),
        shutdown,
        ..
    } = session
    else {
        return Err(Reply::bad("Log in first").into());
    };
    tokio::select! {
        biased;
        () = shutdown.begun() => Err(Stop::Bye("The server is shutting down, try again later".into()).into()),
        hint = login.subscription.changed(known) => match hint.revoked {
            true => Err(Stop::Bye("This session has ended, please log in again".into()).into()),
            false => Ok(true),
        },
        filled = connection.fill(LINE) => {
            filled?;
            Ok(false)
        }
        () = tokio::time::sleep_until(ends) => Err(Stop::Bye("Inactive for too long".into()).into()),
    }
}
