//! A service to call, in every shape.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mox_proto::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use mox_proto::auth::v1::*;
use mox_proto::node::v1::node_service_server::{NodeService, NodeServiceServer};
use mox_proto::node::v1::*;
use mox_rpc::{Channel, Endpoint, Identity, Listener, ServerAuth, Tls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Counts handlers that run.
#[derive(Clone, Default)]
pub struct Alive(Arc<AtomicUsize>);

pub struct Guard(Alive);

impl Alive {
    pub fn enter(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }

    pub async fn becomes(&self, expected: usize) {
        let wait = async {
            while self.0.load(Ordering::SeqCst) != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .expect("handlers end");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `Info` answers with the caller; `GetLogLevels` never answers; `SetLogLevel` panics. `Authenticate` echoes.
#[derive(Clone, Default)]
pub struct Subject {
    pub alive: Alive,
}

impl Subject {
    pub fn routes(&self) -> Routes {
        Routes::new(NodeServiceServer::new(self.clone())).add_service(AuthServiceServer::new(self.clone()))
    }
}

#[tonic::async_trait]
impl NodeService for Subject {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let service = mox_rpc::caller(&request)?.to_string();
        Ok(Response::new(InfoResponse {
            service,
            ..InfoResponse::default()
        }))
    }

    async fn get_log_levels(&self, _: Request<GetLogLevelsRequest>) -> Result<Response<LogLevels>, Status> {
        let _guard = self.alive.enter();
        std::future::pending().await
    }

    async fn set_log_level(&self, _: Request<SetLogLevelRequest>) -> Result<Response<LogLevels>, Status> {
        panic!("as the test wants it")
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        Ok(Response::new(StopResponse {}))
    }
}

#[tonic::async_trait]
impl AuthService for Subject {
    type AuthenticateStream = Pin<Box<dyn Stream<Item = Result<AuthenticateResponse, Status>> + Send>>;

    async fn authenticate(
        &self,
        request: Request<Streaming<AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let guard = self.alive.enter();
        let answers = request.into_inner().map(move |step| {
            let _kept = &guard;
            let Some(authenticate_request::Step::Response(challenge)) = step?.step else {
                return Err(Status::invalid_argument("no response"));
            };
            Ok(AuthenticateResponse {
                step: Some(authenticate_response::Step::Challenge(challenge)),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn renew_sessions(
        &self,
        _: Request<RenewSessionsRequest>,
    ) -> Result<Response<RenewSessionsResponse>, Status> {
        Err(Status::not_found("nothing"))
    }

    async fn end_session(&self, _: Request<EndSessionRequest>) -> Result<Response<EndSessionResponse>, Status> {
        Err(Status::not_found("nothing"))
    }

    async fn describe_client(
        &self,
        _: Request<DescribeClientRequest>,
    ) -> Result<Response<DescribeClientResponse>, Status> {
        Err(Status::not_found("nothing"))
    }
}

/// An authority with certificates for services in a folder.
pub struct Authority {
    pub folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes a certificate with these DNS names, usable by both sides.
    pub fn issue(&self, file: &str, names: &[&str]) -> TlsFiles {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let path = |extension: &str| -> PathBuf { self.folder.path().join(format!("{file}.{extension}")) };
        std::fs::write(path("crt"), cert.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        TlsFiles {
            cert: path("crt"),
            key: path("key"),
            ca: self.folder.path().join("ca.pem"),
        }
    }

    pub fn tls(&self, file: &str, names: &[&str]) -> Arc<Tls> {
        Tls::load(self.issue(file, names)).unwrap()
    }
}

/// Serves on a free loopback port until dropped.
pub struct Server {
    pub endpoint: Endpoint,
    pub port: u16,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    pub task: tokio::task::JoinHandle<Result<(), mox_rpc::Error>>,
}

impl Server {
    pub async fn start(routes: Routes, auth: ServerAuth) -> Self {
        Self::start_at("127.0.0.1:0", routes, auth).await
    }

    pub async fn start_at(address: &str, routes: Routes, auth: ServerAuth) -> Self {
        let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
        let endpoint = listener.endpoint().unwrap();
        let port = endpoint
            .to_string()
            .rsplit_once(':')
            .map_or(0, |(_, port)| port.parse().unwrap_or(0));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(mox_rpc::serve(listener, routes, auth, async { drop(stopped.await) }));
        Self {
            endpoint,
            port,
            stop: Some(stop),
            task,
        }
    }

    pub fn begin_stop(&mut self) {
        self.stop = None;
    }

    pub async fn stop(mut self) {
        self.begin_stop();
        self.task.await.unwrap().unwrap();
    }
}

/// Channels of one caller to the same service in the shapes that any caller can have.
pub async fn shapes(subject: &Subject, caller: &str) -> (Vec<(&'static str, Channel)>, Vec<Server>) {
    let identity = Identity::new(caller);
    let authority = Authority::new();
    let plain = Server::start(subject.routes(), ServerAuth::Loopback).await;
    let auth = ServerAuth::MutualTls(authority.tls("server", &["store", "localhost"]));
    let secure = Server::start(subject.routes(), auth).await;
    let at = Endpoint::Tcp(format!("localhost:{}", secure.port));
    let channels = vec![
        ("in-process", Channel::in_process(subject.routes(), identity.clone())),
        (
            "loopback",
            Channel::connect(plain.endpoint.clone(), identity.clone(), None),
        ),
        (
            "mutual TLS",
            Channel::connect(at, identity, Some(authority.tls("client", &[caller, "client.example"]))),
        ),
    ];
    (channels, vec![plain, secure])
}
