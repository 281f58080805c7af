//! Reports: those of others that messages carry, and what is to be reported to others about messages.
//!
//! A report is looked for only in mail to an address where one is expected, and only if it is from who it says (RFC 9990
//! §2.6.2: DMARC passes; RFC 8460 §3: a signature of the domain in From). It is unpacked and read here, in the process
//! that can reach nobody's mail, within the bounds of `mox_reports`, and a few at a time.
//!
//! What DMARC found out is recorded from a queue in memory, a batch at a time, so that no session waits for it. What the
//! process has not recorded when it is killed is missing from reports, which are statistics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mox_mailauth::dmarc::{Alignment, Outcome, PolicyTag};
use mox_mailauth::message::Verdicts;
use mox_mailauth::{dkim, organizational_domain, spf};
use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Validation, Verdict};
use mox_proto::report::v1::received::Report;
use mox_proto::report::v1::report_service_client::ReportServiceClient;
use mox_proto::report::v1::{
    Disposition, DkimResult, DmarcEvaluation, DmarcPolicyPublished, DmarcReason, DmarcRow, Received,
    RecordEvaluationRequest, SpfResult,
};
use mox_reports::Found;
use mox_rpc::Channel;
use mox_service::Clock;
use mox_spool::Message;
use mox_telemetry::Telemetry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Code;

use crate::analyze::Findings;
use crate::deliver::Incoming;
use crate::limits;
use crate::transaction::Transaction;

/// Which reports are expected at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub dmarc: bool,
    pub tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

/// Finds reports, and takes note of what is to be reported.
pub(crate) struct Reports {
    evaluations: Option<mpsc::Sender<DmarcEvaluation>>,
    reading: Arc<Semaphore>,
    clock: Clock,
    found: Family<Labels, Counter>,
    omitted: Counter,
}

/// Records what was taken note of.
pub(crate) struct Recorder {
    store: ReportServiceClient<Channel>,
    evaluations: mpsc::Receiver<DmarcEvaluation>,
    omitted: Counter,
}

impl Reports {
    /// `sends`: reports about DMARC are sent at all.
    pub(crate) fn new(store: Channel, sends: bool, clock: Clock, telemetry: &Telemetry) -> (Self, Recorder) {
        let (sender, evaluations) = mpsc::channel(limits::EVALUATIONS);
        let (found, omitted) = (Family::<Labels, Counter>::default(), Counter::default());
        let mut registry = telemetry.registry.lock();
        registry.register(
            "mox_smtp_in_reports",
            "Messages to addresses for reports, by what they are",
            found.clone(),
        );
        registry.register(
            "mox_smtp_in_evaluations_omitted",
            "Messages that are missing from DMARC reports, as the store was away or too slow",
            omitted.clone(),
        );
        let recorder = Recorder {
            store: ReportServiceClient::new(store),
            evaluations,
            omitted: omitted.clone(),
        };
        let reports = Self {
            evaluations: sends.then_some(sender),
            reading: Arc::new(Semaphore::new(limits::REPORTS)),
            clock,
            found,
            omitted,
        };
        (reports, recorder)
    }

    /// The report in a message, if one is expected, and is from who it says.
    pub(crate) async fn find(
        &self,
        transaction: &Transaction,
        findings: &Findings,
        message: &Message,
    ) -> Option<Received> {
        let expected = Expected {
            dmarc: transaction.reports.iter().any(|e| e.dmarc),
            tls: transaction.reports.iter().any(|e| e.tls),
        };
        // In developer's mode nobody has looked who it is from.
        if expected == Expected::default() || findings.msg_from == Validation::Unknown {
            return None;
        }
        let (result, found) = self.look(expected, findings, message).await;
        self.found.get_or_create(&Labels { result }).inc();
        tracing::info!(from = findings.from, result, "message to an address for reports");
        found
    }

