use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::received as about_received;
use bytes::Bytes;
use mox_config::{Account as AccountSettings, Domain as DomainSettings, Dynamic, Host, Postmaster};
use mox_events::Bus;
use mox_proto::delivery::v1 as delivery;
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::{CompleteRequest, Entry};
use mox_proto::report::v1::{received::Report as Carried, *};
use prost::Message as _;

use super::*;
use crate::account::Accounts;
use crate::auth::Sessions;
use crate::content::{Contents, EngineBlobs};
use crate::engine::{Commit, Limit, Options, Order, RocksEngine};
use crate::keys;

/// A midnight.
const DAY: i64 = 1_700_006_400_000;
const HOUR: i64 = 3_600_000;

struct World {
    reports: Reports,
    db: Db,
    clock: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

fn config() -> Dynamic {
    let domain: mox_types::Domain = "example.org".parse().unwrap();
    let dmarc = mox_config::Dmarc {
        localpart: "dmarc".parse().unwrap(),
        domain: None,
        account: "me".into(),
        mailbox: "Reports".into(),
    };
    let settings = DomainSettings {
        dmarc: Some(dmarc),
        ..DomainSettings::default()
    };
    let host = Host {
        hostnames: vec!["mail.example.org".parse().unwrap()],
        postmaster: Some(Postmaster {
            account: "me".into(),
            mailbox: "Postmaster".into(),
        }),
        tls_rpt: None,
        localserve: None,
    };
    Dynamic {
        domains: BTreeMap::from([(domain.clone(), settings)]),
        accounts: BTreeMap::from([("me".to_owned(), AccountSettings::new(domain))]),
        host: Some(host),
        ..Dynamic::default()
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let clock = Arc::new(AtomicI64::new(DAY + 1));
        let now = |unit: i64| {
            let clock = clock.clone();
            Arc::new(move || clock.load(Ordering::SeqCst) / unit) as Now
        };
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db.clone())), now(1));
        let accounts = Accounts::new(db.clone(), Arc::new(|_: &str| 0), now(1000), 1 << 20);
        let queue = Queue::new(db.clone(), contents, accounts.clone(), Bus::in_process(), now(1));
        let registry = Registry::open(db.clone(), Bus::in_process(), now(1), Sessions::default())
            .await
            .unwrap();
        let request = mox_proto::config::v1::CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: serde_json::to_vec(&config()).unwrap().into(),
            ..Default::default()
        };
        registry.commit(&request).await.unwrap();
        Self {
            reports: Reports::new(db.clone(), queue, registry, now(1)),
            db,
            clock,
            _dir: dir,
        }
    }

    fn at(&self, time: i64) {
        self.clock.store(time, Ordering::SeqCst);
    }

    async fn record(&self, evaluations: Vec<DmarcEvaluation>) {
        let request = RecordEvaluationRequest {
            key: mox_rpc::key(),
            evaluations,
        };
        for _ in 0..2 {
            self.reports.record(&request).await.unwrap();
        }
    }

    async fn fold(&self) {
        while self.reports.fold().await.unwrap() > 0 {}
    }

    async fn due(&self) -> ListDueResponse {
        let request = ListDueRequest {
            now: i64::MAX,
            max: 100,
        };
        self.reports.list_due(&request).await.unwrap()
    }

    async fn rows(&self, id: &BundleId) -> GetBundleResponse {
        let request = GetBundleRequest {
            id: Some(id.clone()),
            page_token: Bytes::new(),
        };
        self.reports.get_bundle(&request).await.unwrap()
    }

    async fn finish(&self, bundle: &Bundle, again: i64) -> FinishBundleResponse {
        let answer = self.finish_with(bundle, again, &[]).await;
        answer.unwrap()
    }

    /// As [`World::finish`], with URIs that are left to be posted to.
    async fn finish_with(
        &self,
        bundle: &Bundle,
        again: i64,
        left: &[&str],
    ) -> Result<FinishBundleResponse, ReportError> {
        let report = |to: &str| OutgoingReport {
            recipients: vec![to.into()],
            mail_from: "postmaster@mail.example.org".into(),
            msg_from: "postmaster@mail.example.org".into(),
            message: Bytes::from_static(b"Subject: report\r\n\r\nx\r\n"),
            ..OutgoingReport::default()
        };
        let request = FinishBundleRequest {
            key: mox_rpc::key(),
            id: bundle.id.clone(),
            version: bundle.version,
            reports: vec![report("a@one.example"), report("b@two.example")],
            again,
            left: left.iter().map(|uri| (*uri).to_owned()).collect(),
        };
        let answer = self.reports.finish(&request).await?;
        assert_eq!(self.reports.finish(&request).await?, answer, "repeated");
        Ok(answer)
    }

    async fn entries(&self) -> Vec<Entry> {
        let page = self
            .db
            .scan(keys::queue_entries(), Limit::default(), Order::Ascending)
            .await
            .unwrap();
        page.rows
            .into_iter()
            .map(|(_, value)| Entry::decode(value.data).unwrap())
            .collect()
    }

    /// Everything that is kept of bundles.
    async fn left(&self) -> usize {
        let all = keys::prefix(&[keys::REPORT]);
        let page = self.db.scan(all, Limit::default(), Order::Ascending).await.unwrap();
        page.rows.len()
    }
}

