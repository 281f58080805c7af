//! The notification to a sender that some recipients did not get a message, while others did (RFC 5321 §4.2.5: the reply
//! is one for all), and of those who got it, if that was asked for (RFC 3461 §4.1). It goes into the queue with the null
//! reverse-path, by the commit that delivers the message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mox_config::Lookup;
use mox_message::dsn::{self, Action, Dsn, Recipient, Return};
use mox_proto::delivery::v1::NotifiedRecipient;
use mox_types::Address;
use tonic::Status;

use super::Delivery;
use crate::content::INLINE_BYTES;
use crate::engine::Commit;
use crate::queue::Outgoing;

/// Octets of a line of a reply that a notification repeats (RFC 5321 §4.5.3.1.5).
const TEXT_MAX: usize = 512;

/// What there is to tell, and to whom.
pub(super) struct Notice {
    pub mail_from: String,
    pub smtputf8: bool,
    pub envid: String,
    pub ret: String,
    pub trace_id: String,
    /// When the message arrived, in seconds since 1970.
    pub arrival: i64,
    /// Who tells.
    pub hostname: String,
    pub notified: Vec<NotifiedRecipient>,
}

impl Delivery {
    /// What to commit with the deliveries, if there is anything to tell, and anybody to tell it to.
    pub(super) async fn notification(&self, notice: &Notice, message: &[u8]) -> Result<Option<Commit>, Status> {
        let told: Vec<&NotifiedRecipient> = notice.notified.iter().filter(|told| wants(told)).collect();
        let (Some(queue), false) = (&self.queue, told.is_empty()) else {
            return Ok(None);
        };
        // A notification must not cause others (RFC 5321 §6.1).
        let Ok(to) = notice.mail_from.parse::<Address>() else {
            return Ok(None);
        };
        let committed = self.registry.current();
        let Lookup::Account(postmaster) = committed.dynamic.postmaster() else {
            tracing::warn!(%to, "nobody is the postmaster, so a sender is not told that a message was not delivered to all");
            return Ok(None);
        };
        let Some(account) = committed.id(postmaster.account) else {
            return Err(Status::unavailable("the postmaster's account is being set up"));
        };
        let name = postmaster.account.to_owned();
        let content = compose(notice, &told, message);
        let queued = queue.outgoing(Outgoing {
            account,
            name,
            to: &to,
            smtputf8: notice.smtputf8 && !content.is_ascii(),
            eight_bit: !content.is_ascii(),
            content: content.into(),
            subject: if told.iter().any(|told| action(told) == Action::Failed) {
                "Mail could not be delivered"
            } else {
                "Mail was delivered"
            },
            trace_id: &notice.trace_id,
        });
        Ok(Some(queued.await?))
    }
}

/// What became of the message for a recipient.
fn action(told: &NotifiedRecipient) -> Action {
    match (told.smtp_code / 100, told.expanded) {
        (2, false) => Action::Delivered,
        (2, true) => Action::Expanded,
        _ => Action::Failed,
    }
}

/// RFC 3461 §4.1: without NOTIFY, of failures.
fn wants(told: &NotifiedRecipient) -> bool {
    let failed = action(told) == Action::Failed;
    let event = if failed { "FAILURE" } else { "SUCCESS" };
    let mut words = told.dsn_notify.split(',');
    (failed && told.dsn_notify.is_empty()) || words.any(|word| word.eq_ignore_ascii_case(event))
}

fn compose(notice: &Notice, told: &[&NotifiedRecipient], message: &[u8]) -> Vec<u8> {
    let seconds = u64::try_from(notice.arrival).unwrap_or(0);
    let arrival: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds);
    // RFC 3461 §4.3: all of it if it was asked for, and is not so large that nobody wants it back.
    let whole = notice.ret.eq_ignore_ascii_case("FULL") && message.len() <= INLINE_BYTES;
    let replies: Vec<(String, String)> = told.iter().map(|one| reply(one)).collect();
    let recipients = told.iter().zip(&replies);
    dsn::compose(&Dsn {
        hostname: &notice.hostname,
        to: &notice.mail_from,
        at: arrival,
        arrival,
        envid: &notice.envid,
        smtputf8: notice.smtputf8,
        original: message,
        ret: if whole { Return::Full } else { Return::Headers },
        recipients: recipients
            .map(|(one, (status, diagnostic))| Recipient {
                address: &one.rcpt_to,
                orcpt: &one.dsn_orcpt,
                action: action(one),
                status,
                remote_mta: "",
                diagnostic,
                is_smtp_reply: !diagnostic.is_empty(),
                last_attempt: None,
                retry_until: None,
            })
            .collect(),
    })
}

/// Status and what the reply would have been, had it been for this recipient alone. It is not tried again, whatever the
/// reply says of that.
fn reply(told: &NotifiedRecipient) -> (String, String) {
    let status = match told.enhanced_code.as_str() {
        "" => "5.0.0",
        code => code,
    };
    let line = told.text.lines().next().unwrap_or_default();
    let line = &line[..line.floor_char_boundary(TEXT_MAX)];
    if action(told) != Action::Failed {
        return (status.to_owned(), String::new());
    }
    (status.to_owned(), format!("{} {status} {line}", told.smtp_code))
}
