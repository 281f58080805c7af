//! RCPT (RFC 5321 §4.1.1.3): who a recipient is.

use std::sync::Arc;

use mox_proto::delivery::v1::lookup_recipient_response::Kind;
use mox_proto::delivery::v1::{LookupRecipientRequest, LookupRecipientResponse};
use mox_smtp::{RcptParams, Reply};
use tonic::Status;

use crate::localserve::Special;
use crate::session::{Session, Stop};
use crate::transaction::Recipient;
use crate::{Shared, deliver, limits};

/// How deep aliases of aliases are followed. They have local addresses as members, so one level is what is configured.
const ALIAS_DEPTH: usize = 2;

pub(super) async fn run(
    session: &mut Session,
    recipient: &mox_smtp::Recipient,
    params: &RcptParams,
) -> Result<Reply, Stop> {
    let Some(transaction) = &session.transaction else {
        return Ok(Reply::new(503, (5, 1), "say MAIL first"));
    };
    if transaction.accepted >= limits::RECIPIENTS {
        // RFC 5321 §4.5.3.1.10: 452, and the client sends the rest in another transaction.
        return Ok(Reply::new(
            452,
            (5, 3),
            format!("a message may have at most {} recipients", limits::RECIPIENTS),
        ));
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
        Some(address) => resolve(&shared, &rcpt_to, &address, params).await,
        None => Err(not_ours()),
    };
    // In developer's mode there are no unknown recipients.
    let found = match (found, localserve) {
        (Err(reply), Some(address)) if reply.is_permanent() => {
            tracing::debug!(rcpt_to, "unknown recipient, for the developer's address");
            resolve(&shared, &rcpt_to, &address, params).await
        }
        (found, _) => found,
    };
    match found {
        Ok(recipients) => {
            if let Some(transaction) = &mut session.transaction {
                transaction.add(&rcpt_to, recipients);
            }
            Ok(Reply::new(250, (1, 5), "recipient ok"))
        }
        Err(reply) => {
            tracing::info!(remote = %session.info.remote, rcpt_to, %reply, "recipient refused");
            if reply.is_permanent() {
                session.unknown_recipients += 1;
            }
            Ok(reply)
        }
    }
}

fn not_ours() -> Reply {
    Reply::new(
        550,
        (7, 1),
        "this server does not relay mail for the recipient's domain",
    )
}

fn unknown() -> Reply {
    // RFC 3463 §3.2: X.1.1, bad destination mailbox address.
    Reply::new(550, (1, 1), "no such recipient here")
}

/// Everybody who an address stands for.
async fn resolve(shared: &Shared, rcpt_to: &str, address: &str, params: &RcptParams) -> Result<Vec<Recipient>, Reply> {
    let new = |found: LookupRecipientResponse, depth| Recipient {
        is_member: depth > 0,
        rcpt_to: rcpt_to.to_owned(),
        account_id: found.account_id,
        address: found.canonical_address,
        notify: params.notify.map(|n| n.to_string()).unwrap_or_default(),
        orcpt: params.orcpt.as_ref().map(|o| o.as_str().to_owned()).unwrap_or_default(),
    };
    let mut open = vec![(address.to_owned(), 0)];
    let mut recipients = Vec::new();
    let mut refused = None;
    while let Some((address, depth)) = open.pop() {
        let found = lookup(shared, &address)
            .await
            .map_err(|status| deliver::reply_to(&status))?;
        match found.kind() {
            Kind::Account if found.over_quota => {
                refused = Some(Reply::new(452, (2, 2), "the mailbox of the recipient is full"));
            }
            Kind::Account => recipients.push(new(found, depth)),
            Kind::Alias if depth < ALIAS_DEPTH => {
                open.extend(found.alias_members.into_iter().map(|member| (member, depth + 1)));
            }
            Kind::Alias | Kind::Unknown => refused = Some(unknown()),
            Kind::NotLocal => refused = Some(not_ours()),
            Kind::DomainDisabled => {
                refused = Some(Reply::new(450, (2, 1), "the recipient's domain is disabled for now"));
            }
            Kind::Refused => refused = Some(configured(&found.smtp_error)),
        }
    }
    match refused {
        // A member that can't be reached now must not keep the others from getting mail, nor miss it: the sender tries
        // again. One that is gone for good is a mistake of the configuration, which must not refuse mail for the rest.
        Some(reply) if recipients.is_empty() || reply.is_temporary() => Err(reply),
        _ if recipients.is_empty() => Err(unknown()),
        _ => Ok(recipients),
    }
}

async fn lookup(shared: &Shared, address: &str) -> Result<LookupRecipientResponse, Status> {
    let request = LookupRecipientRequest {
        address: address.to_owned(),
    };
    Ok(shared.store.clone().lookup_recipient(request).await?.into_inner())
}

/// A refusal that the destination has in its settings: code, and perhaps an enhanced code, and text.
fn configured(smtp_error: &str) -> Reply {
    let (code, text) = smtp_error.split_once(' ').unwrap_or((smtp_error, ""));
    let code = code.parse().ok().filter(|c| (400..600).contains(c)).unwrap_or(550);
    match text.split_once(' ').map(|(enhanced, rest)| (enhanced.parse(), rest)) {
        Some((Ok(enhanced), rest)) => Reply {
            code,
            enhanced: Some(enhanced),
            text: rest.to_owned().into(),
        },
        _ => Reply::new(code, (2, 1), text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_refusals_are_replies() {
        assert_eq!(configured("421 4.2.1 not now").to_string(), "421 4.2.1 not now");
        assert_eq!(configured("550 no longer used").to_string(), "550 5.2.1 no longer used");
        assert_eq!(configured("nonsense").to_string(), "550 5.2.1 ");
    }
}
