//! IDLE (RFC 2177): what changes in the selected mailbox is told at once.

use bytes::BufMut;
use mox_imap_proto::framer::take_line;

use crate::commands::metadata;
use crate::limits;
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::Session;

/// Longer than DONE, which is all that may come.
const LINE: usize = 100;

pub(super) async fn run(session: &mut Session) -> Outcome {
    session.login()?;
    session.connection.out.put_slice(b"+ Idling\r\n");
    let ends = tokio::time::Instant::now() + limits::INACTIVE;
    // What happened before is told first.
    let mut news = true;
    loop {
        if news {
            Box::pin(tell(session)).await?;
        }
        session.connection.flush().await?;
        match take_line(&mut session.connection.input, LINE) {
            Ok(None) => {}
            Ok(Some(line)) if line.eq_ignore_ascii_case(b"DONE") => return Ok(Reply::ok("Done")),
            Ok(Some(_)) => return Err(Reply::bad("Only DONE ends IDLE").into()),
            Err(error) => return Err(Stop::Bye(error.to_string().into()).into()),
        }
        session.connection.shrink();
        news = wait(session, ends).await?;
    }
}

/// Waits until the client sends something, or (true) something may have changed.
async fn wait(session: &mut Session, ends: tokio::time::Instant) -> Result<bool, Failed> {
    let Session {
        connection,
        login: Some(login),
        selected,
        shutdown,
        metadata_modseq,
        ..
    } = session
    else {
        return Err(Reply::bad("Log in first").into());
    };
    // Of annotations too, if the client wants to be told.
    let known = selected.as_ref().map_or(u64::MAX, |s| s.modseq);
    let known = known.min(metadata_modseq.unwrap_or(u64::MAX));
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

async fn tell(session: &mut Session) -> Result<(), Failed> {
    if session.enabled.metadata {
        match metadata::tell_changes(session, "IDLE").await {
            Err(Failed::Reply(_)) => tokio::time::sleep(limits::WATCH_PAUSE.1).await,
            told => told?,
        }
    }
    let (Some(selected), Some(login)) = (&mut session.selected, &session.login) else {
        return Ok(());
    };
    let hint = login.subscription.hint();
    match selected.catch_up(&session.shared, &login.token).await {
        Ok(()) => {}
        // The store is away: the hub will tell when it is back.
        Err(Failed::Reply(_)) => tokio::time::sleep(limits::WATCH_PAUSE.1).await,
        Err(stop) => return Err(stop),
    }
    // The account changed, and it was not in this mailbox.
    selected.modseq = selected.modseq.max(hint.modseq);
    selected.tell(&session.shared.views, true, &mut session.connection.out);
    Ok(())
}
