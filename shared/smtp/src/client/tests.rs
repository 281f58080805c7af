//! Sessions with a server that plays back a script.

use bytes::Bytes;
use futures::{StreamExt, stream};
use mox_types::Address;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, duplex};
use tokio::task::JoinHandle;

use super::*;

/// A server that sends what begins with "S: ", and expects what begins with "C:". A "|" is a line end within
/// one write.
fn server(script: &'static str) -> (Stream, JoinHandle<String>) {
    let (client, server) = duplex(64 * 1024);
    let task = tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(server);
        let mut read = BufReader::new(read);
        let mut seen = String::new();
        for step in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            if let Some(line) = step.strip_prefix("S: ") {
                write
                    .write_all(format!("{line}\r\n").replace('|', "\r\n").as_bytes())
                    .await
                    .unwrap();
            } else if let Some(expected) = step.strip_prefix("C:") {
                let mut line = String::new();
                read.read_line(&mut line).await.unwrap();
                assert_eq!(line.trim_end_matches("\r\n"), expected.trim_start());
            }
        }
        drop(write);
        let _ = read.read_to_string(&mut seen).await;
        seen
    });
    (Box::new(client), task)
}

fn address(s: &str) -> Address {
    s.parse().unwrap()
}

async fn connect(stream: Stream) -> Result<Client, ClientError> {
    Client::connect(stream, None, "client.example", Timeouts::default()).await
}

/// Delivers a short message to these.
async fn deliver(client: &mut Client, recipients: &[&str]) -> Result<Vec<Reply>, ClientError> {
    let from = address("from@a.example");
    let recipients: Vec<Address> = recipients.iter().map(|r| address(r)).collect();
    let recipients: Vec<_> = recipients
        .iter()
        .map(|address| TransactionRecipient {
            address,
            notify: Some("FAILURE"),
            orcpt: None,
        })
        .collect();
    let transaction = Transaction {
        mail_from: Some(&from),
        recipients: &recipients,
        size: 16,
        eight_bit: false,
        smtputf8: false,
        requiretls: false,
        ret: None,
        envid: Some("x"),
    };
    let pieces = [&b"Subject: x\r"[..], b"\n\r\n.", b"\r\n"].map(|p| Ok(Bytes::from_static(p)));
    client
        .deliver(&transaction, stream::iter(pieces).boxed(), || true)
        .await
}

fn codes(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|r| r.code).collect()
}

#[tokio::test]
async fn a_server_without_extensions_is_spoken_to_step_by_step() {
    let (stream, task) = server(
        "S: 220 old.example hello
         C: EHLO client.example
         S: 502 what?
         C: HELO client.example
         S: 250 old.example
         C: MAIL FROM:<from@a.example>
         S: 250 ok
         C: RCPT TO:<one@b.example>
         S: 250 ok
         C: RCPT TO:<two@b.example>
         S: 550 5.1.1 nobody
         C: DATA
         S: 354 go on
         C: Subject: x
         C:
         C: ..
         C: .
         S: 250 2.0.0 kept
         C: QUIT
         S: 221 bye",
    );
    let mut client = connect(stream).await.unwrap();
    assert_eq!(client.remote_name(), "old.example");
    assert!(!client.extensions().esmtp);
    let replies = deliver(&mut client, &["one@b.example", "two@b.example"]).await.unwrap();
    assert_eq!(codes(&replies), [250, 550]);
    assert_eq!(replies[0].text, "kept");
    client.quit().await;
    assert_eq!(task.await.unwrap(), "");
}

#[tokio::test]
async fn commands_are_pipelined_and_recipients_refused_apart() {
    let (stream, task) = server(
        "S: 220 new.example ESMTP
         C: EHLO client.example
         S: 250-new.example
         S: 250-PIPELINING
         S: 250-SIZE 1000
         S: 250-DSN
         S: 250 8BITMIME
         C: MAIL FROM:<from@a.example> SIZE=16 ENVID=x
         C: RCPT TO:<one@xn--bcher-kva.example> NOTIFY=FAILURE
         C: RCPT TO:<two@b.example> NOTIFY=FAILURE
         C: DATA
         S: 250 ok
         S: 451 4.3.0 later
         S: 250 ok
         S: 354 go on
         C: Subject: x
         C:
         C: ..
         C: .
         S: 250 kept
         C: MAIL FROM:<from@a.example> SIZE=16 ENVID=x
         C: RCPT TO:<three@b.example> NOTIFY=FAILURE
         C: DATA
         S: 250 ok
         S: 550 no
         S: 354 go on
         C: .
         S: 554 no recipients",
    );
    let mut client = connect(stream).await.unwrap();
    let replies = deliver(&mut client, &["one@bücher.example", "two@b.example"])
        .await
        .unwrap();
    assert_eq!(codes(&replies), [451, 250]);
    let replies = deliver(&mut client, &["three@b.example"]).await.unwrap();
    assert_eq!(codes(&replies), [550]);
    drop(client);
    task.await.unwrap();
}

