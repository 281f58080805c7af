//! One group from lease to outcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use mox_proto::queue::v1::{CompleteRequest, Lease};
use mox_proto::report::v1::TlsResult;
use mox_service::Shutdown;
use mox_types::Address;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::attempt::{Mail, Recipient, Report, attempt};
use crate::content::Content;
use crate::group::{Claim, Group};
use crate::outcome::{self, Made};
use crate::route::Destination;
use crate::verdict::{Failure, Verdict};
use crate::worker::Worker;

/// How long a delivery that took place is told to a store that does not answer.
const TELL_DELIVERY: Duration = Duration::from_secs(10 * 60);
/// The same of other outcomes: afterwards the lease is gone.
const TELL_OTHER: Duration = Duration::from_secs(25);
/// Between times of telling; doubles up to the second.
const TELL_PAUSE: Duration = Duration::from_millis(200);
const TELL_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Outcomes of one group that are told at the same time.
const TELL_AT_ONCE: usize = 50;
/// What finds its host with as many of our sessions as it may have goes back to the queue for so long, and up to as long
/// again.
const BUSY_DELAY_MILLIS: i64 = 5000;
/// When the process ends, how long the answer to the end of a message is waited for: without it, it will be sent twice.
const LAST_ANSWER: Duration = Duration::from_secs(3);

/// What an attempt came to, which the store is still to be told of.
pub(crate) struct Attempted {
    claims: Vec<Claim>,
    verdicts: Vec<Verdict>,
    made: Made,
    content: Content,
    tls: Vec<TlsResult>,
}

impl Worker {
    /// Delivers a group. Answers whether a host was reached, and what the store is to be told of, if anything is left to
    /// tell: the way to the destination is free for the next group meanwhile.
    pub(crate) async fn deliver(
        &self,
        destination: &Destination,
        group: Group,
        shutdown: &Shutdown,
    ) -> (bool, Option<Attempted>) {
        let inner = self.inner();
        let leases: Vec<Lease> = group.claims.iter().map(|c| c.lease).collect();
        // It may have waited in its lane for long.
        if !inner.leases.safe(&leases) {
            for claim in &group.claims {
                self.release(claim, 0).await;
            }
            return (true, None);
        }
        let mail = match self.mail(&group) {
            Ok(mail) => mail,
            Err(failure) => {
                self.settle(group, Verdict::Failed(failure), shutdown).await;
                return (true, None);
            }
        };
        let transport = match destination {
            Destination::Domain { transport, .. } => transport.as_deref(),
            Destination::Transport(name) => Some(name.as_str()),
        };
        let transport = transport.and_then(|name| inner.fixed.transports.get(name));
        let start = inner.clock.unix_millis();
        let sent = AtomicBool::new(false);
        let safe = || inner.leases.safe(&leases);
        let attempt = attempt(&inner.outside, destination, transport, &mail, &safe, &sent);
        let last_moment = async {
            shutdown.deadline().await;
            if sent.load(Ordering::SeqCst) {
                sleep(LAST_ANSWER).await;
            }
        };
        let report = tokio::select! {
            report = attempt => report,
            () = last_moment => {
                // What was sent without an answer keeps its lease: nobody else should be quick to send it again.
                if !sent.load(Ordering::SeqCst) {
                    for claim in &group.claims {
                        self.release(claim, 0).await;
                    }
                }
                return (false, None);
            }
        };
        let made = Made {
            start,
            end: inner.clock.unix_millis(),
            remote_host: report.remote_host.clone(),
            dialed: report.dialed.clone(),
        };
        inner.metrics.took(made.end - made.start);
        for result in &report.tls {
            let kinds: Vec<&str> = result.failures.iter().map(|f| f.result_type().as_str_name()).collect();
            tracing::debug!(
                domain = result.recipient_domain,
                policy = result.policy_type().as_str_name(),
                policy_domain = result.policy_domain,
                succeeded = result.success_count,
                failed = result.failure_count,
                kinds = kinds.join(" "),
                "what TLS led to"
            );
        }
        let reached = reached(&report);
        let attempted = Attempted {
            claims: group.claims,
            verdicts: report.verdicts,
            made,
            content: mail.content,
            tls: report.tls,
        };
        (reached, Some(attempted))
    }

    /// Tells the store of an attempt.
    pub(crate) async fn tell_of(&self, attempted: Attempted) {
        let Attempted {
            claims,
            verdicts,
            made,
            content,
            tls,
        } = attempted;
        self.tell(&claims, &verdicts, &made, &content, tls).await;
    }

    /// Tells the store of a verdict that needed no attempt.
    pub(crate) async fn settle(&self, group: Group, verdict: Verdict, shutdown: &Shutdown) {
        let now = self.inner().clock.unix_millis();
        let made = Made {
            start: now,
            end: now,
            remote_host: String::new(),
            dialed: Vec::new(),
        };
        let verdicts = vec![verdict; group.claims.len()];
        if let Some(content) = self.content(&group) {
            tokio::select! {
                () = self.tell(&group.claims, &verdicts, &made, &content, Vec::new()) => {}
                () = shutdown.deadline() => {}
            }
        }
    }

    fn content(&self, group: &Group) -> Option<Content> {
        let entry = &group.claims.first()?.entry;
        let inner = self.inner();
        Some(Content::new(
            inner.store.clone(),
            inner.budget.clone(),
            entry.id,
            entry.prefix.clone(),
            entry.size,
        ))
    }

