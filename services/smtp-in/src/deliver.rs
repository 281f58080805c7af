//! From a message that was received to one that is kept: upload, assess, deliver.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mox_proto::delivery::v1::{
    AssessRequest, DeliverRequest, DeliverResponse, Delivery, Envelope, NotifiedRecipient, Recipient, UploadRequest,
    Validation, Verdict,
};
use mox_proto::mail::v1::Content;
use mox_proto::mail::v1::content::Where;
use mox_rpc::INLINE_CONTENT_BYTES;
use mox_smtp::Reply;
use mox_spool::{Excerpt, Message};
use tonic::{Code, Status};

use crate::analyze::{self, Client, Findings};
use crate::commands::rcpt;
use crate::outcome::Outcomes;
use crate::session::{Place, Session, Stop};
use crate::transaction::{self, Transaction, Who};
use crate::{Shared, decision, foreign, limits, trace};

/// Delivers to all recipients, and answers what to say to the client.
pub(crate) async fn run(session: &mut Session, transaction: &Transaction, message: Message) -> Result<Reply, Stop> {
    if transaction.rcpts.iter().all(|rcpt| matches!(rcpt.who, Who::Nobody)) {
        return nobody(session, transaction).await;
    }
    let place = Arc::clone(&session.place);
    let shared = &place.shared;
    let client = Client::of(session);
    let findings = analyze::analyze(shared.resolver.as_ref(), &client, transaction, &message).await;
    shared.metrics.authenticated(&findings);
    let received = trace::received(session, transaction, findings.iprev_names.first().map(String::as_str));
    let looped = looped(&message, transaction);
    let report = shared.reports.find(transaction, &findings, &message).await;
    let author = author(transaction, &findings, &message);
    let slices = foreign::remove(&message.bytes(), &shared.hostnames);
    let message = Excerpt::new(message, slices);
    let size = (message.len() + received.len() + findings.header.len()) as u64;
    let incoming = Incoming {
        place: &place,
        shared,
        transaction,
        envelope: Envelope {
            report,
            ..envelope(session, transaction, &findings)
        },
        findings: &findings,
        received: &received,
        size,
        author,
    };
    let outcome = match incoming.keep(session, message, looped).await {
        Ok(kept) => kept,
        Err(Failed::Store(status)) => {
            tracing::error!(error = %status, size, "message not delivered");
            Outcome::of(reply_to(&status))
        }
        Err(Failed::Session(stop)) => return Err(stop),
    };
    let remote = session.info.remote.ip();
    let (mail_from, recipients) = (transaction.reverse_path(), transaction.rcpts.len());
    let Outcome {
        reply,
        delivered,
        reason,
        detail,
        unwanted,
    } = outcome;
    if reply.is_success() {
        tracing::info!(%remote, mail_from, recipients, delivered, size, reason, detail, "delivered");
    } else {
        tracing::info!(%remote, mail_from, recipients, size, reason, detail, %reply, "not delivered");
    }
    session.suspicious |= unwanted;
    Ok(reply)
}

/// None of the recipients exist. That takes long, and is the same whatever the message is.
async fn nobody(session: &mut Session, transaction: &Transaction) -> Result<Reply, Stop> {
    let count = u32::try_from(transaction.rcpts.len()).unwrap_or(u32::MAX);
    session.unknown_recipients = session.unknown_recipients.saturating_add(count);
    session.suspicious = true;
    session.pause(limits::UNKNOWN_DELAY).await?;
    let reply = transaction::unknown();
    let (remote, mail_from) = (session.info.remote.ip(), transaction.reverse_path());
    tracing::info!(%remote, mail_from, recipients = count, %reply, "not delivered");
    Ok(reply)
}

/// Why there is no outcome.
enum Failed {
    /// The store can't do its part.
    Store(Status),
    /// The client is gone.
    Session(Stop),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Store(status)
    }
}

/// What became of a message.
struct Outcome {
    reply: Reply,
    delivered: usize,
    reason: String,
    /// What the reason is about.
    detail: String,
    /// It was refused for what it is.
    unwanted: bool,
}

impl Outcome {
    fn of(reply: Reply) -> Self {
        Self {
            reply,
            delivered: 0,
            reason: String::new(),
            detail: String::new(),
            unwanted: false,
        }
    }
}

