//! Sending reports: about DMARC to the domains of senders, about TLS to the domains and hosts of recipients.
//!
//! The store keeps what is to be reported, in bundles of a domain and a period, and says which are due. Of the processes
//! like this one, the one that holds the lease of the job looks up who wants reports, composes and signs them, and has
//! the store put them into the queue: in the commit that removes the bundle, so that none is sent twice, whatever
//! happens to the lease. What is to be posted by HTTPS (RFC 8460 §5.4) is left in the bundle until it was taken or a day
//! is over; it can arrive twice, with the same identifier, when this process ends before the store heard of it.
//!
//! Reports are from `postmaster` at the host's name, signed with the keys of the host's domain, or the nearest above it
//! that is ours. What could not be found out of DNS is tried again, and then given up: reports are a courtesy.

mod destinations;
mod letter;
mod metrics;
mod post;

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use mox_config::Static;
use mox_dns::Resolver;
use mox_proto::report::v1::report_job_service_client::ReportJobServiceClient;
use mox_proto::report::v1::{
    AcquireLeaseRequest, Bundle, BundleId, BundleKind, DmarcRow, FinishBundleRequest, GetBundleRequest, ListDueRequest,
    OutgoingReport, TlsResult,
};
use mox_rpc::Channel;
use mox_service::{Clock, ConfigWatch, Shutdown};
use mox_submit::Signing;
use prometheus_client::registry::Registry;
use tonic::Status;

use self::metrics::Metrics;
pub(crate) use self::post::Poster;

/// The name of the lease.
const JOB: &str = "reports";
/// How long a lease is. It is renewed at half of it.
const LEASE_SECONDS: u32 = 300;
/// How often the store is asked without a reason.
const POLL_MILLIS: i64 = 5 * 60 * 1000;
/// Bundles that are asked for at once.
const BATCH: u32 = 20;
/// Between tries to find out who wants a report: a moment's trouble is soon over, others take hours.
const AGAIN_MILLIS: [i64; 4] = [60_000, 15 * 60_000, 3_600_000, 4 * 3_600_000];
/// Bundles that are posted at once, so that few that hang don't hold up others. All of a batch take less than a lease.
const POSTS: usize = 8;
/// Between tries to post a report, from the second on: within 24 hours, twice as long each time (RFC 8460 §5.5).
const POST_AGAIN_MILLIS: [i64; 6] = [
    15 * 60_000,
    30 * 60_000,
    3_600_000,
    2 * 3_600_000,
    4 * 3_600_000,
    8 * 3_600_000,
];
/// Pages of a bundle: the store bounds bundles to less than two.
const PAGES: usize = 8;

/// Sends reports.
pub(crate) struct Jobs {
    name: String,
    store: ReportJobServiceClient<Channel>,
    fixed: Arc<Static>,
    config: ConfigWatch,
    resolver: Arc<dyn Resolver>,
    clock: Clock,
    signing: Signing,
    poster: Poster,
    metrics: Metrics,
}

/// What there is to be reported.
enum Rows {
    Dmarc(Vec<DmarcRow>),
    Tls(Vec<TlsResult>),
}

/// What is to be done about a bundle.
enum Plan {
    /// To send these; nothing if nobody wants any; and to post it to these URIs. For what reason, for the figures.
    Send(Vec<OutgoingReport>, Vec<String>, &'static str),
    /// It was posted, but these URIs did not take it.
    Posted(Vec<String>),
    /// It could not be found out now.
    Later,
}

impl Plan {
    fn nobody(why: &'static str) -> Self {
        Self::Send(Vec::new(), Vec::new(), why)
    }
}

impl Jobs {
    pub(crate) fn new(
        name: String,
        store: Channel,
        fixed: Arc<Static>,
        config: ConfigWatch,
        resolver: Arc<dyn Resolver>,
        clock: Clock,
        poster: Poster,
        registry: &mut Registry,
    ) -> Self {
        Self {
            name,
            store: ReportJobServiceClient::new(store),
            fixed,
            config,
            resolver,
            clock,
            signing: Signing::default(),
            poster,
            metrics: Metrics::new(registry),
        }
    }

