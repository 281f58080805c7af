//! What comes back for messages that were sent: notifications of other hosts, and whatever else arrives at the address
//! that only one message was sent from.
//!
//! A message is found by the fromid in the address that something came back to, which nobody can guess. Without one, a
//! notification is taken for what it says of a message only if it returned the Message-ID of one that the account sent to
//! the very recipient that it is about, and came as notifications do, without a reverse-path.

use mox_message::delivery_status::{self, Report, Status};
use mox_proto::queue::v1::AttemptResult;
use mox_proto::queue::v1::retired::Reason;
use mox_types::Address;
use mox_webhook::Event;

use super::arrival::Arriving;
use super::{Hooks, Outcome};
use crate::engine::Commit;
use crate::queue::{Queue, QueueError, Sent};

/// Who is named in results as the host that failed: which one it was, only the text of a notification may say.
const REMOTE: &str = "notification";
/// RFC 3463 §2: classes of codes.
const PERMANENT: u32 = 5;

/// What came back.
pub(super) struct Returned {
    sent: Sent,
    event: Event,
    dsn: bool,
    smtp_code: u32,
    enhanced_code: String,
    error: String,
}

impl Hooks {
    /// What a message that arrives says of one that was sent, if it does.
    pub(super) async fn came_back(
        &self,
        queue: &Queue,
        arriving: &Arriving<'_>,
    ) -> Result<Option<Returned>, QueueError> {
        let to = arriving.rcpt_to.parse::<Address>().ok();
        let mut sent = Vec::new();
        for fromid in to.iter().flat_map(|to| fromids(arriving, to)) {
            sent = queue.by_fromid(arriving.account, fromid).await?;
            if !sent.is_empty() {
                break;
            }
        }
        let by_fromid = !sent.is_empty();
        if !(by_fromid || arriving.facts.is_dsn && arriving.message.mail_from.is_empty()) {
            return Ok(None);
        }
        let report = match arriving.facts.is_dsn {
            true => report(arriving).await?,
            false => None,
        };
        if by_fromid {
            let status = report.as_ref().and_then(only);
            let chosen = choose(sent, status);
            return Ok(chosen.map(|sent| describe(sent, report.as_ref(), status)));
        }
        let Some(report) = report else { return Ok(None) };
        let (Some(id), Some(status)) = (&report.returned_message_id, only(&report)) else {
            return Ok(None);
        };
        let sent = queue.by_message_id(arriving.account, id).await?;
        let sent = sent.into_iter().find(|sent| is_about(sent, status));
        Ok(sent.map(|sent| describe(sent, Some(&report), Some(status))))
    }

    /// What follows from it, for the commit that keeps what came back.
    pub(super) async fn on_return(&self, queue: &Queue, returned: &Returned) -> Result<Commit, QueueError> {
        let mut commit = Commit::new();
        let Some(entry) = returned.sent.entry() else {
            return Ok(commit);
        };
        let result = AttemptResult {
            start: self.now(),
            success: matches!(returned.event, Event::Delivered | Event::Relayed | Event::Expanded),
            smtp_code: returned.smtp_code,
            enhanced_code: returned.enhanced_code.clone(),
            error: returned.error.clone(),
            remote_host: REMOTE.to_owned(),
            ..AttemptResult::default()
        };
        let mut suppressing = false;
        if returned.event == Event::Failed && returned.smtp_code / 100 == PERMANENT {
            suppressing = queue.suppress_failed(&mut commit, entry, &result, self.now()).await?;
        }
        if matches!(returned.sent, Sent::Retired(_)) && returned.event != Event::Unrecognized {
            let reason = match returned.event {
                Event::Delivered => Some(Reason::Delivered),
                Event::Relayed | Event::Expanded => Some(Reason::Relayed),
                Event::Failed => Some(Reason::Failed),
                // Another host has it still: nothing is decided.
                _ => None,
            };
            queue.note_retired(&mut commit, entry.id, result, reason).await?;
        }
        let outcome = Outcome {
            event: returned.event,
            entry,
            dsn: returned.dsn,
            suppressing,
            smtp_code: returned.smtp_code,
            enhanced_code: &returned.enhanced_code,
            error: &returned.error,
        };
        self.on_outcome(&mut commit, &outcome).await?;
        tracing::info!(
            entry = entry.id,
            account = entry.account,
            event = %returned.event,
            dsn = returned.dsn,
            suppressing,
            trace = entry.trace_id,
            "something came back for a message"
        );
        Ok(commit)
    }
}