    async fn look(
        &self,
        expected: Expected,
        findings: &Findings,
        message: &Message,
    ) -> (&'static str, Option<Received>) {
        if !is_verified(findings) {
            return ("unverified", None);
        }
        let Ok(Ok(permit)) = timeout(limits::REPORT_WAIT, Arc::clone(&self.reading).acquire_owned()).await else {
            return ("busy", None);
        };
        // Little can become much.
        let reading = message.read_on_thread(move |message| {
            let found = mox_reports::find(message);
            drop(permit);
            found
        });
        let report = match reading.await {
            Ok(Ok(Some(Found::Dmarc(report)))) if expected.dmarc => Report::Dmarc(report),
            // RFC 8460 §3: DKIM it must be.
            Ok(Ok(Some(Found::Tls(report)))) if expected.tls && is_signed(findings) => Report::Tls(report),
            Ok(Ok(Some(Found::Tls(_)))) if expected.tls => return ("unsigned", None),
            Ok(Ok(Some(_))) => return ("unexpected", None),
            Ok(Ok(None)) => return ("none", None),
            Ok(Err(error)) => {
                tracing::info!(from = findings.from, %error, "reading a report");
                return ("unreadable", None);
            }
            Err(error) => {
                tracing::error!(%error, "reading a report");
                return ("unreadable", None);
            }
        };
        let result = match &report {
            Report::Dmarc(_) => "dmarc",
            Report::Tls(_) => "tls",
        };
        (result, Some(Received { report: Some(report) }))
    }

    /// Takes note of what DMARC found out about a message, and what became of it.
    pub(crate) fn evaluated(&self, incoming: &Incoming<'_>, verdicts: &[Verdict]) {
        let (Some(sender), Some(evaluation)) = (&self.evaluations, &incoming.findings.evaluation) else {
            return;
        };
        let mut evaluation = evaluation.clone();
        evaluation.at = self.clock.unix_millis();
        // Who reports about reports gets reports about that.
        let reports = &incoming.transaction.reports;
        let is_report = !reports.is_empty() && reports.iter().all(|e| *e != Expected::default());
        evaluation.optional = is_report || incoming.envelope.report.is_some();
        if let Some(row) = &mut evaluation.row {
            let rcpt = incoming
                .transaction
                .rcpts
                .first()
                .map_or("", |rcpt| rcpt.rcpt_to.as_str());
            row.envelope_to = domain_of(rcpt);
            became(row, incoming.findings, verdicts);
        }
        if sender.try_send(evaluation).is_err() {
            self.omitted.inc();
        }
    }
}

/// Whether the address in From is shown to be the sender's, and DMARC has nothing against it.
fn is_verified(findings: &Findings) -> bool {
    let aligned = matches!(
        findings.msg_from,
        Validation::Strict | Validation::Dmarc | Validation::Relaxed
    );
    let passes = match findings.dmarc {
        DmarcResult::Pass => true,
        // Without a policy, alignment is all there is.
        DmarcResult::None => aligned,
        _ => false,
    };
    passes && !findings.from.is_empty()
}

/// Whether the organization of the address in From signed it.
fn is_signed(findings: &Findings) -> bool {
    let mut signers = findings.dkim_domains.iter();
    signers.any(|domain| organizational_domain(domain) == findings.from_organization)
}

fn domain_of(address: &str) -> String {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domain = domain.parse::<mox_types::Domain>();
    domain.map(|d| d.ascii().to_owned()).unwrap_or_default()
}

