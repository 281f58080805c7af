//! Reports of others: about mail in the name of our domains, and about TLS when they deliver to us.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mox_config::Lookup;
use mox_proto::delivery::v1::DeliverRequest;
use mox_proto::report::v1::received::Report;
use mox_proto::report::v1::{
    BundleTotals, DmarcReport, GetReportRequest, ListReportsRequest, Recorded, ReportSummary, TlsReport,
};
use mox_reports::{dmarc, tls};
use mox_types::Domain;
use prost::Message as _;

use super::{RETENTION, ReportError, Reports, bounds};
use crate::engine::{Commit, Limit, Order};
use crate::keys::{self, REPORT_DIGEST, ReceivedKind};
use crate::registry::Committed;

const DAY: i64 = 24 * 3600;
/// A report's period ends before it is sent; so much is allowed to clocks and time zones.
const AHEAD: i64 = 2 * DAY;
/// Rows of a page of a list.
const PAGE: u32 = 500;
/// Rows that are looked at for a page.
const SCAN: usize = 2000;
/// Rows that are removed by one commit.
const CLEAN: usize = 500;

/// What a delivery puts into the inbox for a report that its message carries: if it is for an address where such reports
/// are expected, and about us.
pub(crate) fn arrived(committed: &Committed, request: &DeliverRequest, now: i64) -> Option<(Bytes, Vec<u8>)> {
    let envelope = request.envelope.as_ref()?;
    let received = envelope.report.as_ref()?;
    let report = received.report.as_ref()?;
    let expected = request
        .deliveries
        .iter()
        .filter(|delivery| !delivery.reject)
        .any(|delivery| {
            let address = delivery.recipient.as_ref().map_or("", |r| r.address.as_str());
            let Ok(Lookup::Account(recipient)) = address.parse().map(|a| committed.dynamic.destination(&a)) else {
                return false;
            };
            let kinds = committed.dynamic.reports_to(&recipient.address);
            match report {
                Report::Dmarc(_) => kinds.dmarc,
                Report::Tls(_) => kinds.tls,
            }
        });
    let (about, host) = expected.then(|| about(committed, report)).flatten()?;
    let recorded = Recorded {
        at: now,
        received: Some(received.clone()),
        received_from: envelope.msg_from.clone(),
        received_about: about,
        received_host: host,
        ..Recorded::default()
    };
    Some((keys::report_inbox(now, &request.key), recorded.encode_to_vec()))
}

/// The domain of ours, or our host, that a report is about.
pub(super) fn about(committed: &Committed, report: &Report) -> Option<(String, bool)> {
    let config = &committed.dynamic;
    let is_ours = |domain: &Domain| {
        config.domains.contains_key(domain)
            // The policy of a domain above one of ours, and that of a name below.
            || config.domains.keys().any(|ours| ours.is_within(domain) || domain.is_within(ours))
    };
    let is_host = |domain: &Domain| config.host.as_ref().is_some_and(|host| host.hostnames.contains(domain));
    let name = |domain: &Domain| domain.ascii().to_owned();
    match report {
        Report::Dmarc(report) => {
            let domain: Domain = report.policy.as_ref()?.domain.parse().ok()?;
            is_ours(&domain).then(|| (name(&domain), false))
        }
        Report::Tls(report) => {
            let domains = report
                .policies
                .iter()
                .filter_map(|policy| policy.policy_domain.parse::<Domain>().ok());
            let domains: Vec<Domain> = domains.collect();
            let domain = domains.iter().find(|domain| config.domains.contains_key(domain));
            let host = domains.iter().find(|domain| is_host(domain));
            match (domain, host) {
                (Some(domain), _) => Some((name(domain), false)),
                (None, Some(host)) => Some((name(host), true)),
                (None, None) => domains
                    .iter()
                    .find(|domain| is_ours(domain))
                    .map(|domain| (name(domain), false)),
            }
        }
    }
}

/// What became of a report.
pub(super) enum Arrival {
    Kept(Report),
    Refused(&'static str, &'static str),
}

impl Arrival {
    pub fn tell(self, reports: &Reports) {
        let metrics = &reports.0.metrics;
        match self {
            Self::Kept(Report::Dmarc(report)) => metrics.dmarc(&report),
            Self::Kept(Report::Tls(report)) => metrics.tls(&report),
            Self::Refused(kind, why) => {
                tracing::info!(kind, why, "a report is not kept");
                metrics.refused(kind, why);
            }
        }
    }
}

/// The organization that a report is from, as its address shows.
fn sender(from: &str) -> String {
    let domain = from.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domain = domain
        .parse::<Domain>()
        .map(|d| d.ascii().to_owned())
        .unwrap_or_default();
    let labels: Vec<&str> = domain.split('.').collect();
    // Near enough to count by: who owns a domain has all names below it.
    labels[labels.len().saturating_sub(3)..].join(".")
}

