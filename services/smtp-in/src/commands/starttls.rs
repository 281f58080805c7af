//! STARTTLS (RFC 3207).

use mox_smtp::{ReadError, Reply};

use crate::session::{Session, Stop};

pub(super) async fn run(session: &mut Session) -> Result<Option<Reply>, Stop> {
    let Some(tls) = session.place.tls.clone().filter(|_| session.info.tls.is_none()) else {
        return Ok(Some(Reply::new(503, (5, 1), "TLS can't be started here")));
    };
    // Commands that were sent in advance were sent in the clear, by whoever is on the way: they must not be taken for
    // those of the client behind the handshake.
    if session.connection()?.has_input() {
        tracing::error!(remote = %session.info.remote, "data behind STARTTLS before the handshake, closing the connection");
        return Err(Stop::Connection(ReadError::Closed));
    }
    session.say(&Reply::new(220, (0, 0), "go ahead"))?;
    session.connection()?.flush().await?;
    let stream = session.take_connection()?.into_stream();
    match mox_service::starttls(stream, &tls, &mut session.info).await {
        Ok(stream) => session.set_stream(stream),
        Err(error) => {
            tracing::info!(remote = %session.info.remote, %error, "TLS not started");
            return Err(Stop::Connection(ReadError::Closed));
        }
    }
    // RFC 3207 §4.2: what was said before doesn't count.
    session.hello = None;
    session.transaction = None;
    Ok(None)
}
