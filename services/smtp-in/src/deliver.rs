//! From a message that was received to one that is kept: upload, assess, deliver.

use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use mox_proto::delivery::v1::{
    AssessRequest, DeliverRequest, DeliverResponse, Delivery, Envelope, Recipient, UploadRequest, Verdict,
};
use mox_proto::mail::v1::Content;
use mox_proto::mail::v1::content::Where;
use mox_rpc::INLINE_CONTENT_BYTES;
use mox_smtp::Reply;
use mox_spool::Message;
use tonic::{Code, Status};

use crate::analyze::{self, Client, Findings};
use crate::session::{Session, Stop};
use crate::transaction::Transaction;
use crate::{Shared, foreign, limits, trace};

/// Delivers to all recipients, and answers what to say to the client.
pub(crate) async fn run(session: &mut Session, transaction: &Transaction, message: Message) -> Result<Reply, Stop> {
    let shared = &session.place.shared;
    let client = Client {
        info: &session.info,
        helo: &hello(session),
        hostname: &session.place.hostname,
        now: seconds(shared),
    };
    let findings = analyze::analyze(shared.resolver.as_ref(), &client, transaction, &message).await;
    shared.metrics.authenticated(&findings);
    let received = trace::received(session, transaction, findings.iprev_names.first().map(String::as_str));
    let envelope = envelope(session, transaction, &findings);
    let message = foreign::remove(&message.bytes(), &session.place.hostname);
    let size = (message.len() + received.len() + findings.header.len()) as u64;
    let (outcome, delay) = match keep(shared, transaction, envelope, &findings, &received, message, size).await {
        Ok(kept) => kept,
        Err(status) => {
            tracing::error!(error = %status, size, "message not delivered");
            (Outcome::of(reply_to(&status)), Duration::ZERO)
        }
    };
    let remote = session.info.remote.ip();
    let (mail_from, recipients) = (transaction.reverse_path(), transaction.recipients.len());
    let Outcome {
        reply,
        delivered,
        reason,
    } = outcome;
    if reply.is_success() {
        tracing::info!(%remote, mail_from, recipients, delivered, size, reason, "delivered");
    } else {
        tracing::info!(%remote, mail_from, recipients, size, reason, %reply, "not delivered");
    }
    if !delay.is_zero() {
        session.pause(delay.min(limits::DELAY)).await?;
    }
    Ok(reply)
}

/// What became of a message.
struct Outcome {
    reply: Reply,
    delivered: usize,
    reason: String,
}

impl Outcome {
    fn of(reply: Reply) -> Self {
        Self {
            reply,
            delivered: 0,
            reason: String::new(),
        }
    }
}

/// The name in EHLO.
fn hello(session: &Session) -> String {
    session.hello.as_ref().map(|h| h.name.to_string()).unwrap_or_default()
}

/// What the store is told of the sender.
fn envelope(session: &Session, transaction: &Transaction, findings: &Findings) -> Envelope {
    let info = &session.info;
    let params = &transaction.params;
    Envelope {
        mail_from: transaction.reverse_path(),
        ehlo: hello(session),
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
        iprev_failed: findings.iprev_failed,
        ..Envelope::default()
    }
}

