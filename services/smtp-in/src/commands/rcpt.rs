//! RCPT (RFC 5321 §4.1.1.3): who a recipient is.
//!
//! Nothing is told about which addresses of our domains exist before the client has sent a message: unknown ones are
//! accepted, and refused with the message. If others get it nevertheless, the sender gets a notification. So that
//! nobody else does, there is one recipient only for who SPF does not show to be the sender, and for notifications: a
//! client sends the others in transactions of their own.

use std::sync::Arc;

use mox_proto::delivery::v1::lookup_recipient_response::Kind;
use mox_proto::delivery::v1::{LookupRecipientRequest, LookupRecipientResponse};
use mox_smtp::{RcptParams, Reply};
use tonic::Status;

use crate::localserve::Special;
use crate::reports::Expected;
use crate::session::{Session, Stop};
use crate::transaction::{Account, List, Rcpt, Who};
use crate::{Shared, deliver, limits, sender};

/// An address of ours, as far as it is known.
#[derive(Default)]
struct Found {
    who: Option<Who>,
    /// Reports that arrive there; of TLS also those that say that it does not work.
    reports: Expected,
    /// No mail for it now.
    refused: Option<Reply>,
}

pub(super) async fn run(
    session: &mut Session,
    recipient: &mox_smtp::Recipient,
    params: &RcptParams,
) -> Result<Reply, Stop> {
    let Some(transaction) = &session.transaction else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    if transaction.chunks.is_some() {
        return Ok(Reply::new(503, (5, 1), "the message is being sent with BDAT"));
    }
    if transaction.rcpts.len() >= limits::RECIPIENTS {
        return Ok(too_many(format!(
            "a message may have at most {} recipients",
            limits::RECIPIENTS
        )));
    }
    let shared = Arc::clone(&session.place.shared);
    let localserve = shared.config.localserve.as_ref().map(|l| l.address.to_string());
    let (rcpt_to, wanted) = match recipient {
        mox_smtp::Recipient::Postmaster => ("postmaster".to_owned(), Some("postmaster".to_owned())),
        mox_smtp::Recipient::Path(path) => {
            if path.international && !transaction.params.smtputf8 {
                return Ok(Reply::new(550, (6, 7), "the address needs the parameter SMTPUTF8"));
            }
            if localserve.is_some()
                && let Some(special) = Special::of_command(path.localpart.as_str(), "rcptto")
            {
                return special.reply(session).await;
            }
            (path.to_string(), path.address().map(|a| a.to_string()))
        }
    };
    // An address literal names a host, and we have no mail for hosts.
    let found = match wanted {
        Some(address) => resolve(&shared, &address).await,
        None => Err(not_ours()),
    };
    // In developer's mode there are no unknown recipients.
    let found = match (found, localserve) {
        (found, Some(address)) if is_nobody(&found) => {
            tracing::debug!(rcpt_to, "unknown recipient, for the developer's address");
            resolve(&shared, &address).await
        }
        (found, _) => found,
    };
    let reply = match found {
        Ok(found) => accept(session, found, &rcpt_to, params).await,
        Err(reply) => {
            if reply.is_permanent() {
                session.unknown_recipients += 1;
            }
            reply
        }
    };
    if !reply.is_success() {
        tracing::info!(remote = %session.info.remote, rcpt_to, %reply, "recipient refused");
    }
    Ok(reply)
}

fn is_nobody(found: &Result<Found, Reply>) -> bool {
    match found {
        Ok(found) => matches!(found.who, Some(Who::Nobody)),
        Err(reply) => reply.is_permanent(),
    }
}

/// What the transaction allows for an address of ours.
async fn accept(session: &mut Session, found: Found, rcpt_to: &str, params: &RcptParams) -> Reply {
    let Some(transaction) = &session.transaction else {
        return Reply::new(503, (5, 1), "say MAIL first");
    };
    let (others, is_null) = (!transaction.rcpts.is_empty(), transaction.mail_from.is_none());
    let copies = transaction.copies();
    if session.place.listener.smtp.require_starttls && session.info.tls.is_none() && !found.reports.tls {
        // RFC 8460 §3: reports about failing TLS must arrive without.
        return Reply::new(530, (7, 0), "say STARTTLS first");
    }
    if others && is_null && session.place.shared.resolver.is_some() {
        return too_many("a notification has one recipient");
    }
    if others && !sender::is_believable(session).await {
        return too_many("one recipient at a time, as SPF does not show that the sender is who it says");
    }
    if let Some(refused) = found.refused {
        return refused;
    }
    let who = found.who.unwrap_or(Who::Nobody);
    if let Who::List(list) = &who
        && copies > 0
        && copies + list.members.len() > limits::RECIPIENTS
    {
        return too_many("too many members of lists together");
    }
    if let Some(transaction) = &mut session.transaction {
        transaction.reports.push(found.reports);
        transaction.add(Rcpt {
            rcpt_to: rcpt_to.to_owned(),
            notify: params.notify.map(|n| n.to_string()).unwrap_or_default(),
            orcpt: params.orcpt.as_ref().map(|o| o.as_str().to_owned()).unwrap_or_default(),
            who,
        });
    }
    Reply::new(250, (1, 5), "recipient ok")
}