    /// Works until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        loop {
            let next = tokio::select! {
                () = shutdown.begun() => break,
                next = self.round() => next,
            };
            let next = next.unwrap_or_else(|status| {
                tracing::info!(
                    error = status.message(),
                    "store does not say which reports are due, trying again"
                );
                self.clock.unix_millis() + POLL_MILLIS
            });
            tokio::select! {
                () = shutdown.begun() => break,
                () = self.clock.sleep_until_unix_millis(next) => {}
            }
        }
        // Another can go on at once.
        if let Err(status) = self.acquire(0).await {
            tracing::debug!(error = status.message(), "giving back the lease of sending reports");
        }
    }

    async fn acquire(&self, seconds: u32) -> Result<bool, Status> {
        let request = AcquireLeaseRequest {
            name: JOB.into(),
            holder: self.name.clone(),
            seconds,
        };
        Ok(self.store.clone().acquire_lease(request).await?.into_inner().held)
    }

    /// Sends what is due; answers when to look again.
    async fn round(&self) -> Result<i64, Status> {
        // Without a configuration nothing can be signed.
        self.config.received().await;
        if !self.acquire(LEASE_SECONDS).await? {
            return Ok(self.clock.unix_millis() + POLL_MILLIS);
        }
        let mut renew = self.clock.unix_millis() + i64::from(LEASE_SECONDS) * 500;
        loop {
            let request = ListDueRequest {
                now: self.clock.unix_millis(),
                max: BATCH,
            };
            let due = self.store.clone().list_due(request).await?.into_inner();
            let latest = self.clock.unix_millis() + POLL_MILLIS;
            if due.bundles.is_empty() {
                // By the store's clock it may not be due yet.
                let soonest = self.clock.unix_millis() + 1000;
                return Ok(due.next_due.map_or(latest, |at| at.clamp(soonest, latest)));
            }
            let (posts, others): (Vec<_>, Vec<_>) = due.bundles.into_iter().partition(|b| !b.left.is_empty());
            for bundle in others {
                if self.clock.unix_millis() >= renew {
                    if !self.acquire(LEASE_SECONDS).await? {
                        return Ok(self.clock.unix_millis() + POLL_MILLIS);
                    }
                    renew = self.clock.unix_millis() + i64::from(LEASE_SECONDS) * 500;
                }
                self.report(bundle).await?;
            }
            if !posts.is_empty() {
                if !self.acquire(LEASE_SECONDS).await? {
                    return Ok(self.clock.unix_millis() + POLL_MILLIS);
                }
                renew = self.clock.unix_millis() + i64::from(LEASE_SECONDS) * 500;
                let posting = stream::iter(posts).map(|bundle| self.report(bundle));
                let done: Vec<_> = posting.buffer_unordered(POSTS).collect().await;
                done.into_iter().collect::<Result<(), Status>>()?;
            }
        }
    }

    /// Sends the reports about a bundle.
    async fn report(&self, bundle: Bundle) -> Result<(), Status> {
        let id = bundle.id.clone().unwrap_or_default();
        let (kind, domain) = (id.kind(), id.domain.clone());
        let plan = match self.is_wanted(&bundle) {
            Some(why) => Plan::nobody(why),
            None => match self.rows(&bundle).await? {
                // It changed meanwhile, and is looked at again.
                None => return Ok(()),
                Some(Rows::Dmarc(rows)) => self.dmarc(&bundle, &domain, rows).await,
                Some(Rows::Tls(results)) if !bundle.left.is_empty() => self.post(&bundle, &domain, results).await,
                Some(Rows::Tls(results)) => self.tls(&bundle, &domain, results).await,
            },
        };
        let mut request = FinishBundleRequest {
            key: mox_rpc::key(),
            id: Some(id),
            version: bundle.version,
            ..FinishBundleRequest::default()
        };
        let now = self.clock.unix_millis();
        let why = match plan {
            Plan::Send(reports, posts, why) => {
                request.reports = reports;
                if !posts.is_empty() {
                    (request.left, request.again) = (posts, now);
                }
                why
            }
            Plan::Posted(left) if left.is_empty() => "posted",
            Plan::Posted(left) => match POST_AGAIN_MILLIS.get(bundle.attempts as usize) {
                Some(pause) => {
                    (request.left, request.again) = (left, now + pause);
                    "post-again"
                }
                None => "not-posted",
            },
            Plan::Later => match AGAIN_MILLIS.get(bundle.attempts as usize) {
                Some(pause) => {
                    request.again = now + pause;
                    "later"
                }
                None => "not-found-out",
            },
        };
        let done = self.store.clone().finish_bundle(request).await?.into_inner();
        if done.stale {
            return Ok(());
        }
        tracing::info!(
            ?kind,
            domain,
            rows = bundle.rows,
            result = why,
            sent = done.enqueued,
            suppressed = done.suppressed.len(),
            "report"
        );
        self.metrics.reported(kind, why, done.enqueued, done.suppressed.len());
        Ok(())
    }

    /// Why there is to be no report about a bundle, whoever asks for it.
    fn is_wanted(&self, bundle: &Bundle) -> Option<&'static str> {
        let (off, all) = match bundle.id.as_ref().map(BundleId::kind) {
            Some(BundleKind::Dmarc) => (self.fixed.no_outgoing_dmarc_reports, false),
            _ => (
                self.fixed.no_outgoing_tls_reports,
                self.fixed.outgoing_tls_reports_for_all_success,
            ),
        };
        if off {
            Some("off")
        } else if !bundle.wanted && !all {
            Some("nothing-to-tell")
        } else {
            None
        }
    }

    /// All rows of a bundle; none if it changed.
    async fn rows(&self, bundle: &Bundle) -> Result<Option<Rows>, Status> {
        let (mut dmarc, mut tls) = (Vec::new(), Vec::new());
        let mut page_token = bytes::Bytes::new();
        for _ in 0..PAGES {
            let request = GetBundleRequest {
                id: bundle.id.clone(),
                page_token,
            };
            let page = self.store.clone().get_bundle(request).await?.into_inner();
            if page.bundle.is_none_or(|now| now.version != bundle.version) {
                return Ok(None);
            }
            dmarc.extend(page.dmarc_rows);
            tls.extend(page.tls_results);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let is_dmarc = bundle.id.as_ref().is_some_and(|id| id.kind() == BundleKind::Dmarc);
        Ok(Some(if is_dmarc { Rows::Dmarc(dmarc) } else { Rows::Tls(tls) }))
    }
}
