//! Policies of domains: kept, fetched anew, refreshed; and what is demanded of hosts.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use mox_dns::{MailHosts, Record, Resolver, Status, ZoneResolver};
use mox_proto::policy::v1 as api;
use mox_proto::policy::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use mox_proto::queue::v1::RequireTls;
use mox_rpc::{Channel, Identity};
use mox_service::{Clock, ManualClock};
use mox_tlspolicy::ResultType;
use mox_tlspolicy::mtasts::{Connect, Fetcher, Mode, Stream};
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::service::Routes;
use tonic::{Request, Response};

use super::*;

/// The store's part, kept in memory.
#[derive(Default)]
struct Store {
    domains: Mutex<HashMap<String, api::DomainPolicy>>,
    hosts: Mutex<HashMap<String, api::Host>>,
    /// It fails.
    away: std::sync::atomic::AtomicBool,
}

struct Served(Arc<Store>);

type Answer<T> = Result<Response<T>, tonic::Status>;

impl Served {
    fn store(&self) -> Result<&Store, tonic::Status> {
        if self.0.away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(tonic::Status::unavailable("away"));
        }
        Ok(&self.0)
    }
}

#[tonic::async_trait]
impl PolicyService for Served {
    async fn get_domain(&self, request: Request<api::GetDomainRequest>) -> Answer<api::GetDomainResponse> {
        let policy = self.store()?.domains.lock().get(&request.into_inner().domain).cloned();
        Ok(Response::new(api::GetDomainResponse { policy }))
    }

    async fn put_domain(&self, request: Request<api::PutDomainRequest>) -> Answer<api::PutDomainResponse> {
        let policy = request.into_inner().policy.unwrap();
        self.store()?.domains.lock().insert(policy.domain.clone(), policy);
        Ok(Response::new(api::PutDomainResponse {}))
    }

    async fn claim_refresh(&self, _: Request<api::ClaimRefreshRequest>) -> Answer<api::ClaimRefreshResponse> {
        // Whatever is due is given once: it is put anew with another time.
        let mut all = self.store()?.domains.lock();
        let mut policies = Vec::new();
        for policy in all.values_mut().filter(|p| p.refresh == 1) {
            policies.push(policy.clone());
            policy.refresh = 2;
        }
        Ok(Response::new(api::ClaimRefreshResponse { policies }))
    }

    async fn get_host(&self, request: Request<api::GetHostRequest>) -> Answer<api::GetHostResponse> {
        let host = self.store()?.hosts.lock().get(&request.into_inner().name).cloned();
        Ok(Response::new(api::GetHostResponse { host }))
    }

    async fn put_host(&self, request: Request<api::PutHostRequest>) -> Answer<api::PutHostResponse> {
        let host = request.into_inner().host.unwrap();
        self.store()?.hosts.lock().insert(host.name.clone(), host);
        Ok(Response::new(api::PutHostResponse {}))
    }
}

/// DNS whose texts change.
#[derive(Default)]
struct Zone(Mutex<ZoneResolver>);

impl Zone {
    fn set(&self, texts: &[&str]) {
        let mut zone = ZoneResolver::new();
        zone.add("mta-sts.a.example", Record::A([192, 0, 2, 1].into()));
        for text in texts {
            zone.add("_mta-sts.a.example", Record::Txt(text.as_bytes().to_vec()));
        }
        *self.0.lock() = zone;
    }
}

#[async_trait]
impl Resolver for Zone {
    async fn lookup(&self, name: &str, record: mox_dns::RecordType) -> Result<mox_dns::Answer<Record>, mox_dns::Error> {
        let zone = self.0.lock().clone();
        zone.lookup(name, record).await
    }
}

/// The policy's host.
struct Web {
    tls: Arc<ServerConfig>,
    body: Mutex<Option<String>>,
    asked: std::sync::atomic::AtomicUsize,
}

struct ToWeb(Arc<Web>);

