//! What is particular to calls that leave the process.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Authority, Server, Subject};
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::node::v1::InfoRequest;
use mox_proto::node::v1::node_service_client::NodeServiceClient;
use mox_rpc::{CONNECT_WAIT, Channel, Endpoint, Error, Identity, Listener, ServerAuth, with_deadline};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn control(endpoint: Endpoint) -> NodeServiceClient<Channel> {
    NodeServiceClient::new(Channel::connect(endpoint, Identity::new("control"), None))
}

async fn info(client: &mut NodeServiceClient<Channel>) -> Result<String, Status> {
    Ok(client.info(InfoRequest {}).await?.into_inner().service)
}

#[tokio::test]
async fn a_channel_survives_its_server() {
    let server = Server::start(Subject::default().routes(), ServerAuth::Loopback).await;
    let (endpoint, address) = (server.endpoint.clone(), server.endpoint.to_string());
    let mut client = control(endpoint);
    assert_eq!(info(&mut client).await.unwrap(), "control");
    server.stop().await;
    let begun = Instant::now();
    let request = with_deadline(InfoRequest {}, Duration::from_millis(300));
    let error = client.info(request).await.unwrap_err();
    assert!(
        matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded),
        "{error:?}"
    );
    assert!(error.message().contains(&address), "{error:?}");
    assert!(begun.elapsed() < CONNECT_WAIT);
    let waiting = tokio::spawn(async move { info(&mut client).await });
    let server = Server::start_at(&address, Subject::default().routes(), ServerAuth::Loopback).await;
    assert_eq!(
        waiting.await.unwrap().unwrap(),
        "control",
        "a call waits for the connection to come back"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_absent_server_is_said_to_be_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let begun = Instant::now();
    let error = info(&mut control(address.parse().unwrap())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains(&address) && error.message().contains("refused"),
        "{error:?}"
    );
    assert!(begun.elapsed() < CONNECT_WAIT + Duration::from_secs(2));
}

#[tokio::test]
async fn plaintext_is_refused_outside_of_loopback() {
    let listener = Listener::bind(&"0.0.0.0:0".parse().unwrap()).await.unwrap();
    let routes = Subject::default().routes();
    let refused = mox_rpc::serve(listener, routes, ServerAuth::Loopback, std::future::pending()).await;
    assert!(
        matches!(refused, Err(Error::PlaintextOutsideLoopback(_))),
        "{refused:?}"
    );
    let error = info(&mut control("192.0.2.1:7001".parse().unwrap())).await.unwrap_err();
    assert!(
        error.code() == Code::Unavailable && error.message().contains("plaintext is refused"),
        "{error:?}"
    );
}

#[tokio::test]
async fn certificates_decide_who_calls() {
    let authority = Authority::new();
    let auth = ServerAuth::MutualTls(authority.tls("server", &["store", "localhost"]));
    let server = Server::start(Subject::default().routes(), auth).await;
    let at = |host: &str| Endpoint::Tcp(format!("{host}:{}", server.port));
    // What the channel is told counts for nothing: the certificate is that of imap.
    let tls = authority.tls("imap", &["imap", "imap-0.example"]);
    let mut client = NodeServiceClient::new(Channel::connect(
        at("localhost"),
        Identity::new("control"),
        Some(tls.clone()),
    ));
    let error = info(&mut client).await.unwrap_err();
    assert!(
        error.code() == Code::PermissionDenied && error.message().starts_with("imap"),
        "{error:?}"
    );
    // The server's certificate is not valid for its address.
    let mut client = NodeServiceClient::new(Channel::connect(at("127.0.0.1"), Identity::new("imap"), Some(tls)));
    let error = client
        .info(with_deadline(InfoRequest {}, Duration::from_secs(1)))
        .await
        .unwrap_err();
    assert!(
        error.message().contains("TLS") || error.code() == Code::DeadlineExceeded,
        "{error:?}"
    );
    // Nobody's certificate, one of two services at once, one of another authority, and none at all.
    let other = Authority::new();
    let mut foreign = other.issue("control", &["control"]);
    foreign.ca = authority.folder.path().join("ca.pem");
    let refused = [
        Some(authority.tls("nobody", &["nobody.example"])),
        Some(authority.tls("both", &["control", "store"])),
        Some(mox_rpc::Tls::load(foreign).unwrap()),
        None,
    ];
    for tls in refused {
        let mut client = NodeServiceClient::new(Channel::connect(at("localhost"), Identity::new("control"), tls));
        let error = client
            .info(with_deadline(InfoRequest {}, Duration::from_secs(1)))
            .await
            .unwrap_err();
        assert!(
            matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded),
            "{error:?}"
        );
    }
    let tls = authority.tls("control", &["control"]);
    let mut client = NodeServiceClient::new(Channel::connect(at("localhost"), Identity::new("imap"), Some(tls)));
    assert_eq!(info(&mut client).await.unwrap(), "control");
}

#[tokio::test]
async fn unix_socket_is_for_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl.sock");
    let endpoint: Endpoint = format!("unix:{}", path.display()).parse().unwrap();
    // What a process that was killed left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (routes, health) = mox_rpc::health(Subject::default().routes()).await;
    let server = Server::start_at(&endpoint.to_string(), routes, ServerAuth::UnixPeer).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let in_use = Listener::bind(&endpoint).await.unwrap_err();
    assert!(matches!(in_use, Error::SocketInUse(_)), "{in_use:?}");

    let channel = Channel::connect(endpoint, Identity::new("control"), None);
    let error = info(&mut NodeServiceClient::new(channel.clone())).await.unwrap_err();
    assert!(
        error.code() == Code::PermissionDenied && error.message().starts_with("cli"),
        "{error:?}"
    );
    let mut client = HealthClient::new(channel);
    let mut status = async || {
        client
            .check(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner()
            .status()
    };
    assert_eq!(status().await, ServingStatus::NotServing);
    health.set_serving(true).await;
    assert_eq!(status().await, ServingStatus::Serving);
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_in_the_way_of_a_socket_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&Endpoint::Unix(path.clone())).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn stopping_waits_for_calls_and_not_for_endless_streams() {
    let subject = Subject::default();
    let mut server = Server::start(subject.routes(), ServerAuth::Loopback).await;
    let channel = Channel::connect(server.endpoint.clone(), Identity::new("imap"), None);
    let (_sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = AuthServiceClient::new(channel)
        .authenticate(requests)
        .await
        .unwrap()
        .into_inner();
    subject.alive.becomes(1).await;
    server.begin_stop();
    let error = answers.message().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "the stream is cut: {error:?}");
    tokio::time::timeout(Duration::from_secs(5), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    subject.alive.becomes(0).await;
}
