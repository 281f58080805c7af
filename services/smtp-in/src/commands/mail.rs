//! MAIL (RFC 5321 §4.1.1.2).

use std::sync::Arc;

use mox_service::Over;
use mox_smtp::{MailParams, Path, PathHost, Reply};

use super::hello::offers_requiretls;
use crate::localserve::Special;
use crate::sender;
use crate::session::{Session, Stop};
use crate::transaction::Transaction;

pub(super) async fn run(session: &mut Session, path: Option<Path>, params: MailParams) -> Result<Reply, Stop> {
    if session.hello.is_none() {
        return Ok(Reply::new(503, (5, 1), "say EHLO or HELO first"));
    }
    if session.transaction.is_some() {
        return Ok(Reply::new(503, (5, 1), "a transaction has begun already"));
    }
    if let Some(refused) = check(session, path.as_ref(), &params) {
        return Ok(refused);
    }
    let most = session.place.listener.smtp_max_message_size;
    if params.size.is_some_and(|size| size > most) {
        // RFC 1870 §6.1.
        return Ok(Reply::new(
            552,
            (3, 4),
            format!("a message may have at most {most} bytes"),
        ));
    }
    let shared = Arc::clone(&session.place.shared);
    if shared.config.localserve.is_some() {
        let localpart = path.as_ref().map_or("", |p| p.localpart.as_str());
        if let Some(special) = Special::of_command(localpart, "mailfrom") {
            return special.reply(session).await;
        }
    }
    let remote = session.info.remote.ip();
    if let Err(over) = shared.rates.check(remote, params.size.unwrap_or(0)) {
        return Ok(put_off(session, over));
    }
    if let (Some(resolver), Some(Path { host, .. })) = (&shared.resolver, &path)
        && let PathHost::Domain(domain) = host
        && let Some(refused) = sender::refused(&**resolver, domain).await
    {
        tracing::info!(%remote, mail_from = ?path.as_ref().map(ToString::to_string), reply = %refused, "sender refused");
        return Ok(refused);
    }
    session.transaction = Some(Transaction::new(path, params));
    Ok(Reply::new(250, (1, 0), "sender ok"))
}

/// The network of the client sends too much.
pub(super) fn put_off(session: &Session, over: Over) -> Reply {
    tracing::info!(remote = %session.info.remote.ip(), limit = over.what, "too much mail from a network");
    session.place.shared.metrics.limited(over.what);
    let text = format!("too many {} from your network, try again later", over.what);
    // RFC 3463 §3.5: X.4.5, mail system congestion.
    Reply::new(451, (4, 5), text)
}

/// What is not possible here: parameters of extensions that were not offered (RFC 5321 §4.1.1.11), and addresses that
/// need one.
fn check(session: &Session, path: Option<&Path>, params: &MailParams) -> Option<Reply> {
    let unknown = |name: &str| Some(Reply::new(555, (5, 4), format!("parameter {name} is not known here")));
    if params.hold.is_some() {
        return unknown("HOLDFOR or HOLDUNTIL");
    }
    if params.auth.is_some() {
        return unknown("AUTH");
    }
    if params.requiretls && !offers_requiretls(session) {
        return unknown("REQUIRETLS");
    }
    if path.is_some_and(|p| p.international) && !params.smtputf8 {
        // RFC 6531 §3.5.
        return Some(Reply::new(550, (6, 7), "the address needs the parameter SMTPUTF8"));
    }
    None
}