async fn keep(
    shared: &Shared,
    transaction: &Transaction,
    envelope: Envelope,
    findings: &Findings,
    received: &str,
    message: Bytes,
    size: u64,
) -> Result<(Outcome, Duration), Status> {
    let content = content(shared, message).await?;
    let recipients: Vec<Recipient> = transaction
        .recipients
        .iter()
        .map(|r| Recipient {
            rcpt_to: r.rcpt_to.clone(),
            account_id: r.account_id.clone(),
            address: r.address.clone(),
            dsn_orcpt: r.orcpt.clone(),
            dsn_notify: r.notify.clone(),
        })
        .collect();
    let assess = AssessRequest {
        envelope: Some(envelope.clone()),
        content: Some(content.clone()),
        size,
        recipients: recipients.clone(),
    };
    let verdicts = repeat(|| {
        let (mut store, assess) = (shared.store.clone(), assess.clone());
        async move { store.assess(assess).await }
    })
    .await?
    .into_inner()
    .verdicts;
    if verdicts.len() != recipients.len() {
        return Err(Status::internal("the store has not decided for every recipient"));
    }
    let delay = verdicts.iter().map(|v| v.delay_milliseconds).max().unwrap_or(0);
    let delay = Duration::from_millis(delay.into());
    // Who is to try again would miss the message if the others' acceptance were the answer for all.
    if let Some(later) = verdicts.iter().find(|v| !v.accept && v.smtp_code / 100 == 4) {
        let reason = later.reason.clone();
        return Ok((
            Outcome {
                reply: refusal(later),
                delivered: 0,
                reason,
            },
            delay,
        ));
    }
    let deliveries: Vec<Delivery> = transaction
        .recipients
        .iter()
        .zip(recipients)
        .zip(&verdicts)
        .filter_map(|((known, recipient), verdict)| {
            let mailbox = if verdict.accept {
                &verdict.mailbox
            } else {
                &verdict.rejects_mailbox
            };
            (verdict.accept || !mailbox.is_empty()).then(|| Delivery {
                recipient: Some(recipient),
                mailbox: mailbox.clone(),
                prefix: trace::prefix(transaction, known, &findings.header, received).into(),
                flags: None,
                reason: verdict.reason.clone(),
                forwarded: verdict.forward,
                list: verdict.list,
                reject: !verdict.accept,
            })
        })
        .collect();
    let reason = verdicts
        .iter()
        .find(|v| v.accept)
        .or(verdicts.first())
        .map(|v| v.reason.clone())
        .unwrap_or_default();
    let refused = verdicts
        .iter()
        .all(|v| !v.accept)
        .then(|| verdicts.first().map(refusal))
        .flatten();
    if deliveries.is_empty() {
        let reply = refused.unwrap_or_else(|| Reply::new(451, (3, 0), "there is nobody to deliver to"));
        return Ok((
            Outcome {
                reply,
                delivered: 0,
                reason,
            },
            delay,
        ));
    }
    let rejects: Vec<bool> = deliveries.iter().map(|d| d.reject).collect();
    let request = DeliverRequest {
        key: mox_rpc::key(),
        envelope: Some(envelope),
        content: Some(content),
        deliveries,
        received: seconds(shared),
    };
    let kept = repeat(|| {
        let (mut store, request) = (shared.store.clone(), request.clone());
        async move { store.deliver(request).await }
    })
    .await;
    let (reply, delivered) = match (kept, refused) {
        // A copy among the rejects is a courtesy: whether it is kept makes no difference to the sender.
        (_, Some(refused)) => (refused, 0),
        (Ok(kept), None) => answer(&kept.into_inner(), &rejects),
        (Err(status), None) => return Err(status),
    };
    Ok((
        Outcome {
            reply,
            delivered,
            reason,
        },
        delay,
    ))
}

/// The reply to what was kept, and how many got it.
fn answer(kept: &DeliverResponse, rejects: &[bool]) -> (Reply, usize) {
    let wanted = || {
        kept.results
            .iter()
            .zip(rejects)
            .filter(|(_, reject)| !**reject)
            .map(|(result, _)| result)
    };
    let delivered = wanted().filter(|r| r.delivered).count();
    if let Some(failed) = wanted().find(|r| !r.delivered) {
        tracing::warn!(
            delivered,
            code = failed.smtp_code,
            text = failed.text,
            "not delivered to every recipient"
        );
        // Some have it, some may get it if it is sent again: twice is better than never.
        if delivered == 0 || failed.smtp_code / 100 == 4 {
            return (reply(failed.smtp_code, &failed.enhanced_code, &failed.text), delivered);
        }
    }
    (Reply::new(250, (6, 0), "delivered"), delivered)
}

fn seconds(shared: &Shared) -> i64 {
    let since = shared.clock.now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|s| i64::try_from(s.as_secs()).ok()).unwrap_or(0)
}

/// The message within the calls, or uploaded before them.
async fn content(shared: &Shared, bytes: Bytes) -> Result<Content, Status> {
    if bytes.len() <= INLINE_CONTENT_BYTES {
        return Ok(Content {
            r#where: Some(Where::Inline(bytes)),
        });
    }
    let size = bytes.len() as u64;
    let starts = (0..bytes.len()).step_by(limits::UPLOAD_PIECE);
    let pieces = starts.map(move |start| {
        let end = (start + limits::UPLOAD_PIECE).min(bytes.len());
        UploadRequest {
            data: bytes.slice(start..end),
        }
    });
    // A stream can't be repeated: when this fails, the client is to try again.
    let uploaded = shared
        .store
        .clone()
        .upload(tokio_stream::iter(pieces))
        .await?
        .into_inner();
    if uploaded.size != size {
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

fn refusal(verdict: &Verdict) -> Reply {
    reply(verdict.smtp_code, &verdict.enhanced_code, &verdict.text)
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
    fn nobody_misses_a_message_because_others_got_it() {
        let result = |delivered, smtp_code| DeliveryResult {
            delivered,
            smtp_code,
            ..DeliveryResult::default()
        };
        let answer = |results: Vec<DeliveryResult>| {
            let rejects = vec![false; results.len()];
            answer(&DeliverResponse { results }, &rejects).0.code
        };
        assert_eq!(answer(vec![result(true, 0), result(true, 0)]), 250);
        assert_eq!(answer(vec![result(true, 0), result(false, 452)]), 452);
        assert_eq!(answer(vec![result(true, 0), result(false, 550)]), 250);
        assert_eq!(answer(vec![result(false, 550)]), 550);
    }
}
