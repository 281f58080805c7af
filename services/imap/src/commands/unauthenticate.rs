//! UNAUTHENTICATE (RFC 8437): back to the state before login, on the same connection.

use mox_imap_proto::cursor::Names;
use mox_proto::auth::v1::EndSessionRequest;

use crate::enabled::Enabled;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session) -> Outcome {
    session.login()?;
    let Some(login) = session.login.take() else {
        return Err(Reply::bad("Log in first").into());
    };
    // RFC 8437 §2: what is selected is left without expunging, and all that was enabled or saved is forgotten; TLS and
    // COMPRESS stay as they are.
    session.selected = None;
    session.enabled = Enabled::default();
    session.names = Names::default();
    session.client_id.clear();
    session.metadata_modseq = None;
    session.own_metadata.clear();
    let token = login.token.clone();
    drop(login);
    // A token that is not ended expires.
    let _ = session
        .shared
        .auth()
        .end_session(EndSessionRequest { session: token })
        .await;
    Ok(Reply::ok("Nobody is logged in"))
}
