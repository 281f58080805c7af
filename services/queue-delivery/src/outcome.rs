//! From the verdict on an entry to what the store is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mox_message::dsn::{self, Action, Dsn, Return};
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::{AttemptResult, CompleteRequest, Entry, Lease};

use crate::content::Content;
use crate::schedule::{self, Next};
use crate::verdict::{Failure, Verdict};

/// Of a message that failed as much comes back; of a larger one, the header.
const RETURN_MAX: u64 = 1 << 20;
/// Of a message of which the header comes back, as much is looked at for it.
const HEADER_MAX: usize = 256 << 10;

/// What an attempt tells of itself.
pub struct Made {
    /// Milliseconds since 1970.
    pub start: i64,
    /// Milliseconds since 1970.
    pub end: i64,
    /// The host that answered last.
    pub remote_host: String,
    /// Addresses that were dialed.
    pub dialed: Vec<String>,
}

/// RFC 3461 §4.1: what the sender wants to be told of.
fn wants(entry: &Entry, event: &str) -> bool {
    // A notification never causes another (RFC 5321 §4.5.5).
    if entry.dsn || entry.mail_from.is_empty() {
        return false;
    }
    if entry.dsn_notify.is_empty() {
        // RFC 3461 §4.1: without NOTIFY, failures, and delays at the server's choice.
        return event != "SUCCESS";
    }
    entry
        .dsn_notify
        .split(',')
        .any(|wanted| wanted.trim().eq_ignore_ascii_case(event))
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// What the store is told of an attempt on an entry; `None` if the entry is no longer ours. `random` is from 0 to 1.
/// A notification needs the message loaded, as far as it goes without.
#[must_use]
pub fn outcome(
    hostname: &str,
    entry: &Entry,
    lease: Lease,
    verdict: &Verdict,
    made: &Made,
    content: &Content,
    random: f64,
) -> Option<CompleteRequest> {
    let mut request = CompleteRequest {
        key: mox_rpc::key(),
        lease: Some(lease),
        result: Some(result(verdict, made)),
        ..CompleteRequest::default()
    };
    let report = |action, failure: Option<&Failure>, until| {
        notification(hostname, entry, action, failure, until, made, content).into()
    };
    match verdict {
        Verdict::Abandoned | Verdict::Busy => return None,
        Verdict::Delivered { dsn, .. } => {
            request.set_outcome(Outcome::Delivered);
            request.relayed = !dsn && wants(entry, "SUCCESS");
            // RFC 3461 §5.2.2 (b): a host that sends no notifications was handed the message.
            if request.relayed {
                request.dsn = report(Action::Relayed, None, None);
            }
        }
        Verdict::Failed(failure) => {
            let start = entry
                .release_at
                .map_or(entry.queued, |at| entry.queued.max(at.saturating_mul(1000)));
            let next = match failure.permanent {
                true => Next::GiveUp,
                false => schedule::next(entry.attempts + 1, start, made.end, random),
            };
            match next {
                Next::GiveUp => {
                    request.set_outcome(Outcome::Failed);
                    if wants(entry, "FAILURE") {
                        request.dsn = report(Action::Failed, Some(failure), None);
                    }
                }
                Next::Retry { at, notify } => {
                    request.set_outcome(Outcome::Retry);
                    request.next_attempt = at;
                    if notify && wants(entry, "DELAY") {
                        request.dsn = report(Action::Delayed, Some(failure), Some(time(schedule::end(start))));
                    }
                }
            }
        }
    }
    Some(request)
}

/// Whether the verdict on an entry may lead to a notification, for which the message is needed.
#[must_use]
pub fn needs_content(entry: &Entry, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Abandoned | Verdict::Busy => false,
        Verdict::Delivered { dsn, .. } => !dsn && wants(entry, "SUCCESS"),
        Verdict::Failed(_) => wants(entry, "FAILURE") || wants(entry, "DELAY"),
    }
}

fn result(verdict: &Verdict, made: &Made) -> AttemptResult {
    let mut result = AttemptResult {
        start: made.start,
        duration: (made.end - made.start).max(0),
        remote_host: made.remote_host.clone(),
        dialed: made.dialed.clone(),
        ..AttemptResult::default()
    };
    match verdict {
        Verdict::Delivered { code, .. } => {
            result.success = true;
            result.smtp_code = u32::from(*code);
        }
        Verdict::Failed(failure) => {
            result.smtp_code = u32::from(failure.code);
            result.enhanced_code = failure.enhanced.to_string();
            result.error.clone_from(&failure.text);
        }
        Verdict::Abandoned | Verdict::Busy => {}
    }
    result
}

fn notification(
    hostname: &str,
    entry: &Entry,
    action: Action,
    failure: Option<&Failure>,
    retry_until: Option<SystemTime>,
    made: &Made,
    content: &Content,
) -> Vec<u8> {
    // RFC 3461 §4.3: RET=FULL is a wish; without RET it is the server's choice.
    let full = entry.dsn_ret.eq_ignore_ascii_case("FULL") && action == Action::Failed && entry.size <= RETURN_MAX;
    let original = content.beginning(if full { usize::MAX } else { HEADER_MAX });
    let status = match failure {
        None => "2.0.0".to_owned(),
        Some(failure) => {
            // A message that was given up has a failure of class 5, whatever the last attempt's was (RFC 3463 §2).
            let class = if action == Action::Failed { 5 } else { 4 };
            mox_smtp::Enhanced(class, failure.enhanced.1, failure.enhanced.2).to_string()
        }
    };
    let reply = failure.map(|f| f.reply.as_str()).filter(|reply| !reply.is_empty());
    dsn::compose(&Dsn {
        hostname,
        to: &entry.mail_from,
        at: time(made.end),
        arrival: time(entry.queued),
        envid: &entry.dsn_envid,
        smtputf8: entry.smtputf8,
        original: &original,
        ret: if full { Return::Full } else { Return::Headers },
        recipients: vec![dsn::Recipient {
            address: &entry.recipient,
            orcpt: &entry.dsn_orcpt,
            action,
            status: &status,
            // RFC 3464 §2.3.5: not if no other host has a part in the outcome. For success, one has taken the message.
            remote_mta: if failure.is_none() || reply.is_some() {
                &made.remote_host
            } else {
                ""
            },
            diagnostic: reply.or(failure.map(|f| f.text.as_str())).unwrap_or_default(),
            is_smtp_reply: reply.is_some(),
            last_attempt: Some(time(made.start)),
            retry_until,
        }],
    })
}