/// RCPTs whose address the message was delivered to already, by us: it goes in circles (RFC 5321 §6.3).
fn looped(message: &Message, transaction: &Transaction) -> Vec<usize> {
    let fields = mox_message::headers(message).filter(|field| field.is("Delivered-To"));
    let before: Vec<String> = fields.map(|field| field.text().trim().to_owned()).collect();
    let is_looped = |who: &Who| matches!(who, Who::Account(account) if before.contains(&account.address));
    let rcpts = transaction.rcpts.iter().enumerate();
    rcpts.filter(|(_, rcpt)| is_looped(&rcpt.who)).map(|(n, _)| n).collect()
}

/// The address in From, if it is verified and a list may ask for it.
fn author(transaction: &Transaction, findings: &Findings, message: &[u8]) -> Option<String> {
    if !transaction.asks_for_poster() {
        return None;
    }
    let from = match findings.msg_from {
        Validation::Strict | Validation::Dmarc | Validation::Relaxed => findings.from.clone(),
        // In developer's mode nobody has looked, and everybody is believed.
        Validation::Unknown => {
            let summary = mox_message::HeaderSummary::of(&message[..mox_message::header_end(message)]);
            summary.from_address().map(ToString::to_string).unwrap_or_default()
        }
        _ => return None,
    };
    (!from.is_empty()).then_some(from)
}

/// What the store is told of the sender.
fn envelope(session: &Session, transaction: &Transaction, findings: &Findings) -> Envelope {
    let info = &session.info;
    let params = &transaction.params;
    Envelope {
        mail_from: transaction.reverse_path(),
        ehlo: session.hello.as_ref().map(|h| h.name.to_string()).unwrap_or_default(),
        remote_ip: info.remote.ip().to_canonical().to_string(),
        local_ip: info.local.ip().to_canonical().to_string(),
        smtputf8: params.smtputf8,
        eight_bit: params.body == Some(mox_smtp::Body::EightBitMime),
        requiretls: params.requiretls,
        tls_version: info.tls.as_ref().map(|t| t.version.to_owned()).unwrap_or_default(),
        tls_cipher: info.tls.as_ref().map(|t| t.cipher.clone()).unwrap_or_default(),
        cid: info.cid,
        trace_id: mox_telemetry::trace_id(),
        dsn_ret: params.ret.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        dsn_envid: params.envid.clone().unwrap_or_default(),
        iprev_names: findings.iprev_names.clone(),
        ehlo_validation: findings.ehlo.into(),
        mail_from_validation: findings.mail_from.into(),
        msg_from_validation: findings.msg_from.into(),
        dkim_domains: findings.dkim_domains.clone(),
        msg_from: findings.from.clone(),
        msg_from_org_domain: findings.from_organization.clone(),
        auth_results: findings.header.clone(),
        dmarc: findings.dmarc.into(),
        dmarc_policy: findings.dmarc_policy.into(),
        arc_sealer: findings.arc_sealer.clone(),
        iprev_failed: findings.iprev_failed,
        first_time_delay_milliseconds: decision::first_time_delay(&session.place),
        ..Envelope::default()
    }
}

/// A message with all that is known of it.
pub(crate) struct Incoming<'a> {
    place: &'a Place,
    shared: &'a Shared,
    pub transaction: &'a Transaction,
    pub envelope: Envelope,
    pub findings: &'a Findings,
    received: &'a str,
    size: u64,
    /// See [`author`].
    author: Option<String>,
}

