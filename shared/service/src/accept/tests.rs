use std::path::Path;

use mox_config::{Listener, Static};
use tokio::io::AsyncReadExt;

use super::*;
use crate::{Kind, bind};

/// One listener on loopback with IMAP on a port that the system chooses.
fn bound(change: impl FnOnce(&mut Listener)) -> Bound {
    let mut config = Static::new("data".into(), "localhost".parse().unwrap());
    let mut listener = Listener::new(vec!["127.0.0.1".parse().unwrap()]);
    listener.imap.enabled = true;
    listener.imap.port = 0;
    change(&mut listener);
    config.listeners.insert("local".into(), Arc::new(listener));
    bind(&config, Path::new("."), &[Kind::Imap]).unwrap().remove(0)
}

const REFUSALS: Refusals = Refusals {
    busy: b"* BYE busy\r\n",
    stopping: b"* BYE stopping\r\n",
};

async fn echo(mut stream: BoxStream, info: ConnInfo) {
    stream
        .write_all(format!("hello {}\r\n", info.remote.ip()).as_bytes())
        .await
        .unwrap();
    let _ = stream.read_u8().await;
}

async fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn limits_refuse_with_words_and_places_come_back() {
    let bound = bound(|_| {});
    let address = bound.local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::new();
    let limits = mox_config::ServiceLimits {
        connections: [1, 0, 0],
        ..mox_config::ServiceLimits::none()
    };
    let accepting = tokio::spawn(accept(bound, ConnectionLimits::new(&limits), shutdown, REFUSALS, echo));
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(line(&mut first).await, "hello 127.0.0.1\r\n");
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(line(&mut second).await, "* BYE busy\r\n");
    drop(first);
    loop {
        let mut third = TcpStream::connect(address).await.unwrap();
        if line(&mut third).await.starts_with("hello") {
            break;
        }
    }
    trigger.finish();
    accepting.await.unwrap();
}

#[tokio::test]
async fn stopping_refuses_new_ones_and_ends_the_rest_at_the_deadline() {
    let bound = bound(|_| {});
    let address = bound.local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::new();
    let accepting = tokio::spawn(accept(bound, ConnectionLimits::none(), shutdown, REFUSALS, echo));
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(line(&mut first).await.starts_with("hello"));
    trigger.begin();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(line(&mut second).await, "* BYE stopping\r\n");
    assert!(!accepting.is_finished(), "the first session has its grace");
    trigger.finish();
    accepting.await.unwrap();
    assert_eq!(line(&mut first).await, "", "it was cut");
    assert!(TcpStream::connect(address).await.is_err(), "the socket is closed");
}

#[tokio::test]
async fn proxies_name_their_clients() {
    let bound = bound(|listener| listener.proxy_networks = vec!["127.0.0.0/8".parse().unwrap()]);
    let address = bound.local_addr().unwrap();
    let (_trigger, shutdown) = Shutdown::new();
    let accepting = tokio::spawn(accept(bound, ConnectionLimits::none(), shutdown, REFUSALS, echo));
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 143\r\n")
        .await
        .unwrap();
    assert_eq!(line(&mut client).await, "hello 192.0.2.7\r\n");
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"A1 CAPABILITY\r\nA2 NOOP\r\n").await.unwrap();
    assert_eq!(line(&mut client).await, "", "without a header it is closed");
    accepting.abort();
}

#[test]
fn a_port_in_use_is_explained() {
    let first = bound(|_| {});
    let port = first.local_addr().unwrap().port();
    let mut config = Static::new("data".into(), "localhost".parse().unwrap());
    let mut listener = Listener::new(vec!["127.0.0.1".parse().unwrap()]);
    listener.smtp.enabled = true;
    listener.smtp.port = port;
    config.listeners.insert("local".into(), Arc::new(listener));
    let error = bind(&config, Path::new("."), &Kind::ALL).unwrap_err().to_string();
    let start = format!("listen on 127.0.0.1:{port} for smtp of listener \"local\": address in use");
    assert!(error.starts_with(&start), "{error}");
}