/// What is to be reported of a message, but for what becomes of it: only if there is a policy that asks for it.
pub(crate) fn evaluation(
    verdicts: &Verdicts,
    ip: IpAddr,
    spf_domain: &str,
    spf: spf::Outcome,
    mail_from_domain: &str,
) -> Option<DmarcEvaluation> {
    let found = &verdicts.dmarc;
    let record = found.record.as_ref().filter(|record| !record.rua().is_empty())?;
    // What could not be found out is no evaluation.
    if found.policy_domain.is_empty() || !matches!(found.outcome, Outcome::Pass | Outcome::Fail) {
        return None;
    }
    let tag = |tag: &PolicyTag| match tag {
        PolicyTag::Reject => "reject",
        PolicyTag::Quarantine => "quarantine",
        PolicyTag::None => "none",
        PolicyTag::Unspecified => "",
    };
    let alignment = |mode: Alignment| if mode == Alignment::Strict { "s" } else { "r" };
    let policy = DmarcPolicyPublished {
        domain: found.policy_domain.clone(),
        adkim: alignment(record.adkim).into(),
        aspf: alignment(record.aspf).into(),
        // RFC 9989 §4.7: without it, nothing is asked for.
        p: match tag(&record.p) {
            "" => "none",
            known => known,
        }
        .into(),
        sp: tag(&record.sp).into(),
        np: tag(&record.np).into(),
        testing: record.t,
        discovery_method: "treewalk".into(),
        ..DmarcPolicyPublished::default()
    };
    let mut dkim: Vec<&dkim::Verdict> = verdicts.dkim.iter().filter(|v| !v.domain.is_empty()).collect();
    // RFC 9990 §2.1.2: what matters first.
    dkim.sort_by_key(|v| match v.outcome {
        dkim::Outcome::Pass if v.domain == found.domain => 0,
        dkim::Outcome::Pass if organizational_domain(&v.domain) == organizational_domain(&found.domain) => 1,
        dkim::Outcome::Pass => 2,
        _ => 3,
    });
    let dkim = dkim.into_iter().map(|v| DkimResult {
        domain: v.domain.clone(),
        selector: v.selector.clone(),
        result: v.outcome.as_str().into(),
        human_result: v.problem.clone().unwrap_or_default(),
    });
    let spf = SpfResult {
        domain: spf_domain.into(),
        scope: "mfrom".into(),
        result: spf.as_str().into(),
        ..SpfResult::default()
    };
    Some(DmarcEvaluation {
        policy: Some(policy),
        row: Some(DmarcRow {
            source_ip: ip.to_string(),
            count: 1,
            dkim_aligned: found.dkim_aligned,
            spf_aligned: found.spf_aligned,
            header_from: found.domain.clone(),
            envelope_from: mail_from_domain.into(),
            dkim: dkim.collect(),
            spf: vec![spf],
            ..DmarcRow::default()
        }),
        interval_seconds: found.interval,
        ..DmarcEvaluation::default()
    })
}

/// What was done, and why if it is not what the policy asks for (RFC 9990 §2.1.6).
fn became(row: &mut DmarcRow, findings: &Findings, verdicts: &[Verdict]) {
    let testing = findings
        .evaluation
        .as_ref()
        .and_then(|e| e.policy.as_ref())
        .is_some_and(|p| p.testing);
    let asked = match findings.dmarc_policy {
        DmarcPolicy::None => Disposition::None,
        DmarcPolicy::Quarantine => Disposition::Quarantine,
        DmarcPolicy::Reject => Disposition::Reject,
    };
    if findings.dmarc == DmarcResult::Pass {
        // RFC 9990 §2.1.1: where something would be done on failure.
        let disposition = match asked {
            Disposition::None => Disposition::None,
            _ => Disposition::Pass,
        };
        row.set_disposition(disposition);
        return;
    }
    let reason = |r#type: &str, comment: &str| DmarcReason {
        r#type: r#type.into(),
        comment: comment.into(),
    };
    let by_policy = verdicts.iter().any(|v| !v.accept && v.reason == "dmarc-policy");
    let list = verdicts.iter().any(|v| v.accept && v.list);
    let forward = verdicts.iter().any(|v| v.accept && v.forward);
    match asked {
        Disposition::None if testing => row.reasons.push(reason("policy_test_mode", "")),
        Disposition::None => {}
        _ if by_policy => {
            row.set_disposition(Disposition::Reject);
            if asked == Disposition::Quarantine {
                row.reasons
                    .push(reason("local_policy", "what is to be quarantined is rejected"));
            }
        }
        _ if list => row.reasons.push(reason("mailing_list", "")),
        _ if forward => row.reasons.push(reason("trusted_forwarder", "")),
        _ => {
            let because = verdicts.iter().map(|v| v.reason.as_str()).find(|r| !r.is_empty());
            row.reasons.push(reason("local_policy", because.unwrap_or_default()));
        }
    }
}