impl Incoming<'_> {
    async fn keep(self, session: &mut Session, message: Excerpt, looped: Vec<usize>) -> Result<Outcome, Failed> {
        let poster = self.poster().await?;
        let (mut recipients, mut refused) = self.transaction.recipients(poster.as_deref());
        recipients.retain(|recipient| !looped.contains(&recipient.rcpt));
        refused.extend(looped.into_iter().map(|rcpt| {
            let text = "the message was delivered to this address before, it seems to go in circles";
            (rcpt, Reply::new(554, (4, 6), text))
        }));
        let mut outcomes = Outcomes::of(refused);
        if recipients.is_empty() {
            let refusal = outcomes.refusal().cloned();
            return Ok(Outcome {
                unwanted: refusal.is_some(),
                ..Outcome::of(refusal.unwrap_or_else(|| Reply::new(250, (6, 0), "there is nobody else to deliver to")))
            });
        }
        let content = content(self.shared, message).await?;
        let mut verdicts = self.assess(&content, &recipients).await?;
        decision::ask_blocklists(self.place, session.info.remote.ip(), &mut verdicts).await;
        self.shared.reports.evaluated(&self, &verdicts);
        let shown = verdicts.iter().find(|v| v.accept).or(verdicts.first());
        let (reason, detail) = shown.map(|v| (v.reason.clone(), v.detail.clone())).unwrap_or_default();
        let mut outcome = Outcome {
            reason,
            detail,
            ..Outcome::of(Reply::new(250, (6, 0), "delivered"))
        };
        for (recipient, verdict) in recipients.iter().zip(&verdicts) {
            self.shared.metrics.verdict(verdict.accept, &verdict.reason);
            let rcpt_to = &self.transaction.rcpts[recipient.rcpt].rcpt_to;
            let Verdict {
                accept, reason, detail, ..
            } = verdict;
            tracing::debug!(rcpt_to, accept, reason, detail, "decided");
            match verdict.accept {
                true => outcomes.serve(recipient.rcpt),
                false => outcomes.refuse(recipient.rcpt, refusal(verdict, self.findings)),
            }
        }
        let refusal = outcomes.refusal().cloned();
        // A mailbox that is full says nothing about the message.
        outcome.unwanted = refusal.as_ref().is_some_and(|reply| reply.code != 452);
        let copies: Vec<(usize, Delivery)> = recipients
            .iter()
            .zip(&verdicts)
            .filter_map(|(recipient, verdict)| Some((recipient.rcpt, self.delivery(recipient, verdict)?)))
            .collect();
        // Before it is kept: until then, whoever gives up has achieved nothing, and what they send again comes once.
        let delay = verdicts.iter().map(|v| v.delay_milliseconds).max().unwrap_or(0);
        if delay > 0 {
            let delay = Duration::from_millis(delay.into()).min(limits::DELAY);
            session.pause_with_client(delay).await.map_err(Failed::Session)?;
        }
        let kept = match copies.is_empty() {
            true => None,
            false => Some(self.deliver(content, &copies, self.notification(&outcomes)).await),
        };
        // A copy among the rejects is a courtesy: whether it is kept makes no difference to the sender.
        if let Some(refusal) = refusal {
            if let Some(Err(error)) = kept {
                tracing::warn!(%error, "keeping a copy of a message that is refused");
            }
            outcome.reply = refusal;
            return Ok(outcome);
        }
        if let Some(kept) = kept {
            (outcome.reply, outcome.delivered) = answer(&kept?, &copies);
        }
        Ok(outcome)
    }

    /// The author's address as it is configured, if it is one of ours.
    async fn poster(&self) -> Result<Option<String>, Status> {
        let Some(author) = &self.author else {
            return Ok(None);
        };
        let found = rcpt::lookup(self.shared, author).await?;
        Ok((!found.canonical_address.is_empty()).then_some(found.canonical_address))
    }

    async fn assess(&self, content: &Content, recipients: &[transaction::Recipient]) -> Result<Vec<Verdict>, Status> {
        let assess = AssessRequest {
            envelope: Some(self.envelope.clone()),
            content: Some(content.clone()),
            size: self.size,
            recipients: recipients.iter().map(|r| self.recipient(r)).collect(),
        };
        let answer = repeat(|| {
            let (mut store, assess) = (self.shared.store.clone(), assess.clone());
            async move { store.assess(assess).await }
        });
        let verdicts = answer.await?.into_inner().verdicts;
        if verdicts.len() != recipients.len() {
            return Err(Status::internal("the store has not decided for every recipient"));
        }
        Ok(verdicts)
    }

    fn recipient(&self, recipient: &transaction::Recipient) -> Recipient {
        let rcpt = &self.transaction.rcpts[recipient.rcpt];
        Recipient {
            rcpt_to: rcpt.rcpt_to.clone(),
            account_id: recipient.account.id.clone(),
            address: recipient.account.address.clone(),
            dsn_orcpt: rcpt.orcpt.clone(),
            dsn_notify: rcpt.notify.clone(),
        }
    }

    /// The copy for a recipient; none if it is refused and not to be kept among the rejects either.
    fn delivery(&self, recipient: &transaction::Recipient, verdict: &Verdict) -> Option<Delivery> {
        let mailbox = if verdict.accept {
            &verdict.mailbox
        } else {
            &verdict.rejects_mailbox
        };
        let found = [&self.findings.header, decision::field(verdict).as_bytes()].concat();
        (verdict.accept || !mailbox.is_empty()).then(|| Delivery {
            recipient: Some(self.recipient(recipient)),
            mailbox: mailbox.clone(),
            prefix: trace::prefix(self.transaction, &recipient.account, &found, self.received).into(),
            flags: None,
            reason: verdict.reason.clone(),
            detail: verdict.detail.clone(),
            forwarded: verdict.forward,
            forwarder: verdict.forwarder.clone(),
            list: verdict.list,
            reject: !verdict.accept,
            accepted_reject: verdict.accepted_reject,
        })
    }

    /// Those that the sender is to be told of, if others get the message: who does not, and who does if it asked for that
    /// (RFC 3461 §4.1). Only senders that are who they say are told: others have one recipient, or are told in the reply.
    fn notification(&self, outcomes: &Outcomes) -> Vec<NotifiedRecipient> {
        let believable = self.findings.mail_from == Validation::Pass;
        if self.transaction.mail_from.is_none() || !outcomes.is_served() {
            return Vec::new();
        }
        let mut told = Vec::new();
        for (rcpt, reply) in outcomes.failed() {
            let rcpt = &self.transaction.rcpts[rcpt];
            tracing::info!(rcpt_to = rcpt.rcpt_to, %reply, believable, "refused, while others get the message");
            told.push(NotifiedRecipient {
                rcpt_to: rcpt.rcpt_to.clone(),
                dsn_orcpt: rcpt.orcpt.clone(),
                dsn_notify: rcpt.notify.clone(),
                smtp_code: reply.code.into(),
                enhanced_code: reply.enhanced.map(|e| e.to_string()).unwrap_or_default(),
                text: reply.text.clone().into_owned(),
                expanded: false,
            });
        }
        for rcpt in outcomes.served() {
            let rcpt = &self.transaction.rcpts[rcpt];
            let mut wanted = rcpt.notify.split(',');
            if wanted.any(|event| event.eq_ignore_ascii_case("SUCCESS")) {
                told.push(NotifiedRecipient {
                    rcpt_to: rcpt.rcpt_to.clone(),
                    dsn_orcpt: rcpt.orcpt.clone(),
                    dsn_notify: rcpt.notify.clone(),
                    smtp_code: 250,
                    enhanced_code: "2.0.0".into(),
                    text: String::new(),
                    expanded: matches!(rcpt.who, Who::List(_)),
                });
            }
        }
        if believable { told } else { Vec::new() }
    }

    async fn deliver(
        &self,
        content: Content,
        copies: &[(usize, Delivery)],
        notified: Vec<NotifiedRecipient>,
    ) -> Result<DeliverResponse, Status> {
        if !notified.is_empty() {
            self.shared.metrics.notified();
        }
        let request = DeliverRequest {
            key: mox_rpc::key(),
            envelope: Some(self.envelope.clone()),
            content: Some(content),
            deliveries: copies.iter().map(|(_, delivery)| delivery.clone()).collect(),
            received: seconds(self.shared),
            notified,
            reporting_host: self.place.hostname.clone(),
        };
        let kept = repeat(|| {
            let (mut store, request) = (self.shared.store.clone(), request.clone());
            async move { store.deliver(request).await }
        });
        Ok(kept.await?.into_inner())
    }
}