    fn mail(&self, group: &Group) -> Result<Mail, Failure> {
        // RFC 3463 §3.2: bad sender's, and bad destination, mailbox address syntax.
        let bad = |what, e: mox_types::AddressError| Failure::ours(true, (1, what), e.to_string());
        let none = || Failure::ours(true, (3, 0), "there is no recipient");
        let entry = &group.claims.first().ok_or_else(none)?.entry;
        let mail_from = match entry.mail_from.as_str() {
            "" => None,
            text => Some(text.parse::<Address>().map_err(|e| bad(7, e))?),
        };
        let mut recipients = Vec::with_capacity(group.claims.len());
        for claim in &group.claims {
            recipients.push(Recipient {
                address: claim.entry.recipient.parse().map_err(|e| bad(3, e))?,
                notify: claim.entry.dsn_notify.clone(),
                orcpt: claim.entry.dsn_orcpt.clone(),
            });
        }
        Ok(Mail {
            mail_from,
            recipients,
            eight_bit: entry.eight_bit,
            smtputf8: entry.smtputf8,
            requiretls: entry.requiretls(),
            ret: entry.dsn_ret.clone(),
            envid: entry.dsn_envid.clone(),
            content: self.content(group).ok_or_else(none)?,
        })
    }

    async fn tell(&self, claims: &[Claim], verdicts: &[Verdict], made: &Made, content: &Content, tls: Vec<TlsResult>) {
        let inner = self.inner();
        let needed = claims
            .iter()
            .zip(verdicts)
            .any(|(claim, v)| outcome::needs_content(&claim.entry, v));
        if needed && let Err(error) = content.load().await {
            tracing::info!(%error, "notification is without the message");
        }
        // One session was made for all of them, so one of them tells of it. RFC 8460 §5.3: not those that are reports.
        let not_made = |verdict: &Verdict| matches!(verdict, Verdict::Abandoned | Verdict::Busy);
        let is_left = |(claim, verdict): (&Claim, &Verdict)| !claim.entry.tls_report && !not_made(verdict);
        let teller = claims.iter().zip(verdicts).position(is_left);
        let tls = &tls;
        // The same for all of them, so that they go in one transaction the next time, too.
        let share = (inner.random)() as f64 / u64::MAX as f64;
        let busy_delay = BUSY_DELAY_MILLIS + (share * BUSY_DELAY_MILLIS as f64) as i64;
        let told = claims
            .iter()
            .zip(verdicts)
            .enumerate()
            .map(|(n, (claim, verdict))| async move {
                self.log(claim, verdict, made);
                let random = (inner.random)() as f64 / u64::MAX as f64;
                let hostname = &inner.outside.hostname;
                let request = outcome::outcome(hostname, &claim.entry, claim.lease, verdict, made, content, random);
                if let Some(mut request) = request {
                    if teller == Some(n) {
                        request.tls_results.clone_from(tls);
                    }
                    let long = matches!(verdict, Verdict::Delivered { .. });
                    self.complete(request, if long { TELL_DELIVERY } else { TELL_OTHER })
                        .await;
                    inner.leases.remove(claim.lease);
                } else {
                    // Not sent: if it is ours still, it can be tried again at once, or when the host may have room.
                    let later = if *verdict == Verdict::Busy { busy_delay } else { 0 };
                    self.release(claim, later).await;
                }
            });
        // Together, so that the store can keep many of them at once.
        let told = futures::stream::iter(told.collect::<Vec<_>>());
        told.buffer_unordered(TELL_AT_ONCE).collect::<Vec<()>>().await;
    }

    fn log(&self, claim: &Claim, verdict: &Verdict, made: &Made) {
        let Claim { entry, lease } = claim;
        let host = &made.remote_host;
        let result = match verdict {
            Verdict::Delivered { text, .. } => {
                tracing::info!(
                    entry = entry.id,
                    recipient = entry.recipient,
                    host,
                    reply = text,
                    trace = entry.trace_id,
                    "delivered"
                );
                "delivered"
            }
            Verdict::Failed(failure) => {
                tracing::info!(
                    entry = entry.id,
                    recipient = entry.recipient,
                    host,
                    attempts = entry.attempts + 1,
                    permanent = failure.permanent,
                    reason = failure.text,
                    trace = entry.trace_id,
                    "not delivered"
                );
                if failure.permanent { "failed" } else { "delayed" }
            }
            Verdict::Abandoned => {
                tracing::info!(entry = entry.id, attempt = lease.attempt, "lease was lost, not sent");
                "abandoned"
            }
            Verdict::Busy => {
                tracing::debug!(
                    entry = entry.id,
                    host,
                    "host has as many sessions as it may, tried again soon"
                );
                "postponed"
            }
        };
        self.inner().metrics.result(result);
    }

    /// Tells the store of an outcome until it has heard it.
    async fn complete(&self, mut request: CompleteRequest, long: Duration) {
        let end = Instant::now() + long;
        let mut pause = TELL_PAUSE;
        loop {
            let Err(status) = self.inner().store.clone().complete(request.clone()).await else {
                return;
            };
            let entry = request.lease.map(|l| l.id);
            let hopeless = matches!(
                status.code(),
                Code::InvalidArgument | Code::FailedPrecondition | Code::DataLoss
            );
            if hopeless && !request.dsn.is_empty() {
                tracing::error!(
                    entry,
                    error = status.message(),
                    "store refuses a notification: sender gets none"
                );
                request.dsn.clear();
                request.key = mox_rpc::key();
                continue;
            }
            if hopeless || Instant::now() + pause > end {
                tracing::error!(
                    entry,
                    error = status.message(),
                    "store was not told of the outcome of an attempt"
                );
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(TELL_PAUSE_MAX);
        }
    }
}

/// Whether a host has answered as mail hosts do.
fn reached(report: &Report) -> bool {
    report.verdicts.iter().any(|verdict| match verdict {
        Verdict::Delivered { .. } => true,
        Verdict::Failed(failure) => failure.code != 0 || failure.permanent,
        Verdict::Abandoned | Verdict::Busy => false,
    })
}