fn evaluation(at: i64, domain: &str, ip: &str) -> DmarcEvaluation {
    DmarcEvaluation {
        at,
        policy: Some(DmarcPolicyPublished {
            domain: domain.into(),
            p: "none".into(),
            ..DmarcPolicyPublished::default()
        }),
        row: Some(DmarcRow {
            source_ip: ip.into(),
            header_from: domain.into(),
            ..DmarcRow::default()
        }),
        interval_seconds: 3600,
        optional: false,
    }
}

#[tokio::test]
async fn evaluations_become_one_report_of_their_period() {
    let world = World::new().await;
    let one = |at, ip| evaluation(at, "sender.example", ip);
    world
        .record(vec![
            one(DAY, "192.0.2.1"),
            one(DAY + 1, "192.0.2.1"),
            one(DAY + 2, "192.0.2.2"),
        ])
        .await;
    world
        .record(vec![one(DAY, "192.0.2.1"), one(DAY - 1, "192.0.2.1")])
        .await;
    world.fold().await;
    let due = world.due().await;
    assert!(due.bundles.is_empty());
    world.at(due.next_due.unwrap());
    let due = world.due().await;
    let [bundle] = due.bundles.as_slice() else {
        panic!("{due:?}")
    };
    assert_eq!((bundle.begin, bundle.id.as_ref().unwrap().end), (DAY - HOUR, DAY));
    world.at(DAY + 2 * HOUR);
    let due = world.due().await;
    let [earlier, bundle] = due.bundles.as_slice() else {
        panic!("{due:?}")
    };
    assert_eq!((bundle.rows, bundle.wanted, bundle.omitted), (2, true, 0));
    let rows = world.rows(bundle.id.as_ref().unwrap()).await.dmarc_rows;
    let mut counts: Vec<_> = rows.iter().map(|row| (row.source_ip.as_str(), row.count)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [("192.0.2.1", 3), ("192.0.2.2", 1)]);

    // What is added after it was read is not lost.
    world.record(vec![one(DAY, "192.0.2.3")]).await;
    world.at(DAY + HOUR - 1);
    world.record(vec![one(DAY + HOUR - 2, "192.0.2.3")]).await;
    world.fold().await;
    world.at(DAY + 2 * HOUR);
    assert!(world.finish(bundle, 0).await.stale);
    let bundle = world.due().await.bundles.pop().unwrap();
    let put_off = world.finish(&bundle, DAY + 3 * HOUR).await;
    assert!(!put_off.stale && put_off.enqueued == 0);
    assert_eq!(world.due().await.bundles.len(), 1);
    assert_eq!(world.finish(earlier, 0).await.enqueued, 2);
    world.at(DAY + 3 * HOUR);
    let bundle = world.due().await.bundles.pop().unwrap();
    assert_eq!(bundle.attempts, 1);
    assert_eq!(world.finish(&bundle, 0).await.enqueued, 2);
    let entries = world.entries().await;
    assert_eq!(entries.len(), 4);
    for entry in entries {
        assert!(entry.dmarc_report && !entry.tls_report && entry.account == "me" && entry.dsn_notify == "NEVER");
    }
    // The totals are what is left.
    assert_eq!(world.left().await, 1);
    let totals = world.db.get(keys::report_totals()).await.unwrap().unwrap();
    assert_eq!(BundleTotals::decode(totals.data).unwrap(), BundleTotals::default());
}