#[async_trait]
impl Connect for ToWeb {
    async fn connect(&self, _: SocketAddr) -> io::Result<Stream> {
        self.0.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let Some(body) = self.0.body.lock().clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let acceptor = tokio_rustls::TlsAcceptor::from(self.0.tls.clone());
        tokio::spawn(async move {
            let mut stream = acceptor.accept(theirs).await?;
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            stream.shutdown().await
        });
        Ok(Box::new(ours))
    }
}

struct Scene {
    store: Arc<Store>,
    zone: Arc<Zone>,
    web: Arc<Web>,
    client: Arc<ClientConfig>,
    clock: Clock,
    hand: ManualClock,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Scene {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["mta-sts.a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        Self {
            store: Arc::default(),
            zone: Arc::default(),
            web: Arc::new(Web {
                tls: Arc::new(tls),
                body: Mutex::default(),
                asked: std::sync::atomic::AtomicUsize::new(0),
            }),
            client: Arc::new(client),
            clock,
            hand,
        }
    }

    /// Another process, which remembers nothing itself.
    fn process(&self) -> Policies {
        let routes = Routes::new(PolicyServiceServer::new(Served(self.store.clone())));
        let store = Channel::in_process(routes, Identity::new("queue-delivery"));
        let fetcher = Fetcher::new(
            self.zone.clone(),
            Arc::new(ToWeb(self.web.clone())),
            self.client.clone(),
        );
        let memory = Arc::new(Memory::new(store, self.clock.clone()));
        Policies::new(self.zone.clone(), fetcher, memory, SecurityMetrics::default())
    }

    fn serve(&self, mode: &str, age: u64) {
        let body = format!("version: STSv1\nmode: {mode}\nmx: mx.a.example\nmax_age: {age}\n");
        *self.web.body.lock() = Some(body);
    }

