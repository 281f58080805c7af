//! What a decision about a message costs, by how much history an account has with those who send to it:
//! `cargo bench -p mox-store --bench decide [-- COUNT [DIRECTORY]]`.
//!
//! Fills the history with 0, a hundredth of COUNT and COUNT judged messages (default: a million), half of them from the
//! senders that are asked about and from their networks, half from others, and asks what is to become of messages from
//! somebody whose address is known, from an unknown address of a known domain, from an unknown domain in a known network,
//! and from a stranger. DIRECTORY is on the disk to be measured (default: the system's folder for temporary files).

mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::Validation;
use mox_proto::delivery::v1::delivery_service_client::DeliveryServiceClient;
use mox_proto::delivery::v1::delivery_service_server::DeliveryServiceServer;
use mox_proto::mail::v1 as mail;
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_rpc::{Channel, Identity};
use mox_store::account::history;
use mox_store::auth::Sessions;
use mox_store::delivery::Delivery;
use mox_store::engine::{Commit, Db, Options, RocksEngine};
use mox_types::{AccountId, MessageId};
use tonic::service::Routes;
use world::{NOW, World};

const COUNT: u64 = 1_000_000;
/// Messages of one commit of the history.
const BATCH: u64 = 2000;
/// Decisions that are timed of each kind; the median counts.
const DECISIONS: usize = 1000;
/// Messages are spread over so many seconds before now: all of them count, also for networks.
const SPAN: u64 = 60 * 24 * 3600;

struct Bench {
    delivery: DeliveryServiceClient<Channel>,
    db: Db,
    engine: Arc<RocksEngine>,
    account: AccountId,
    /// Messages in the history.
    filled: u64,
    _dir: tempfile::TempDir,
}

/// Somebody who sends.
struct Peer {
    what: &'static str,
    localpart: String,
    domain: String,
    ip: [u8; 4],
}

impl Peer {
    fn new(what: &'static str, localpart: &str, domain: &str, ip: [u8; 4]) -> Self {
        Self {
            what,
            localpart: localpart.into(),
            domain: domain.into(),
            ip,
        }
    }

    fn envelope(&self) -> api::Envelope {
        let [a, b, c, d] = self.ip;
        api::Envelope {
            mail_from: format!("bounces@{}", self.domain),
            mail_from_validation: Validation::Pass.into(),
            ehlo: format!("mx.{}", self.domain),
            ehlo_validation: Validation::Pass.into(),
            remote_ip: format!("{a}.{b}.{c}.{d}"),
            msg_from: format!("{}@{}", self.localpart, self.domain),
            msg_from_validation: Validation::Strict.into(),
            msg_from_org_domain: self.domain.clone(),
            dkim_domains: vec![self.domain.clone()],
            tls_version: "TLS1.3".into(),
            ..Default::default()
        }
    }

    /// A message that the account's user judged, as its record names the sender.
    fn judged(&self, received: i64) -> record::Message {
        let [a, b, c, d] = self.ip;
        record::Message {
            id: MessageId::new().to_bytes(),
            received,
            msg_from_localpart: self.localpart.clone(),
            msg_from_domain: self.domain.clone(),
            msg_from_org_domain: self.domain.clone(),
            msg_from_validation: Validation::Strict.into(),
            mail_from: format!("bounces@{}", self.domain),
            mail_from_domain: self.domain.clone(),
            mail_from_validation: Validation::Pass.into(),
            ehlo: format!("mx.{}", self.domain),
            ehlo_validation: Validation::Pass.into(),
            dkim_domains: vec![self.domain.clone()],
            remote_ip_network1: format!("{a}.{b}.{c}.{d}"),
            remote_ip_network2: format!("{a}.{b}.{c}.{}", d & 0xc0),
            remote_ip_network3: format!("{a}.{b}.{}.0", c & 0xf8),
            ..Default::default()
        }
    }
}

