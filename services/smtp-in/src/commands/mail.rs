//! MAIL (RFC 5321 §4.1.1.2).

use mox_smtp::{MailParams, Path, Reply};

use super::hello::offers_requiretls;
use crate::localserve::Special;
use crate::session::{Session, Stop};
use crate::transaction::Transaction;

pub(super) async fn run(session: &mut Session, path: Option<Path>, params: MailParams) -> Result<Reply, Stop> {
    if session.hello.is_none() {
        return Ok(Reply::new(503, (5, 1), "say EHLO or HELO first"));
    }
    if session.transaction.is_some() {
        return Ok(Reply::new(503, (5, 1), "a transaction has begun already"));
    }
    let listener = &session.place.listener;
    if listener.smtp.require_starttls && session.info.tls.is_none() {
        return Ok(Reply::new(530, (7, 0), "say STARTTLS first"));
    }
    if let Some(refused) = check(session, path.as_ref(), &params) {
        return Ok(refused);
    }
    let most = listener.smtp_max_message_size;
    if params.size.is_some_and(|size| size > most) {
        // RFC 1870 §6.1.
        return Ok(Reply::new(
            552,
            (3, 4),
            format!("a message may have at most {most} bytes"),
        ));
    }
    if session.place.shared.config.localserve.is_some() {
        let localpart = path.as_ref().map_or("", |p| p.localpart.as_str());
        if let Some(special) = Special::of_command(localpart, "mailfrom") {
            return special.reply(session).await;
        }
    }
    session.transaction = Some(Transaction::new(path, params));
    Ok(Reply::new(250, (1, 0), "sender ok"))
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