#[tokio::test]
async fn what_the_server_can_not_take_is_not_sent() {
    let (stream, _task) = server(
        "S: 220 a
         C: EHLO client.example
         S: 250-a
         S: 250 SIZE 10",
    );
    let mut client = connect(stream).await.unwrap();
    let error = deliver(&mut client, &["one@b.example"]).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { size: 16, limit: 10 }) && error.is_permanent());
    let error = deliver(&mut client, &["é@b.example"]).await.unwrap_err();
    assert_eq!(error.enhanced().unwrap().to_string(), "5.6.7");
    assert!(client.is_usable());
}

#[tokio::test]
async fn refusals_have_the_reply_of_the_server() {
    let (stream, _task) = server("S: 554-5.7.1 we know you\nS: 554 5.7.1 go away");
    let error = connect(stream).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "greeting: server answered: 554 5.7.1 we know you go away"
    );
    assert!(error.is_permanent());

    let (stream, _task) = server(
        "S: 220 a
         C: EHLO client.example
         S: 250 a
         C: MAIL FROM:<from@a.example>
         S: 421 4.3.2 closing",
    );
    let mut client = connect(stream).await.unwrap();
    let error = deliver(&mut client, &["one@b.example"]).await.unwrap_err();
    assert!(!error.is_permanent() && error.reply().is_some() && !client.is_usable());
}

#[tokio::test]
async fn a_message_that_is_no_longer_wanted_has_no_end() {
    let (stream, task) = server(
        "S: 220 a
         C: EHLO client.example
         S: 250 a
         C: MAIL FROM:<>
         S: 250 ok
         C: RCPT TO:<one@b.example>
         S: 250 ok
         C: DATA
         S: 354 go on",
    );
    let mut client = connect(stream).await.unwrap();
    let to = address("one@b.example");
    let transaction = Transaction {
        mail_from: None,
        recipients: &[TransactionRecipient {
            address: &to,
            notify: None,
            orcpt: None,
        }],
        size: 3,
        eight_bit: false,
        smtputf8: false,
        requiretls: false,
        ret: None,
        envid: None,
    };
    let content = stream::iter([Ok(Bytes::from_static(b"a\r\n"))]).boxed();
    let error = client.deliver(&transaction, content, || false).await.unwrap_err();
    assert!(matches!(error, ClientError::Abandoned) && !client.is_usable());
    drop(client);
    assert!(!task.await.unwrap().contains("\r\n.\r\n"));
}

#[tokio::test]
async fn servers_that_do_not_speak_smtp_are_left() {
    for script in ["S: HTTP/1.1 200 OK", "S: 220-a\nS: 221 b"] {
        let (stream, _task) = server(script);
        assert!(connect(stream).await.is_err(), "{script}");
    }
    let (stream, mut far) = duplex(1024 * 1024);
    far.write_all(&vec![b'2'; 100_000]).await.unwrap();
    assert!(matches!(
        connect(Box::new(stream)).await,
        Err(ClientError::Malformed { .. })
    ));
    let (stream, mut far) = duplex(1024 * 1024);
    far.write_all("220-a\r\n".repeat(1000).as_bytes()).await.unwrap();
    assert!(matches!(
        connect(Box::new(stream)).await,
        Err(ClientError::Malformed { .. })
    ));
}

#[tokio::test]
async fn logging_in_takes_the_preferred_mechanism() {
    let (stream, task) = server(
        "S: 220 a
         C: EHLO client.example
         S: 250-a
         S: 250 AUTH LOGIN PLAIN CRAM-MD5
         C: AUTH CRAM-MD5
         S: 334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+
         C: dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw
         S: 235 2.7.0 welcome",
    );
    let mut client = connect(stream).await.unwrap();
    let used = client
        .authenticate(&Mechanism::CLIENT_DEFAULT, "tim", "tanstaaftanstaaf")
        .await
        .unwrap();
    assert_eq!(used, Mechanism::CramMd5);
    let none = client.authenticate(&[Mechanism::ScramSha256], "tim", "x").await;
    assert!(matches!(none, Err(ClientError::NoMechanism { .. })));
    drop(client);
    task.await.unwrap();
}

#[tokio::test]
async fn data_in_front_of_a_handshake_is_not_believed() {
    let (stream, _task) = server(
        "S: 220 a
         C: EHLO client.example
         S: 250-a
         S: 250 STARTTLS
         C: STARTTLS
         S: 220 go|250 injected",
    );
    let client = connect(stream).await.unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = client
        .starttls(Arc::new(config), "a.example".try_into().unwrap())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, ClientError::Malformed { during: "STARTTLS", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let (stream, _far) = duplex(64);
    let timeouts = Timeouts {
        command: Duration::from_millis(10),
        ..Timeouts::default()
    };
    let connected = Client::connect(Box::new(stream), None, "client.example", timeouts).await;
    assert!(matches!(connected, Err(ClientError::Timeout { during: "greeting" })));
}