fn summary(recorded: &Recorded, report: &Report) -> (ReceivedKind, ReportSummary) {
    let common = ReportSummary {
        domain: recorded.received_about.clone(),
        received: recorded.at / 1000,
        from: recorded.received_from.clone(),
        host: recorded.received_host,
        ..ReportSummary::default()
    };
    match report {
        Report::Dmarc(report) => {
            let (succeeded, failed) = dmarc::counts(report);
            let summary = ReportSummary {
                org_name: report.org_name.clone(),
                report_id: report.report_id.clone(),
                begin: report.begin,
                end: report.end,
                succeeded,
                failed,
                rows: report.rows.len() as u32,
                ..common
            };
            (ReceivedKind::Dmarc, summary)
        }
        Report::Tls(report) => {
            let (succeeded, failed) = tls::counts(report);
            let summary = ReportSummary {
                org_name: report.organization_name.clone(),
                report_id: report.report_id.clone(),
                begin: report.start,
                end: report.end,
                succeeded,
                failed,
                rows: report.policies.len() as u32,
                ..common
            };
            (ReceivedKind::Tls, summary)
        }
    }
}

/// Names a report: the same for one that is sent again (RFC 9990 §2.6.4), and never that of another sender's.
fn id_of(summary: &ReportSummary, sender: &str) -> Bytes {
    let parts = [sender, &summary.org_name, &summary.report_id, &summary.domain];
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(&summary.begin.to_be_bytes());
    let mut digest = [0; REPORT_DIGEST];
    digest.copy_from_slice(&context.finish().as_ref()[..REPORT_DIGEST]);
    keys::received_report_id(summary.end, &digest)
}

impl Reports {
    /// Adds reports to a commit, within the bounds.
    pub(super) async fn receive(
        &self,
        recorded: &[Recorded],
        commit: &mut Commit,
        totals: &mut BundleTotals,
    ) -> Result<Vec<Arrival>, ReportError> {
        let mut arrivals = Vec::new();
        let mut seen = HashSet::new();
        let mut senders: HashMap<Bytes, u32> = HashMap::new();
        for recorded in recorded {
            let Some(report) = recorded.received.as_ref().and_then(|r| r.report.clone()) else {
                continue;
            };
            let (kind, mut summary) = summary(recorded, &report);
            let name = match kind {
                ReceivedKind::Dmarc => "dmarc",
                ReceivedKind::Tls => "tls",
            };
            let seconds = recorded.at / 1000;
            if summary.end > seconds + AHEAD || summary.end < seconds - RETENTION.as_secs() as i64 {
                arrivals.push(Arrival::Refused(name, "odd-period"));
                continue;
            }
            let sender = sender(&recorded.received_from);
            summary.id = id_of(&summary, &sender);
            let key = keys::received_summary(kind, &summary.id);
            if !seen.insert(key.clone()) || self.db().get(key.clone()).await?.is_some() {
                arrivals.push(Arrival::Refused(name, "duplicate"));
                continue;
            }
            let day = u32::try_from(seconds / DAY).unwrap_or_default();
            let counter = keys::report_sender(day, &sender);
            if !senders.contains_key(&counter) {
                let value = self.db().get(counter.clone()).await?;
                let many = value
                    .as_ref()
                    .and_then(|v| Some(u32::from_be_bytes(v.data.as_ref().try_into().ok()?)));
                commit.require_unchanged(counter.clone(), value.as_ref());
                senders.insert(counter.clone(), many.unwrap_or_default());
            }
            let many = senders.entry(counter).or_default();
            if totals.received >= bounds::RECEIVED || *many >= bounds::RECEIVED_OF_SENDER {
                arrivals.push(Arrival::Refused(name, "too-many"));
                continue;
            }
            *many += 1;
            totals.received += 1;
            commit.require_absent(key.clone());
            let data = match &report {
                Report::Dmarc(report) => report.encode_to_vec(),
                Report::Tls(report) => report.encode_to_vec(),
            };
            commit.put(keys::received_report(kind, &summary.id), data);
            commit.put(key, summary.encode_to_vec());
            arrivals.push(Arrival::Kept(report));
        }
        for (key, many) in senders {
            commit.put(key, many.to_be_bytes().to_vec());
        }
        Ok(arrivals)
    }