/// What may be the fromid in the address: what follows a separator of its domain.
fn fromids<'a>(arriving: &Arriving<'_>, to: &'a Address) -> Vec<&'a str> {
    let Some(domain) = arriving.config.domains.get(&to.domain) else {
        return Vec::new();
    };
    let localpart = to.localpart.as_str();
    let cut = domain.separators().filter_map(|s| localpart.split_once(s));
    let mut found: Vec<&str> = cut.map(|(_, rest)| rest).filter(|rest| !rest.is_empty()).collect();
    found.dedup();
    found
}

/// Reads a notification. It can be as large as any message, so not on a thread of the runtime.
async fn report(arriving: &Arriving<'_>) -> Result<Option<Report>, QueueError> {
    let bytes = arriving.bytes.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let structure = mox_message::computed(&bytes).structure?;
        delivery_status::parse(&bytes, &structure)
    });
    reading
        .await
        .map_err(|_| QueueError::Engine(crate::engine::EngineError::Closed))
}

/// The recipient that it is about: messages are sent to one each, so that a report of several is not about one of ours.
fn only(report: &Report) -> Option<&Status> {
    match report.recipients.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

fn is_about(sent: &Sent, status: &Status) -> bool {
    let Some(recipient) = sent.entry().map(|entry| entry.recipient.as_str()) else {
        return false;
    };
    [&status.original, &status.recipient]
        .iter()
        .any(|named| same_address(named, recipient))
}

/// Without regard to case: hosts on the way change it.
fn same_address(a: &str, b: &str) -> bool {
    match (a.parse::<Address>(), b.parse::<Address>()) {
        (Ok(a), Ok(b)) => {
            a.domain == b.domain && a.localpart.as_str().to_lowercase() == b.localpart.as_str().to_lowercase()
        }
        _ => !a.is_empty() && a.eq_ignore_ascii_case(b),
    }
}

/// Of those with one fromid, that of the recipient which the report names.
fn choose(mut sent: Vec<Sent>, status: Option<&Status>) -> Option<Sent> {
    let place = status.and_then(|status| sent.iter().position(|sent| is_about(sent, status)));
    match place {
        Some(place) => Some(sent.swap_remove(place)),
        None => sent.into_iter().next(),
    }
}

fn describe(sent: Sent, report: Option<&Report>, status: Option<&Status>) -> Returned {
    let mut returned = Returned {
        sent,
        event: Event::Unrecognized,
        dsn: report.is_some(),
        smtp_code: 0,
        enhanced_code: String::new(),
        error: String::new(),
    };
    if let Some(status) = status {
        returned.event = Event::of_action(&status.action);
        if matches!(returned.event, Event::Failed | Event::Delayed) {
            let (code, rest) = status.codes();
            returned.smtp_code = code;
            if !rest.is_empty() {
                returned.enhanced_code = format!("{}.{rest}", code / 100);
            }
            returned.error.clone_from(&status.diagnostic);
        }
    }
    returned
}

#[cfg(test)]
mod tests {
    use mox_proto::queue::v1::Entry;

    use super::*;

    #[test]
    fn addresses_are_compared_as_hosts_do() {
        assert!(same_address("A@Example.org", "a@example.org"));
        assert!(same_address("jö@straße.example", "jö@xn--strae-oqa.example"));
        assert!(!same_address("", ""));
        assert!(!same_address("a@example.org", "b@example.org"));
    }

    #[test]
    fn what_is_said_of_a_recipient() {
        let sent = || Sent::Queued(Entry::default());
        let status = |action: &str| Status {
            action: action.into(),
            status: "5.1.1".into(),
            smtp_reply: "550 5.1.1 no".into(),
            diagnostic: "550 5.1.1 no".into(),
            ..Status::default()
        };
        let report = Report::default();
        for action in ["failed", "delayed", "delivered", "relayed", "expanded", "what"] {
            let said = describe(sent(), Some(&report), Some(&status(action)));
            assert_eq!(said.event, Event::of_action(action));
            let failure = matches!(action, "failed" | "delayed");
            assert_eq!(
                (said.smtp_code, said.enhanced_code.as_str()),
                if failure { (550, "5.1.1") } else { (0, "") }
            );
            assert!(said.dsn && said.error.is_empty() != failure);
        }
        let said = describe(sent(), None, None);
        assert_eq!((said.event, said.dsn), (Event::Unrecognized, false));
    }
}
