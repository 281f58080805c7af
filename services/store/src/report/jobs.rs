//! Sending reports, for queue-delivery.

use bytes::Bytes;
use mox_proto::report::v1::{
    AcquireLeaseRequest, Bundle, BundleId, BundleKind, BundleTotals, DmarcRow, FinishBundleRequest,
    FinishBundleResponse, GetBundleRequest, GetBundleResponse, JobLease, ListBundlesRequest, ListBundlesResponse,
    ListDueRequest, ListDueResponse, OutgoingReport, TlsResult,
};
use mox_reports::uris::{self, Destination};
use prost::Message as _;

use super::{ATTEMPTS, ReportError, Reports};
use crate::content::{INLINE_BYTES, Staged};
use crate::engine::{Commit, EngineError, Limit, Order, Value};
use crate::queue::Submitter;
use crate::{idempotency, keys};

/// Longest lease of a periodic job.
const LEASE_MAX: u32 = 3600;
/// Octets of the name of a job or a holder.
const NAME: usize = 200;
/// Bundles of an answer.
const PAGE: usize = 500;
/// Reports about one bundle, and recipients of all of them.
const REPORTS: usize = 20;
/// Largest message with a report: what is in a bundle, in base64, is far less.
const MESSAGE: usize = 3 << 20;
/// Who makes the keys.
const SCOPE: &[u8] = b"report-finish";
/// What nobody sent for so long is removed: sending was switched off, or there is no queue-delivery.
const ABANDONED: i64 = 7 * 24 * 3600 * 1000;

impl Reports {
    /// Takes, renews or gives back the lease of a job.
    pub(super) async fn acquire(&self, request: &AcquireLeaseRequest) -> Result<bool, ReportError> {
        let named = |text: &str| (1..=NAME).contains(&text.len());
        if !named(&request.name) || !named(&request.holder) || request.seconds > LEASE_MAX {
            return Err(ReportError::Invalid(
                "a lease has a name, a holder, and an hour at most".into(),
            ));
        }
        let key = keys::job_lease(&request.name);
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let value = self.db().get(key.clone()).await?;
            if let Some(value) = &value {
                let lease = JobLease::decode(value.data.clone()).map_err(|_| ReportError::Damaged("a lease"))?;
                if lease.holder != request.holder && lease.until > now {
                    return Ok(false);
                }
            }
            let mut commit = Commit::new();
            commit.require_unchanged(key.clone(), value.as_ref());
            let lease = JobLease {
                holder: request.holder.clone(),
                until: now + i64::from(request.seconds) * 1000,
            };
            match request.seconds {
                0 => commit.delete(key.clone()),
                _ => commit.put(key.clone(), lease.encode_to_vec()),
            };
            match self.db().commit(commit).await {
                Ok(_) => return Ok(request.seconds > 0),
                Err(EngineError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReportError::Contended)
    }

    /// Bundles that are due.
    pub(super) async fn list_due(&self, request: &ListDueRequest) -> Result<ListDueResponse, ReportError> {
        let max = (request.max as usize).clamp(1, PAGE);
        let page = self
            .db()
            .scan(keys::report_due_all(), Limit::rows(max + 1), Order::Ascending)
            .await?;
        let due: Vec<(i64, BundleId)> = page
            .rows
            .iter()
            .filter_map(|(key, _)| keys::parse_report_due(key))
            .collect();
        let now = self.now().min(request.now);
        let ids: Vec<&BundleId> = due
            .iter()
            .take(max)
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| id)
            .collect();
        let bundles = self
            .db()
            .get_many(ids.iter().map(|id| keys::report_bundle(id)).collect())
            .await?;
        Ok(ListDueResponse {
            bundles: bundles.iter().flatten().map(decode).collect::<Result<_, _>>()?,
            next_due: due.get(ids.len()).map(|(at, _)| *at),
        })
    }

    /// A page of a bundle.
    pub(super) async fn get_bundle(&self, request: &GetBundleRequest) -> Result<GetBundleResponse, ReportError> {
        let id = request.id.clone().unwrap_or_default();
        let snapshot = self.db().snapshot().await?;
        let Some(value) = snapshot.get(keys::report_bundle(&id)).await? else {
            return Ok(GetBundleResponse::default());
        };
        let mut range = keys::report_rows(&id);
        if !request.page_token.is_empty() {
            range.start = request.page_token.clone().max(range.start);
        }
        let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        let mut answer = GetBundleResponse {
            bundle: Some(decode(&value)?),
            next_page_token: page.rest(&range).map(|rest| rest.start).unwrap_or_default(),
            ..GetBundleResponse::default()
        };
        let damaged = |_| ReportError::Damaged("what is to be reported");
        for (_, value) in page.rows {
            match id.kind() {
                BundleKind::Dmarc => answer.dmarc_rows.push(DmarcRow::decode(value.data).map_err(damaged)?),
                _ => answer.tls_results.push(TlsResult::decode(value.data).map_err(damaged)?),
            }
        }
        Ok(answer)
    }