    /// Summaries, the latest first.
    pub(super) async fn list_received(
        &self,
        kind: ReceivedKind,
        request: &ListReportsRequest,
    ) -> Result<(Vec<ReportSummary>, Bytes), ReportError> {
        let to = match request.end {
            0 => i64::MAX,
            end => end,
        };
        let domain = match request.domain.as_str() {
            "" => None,
            name => {
                let domain: Domain = name
                    .parse()
                    .map_err(|e| ReportError::Invalid(format!("listing reports about {name:?}: {e}")))?;
                Some(domain.ascii().to_owned())
            }
        };
        let mut range = keys::received_summaries(kind, request.begin.max(0), to);
        if !request.page_token.is_empty() && request.page_token < range.end {
            range.end = request.page_token.clone();
        }
        let max = match request.max {
            0 => PAGE,
            max => max.min(PAGE),
        } as usize;
        let page = self.db().scan(range, Limit::rows(SCAN), Order::Descending).await?;
        let mut found = Vec::new();
        for (key, value) in &page.rows {
            let summary =
                ReportSummary::decode(value.data.clone()).map_err(|_| ReportError::Damaged("a report's summary"))?;
            if domain.as_ref().is_none_or(|domain| *domain == summary.domain) {
                found.push(summary);
            }
            if found.len() == max {
                return Ok((found, key.clone()));
            }
        }
        let last = page.rows.last().filter(|_| page.more).map(|(key, _)| key.clone());
        Ok((found, last.unwrap_or_default()))
    }

    async fn get_received(&self, kind: ReceivedKind, id: &[u8]) -> Result<(ReportSummary, Bytes), ReportError> {
        let keys = vec![keys::received_summary(kind, id), keys::received_report(kind, id)];
        let values = self.db().get_many(keys).await?;
        let [Some(summary), Some(report)] = values.as_slice() else {
            return Err(ReportError::None("such report"));
        };
        let summary =
            ReportSummary::decode(summary.data.clone()).map_err(|_| ReportError::Damaged("a report's summary"))?;
        Ok((summary, report.data.clone()))
    }

    pub(super) async fn get_dmarc(
        &self,
        request: &GetReportRequest,
    ) -> Result<(ReportSummary, DmarcReport), ReportError> {
        let (summary, data) = self.get_received(ReceivedKind::Dmarc, &request.id).await?;
        let report = DmarcReport::decode(data).map_err(|_| ReportError::Damaged("a DMARC report"))?;
        Ok((summary, report))
    }

    pub(super) async fn get_tls(&self, request: &GetReportRequest) -> Result<(ReportSummary, TlsReport), ReportError> {
        let (summary, data) = self.get_received(ReceivedKind::Tls, &request.id).await?;
        let report = TlsReport::decode(data).map_err(|_| ReportError::Damaged("a TLS report"))?;
        Ok((summary, report))
    }

    /// Removes what is old: reports of others, counters of senders, suppressions whose time is over, and bundles that
    /// nobody came for.
    pub(super) async fn clean(&self) -> Result<(), ReportError> {
        let now = self.now();
        let seconds = now / 1000;
        let before = seconds - RETENTION.as_secs() as i64;
        for kind in [ReceivedKind::Dmarc, ReceivedKind::Tls] {
            while self.clean_received(kind, before).await? {}
        }
        let today = u32::try_from(seconds / DAY).unwrap_or_default();
        let range = keys::report_senders_before(today.saturating_sub(1));
        let found = self.db().scan(range.clone(), Limit::rows(1), Order::Ascending).await?;
        if !found.rows.is_empty() {
            let mut commit = Commit::new();
            commit.delete_range(range).set_frees();
            self.db().commit(commit).await?;
        }
        self.clean_suppressed(now).await?;
        self.clean_bundles(now).await
    }

    /// Removes some of the reports whose period ended before; true if there may be more.
    async fn clean_received(&self, kind: ReceivedKind, before: i64) -> Result<bool, ReportError> {
        let range = keys::received_summaries(kind, 0, before);
        let page = self.db().scan(range, Limit::rows(CLEAN), Order::Ascending).await?;
        if page.rows.is_empty() {
            return Ok(false);
        }
        let value = self.db().get(keys::report_totals()).await?;
        let mut totals = match &value {
            Some(value) => {
                BundleTotals::decode(value.data.clone()).map_err(|_| ReportError::Damaged("the size of reports"))?
            }
            None => BundleTotals::default(),
        };
        let mut commit = Commit::new();
        commit
            .require_unchanged(keys::report_totals(), value.as_ref())
            .set_frees();
        for (key, value) in &page.rows {
            let Some((_, id)) = keys::parse_received_summary(key) else {
                continue;
            };
            commit.require_at(key.clone(), value.version).delete(key.clone());
            commit.delete(keys::received_report(kind, &id));
            totals.received = totals.received.saturating_sub(1);
        }
        commit.put(keys::report_totals(), totals.encode_to_vec());
        match self.db().commit(commit).await {
            Ok(_) => Ok(page.more),
            // Others are busy: at the next round.
            Err(crate::engine::EngineError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
