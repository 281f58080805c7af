//! What is asked about MAIL FROM before there is a message.

use std::sync::Arc;

use mox_dns::{MailHostsError, Resolver, host_addresses, mail_hosts};
use mox_mailauth::spf;
use mox_smtp::Reply;
use mox_types::Domain;
use tokio::time::{Instant, timeout};

use crate::analyze::{Client, Question};
use crate::limits;
use crate::session::Session;

/// Why mail from this domain is not taken: no answer to it could ever be sent. None if one could.
pub(crate) async fn refused(resolver: &dyn Resolver, domain: &Domain) -> Option<Reply> {
    let found = async {
        let hosts = mail_hosts(resolver, domain, 0).await?;
        if hosts.implicit {
            // RFC 5321 §5.1: without MX records, the domain's address is where its mail goes.
            host_addresses(resolver, domain.ascii()).await?;
        }
        Ok::<_, MailHostsError>(())
    };
    match timeout(limits::SENDER_LOOKUP, found).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) if !error.is_temporary() => {
            tracing::debug!(%domain, %error, "nothing could be sent back to the sender");
            // RFC 7505 §4.2: X.7.27, sender address has null MX.
            Some(Reply::new(
                550,
                (7, 27),
                format!("the sender's domain {domain} does not take mail, so nothing could be sent back"),
            ))
        }
        Ok(Err(error)) => {
            tracing::debug!(%domain, %error, "asking for the mail hosts of the sender's domain");
            Some(later(domain))
        }
        Err(_) => Some(later(domain)),
    }
}

fn later(domain: &Domain) -> Reply {
    // RFC 3463 §3.5: X.4.3, directory server failure.
    Reply::new(
        451,
        (4, 3),
        format!("DNS does not tell now whether the sender's domain {domain} takes mail, try again later"),
    )
}

/// Whether MAIL FROM is from who it says, so that notifications can be sent to it: SPF passes. Asked once.
pub(crate) async fn is_believable(session: &mut Session) -> bool {
    let shared = Arc::clone(&session.place.shared);
    // In developer's mode nobody is asked.
    let Some(resolver) = &shared.resolver else { return true };
    let client = Client::of(session);
    let Some(transaction) = &session.transaction else {
        return false;
    };
    let known = transaction.spf.as_ref().map(|verdict| verdict.outcome);
    let outcome = match known {
        Some(outcome) => outcome,
        None => {
            let question = Question::new(&client, transaction);
            let checked = question.mail_from(resolver, Instant::now() + limits::SENDER_SPF).await;
            let Some(verdict) = checked else { return false };
            let outcome = verdict.outcome;
            if let Some(transaction) = &mut session.transaction {
                transaction.spf = Some(verdict);
            }
            outcome
        }
    };
    outcome == spf::Outcome::Pass
}
