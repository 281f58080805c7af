//! Adding up what was recorded.
//!
//! One commit takes rows out of the inbox and puts what they add up to, on condition that all of it is as it was read.
//! So nothing is counted twice, whoever does it; and the bounds are known to hold.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mox_proto::report::v1::{
    Bundle, BundleId, BundleKind, BundleTotals, DmarcEvaluation, DmarcPolicyPublished, DmarcRow, Recorded,
    TlsFailureDetails, TlsPolicyType, TlsResult,
};
use mox_types::Domain;
use prost::Message as _;

use super::{ATTEMPTS, ReportError, Reports, bounds, period};
use crate::engine::{Commit, EngineError, Limit, Order, Value};
use crate::keys::{self, REPORT_DIGEST};

/// Rows of the inbox that are added up by one commit.
const FOLD: usize = 200;

/// A row of a bundle.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Dmarc(DmarcRow),
    Tls(TlsResult),
}

impl Row {
    /// What rows that become one have in common.
    fn digest(&self) -> [u8; REPORT_DIGEST] {
        let bytes = match self {
            Self::Dmarc(row) => DmarcRow {
                count: 0,
                ..row.clone()
            }
            .encode_to_vec(),
            Self::Tls(result) => TlsResult {
                recipient_domain: String::new(),
                success_count: 0,
                failure_count: 0,
                failures: Vec::new(),
                ..result.clone()
            }
            .encode_to_vec(),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let mut short = [0; REPORT_DIGEST];
        short.copy_from_slice(&digest.as_ref()[..REPORT_DIGEST]);
        short
    }

    fn count(&self) -> u64 {
        match self {
            Self::Dmarc(row) => row.count,
            Self::Tls(result) => result.success_count.saturating_add(result.failure_count),
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Dmarc(row) => row.encode_to_vec(),
            Self::Tls(result) => result.encode_to_vec(),
        }
    }

    /// From what is kept in a bundle of a kind.
    fn decode(kind: BundleKind, data: Bytes) -> Option<Self> {
        match kind {
            BundleKind::Dmarc => DmarcRow::decode(data).ok().map(Self::Dmarc),
            _ => TlsResult::decode(data).ok().map(Self::Tls),
        }
    }

    /// Adds another that is alike.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Dmarc(row), Self::Dmarc(other)) => row.count = row.count.saturating_add(other.count),
            (Self::Tls(result), Self::Tls(other)) => add_result(result, other),
            _ => {}
        }
    }
}

fn add_result(result: &mut TlsResult, other: &TlsResult) {
    result.success_count = result.success_count.saturating_add(other.success_count);
    result.failure_count = result.failure_count.saturating_add(other.failure_count);
    for failure in &other.failures {
        let alike = |known: &&mut TlsFailureDetails| {
            **known
                == TlsFailureDetails {
                    failed_session_count: known.failed_session_count,
                    ..failure.clone()
                }
        };
        if let Some(known) = result.failures.iter_mut().find(alike) {
            known.failed_session_count = known.failed_session_count.saturating_add(failure.failed_session_count);
        } else if result.failures.len() < bounds::FAILURES {
            result.failures.push(failure.clone());
        }
        // What there is no room for is in the count of all.
    }
}

/// What is to be added to a bundle.
#[derive(Debug, Default)]
struct Addition {
    begin: i64,
    wanted: bool,
    policy: Option<DmarcPolicyPublished>,
    rows: BTreeMap<[u8; REPORT_DIGEST], Row>,
}

/// What some rows of the inbox add up to. Bundles by their keys.
#[derive(Debug, Default)]
struct Sum {
    bundles: BTreeMap<Bytes, (BundleId, Addition)>,
    received: Vec<Recorded>,
    count: u64,
}

