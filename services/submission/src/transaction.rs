//! MAIL and RCPT: who a message is from and for.

use mox_proto::queue::v1::EnqueueRecipient;
use mox_smtp::{MailParams, Path, RcptParams, Recipient, Reply};
use mox_submit::{FUTURE_RELEASE, SendError};

use crate::chunks::Chunks;
use crate::limits;
use crate::session::Session;

/// What MAIL and RCPT said.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// "" is the null reverse-path.
    pub mail_from: String,
    pub recipients: Vec<EnqueueRecipient>,
    pub smtputf8: bool,
    pub dsn_ret: String,
    pub dsn_envid: String,
    pub requiretls: bool,
    /// Not to be delivered before, seconds since 1970.
    pub release_at: Option<i64>,
    /// What BDAT brought so far.
    pub chunks: Option<Chunks>,
}

/// What to tell a client about what could not be done.
pub(crate) fn reply_to(error: &SendError) -> Reply {
    let text = error.to_string();
    match error {
        SendError::SessionEnded => Reply::new(421, (7, 0), text),
        SendError::NotAllowed(_) => Reply::new(550, (7, 1), text),
        SendError::Limit(_) => Reply::new(451, (7, 1), text),
        SendError::NoSpace => Reply::new(452, (3, 1), text),
        SendError::Invalid(_) => Reply::new(550, (5, 0), text),
        SendError::Unavailable(_) => Reply::new(451, (3, 0), text),
    }
}

pub(crate) async fn mail(session: &mut Session, path: Option<Path>, params: MailParams) -> Reply {
    if session.ehlo.is_none() {
        return Reply::new(503, (5, 1), "say EHLO first");
    }
    if session.login.is_none() {
        // RFC 4954 §6.
        return Reply::new(530, (7, 0), "log in first");
    }
    if session.transaction.is_some() {
        return Reply::new(503, (5, 1), "there is a transaction already");
    }
    // RFC 8689 §2: what goes on over TLS only has come over TLS. RFC 5248: X.7.10, encryption needed.
    if params.requiretls && session.info.tls.is_none() {
        return Reply::new(530, (7, 10), "REQUIRETLS needs TLS here too: say STARTTLS first");
    }
    let now = session.place.shared.clock.unix_millis().div_euclid(1000);
    let release_at = match params.hold.map(|hold| hold.release_at(now, FUTURE_RELEASE)).transpose() {
        Ok(release_at) => release_at,
        Err(why) => return Reply::new(501, (5, 4), why),
    };
    let most = session.place.listener.smtp_max_message_size;
    if params.size.is_some_and(|size| size > most) {
        return Reply::new(552, (3, 4), format!("a message may have at most {most} bytes"));
    }
    if !session.keep_alive().await {
        session.login = None;
        return Reply::new(530, (7, 0), "the session has ended, log in again");
    }
    let Some(token) = session.login.as_ref().map(|login| login.token.clone()) else {
        return Reply::new(530, (7, 0), "log in first");
    };
    let mail_from = match path {
        // Of notifications that mail programs send; the From field has the user's address still.
        None => String::new(),
        Some(path) => {
            if path.international && !params.smtputf8 {
                return Reply::new(553, (6, 7), "an address that is not ASCII needs SMTPUTF8");
            }
            let Some(address) = path.address() else {
                return Reply::new(550, (7, 1), "the sender address must have a domain");
            };
            match session.place.shared.sender.may_use(&token, &address).await {
                Ok(true) => address.to_string(),
                Ok(false) => return Reply::new(550, (7, 1), format!("{address} is not an address of your account")),
                Err(error) => return reply_to(&error),
            }
        }
    };
    session.transaction = Some(Transaction {
        mail_from,
        recipients: Vec::new(),
        smtputf8: params.smtputf8,
        dsn_ret: params.ret.map(|ret| ret.as_str().to_owned()).unwrap_or_default(),
        dsn_envid: params.envid.unwrap_or_default(),
        requiretls: params.requiretls,
        release_at,
        chunks: None,
    });
    Reply::new(250, (1, 0), "sender ok")
}

pub(crate) fn rcpt(session: &mut Session, recipient: &Recipient, params: &RcptParams) -> Reply {
    let Some(transaction) = &mut session.transaction else {
        return Reply::new(503, (5, 1), "say MAIL first");
    };
    if transaction.chunks.is_some() {
        return Reply::new(503, (5, 1), "the message is being sent with BDAT");
    }
    if transaction.recipients.len() >= limits::RECIPIENTS {
        return Reply::new(
            452,
            (5, 3),
            format!("at most {} recipients at once", limits::RECIPIENTS),
        );
    }
    let Recipient::Path(path) = recipient else {
        return Reply::new(550, (1, 3), "postmaster of which domain?");
    };
    if path.international && !transaction.smtputf8 {
        return Reply::new(553, (6, 7), "an address that is not ASCII needs SMTPUTF8");
    }
    let Some(address) = path.address() else {
        return Reply::new(550, (1, 2), "a recipient must have a domain, not an IP address");
    };
    let address = address.to_string();
    // Twice the same is one delivery.
    if !transaction.recipients.iter().any(|r| r.address == address) {
        transaction.recipients.push(EnqueueRecipient {
            address,
            dsn_notify: params.notify.map(|n| n.to_string()).unwrap_or_default(),
            dsn_orcpt: params.orcpt.as_ref().map(|o| o.as_str().to_owned()).unwrap_or_default(),
        });
    }
    Reply::new(250, (1, 5), "recipient ok")
}