impl Recorder {
    /// Records until nothing more can come.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.evaluations.recv().await {
            let mut evaluations = vec![first];
            let until = Instant::now() + limits::EVALUATIONS_WAIT;
            while evaluations.len() < limits::EVALUATIONS_AT_ONCE {
                match timeout_at(until, self.evaluations.recv()).await {
                    Ok(Some(next)) => evaluations.push(next),
                    Ok(None) | Err(_) => break,
                }
            }
            self.record(evaluations).await;
        }
    }

    async fn record(&self, evaluations: Vec<DmarcEvaluation>) {
        let many = evaluations.len();
        let request = RecordEvaluationRequest {
            key: mox_rpc::key(),
            evaluations,
        };
        let until = Instant::now() + limits::RECORD_TIME;
        let mut wait = Duration::from_millis(100);
        loop {
            let Err(status) = self.store.clone().record_evaluation(request.clone()).await else {
                return;
            };
            let again = matches!(
                status.code(),
                Code::Unavailable | Code::Aborted | Code::DeadlineExceeded
            );
            if !again || Instant::now() + wait > until {
                tracing::warn!(error = %status, many, "messages are missing from DMARC reports");
                self.omitted.inc_by(many as u64);
                return;
            }
            sleep(wait).await;
            wait *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(dmarc: DmarcResult, policy: DmarcPolicy, testing: bool) -> Findings {
        Findings {
            dmarc,
            dmarc_policy: policy,
            from: "a@example.org".into(),
            from_organization: "example.org".into(),
            evaluation: Some(DmarcEvaluation {
                policy: Some(DmarcPolicyPublished {
                    testing,
                    ..DmarcPolicyPublished::default()
                }),
                ..DmarcEvaluation::default()
            }),
            ..Findings::default()
        }
    }

    #[test]
    fn what_became_of_messages_is_told() {
        let verdict = |accept, reason: &str, list| Verdict {
            accept,
            reason: reason.into(),
            list,
            ..Verdict::default()
        };
        let told = |dmarc, policy, testing, verdict: &Verdict| {
            let mut row = DmarcRow::default();
            became(
                &mut row,
                &findings(dmarc, policy, testing),
                std::slice::from_ref(verdict),
            );
            let reasons: Vec<String> = row.reasons.iter().map(|r| r.r#type.clone()).collect();
            (row.disposition(), reasons.join(" "))
        };
        let (fail, pass) = (DmarcResult::Fail, DmarcResult::Pass);
        let (none, quarantine, reject) = (DmarcPolicy::None, DmarcPolicy::Quarantine, DmarcPolicy::Reject);
        let accepted = verdict(true, "known", false);
        let refused = verdict(false, "dmarc-policy", false);
        for (dmarc, policy, testing, verdict, disposition, reasons) in [
            (pass, none, false, &accepted, Disposition::None, ""),
            (pass, reject, false, &accepted, Disposition::Pass, ""),
            (fail, none, false, &accepted, Disposition::None, ""),
            (fail, none, true, &accepted, Disposition::None, "policy_test_mode"),
            (fail, reject, false, &refused, Disposition::Reject, ""),
            (fail, quarantine, false, &refused, Disposition::Reject, "local_policy"),
            (fail, reject, false, &accepted, Disposition::None, "local_policy"),
            (
                fail,
                reject,
                false,
                &verdict(true, "list", true),
                Disposition::None,
                "mailing_list",
            ),
        ] {
            assert_eq!(told(dmarc, policy, testing, verdict), (disposition, reasons.to_owned()));
        }
    }

    #[test]
    fn reports_are_believed_from_who_is_verified() {
        let with = |dmarc, msg_from| Findings {
            msg_from,
            ..findings(dmarc, DmarcPolicy::None, false)
        };
        assert!(is_verified(&with(DmarcResult::Pass, Validation::Dmarc)));
        assert!(is_verified(&with(DmarcResult::None, Validation::Relaxed)));
        assert!(!is_verified(&with(DmarcResult::None, Validation::None)));
        // Aligned by organization, but the policy wants more.
        assert!(!is_verified(&with(DmarcResult::Fail, Validation::Relaxed)));
        assert!(!is_verified(&with(DmarcResult::Temperror, Validation::Strict)));
        let mut signed = with(DmarcResult::Pass, Validation::Dmarc);
        assert!(!is_signed(&signed));
        signed.dkim_domains = vec!["other.example".into(), "mail.example.org".into()];
        assert!(is_signed(&signed));
    }
}