impl Sum {
    fn of(rows: &[(Bytes, Value)]) -> Self {
        let mut sum = Self::default();
        for (_, value) in rows {
            let Ok(recorded) = Recorded::decode(value.data.clone()) else {
                tracing::error!("what was recorded for a report is damaged, and left out");
                continue;
            };
            for evaluation in &recorded.evaluations {
                sum.evaluation(evaluation, recorded.at);
            }
            for result in &recorded.tls_results {
                sum.result(result, recorded.at);
            }
            if recorded.received.is_some() {
                sum.received.push(recorded);
            }
        }
        sum
    }

    fn bundle(&mut self, kind: BundleKind, domain: &str, (begin, end): (i64, i64)) -> Option<&mut Addition> {
        let domain: Domain = domain.parse().ok()?;
        let id = BundleId {
            kind: kind.into(),
            domain: domain.ascii().to_owned(),
            end,
        };
        let (_, addition) = self
            .bundles
            .entry(keys::report_bundle(&id))
            .or_insert_with(|| (id, Addition::default()));
        addition.begin = begin;
        Some(addition)
    }

    fn evaluation(&mut self, evaluation: &DmarcEvaluation, recorded: i64) {
        let (Some(policy), Some(row)) = (&evaluation.policy, &evaluation.row) else {
            return;
        };
        // Whoever's clock is wrong does not put it off for ever.
        let at = match evaluation.at {
            at if (recorded - 24 * 3600 * 1000..=recorded + 60_000).contains(&at) => at,
            _ => recorded,
        };
        let period = period::of(at, evaluation.interval_seconds);
        let Some(addition) = self.bundle(BundleKind::Dmarc, &policy.domain, period) else {
            return;
        };
        addition.wanted |= !evaluation.optional;
        addition.policy = Some(policy.clone());
        let row = Row::Dmarc(DmarcRow {
            count: row.count.max(1),
            ..row.clone()
        });
        addition.put(&row);
        self.count = self.count.saturating_add(row.count());
    }

    fn result(&mut self, result: &TlsResult, at: i64) {
        // RFC 8460 §4.1: a day in UTC.
        let period = period::of(at, 0);
        let row = Row::Tls(result.clone());
        let failed = result.failure_count > 0;
        // A host with TLSA records is told of what is about it, whoever mail was for. A domain that is its own host is
        // told once.
        let of_host = result.policy_type() == TlsPolicyType::Tlsa && result.policy_domain != result.recipient_domain;
        let host = of_host.then_some((BundleKind::TlsHost, &result.policy_domain));
        let all = [Some((BundleKind::TlsDomain, &result.recipient_domain)), host];
        for (kind, domain) in all.into_iter().flatten() {
            if let Some(addition) = self.bundle(kind, domain, period) {
                addition.wanted |= failed;
                addition.put(&row);
            }
        }
        self.count = self.count.saturating_add(row.count());
    }
}

impl Addition {
    fn put(&mut self, row: &Row) {
        match self.rows.entry(row.digest()) {
            std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().add(row),
            std::collections::btree_map::Entry::Vacant(place) => _ = place.insert(row.clone()),
        }
    }
}