    /// Bundles, by kind, domain and time.
    pub(super) async fn list_bundles(&self, request: &ListBundlesRequest) -> Result<ListBundlesResponse, ReportError> {
        let mut range = keys::report_bundles();
        if !request.page_token.is_empty() {
            range.start = request.page_token.clone().max(range.start);
        }
        let max = match request.max as usize {
            0 => PAGE,
            max => max.min(PAGE),
        };
        let page = self
            .db()
            .scan(range.clone(), Limit::rows(max), Order::Ascending)
            .await?;
        let next_page_token = page.rest(&range).map(|rest| rest.start).unwrap_or_default();
        let bundles = page.rows.iter().map(|(_, value)| decode(value));
        Ok(ListBundlesResponse {
            bundles: bundles.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    /// Puts reports into the queue, and removes what they are about, unless it is still to be posted somewhere.
    pub(super) async fn finish(&self, request: &FinishBundleRequest) -> Result<FinishBundleResponse, ReportError> {
        if !(8..=64).contains(&request.key.len()) {
            return Err(ReportError::Invalid("a key must have 8 to 64 bytes".into()));
        }
        let recipients: usize = request.reports.iter().map(|report| report.recipients.len()).sum();
        let large = request.reports.iter().any(|report| report.message.len() > MESSAGE);
        if request.reports.len() > REPORTS || recipients > REPORTS || large {
            return Err(ReportError::Invalid(format!(
                "at most {REPORTS} reports for as many recipients, of at most {MESSAGE} bytes each"
            )));
        }
        let posted = |uri: &String| matches!(uris::destination(uri), Some(Destination::Https(_)));
        if request.left.len() > REPORTS
            || !request.left.iter().all(posted)
            || (request.again == 0 && !request.left.is_empty())
        {
            return Err(ReportError::Invalid(format!(
                "what is left is posted later, to at most {REPORTS} https URIs"
            )));
        }
        let id = request.id.clone().unwrap_or_default();
        let digest = idempotency::digest(request);
        let staged = self.stage(&request.reports).await?;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            if let Some(kept) = idempotency::find(self.db(), now / 1000, SCOPE, &request.key, &digest).await? {
                return FinishBundleResponse::decode(kept).map_err(|_| ReportError::Damaged("a kept result"));
            }
            let value = self.db().get(keys::report_bundle(&id)).await?;
            let Some(value) = value.filter(|value| value.version == request.version) else {
                return Ok(FinishBundleResponse {
                    stale: true,
                    ..FinishBundleResponse::default()
                });
            };
            let bundle = decode(&value)?;
            let mut commit = Commit::new();
            let mut response = FinishBundleResponse::default();
            if request.again > 0 && request.left.is_empty() {
                let attempts = bundle.attempts.saturating_add(1);
                put_off(&mut commit, &id, &value, Bundle { attempts, ..bundle }, request.again);
            } else {
                for (report, content) in request.reports.iter().zip(&staged) {
                    self.enqueue(&mut commit, &mut response, id.kind(), report, content, now)
                        .await?;
                }
                let suppressed = self.suppressed(&request.left, now).await?;
                let left: Vec<String> = request
                    .left
                    .iter()
                    .filter(|uri| !suppressed.contains(uri))
                    .cloned()
                    .collect();
                response.suppressed.extend(suppressed);
                if left.is_empty() {
                    self.remove(&mut commit, &id, &value, &bundle).await?;
                } else {
                    put_off(&mut commit, &id, &value, posted_to(bundle, left), request.again);
                }
            }
            let kept: Bytes = response.encode_to_vec().into();
            idempotency::record(&mut commit, now / 1000, SCOPE, &request.key, &digest, &kept);
            match self.db().commit(commit).await {
                Ok(_) => {
                    if response.enqueued > 0 {
                        self.0.queue.publish();
                    }
                    return Ok(response);
                }
                Err(EngineError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReportError::Contended)
    }

    async fn stage(&self, reports: &[OutgoingReport]) -> Result<Vec<Staged>, ReportError> {
        let mut staged = Vec::with_capacity(reports.len());
        for report in reports {
            staged.push(match report.message.len() {
                ..=INLINE_BYTES => Staged::inline(report.message.clone()),
                _ => {
                    let uploaded = self.0.queue.contents().upload_bytes(report.message.clone()).await;
                    uploaded.map_err(tonic::Status::from)?
                }
            });
        }
        Ok(staged)
    }

    async fn enqueue(
        &self,
        commit: &mut Commit,
        response: &mut FinishBundleResponse,
        kind: BundleKind,
        report: &OutgoingReport,
        content: &Staged,
        now: i64,
    ) -> Result<(), ReportError> {
        let suppressed = self.suppressed(&report.recipients, now).await?;
        let wanted: Vec<&String> = report.recipients.iter().filter(|r| !suppressed.contains(r)).collect();
        response.suppressed.extend(suppressed);
        if wanted.is_empty() {
            return Ok(());
        }
        let submitter = self.submitter()?;
        self.0
            .queue
            .insert_reports(
                commit,
                &submitter,
                kind == BundleKind::Dmarc,
                report,
                &wanted,
                content,
                now,
            )
            .await?;
        response.enqueued += wanted.len() as u32;
        Ok(())
    }

    /// Whose reports are: the postmaster's.
    fn submitter(&self) -> Result<Submitter, ReportError> {
        let committed = self.0.registry.current();
        let postmaster = committed
            .dynamic
            .host
            .as_ref()
            .and_then(|host| host.postmaster.as_ref());
        let name = postmaster.map(|p| p.account.clone()).unwrap_or_default();
        let id = committed.id(&name).ok_or_else(|| {
            ReportError::Invalid("the postmaster, who sends reports, has no account: see mox.toml".into())
        })?;
        Ok(Submitter {
            id,
            name,
            login: String::new(),
        })
    }

    /// Removes a bundle with its rows.
    async fn remove(
        &self,
        commit: &mut Commit,
        id: &BundleId,
        value: &Value,
        bundle: &Bundle,
    ) -> Result<(), ReportError> {
        let totals_value = self.db().get(keys::report_totals()).await?;
        let mut totals = match &totals_value {
            Some(value) => {
                BundleTotals::decode(value.data.clone()).map_err(|_| ReportError::Damaged("the size of reports"))?
            }
            None => BundleTotals::default(),
        };
        totals.bundles = totals.bundles.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(bundle.bytes);
        commit.require_unchanged(keys::report_totals(), totals_value.as_ref());
        commit.put(keys::report_totals(), totals.encode_to_vec());
        commit.require_at(keys::report_bundle(id), value.version);
        commit.delete(keys::report_bundle(id));
        commit.delete(keys::report_due(bundle.due, id));
        let mut left = Some(keys::report_rows(id));
        while let Some(range) = left.take() {
            let page = self
                .db()
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await?;
            left = page.rest(&range);
            for (key, _) in page.rows {
                commit.delete(key);
            }
        }
        commit.set_frees();
        Ok(())
    }

    /// Removes bundles that nobody came for.
    pub(super) async fn clean_bundles(&self, now: i64) -> Result<(), ReportError> {
        loop {
            let page = self
                .db()
                .scan(keys::report_due_all(), Limit::rows(PAGE), Order::Ascending)
                .await?;
            let mut removed = false;
            for (key, _) in &page.rows {
                let Some((due, id)) = keys::parse_report_due(key) else {
                    continue;
                };
                if due + ABANDONED >= now {
                    return Ok(());
                }
                let mut commit = Commit::new();
                match self.db().get(keys::report_bundle(&id)).await? {
                    Some(value) => self.remove(&mut commit, &id, &value, &decode(&value)?).await?,
                    None => _ = commit.delete(key.clone()),
                }
                match self.db().commit(commit).await {
                    Ok(_) => removed = true,
                    Err(EngineError::Conflict { .. }) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            if !removed {
                return Ok(());
            }
        }
    }
}

/// Has a bundle be looked at again at a time.
fn put_off(commit: &mut Commit, id: &BundleId, value: &Value, mut bundle: Bundle, again: i64) {
    commit.require_at(keys::report_bundle(id), value.version);
    commit.delete(keys::report_due(bundle.due, id));
    bundle.due = again;
    commit.put(keys::report_due(again, id), Bytes::new());
    commit.put(keys::report_bundle(id), bundle.encode_to_vec());
}

/// A bundle that is left to be posted to some URIs.
fn posted_to(bundle: Bundle, left: Vec<String>) -> Bundle {
    match bundle.left.is_empty() {
        // What was tried until now was to find out who wants it.
        true => Bundle {
            reported: bundle.version,
            attempts: 0,
            left,
            ..bundle
        },
        false => Bundle {
            attempts: bundle.attempts.saturating_add(1),
            left,
            ..bundle
        },
    }
}

/// A bundle, with the version that it has.
fn decode(value: &Value) -> Result<Bundle, ReportError> {
    let bundle = Bundle::decode(value.data.clone()).map_err(|_| ReportError::Damaged("a bundle of reports"))?;
    Ok(Bundle {
        version: value.version,
        ..bundle
    })
}
