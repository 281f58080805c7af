//! UNAUTHENTICATE (RFC 8437): back to the state before login, on the same connection.

use mox_proto::auth::v1::EndSessionRequest;

use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session) -> Outcome {
    let Some(login) = session.forget_login() else {
        return Err(Reply::bad("Log in first").into());
    };
    let request = EndSessionRequest {
        session: login.token.clone(),
    };
    drop(login);
    // A token that is not ended expires.
    let _ = session.shared.auth().end_session(request).await;
    Ok(Reply::ok("Nobody is logged in"))
}