/// RFC 5321 §4.5.3.1.10: 452, and the client sends the rest in another transaction.
fn too_many(text: impl Into<std::borrow::Cow<'static, str>>) -> Reply {
    Reply::new(452, (5, 3), text)
}

fn not_ours() -> Reply {
    Reply::new(
        550,
        (7, 1),
        "this server does not relay mail for the recipient's domain",
    )
}

/// Who an address stands for.
async fn resolve(shared: &Shared, address: &str) -> Result<Found, Reply> {
    let answer = lookup(shared, address)
        .await
        .map_err(|status| deliver::reply_to(&status))?;
    let mut found = Found {
        reports: Expected {
            dmarc: answer.dmarc_reports,
            tls: answer.tls_reports,
        },
        ..Found::default()
    };
    match answer.kind() {
        Kind::Account if answer.over_quota => {
            found.refused = Some(Reply::new(452, (2, 2), "the mailbox of the recipient is full"));
        }
        Kind::Account => found.who = Some(Who::Account(account(answer))),
        Kind::Alias => {
            let mut members = Vec::with_capacity(answer.alias_members.len());
            for member in &answer.alias_members {
                let member = lookup(shared, member)
                    .await
                    .map_err(|status| deliver::reply_to(&status))?;
                // A member that gets nothing now must not keep the others from their mail.
                match member.kind() {
                    Kind::Account if !member.over_quota => members.push(account(member)),
                    kind => tracing::info!(list = address, ?kind, "a member of a list can't get mail now"),
                }
            }
            found.who = Some(match members.is_empty() {
                true => Who::Nobody,
                false => Who::List(List {
                    members,
                    is_public: answer.alias_post_public,
                }),
            });
        }
        Kind::Unknown => found.who = Some(Who::Nobody),
        Kind::NotLocal => return Err(not_ours()),
        Kind::DomainDisabled => {
            found.refused = Some(Reply::new(450, (2, 1), "the recipient's domain is disabled for now"));
        }
        Kind::Refused => found.refused = Some(configured(&answer.smtp_error)),
    }
    Ok(found)
}

fn account(answer: LookupRecipientResponse) -> Account {
    Account {
        id: answer.account_id,
        address: answer.canonical_address,
    }
}

/// Who an address is.
pub(crate) async fn lookup(shared: &Shared, address: &str) -> Result<LookupRecipientResponse, Status> {
    let request = LookupRecipientRequest {
        address: address.to_owned(),
    };
    Ok(shared.store.clone().lookup_recipient(request).await?.into_inner())
}

/// A refusal that the destination has in its settings: code, and perhaps an enhanced code, and text.
fn configured(smtp_error: &str) -> Reply {
    let (code, text) = smtp_error.split_once(' ').unwrap_or((smtp_error, ""));
    let code = code.parse().ok().filter(|c| (400..600).contains(c)).unwrap_or(550);
    let (enhanced, text) = match text.split_once(' ').map(|(enhanced, rest)| (enhanced.parse(), rest)) {
        Some((Ok(enhanced), rest)) => (Some(enhanced), rest),
        _ => (None, text),
    };
    let text = if text.is_empty() {
        "no mail is taken for this recipient"
    } else {
        text
    };
    match enhanced {
        Some(_) => Reply {
            code,
            enhanced,
            text: text.to_owned().into(),
        },
        None => Reply::new(code, (2, 1), text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_refusals_are_replies() {
        assert_eq!(configured("421 4.2.1 not now").to_string(), "421 4.2.1 not now");
        assert_eq!(configured("550 no longer used").to_string(), "550 5.2.1 no longer used");
        for code in ["nonsense", "550"] {
            assert_eq!(
                configured(code).to_string(),
                "550 5.2.1 no mail is taken for this recipient"
            );
        }
    }
}
