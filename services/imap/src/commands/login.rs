//! LOGIN (RFC 9051 §6.2.3): name and password, checked as SASL PLAIN is.

use crate::commands::authenticate;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, username: &str, password: &str) -> Outcome {
    if session.login.is_some() {
        return Err(Reply::bad("You are logged in already").into());
    }
    if !session.may_log_in() {
        return Err(Reply::no("Start TLS before logging in").code("PRIVACYREQUIRED").into());
    }
    // RFC 4616 §2: NUL parts the fields, so it is in none.
    if username.contains('\0') || password.contains('\0') {
        return Err(Reply::bad("Names and passwords have no NUL").into());
    }
    let response = format!("\0{username}\0{password}");
    authenticate::exchange(session, "PLAIN", Some(response.into_bytes())).await
}