impl Reports {
    /// Adds up some of what was recorded; answers with how many rows of the inbox that were.
    pub(super) async fn fold(&self) -> Result<usize, ReportError> {
        for _ in 0..ATTEMPTS {
            let page = self
                .db()
                .scan(keys::report_inbox_all(), Limit::rows(FOLD), Order::Ascending)
                .await?;
            if page.rows.is_empty() {
                return Ok(0);
            }
            let sum = Sum::of(&page.rows);
            let mut commit = Commit::new();
            for (key, value) in &page.rows {
                commit.require_at(key.clone(), value.version).delete(key.clone());
            }
            let outcome = self.plan(&sum, &mut commit).await?;
            match self.db().commit(commit).await {
                Ok(_) => {
                    outcome.tell(self, sum.count);
                    return Ok(page.rows.len());
                }
                // Another did it, or a bundle was sent meanwhile.
                Err(EngineError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReportError::Contended)
    }

    async fn plan(&self, sum: &Sum, commit: &mut Commit) -> Result<Outcome, ReportError> {
        let mut wanted = vec![keys::report_totals()];
        for (key, (id, addition)) in &sum.bundles {
            wanted.push(key.clone());
            wanted.extend(addition.rows.keys().map(|digest| keys::report_row(id, digest)));
        }
        let values = self.db().get_many(wanted.clone()).await?;
        let known: HashMap<Bytes, Value> = wanted
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let totals_value = known.get(&keys::report_totals());
        let mut totals = match totals_value {
            Some(value) => {
                BundleTotals::decode(value.data.clone()).map_err(|_| ReportError::Damaged("the size of reports"))?
            }
            None => BundleTotals::default(),
        };
        let before = totals;
        let mut outcome = Outcome::default();
        for (key, (id, addition)) in &sum.bundles {
            add_to_bundle(commit, &known, key, id, addition, &mut totals, &mut outcome)?;
        }
        outcome.arrivals = self.receive(&sum.received, commit, &mut totals).await?;
        outcome.bundles = totals.bundles;
        if totals != before {
            commit.require_unchanged(keys::report_totals(), totals_value);
            commit.put(keys::report_totals(), totals.encode_to_vec());
        }
        Ok(outcome)
    }
}

fn add_to_bundle(
    commit: &mut Commit,
    known: &HashMap<Bytes, Value>,
    key: &Bytes,
    id: &BundleId,
    addition: &Addition,
    totals: &mut BundleTotals,
    outcome: &mut Outcome,
) -> Result<(), ReportError> {
    let value = known.get(key);
    commit.require_unchanged(key.clone(), value);
    let mut bundle = match value {
        Some(value) => Bundle::decode(value.data.clone()).map_err(|_| ReportError::Damaged("a bundle of reports"))?,
        None if totals.bundles >= bounds::BUNDLES => {
            outcome.omitted = addition
                .rows
                .values()
                .fold(outcome.omitted, |sum, row| sum.saturating_add(row.count()));
            return Ok(());
        }
        None => {
            totals.bundles += 1;
            let due = period::due(id, addition.begin);
            commit.put(keys::report_due(due, id), Bytes::new());
            Bundle {
                id: Some(id.clone()),
                begin: addition.begin,
                due,
                ..Bundle::default()
            }
        }
    };
    bundle.wanted |= addition.wanted;
    if addition.policy.is_some() {
        bundle.policy.clone_from(&addition.policy);
    }
    for (digest, row) in &addition.rows {
        let row_key = keys::report_row(id, digest);
        let kept = known.get(&row_key).and_then(|value| {
            let size = value.data.len() as u64;
            Some((Row::decode(id.kind(), value.data.clone())?, size))
        });
        let is_new = kept.is_none();
        let (whole, size) = match kept {
            Some((mut kept, size)) => {
                kept.add(row);
                (kept, size)
            }
            None => (row.clone(), 0),
        };
        let data = whole.encode();
        let more = (data.len() as u64).saturating_sub(size);
        let fits = bundle.bytes + more <= bounds::BUNDLE_BYTES
            && totals.bytes + more <= bounds::BYTES
            && !(is_new && bundle.rows >= bounds::ROWS);
        if !fits {
            bundle.omitted = bundle.omitted.saturating_add(row.count());
            outcome.omitted = outcome.omitted.saturating_add(row.count());
            continue;
        }
        bundle.rows += u32::from(is_new);
        bundle.bytes += more;
        totals.bytes += more;
        commit.put(row_key, data);
    }
    commit.put(key.clone(), bundle.encode_to_vec());
    Ok(())
}

/// What is told of after the commit.
#[derive(Default)]
struct Outcome {
    omitted: u64,
    bundles: u64,
    arrivals: Vec<super::received::Arrival>,
}

impl Outcome {
    fn tell(self, reports: &Reports, recorded: u64) {
        reports.0.metrics.recorded(recorded, self.omitted);
        reports
            .0
            .metrics
            .bundles
            .set(i64::try_from(self.bundles).unwrap_or(i64::MAX));
        for arrival in self.arrivals {
            arrival.tell(reports);
        }
    }
}