#[tokio::test]
async fn what_is_optional_alone_is_not_wanted() {
    let world = World::new().await;
    let optional = DmarcEvaluation {
        optional: true,
        ..evaluation(DAY, "a.example", "192.0.2.1")
    };
    world
        .record(vec![
            optional.clone(),
            evaluation(DAY, "b.example", "192.0.2.1"),
            DmarcEvaluation {
                policy: Some(DmarcPolicyPublished {
                    domain: "b.example".into(),
                    ..Default::default()
                }),
                ..optional
            },
        ])
        .await;
    world.fold().await;
    world.at(DAY + 2 * HOUR);
    let mut bundles = world.due().await.bundles;
    bundles.sort_by_key(|bundle| bundle.id.clone().unwrap().domain);
    assert_eq!(bundles.iter().map(|b| b.wanted).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn bundles_are_bounded() {
    let world = World::new().await;
    for chunk in 0..3u32 {
        let many = (0..500).map(|n| {
            evaluation(
                DAY,
                "big.example",
                &std::net::Ipv4Addr::from(chunk * 500 + n).to_string(),
            )
        });
        world.record(many.collect()).await;
    }
    world.fold().await;
    world.at(DAY + 2 * HOUR);
    let bundle = world.due().await.bundles.pop().unwrap();
    assert_eq!((bundle.rows, bundle.omitted), (bounds::ROWS, 500));
    let mut long = evaluation(DAY, "long.example", "192.0.2.1");
    let dkim = DkimResult {
        domain: "x".repeat(10_000),
        selector: "y".repeat(10_000),
        ..DkimResult::default()
    };
    long.row.as_mut().unwrap().dkim = vec![dkim; 1000];
    world.record(vec![long]).await;
    world.fold().await;
    let id = BundleId {
        kind: BundleKind::Dmarc.into(),
        domain: "long.example".into(),
        end: DAY + HOUR,
    };
    assert!(world.rows(&id).await.dmarc_rows[0].encoded_len() < 12_000);
    // What nobody comes for is removed.
    world.at(DAY + 8 * 24 * HOUR);
    world.reports.clean().await.unwrap();
    assert_eq!(world.left().await, 1);
}

fn result(policy_type: TlsPolicyType, domain: &str, succeeded: u64, failed: u64) -> TlsResult {
    let details = TlsFailureDetails {
        result_type: TlsResultType::CertificateExpired.into(),
        receiving_mx_hostname: "mx.there.example".into(),
        failed_session_count: failed,
        ..TlsFailureDetails::default()
    };
    TlsResult {
        recipient_domain: "there.example".into(),
        policy_type: policy_type.into(),
        policy_domain: domain.into(),
        success_count: succeeded,
        failure_count: failed,
        failures: if failed > 0 { vec![details] } else { Vec::new() },
        ..TlsResult::default()
    }
}

#[tokio::test]
async fn tls_results_are_reported_to_domains_and_hosts() {
    let world = World::new().await;
    for (n, entry) in [
        Entry::default(),
        Entry::default(),
        Entry {
            tls_report: true,
            ..Entry::default()
        },
    ]
    .iter()
    .enumerate()
    {
        let request = CompleteRequest {
            key: mox_rpc::key(),
            tls_results: vec![
                result(TlsPolicyType::Sts, "there.example", 1, n as u64),
                result(TlsPolicyType::Tlsa, "mx.there.example", 2, 0),
            ],
            ..CompleteRequest::default()
        };
        let mut commit = Commit::new();
        on_outcome(&mut commit, entry, &request, DAY + n as i64);
        if !commit.operations.is_empty() {
            world.db.commit(commit).await.unwrap();
        }
    }
    world.fold().await;
    let bundles = world
        .reports
        .list_bundles(&ListBundlesRequest::default())
        .await
        .unwrap()
        .bundles;
    let [domain, host] = bundles.as_slice() else {
        panic!("{bundles:?}")
    };
    let (of_domain, of_host) = (domain.id.clone().unwrap(), host.id.clone().unwrap());
    assert_eq!(
        (of_domain.kind(), of_domain.domain.as_str(), domain.wanted),
        (BundleKind::TlsDomain, "there.example", true)
    );
    assert_eq!(
        (of_host.kind(), of_host.domain.as_str(), host.wanted),
        (BundleKind::TlsHost, "mx.there.example", false)
    );
    assert_eq!(of_host.end, DAY + 24 * HOUR);
    let mut rows = world.rows(&of_domain).await.tls_results;
    rows.sort_by_key(TlsResult::policy_type);
    assert_eq!(
        rows.iter()
            .map(|r| (r.success_count, r.failure_count))
            .collect::<Vec<_>>(),
        [(4, 0), (2, 1)]
    );
    assert_eq!(rows[1].failures[0].failed_session_count, 1);
    assert_eq!(world.rows(&of_host).await.tls_results.len(), 1);
}

#[tokio::test]
async fn addresses_that_refuse_reports_are_left_alone() {
    let world = World::new().await;
    let refused = Entry {
        dmarc_report: true,
        recipient: "A@one.example".into(),
        ..Entry::default()
    };
    let request = CompleteRequest {
        outcome: Outcome::Failed.into(),
        ..CompleteRequest::default()
    };
    let mut commit = Commit::new();
    on_outcome(&mut commit, &refused, &request, DAY);
    on_outcome(
        &mut commit,
        &Entry {
            recipient: "x@y.example".into(),
            ..Entry::default()
        },
        &request,
        DAY,
    );
    world.db.commit(commit).await.unwrap();
    world.record(vec![evaluation(DAY, "s.example", "192.0.2.1")]).await;
    world.fold().await;
    world.at(DAY + 2 * HOUR);
    let bundle = world.due().await.bundles.pop().unwrap();
    let answer = world.finish(&bundle, 0).await;
    assert_eq!(
        (answer.suppressed.as_slice(), answer.enqueued),
        (&["a@one.example".to_owned()][..], 1)
    );
    assert_eq!(world.entries().await[0].recipient, "b@two.example");
    let listed = async || {
        world
            .reports
            .list_suppressed(&ListSuppressedRequest::default())
            .await
            .unwrap()
            .suppressed
    };
    assert_eq!(listed().await.len(), 1);
    world.reports.remove_suppressed("a@one.example").await.unwrap();
    assert!(world.reports.remove_suppressed("a@one.example").await.is_err());
    let forever = Suppressed {
        address: "c@three.example".into(),
        ..Suppressed::default()
    };
    world.reports.add_suppressed(forever.clone()).await.unwrap();
    assert!(world.reports.add_suppressed(Suppressed::default()).await.is_err());
    world
        .reports
        .add_suppressed(Suppressed {
            address: "d@three.example".into(),
            until: DAY / 1000,
            ..forever
        })
        .await
        .unwrap();
    world.reports.clean().await.unwrap();
    assert_eq!(
        listed().await.iter().map(|s| s.address.as_str()).collect::<Vec<_>>(),
        ["c@three.example"]
    );
}

#[tokio::test]
async fn what_is_left_to_be_posted_is_kept_until_it_is() {
    let world = World::new().await;
    world.record(vec![evaluation(DAY, "s.example", "192.0.2.1")]).await;
    world.fold().await;
    let later = |hours| DAY + hours * HOUR;
    world.at(later(2));
    let due = async || world.due().await.bundles.pop().unwrap();
    // Finding out who wants it failed once.
    world.finish(&due().await, later(3)).await;
    world.at(later(3));
    let first = due().await;
    assert_eq!((first.attempts, first.reported), (1, 0));
    let (one, two) = ("https://one.example/tls", "https://two.example/tls");
    for (again, left) in [
        (0, one),
        (later(4), "mailto:a@one.example"),
        (later(4), "http://one.example/"),
    ] {
        assert!(world.finish_with(&first, again, &[left]).await.is_err(), "{left}");
    }
    // What goes by mail goes now, and once.
    let answer = world.finish_with(&first, later(4), &[one, two]).await.unwrap();
    assert_eq!((answer.enqueued, world.entries().await.len()), (2, 2));
    assert!(world.due().await.bundles.is_empty());
    world.at(later(4));
    let left = due().await;
    assert_eq!((left.attempts, left.reported), (0, first.version));
    assert_eq!(left.left, [one, two]);
    assert_eq!(world.rows(left.id.as_ref().unwrap()).await.dmarc_rows.len(), 1);
    // The first one took it, and the other says later that it wants none.
    world.finish_with(&left, later(5), &[two]).await.unwrap();
    world.at(later(5));
    let left = due().await;
    assert_eq!((left.attempts, left.reported, left.left.len()), (1, first.version, 1));
    let unwanted = Suppressed {
        address: two.into(),
        ..Suppressed::default()
    };
    world.reports.add_suppressed(unwanted).await.unwrap();
    let answer = world.finish_with(&left, later(6), &[two]).await.unwrap();
    assert!(answer.suppressed.contains(&two.to_owned()));
    world.reports.remove_suppressed(two).await.unwrap();
    assert_eq!(world.left().await, 1, "the totals are what is left");
    let totals = world.db.get(keys::report_totals()).await.unwrap().unwrap();
    assert_eq!(BundleTotals::decode(totals.data).unwrap(), BundleTotals::default());
}

#[tokio::test]
async fn a_job_is_done_by_one() {
    let world = World::new().await;
    let acquire = async |holder: &str, seconds| {
        let request = AcquireLeaseRequest {
            name: "reports".into(),
            holder: holder.into(),
            seconds,
        };
        world.reports.acquire(&request).await.unwrap()
    };
    assert!(acquire("a", 60).await && acquire("a", 60).await && !acquire("b", 60).await);
    world.at(DAY + 61_001);
    assert!(acquire("b", 60).await && !acquire("a", 60).await);
    assert!(!acquire("b", 0).await && acquire("a", 60).await);
    let nameless = AcquireLeaseRequest {
        holder: "a".into(),
        ..AcquireLeaseRequest::default()
    };
    assert!(world.reports.acquire(&nameless).await.is_err());
}

fn delivery_of(report: Carried, to: &str) -> delivery::DeliverRequest {
    delivery::DeliverRequest {
        key: mox_rpc::key(),
        envelope: Some(delivery::Envelope {
            msg_from: "reports@mail.big.example".into(),
            report: Some(Received { report: Some(report) }),
            ..delivery::Envelope::default()
        }),
        deliveries: vec![delivery::Delivery {
            recipient: Some(delivery::Recipient {
                address: to.into(),
                ..delivery::Recipient::default()
            }),
            ..delivery::Delivery::default()
        }],
        ..delivery::DeliverRequest::default()
    }
}

fn dmarc_report(domain: &str, id: &str) -> DmarcReport {
    DmarcReport {
        org_name: "Big".into(),
        report_id: id.into(),
        begin: DAY / 1000 - 86_400,
        end: DAY / 1000 - 1,
        policy: Some(DmarcPolicyPublished {
            domain: domain.into(),
            ..DmarcPolicyPublished::default()
        }),
        rows: vec![
            DmarcRow {
                count: 7,
                spf_aligned: true,
                ..DmarcRow::default()
            },
            DmarcRow {
                count: 2,
                ..DmarcRow::default()
            },
        ],
        ..DmarcReport::default()
    }
}

#[tokio::test]
async fn reports_of_others_are_kept_once_and_for_a_time() {
    let world = World::new().await;
    let deliver = async |report: DmarcReport, to: &str| {
        let request = delivery_of(Carried::Dmarc(report), to);
        let found = arrived(&world.reports.0.registry.current(), &request, world.reports.now());
        if let Some((key, data)) = &found {
            let mut commit = Commit::new();
            commit.put(key.clone(), data.clone());
            world.db.commit(commit).await.unwrap();
        }
        world.fold().await;
        found.is_some()
    };
    let list = async |domain: &str| {
        let request = ListReportsRequest {
            domain: domain.into(),
            max: 2,
            ..ListReportsRequest::default()
        };
        world
            .reports
            .list_received(keys::ReceivedKind::Dmarc, &request)
            .await
            .unwrap()
    };
    let report = dmarc_report("example.org", "1");
    assert!(deliver(report.clone(), "dmarc@example.org").await);
    assert!(deliver(report.clone(), "dmarc@example.org").await);
    assert!(!deliver(report.clone(), "me@example.org").await, "not expected there");
    assert!(
        !deliver(dmarc_report("other.example", "1"), "dmarc@example.org").await,
        "not about us"
    );
    let (found, _) = list("").await;
    let [summary] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (summary.domain.as_str(), summary.succeeded, summary.failed, summary.rows),
        ("example.org", 7, 2, 2)
    );
    assert_eq!(summary.from, "reports@mail.big.example");
    let request = GetReportRequest { id: summary.id.clone() };
    assert_eq!(world.reports.get_dmarc(&request).await.unwrap().1, report);
    assert!(world.reports.get_tls(&request).await.is_err());

    // Ends in a distant future.
    let odd = DmarcReport {
        end: DAY / 1000 + 10 * 86_400,
        ..dmarc_report("example.org", "odd")
    };
    assert!(deliver(odd, "dmarc@example.org").await);
    assert!(deliver(dmarc_report("sub.example.org", "2"), "dmarc@example.org").await);
    assert!(deliver(dmarc_report("example.org", "3"), "dmarc@example.org").await);
    let (first, token) = list("").await;
    assert!(first.len() == 2 && !token.is_empty());
    let request = ListReportsRequest {
        page_token: token,
        max: 2,
        ..ListReportsRequest::default()
    };
    let (second, _) = world
        .reports
        .list_received(keys::ReceivedKind::Dmarc, &request)
        .await
        .unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(list("sub.example.org").await.0.len(), 1);

    for n in 0..bounds::RECEIVED_OF_SENDER {
        assert!(deliver(dmarc_report("example.org", &format!("many{n}")), "dmarc@example.org").await);
    }
    let totals = world.db.get(keys::report_totals()).await.unwrap().unwrap();
    assert_eq!(
        BundleTotals::decode(totals.data).unwrap().received,
        u64::from(bounds::RECEIVED_OF_SENDER)
    );
    world.at(DAY + RETENTION.as_millis() as i64);
    world.reports.clean().await.unwrap();
    assert!(list("").await.0.is_empty());
    assert_eq!(world.left().await, 1);
}

#[tokio::test]
async fn tls_reports_are_about_a_domain_or_the_host() {
    let world = World::new().await;
    let committed = world.reports.0.registry.current();
    let about = |domain: &str| {
        let report = TlsReport {
            policies: vec![
                result(TlsPolicyType::Tlsa, "x.example", 1, 0),
                result(TlsPolicyType::Tlsa, domain, 1, 0),
            ],
            ..TlsReport::default()
        };
        let request = delivery_of(Carried::Tls(report), "dmarc@example.org");
        // TLS reports are not expected there.
        assert!(arrived(&committed, &request, DAY).is_none());
        let envelope = request.envelope.unwrap();
        about_received::about(&committed, &envelope.report.unwrap().report.unwrap())
    };
    assert_eq!(about("example.org"), Some(("example.org".into(), false)));
    assert_eq!(about("mail.example.org"), Some(("mail.example.org".into(), true)));
    assert_eq!(about("elsewhere.example"), None);
}