/// Who is asked about, and why the message is to be where it goes once there is a history.
fn askers() -> [(Peer, &'static str); 4] {
    let known = [198, 51, 100, 7];
    [
        (
            Peer::new("known address", "joe", "known.example", known),
            "reputation-address",
        ),
        (
            Peer::new("known domain", "new", "known.example", known),
            "reputation-domain",
        ),
        (
            Peer::new("known network", "joe", "new.example", known),
            "reputation-network",
        ),
        (
            Peer::new("stranger", "joe", "stranger.example", [203, 0, 113, 9]),
            "no-bad-signals",
        ),
    ]
}

impl Bench {
    async fn new(dir: tempfile::TempDir) -> anyhow::Result<Self> {
        let engine = Arc::new(RocksEngine::open(&Options::new(dir.path()))?);
        let db: Db = engine.clone();
        let World {
            registry,
            accounts,
            contents,
            account,
        } = World::open(db.clone(), Sessions::default()).await?;
        let routes = Routes::new(DeliveryServiceServer::new(Delivery::new(accounts, contents, registry)));
        Ok(Self {
            delivery: DeliveryServiceClient::new(Channel::in_process(routes, Identity::new("smtp-in"))),
            db,
            engine,
            account,
            filled: 0,
            _dir: dir,
        })
    }

    /// Adds to the history until it has so many messages.
    async fn fill(&mut self, count: u64) -> anyhow::Result<()> {
        let known = Peer::new("", "joe", "known.example", [198, 51, 100, 7]);
        while self.filled < count {
            let mut commit = Commit::new();
            for n in self.filled..count.min(self.filled + BATCH) {
                let received = NOW - i64::try_from(n.wrapping_mul(7919) % SPAN)?;
                let message = if n % 2 == 0 {
                    known.judged(received)
                } else {
                    // Others: thousands of domains, each with its network.
                    let other = n % 10_000;
                    let domain = format!("d{other}.example");
                    let [a, b] = u16::try_from(other)?.to_be_bytes();
                    Peer::new("", &format!("u{}", n % 7), &domain, [10, a, b, 1]).judged(received)
                };
                for (key, value) in history::entries(self.account, &message, Training::Notjunk) {
                    commit.put(key, value);
                }
            }
            self.db.commit(commit).await?;
            self.filled = count.min(self.filled + BATCH);
        }
        Ok(())
    }

    /// Waits until what was filled in is in order: years of mail would not come at once.
    async fn settle(&self) {
        let busy = [
            "rocksdb.num-running-compactions",
            "rocksdb.compaction-pending",
            "rocksdb.num-running-flushes",
            "rocksdb.mem-table-flush-pending",
        ];
        let mut idle = 0;
        while idle < 5 {
            let works = busy.iter().any(|name| self.engine.property(name) > 0);
            idle = if works { 0 } else { idle + 1 };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How long a decision takes, at the median.
    async fn decide(&self, from: &Peer, reason: &str) -> anyhow::Result<Duration> {
        let content = format!(
            "From: {}@{}\r\nTo: a@example.org\r\nSubject: hello\r\n\r\nhello\r\n",
            from.localpart, from.domain
        );
        let request = api::AssessRequest {
            envelope: Some(from.envelope()),
            size: content.len() as u64,
            content: Some(mail::Content {
                r#where: Some(mail::content::Where::Inline(Bytes::from(content))),
            }),
            recipients: vec![api::Recipient {
                rcpt_to: "a@example.org".into(),
                account_id: self.account.to_bytes(),
                address: "a@example.org".into(),
                ..Default::default()
            }],
        };
        let mut client = self.delivery.clone();
        let mut times = Vec::with_capacity(DECISIONS);
        for _ in 0..DECISIONS {
            let request = request.clone();
            let start = Instant::now();
            let answer = client.assess(request).await?.into_inner();
            times.push(start.elapsed());
            let verdict = answer.verdicts.first().context("no verdict")?;
            let expected = if self.filled == 0 { "no-bad-signals" } else { reason };
            ensure!(verdict.reason == expected, "{}: {}", from.what, verdict.reason);
        }
        times.sort_unstable();
        Ok(times[DECISIONS / 2])
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let count = arguments.next().map_or(Ok(COUNT), |a| a.parse()).context("COUNT")?;
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut bench = Bench::new(tempfile::tempdir_in(place)?).await?;
    for count in [0, count / 100, count] {
        let start = Instant::now();
        bench.fill(count).await?;
        bench.settle().await;
        println!("{count} judged messages (in {:.1?})", start.elapsed());
        for (from, reason) in askers() {
            println!("  {:<14} {:>8.1?}", from.what, bench.decide(&from, reason).await?);
        }
    }
    Ok(())
}