/// The reply to what was kept, and how many got it. Mailboxes can have become full since they were asked about.
fn answer(kept: &DeliverResponse, copies: &[(usize, Delivery)]) -> (Reply, usize) {
    let mut outcomes = Outcomes::default();
    let mut delivered = 0;
    for (result, (rcpt, copy)) in kept.results.iter().zip(copies) {
        if copy.reject {
            continue;
        }
        if result.delivered {
            delivered += 1;
            outcomes.serve(*rcpt);
        } else {
            outcomes.refuse(*rcpt, reply(result.smtp_code, &result.enhanced_code, &result.text));
        }
    }
    if let Some((_, failed)) = outcomes.failed().find(|(_, reply)| reply.is_temporary()) {
        // Some have it, some may get it if it is sent again: twice is better than never.
        tracing::warn!(delivered, reply = %failed, "not delivered to every recipient");
        return (failed.clone(), delivered);
    }
    let refusal = outcomes.refusal().cloned();
    (
        refusal.unwrap_or_else(|| Reply::new(250, (6, 0), "delivered")),
        delivered,
    )
}

fn seconds(shared: &Shared) -> i64 {
    let since = shared.clock.now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|s| i64::try_from(s.as_secs()).ok()).unwrap_or(0)
}

/// The message within the calls, or uploaded before them.
async fn content(shared: &Shared, message: Excerpt) -> Result<Content, Status> {
    let size = message.len();
    if size <= INLINE_CONTENT_BYTES {
        return Ok(Content {
            r#where: Some(Where::Inline(message.to_bytes())),
        });
    }
    let pieces = message.into_pieces().map(|data| UploadRequest { data });
    // A stream can't be repeated: when this fails, the client is to try again.
    let uploaded = shared
        .store
        .clone()
        .upload(tokio_stream::iter(pieces))
        .await?
        .into_inner();
    if uploaded.size != size as u64 {
        return Err(Status::data_loss(format!(
            "the store has {} of {size} bytes",
            uploaded.size
        )));
    }
    Ok(Content {
        r#where: Some(Where::UploadId(uploaded.upload_id)),
    })
}

