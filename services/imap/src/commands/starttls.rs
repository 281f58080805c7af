//! STARTTLS (RFC 9051 §6.2.1).

use std::io;

use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, tag: &str) -> Outcome {
    // RFC 8437 §2: compression outlives a login, and TLS is below it.
    if session.compressed {
        return Err(Reply::bad("TLS can't be started on a compressed connection").into());
    }
    if session.info.tls.is_some() {
        return Err(Reply::bad("TLS is on already").into());
    }
    let Some(tls) = session.tls.clone() else {
        return Err(Reply::bad("There is no TLS here").into());
    };
    if session.login.is_some() {
        return Err(Reply::bad("Start TLS before logging in").into());
    }
    // What was sent behind the command, without TLS, could come from somebody else, and would be taken for the client's
    // (RFC 9051 §11.1): it ends the connection.
    let connection = &mut session.connection;
    if !connection.input.is_empty() {
        return Err(Stop::Bye("Commands were sent behind STARTTLS".into()).into());
    }
    Reply::ok("Begin TLS").write(tag, &mut connection.out);
    connection.flush().await?;
    let stream = connection.take_stream().map_err(Stop::Closed)?;
    let stream = mox_service::starttls(stream, &tls, &mut session.info)
        .await
        .map_err(|error| Failed::Stop(Stop::Closed(io::Error::other(error))))?;
    connection.put_stream(stream);
    // The command has been answered; nothing more is said until the client speaks.
    Ok(Reply::silent())
}