    fn asked(&self) -> usize {
        self.web.asked.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn mode(sts: &Sts) -> Option<Mode> {
    sts.policy().map(|kept| kept.policy.mode)
}

fn unknown(sts: &Sts) -> Option<ResultType> {
    match sts {
        Sts::Unknown(fault) => Some(fault.kind),
        _ => None,
    }
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_known_to_all() {
    let scene = Scene::new();
    scene.zone.set(&[]);
    scene.serve("enforce", 86_400);
    let one = scene.process();
    assert!(
        matches!(one.find("a.example").await, Sts::None),
        "without a record nothing is fetched"
    );
    assert_eq!(scene.asked(), 0);
    scene.zone.set(&["v=STSv1; id=1"]);
    // Nothing was kept of that nothing is known: another may have found it.
    let two = scene.process();
    assert_eq!(mode(&two.find("a.example").await), Some(Mode::Enforce));
    assert_eq!(mode(&scene.process().find("a.example").await), Some(Mode::Enforce));
    assert_eq!(scene.asked(), 1);
    // Another id: it has changed.
    scene.zone.set(&["v=STSv1; id=2"]);
    scene.serve("testing", 86_400);
    assert_eq!(mode(&two.find("a.example").await), Some(Mode::Testing));
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn a_policy_that_is_kept_is_good_until_its_end() {
    let scene = Scene::new();
    scene.zone.set(&["v=STSv1; id=1"]);
    scene.serve("enforce", 86_400);
    let one = scene.process();
    one.find("a.example").await;
    // Whoever hides record or host gains nothing (RFC 8461 §5.1).
    *scene.web.body.lock() = None;
    scene.zone.set(&[]);
    assert_eq!(mode(&scene.process().find("a.example").await), Some(Mode::Enforce));
    scene.zone.set(&["v=STSv1; id=2"]);
    let asked = scene.asked();
    for _ in 0..3 {
        assert_eq!(mode(&one.find("a.example").await), Some(Mode::Enforce));
    }
    assert_eq!(scene.asked(), asked + 1, "a failure is not repeated at once");
    scene.hand.advance(25 * HOUR);
    assert_eq!(
        unknown(&one.find("a.example").await),
        Some(ResultType::StsPolicyFetchError)
    );
    scene.serve("nonsense", 1);
    scene.hand.advance(HOUR);
    assert_eq!(
        unknown(&one.find("a.example").await),
        Some(ResultType::StsPolicyInvalid)
    );
}

#[tokio::test]
async fn many_wait_for_one_fetch() {
    let scene = Scene::new();
    scene.zone.set(&["v=STSv1; id=1"]);
    scene.serve("testing", 86_400);
    let one = scene.process();
    let found = futures::future::join_all((0..20).map(|_| one.find("a.example"))).await;
    assert!(found.iter().all(|sts| mode(sts) == Some(Mode::Testing)));
    assert_eq!(scene.asked(), 1);
}

#[tokio::test]
async fn policies_in_use_are_refreshed() {
    let scene = Scene::new();
    scene.zone.set(&["v=STSv1; id=1"]);
    scene.serve("enforce", 10 * 86_400);
    let one = scene.process();
    one.find("a.example").await;
    let due = || scene.store.domains.lock().get_mut("a.example").unwrap().refresh = 1;
    let kept = || scene.store.domains.lock()["a.example"].clone();
    let before = kept();
    assert!(before.refresh > before.fetched && before.refresh < before.expires);
    due();
    scene.hand.advance(24 * HOUR);
    scene.zone.set(&["v=STSv1; id=7"]);
    one.refresh_due().await;
    let after = kept();
    assert_eq!(
        (after.id.as_str(), after.fetched - before.fetched),
        ("7", 24 * 3_600_000)
    );
    // A failure changes nothing but when to try again.
    *scene.web.body.lock() = None;
    due();
    one.refresh_due().await;
    assert_eq!((kept().expires, kept().id), (after.expires, "7".into()));
    assert!(kept().refresh > 2);
    // What nobody uses is left alone.
    scene.store.domains.lock().get_mut("a.example").unwrap().used = 0;
    let asked = scene.asked();
    due();
    one.refresh_due().await;
    assert_eq!((scene.asked(), kept().refresh), (asked, after.expires));
}

#[tokio::test]
async fn a_store_that_is_away_makes_forgetful_and_nothing_worse() {
    let scene = Scene::new();
    scene.store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    scene.zone.set(&["v=STSv1; id=1"]);
    scene.serve("enforce", 86_400);
    let one = scene.process();
    assert_eq!(mode(&one.find("a.example").await), Some(Mode::Enforce));
    one.memory().had_tls("mx.a.example").await;
    assert_eq!(one.memory().host("mx.a.example").await, None);
    scene.store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    one.memory().had_tls("mx.a.example").await;
    assert!(scene.process().memory().host("mx.a.example").await.is_some());
}

#[tokio::test]
async fn hosts_are_admitted_by_policy_and_message() {
    let scene = Scene::new();
    scene.zone.set(&["v=STSv1; id=1"]);
    scene.serve("enforce", 86_400);
    let sts = scene.process().find("a.example").await;
    let hosts = |status| MailHosts {
        hosts: Vec::new(),
        status,
        canonical: "a.example".into(),
        implicit: false,
    };
    let demands = |sts: &Sts, status, message| Demands::new("a.example", &hosts(status), sts.clone(), message);
    let plain = demands(&sts, Status::Insecure, RequireTls::Unset);
    assert!(plain.admit("mx.a.example").is_ok());
    let refused = plain.admit("mx.evil.example").unwrap_err();
    assert!(!refused.permanent && refused.text.contains("MTA-STS"), "{refused:?}");
    assert!(
        demands(&sts, Status::Insecure, RequireTls::No)
            .admit("mx.evil.example")
            .is_ok()
    );
    // RFC 8689: the host's name must be certain.
    let strict = |sts: &Sts, status| demands(sts, status, RequireTls::Yes).admit("mx.a.example");
    assert!(strict(&sts, Status::Insecure).is_ok());
    assert!(strict(&Sts::None, Status::Secure).is_ok());
    let refused = strict(&Sts::None, Status::Insecure).unwrap_err();
    assert!(refused.permanent);
    assert_eq!(refused.enhanced.to_string(), "5.7.30");
}