/// Calls again, with the same request and so the same key, as long as the store is away.
async fn repeat<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let started = Instant::now();
    let (mut wait, longest) = limits::RETRY;
    loop {
        match call().await {
            Err(status)
                if matches!(
                    status.code(),
                    Code::Unavailable | Code::Aborted | Code::DeadlineExceeded
                ) && started.elapsed() + wait < limits::STORE_AWAY =>
            {
                tracing::debug!(error = %status, "the store is away, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(longest);
            }
            result => return result,
        }
    }
}

/// The reason with which the store refuses what SPF speaks against.
const SPF_POLICY: &str = "spf-policy";

fn refusal(verdict: &Verdict, findings: &Findings) -> Reply {
    let explanation = findings.spf_explanation.as_str();
    let explained = match verdict.reason == SPF_POLICY && !explanation.is_empty() {
        // RFC 7208 §6.2: they are the domain's words, and not ours.
        true => format!("{}. The domain explains: {explanation}", verdict.text),
        false => verdict.text.clone(),
    };
    reply(verdict.smtp_code, &verdict.enhanced_code, &explained)
}

/// A reply that the store has chosen.
fn reply(code: u32, enhanced: &str, text: &str) -> Reply {
    let code = u16::try_from(code)
        .ok()
        .filter(|c| (400..600).contains(c))
        .unwrap_or(451);
    let text = if text.is_empty() { "message not accepted" } else { text };
    match enhanced.parse::<mox_smtp::Enhanced>() {
        Ok(enhanced) if u16::from(enhanced.0) == code / 100 => Reply {
            code,
            enhanced: Some(enhanced),
            text: text.to_owned().into(),
        },
        _ => Reply::new(code, (0, 0), text.to_owned()),
    }
}

/// The reply to a failed call: always that it may work later, as the fault is ours.
pub(crate) fn reply_to(status: &Status) -> Reply {
    match status.code() {
        Code::ResourceExhausted => Reply::new(452, (3, 1), "there is no room for the message now, try again later"),
        _ => Reply::new(451, (3, 0), "the server can't do that now, try again later"),
    }
}

#[cfg(test)]
mod tests {
    use mox_proto::delivery::v1::DeliveryResult;

    use super::*;

    #[test]
    fn replies_of_the_store_are_always_refusals() {
        assert_eq!(reply(550, "5.7.1", "no").to_string(), "550 5.7.1 no");
        assert_eq!(reply(452, "5.7.1", "").to_string(), "452 4.0.0 message not accepted");
        assert_eq!(reply(250, "", "x").code, 451);
        assert_eq!(reply(0, "", "x").code, 451);
    }

    #[test]
    fn who_may_not_send_is_told_what_the_domain_says() {
        let findings = Findings {
            spf_explanation: "see http://sender.example/".into(),
            ..Findings::default()
        };
        let refused = |reason: &str| {
            let verdict = Verdict {
                reason: reason.into(),
                smtp_code: 550,
                enhanced_code: "5.7.23".into(),
                text: "no".into(),
                ..Verdict::default()
            };
            refusal(&verdict, &findings).to_string()
        };
        assert_eq!(
            refused(SPF_POLICY),
            "550 5.7.23 no. The domain explains: see http://sender.example/"
        );
        assert_eq!(refused("iprev"), "550 5.7.23 no");
    }

    #[test]
    fn nobody_misses_a_message_because_others_got_it() {
        let result = |delivered, smtp_code| DeliveryResult {
            delivered,
            smtp_code,
            ..DeliveryResult::default()
        };
        let answer = |results: Vec<DeliveryResult>| {
            let copies: Vec<_> = (0..results.len()).map(|rcpt| (rcpt, Delivery::default())).collect();
            answer(&DeliverResponse { results }, &copies).0.code
        };
        assert_eq!(answer(vec![result(true, 0), result(true, 0)]), 250);
        assert_eq!(answer(vec![result(true, 0), result(false, 452)]), 452);
        assert_eq!(answer(vec![result(true, 0), result(false, 550)]), 250);
        assert_eq!(answer(vec![result(false, 550)]), 550);
    }
}
