//! Sessions over a pipe, with a store that takes down what it is told.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use mox_proto::auth::v1 as auth_api;
use mox_proto::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use mox_proto::auth::v1::authenticate_request::Step as Said;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success, failure::Reason};
use mox_proto::mail::v1::content::Where;
use mox_proto::queue::v1 as queue_api;
use mox_proto::queue::v1::submit_service_server::{SubmitService, SubmitServiceServer};
use mox_rpc::Identity;
use mox_service::{ConnInfo, TlsInfo};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// The store: one account with one address and one password, and its queue.
#[derive(Clone, Default)]
struct Store {
    enqueued: Arc<Mutex<Vec<queue_api::EnqueueRequest>>>,
    ended: Arc<Mutex<u32>>,
    /// The session was ended by others.
    gone: Arc<Mutex<bool>>,
}

const TOKEN: Bytes = Bytes::from_static(b"token");
const PLAIN: &[u8] = b"\0mox@localhost\0secret";

fn judge(response: &[u8]) -> Answer {
    if response == PLAIN {
        return Answer::Success(Success {
            session: TOKEN,
            account: "mox".into(),
            login_address: "mox@localhost".into(),
            server_final: Bytes::from_static(b"v=final"),
            ..Success::default()
        });
    }
    Answer::Failure(Failure {
        reason: Reason::Credentials.into(),
        text: String::new(),
    })
}

#[tonic::async_trait]
impl AuthService for Store {
    type AuthenticateStream = Pin<Box<dyn Stream<Item = Result<auth_api::AuthenticateResponse, Status>> + Send>>;

    async fn authenticate(
        &self,
        request: Request<Streaming<auth_api::AuthenticateRequest>>,
    ) -> Result<Response<Self::AuthenticateStream>, Status> {
        let answers = request.into_inner().map(|said| {
            let step = match said?.step {
                Some(Said::Start(start)) => match start.initial_response {
                    Some(response) => judge(&response),
                    None => Answer::Challenge(Bytes::new()),
                },
                Some(Said::Response(response)) => judge(&response),
                None => return Err(Status::invalid_argument("empty")),
            };
            Ok(auth_api::AuthenticateResponse { step: Some(step) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn renew_sessions(
        &self,
        request: Request<auth_api::RenewSessionsRequest>,
    ) -> Result<Response<auth_api::RenewSessionsResponse>, Status> {
        let valid = request.into_inner().sessions.iter().map(|s| *s == TOKEN).collect();
        Ok(Response::new(auth_api::RenewSessionsResponse { valid }))
    }

    async fn describe_client(
        &self,
        _: Request<auth_api::DescribeClientRequest>,
    ) -> Result<Response<auth_api::DescribeClientResponse>, Status> {
        Ok(Response::new(auth_api::DescribeClientResponse {}))
    }

    async fn end_session(
        &self,
        _: Request<auth_api::EndSessionRequest>,
    ) -> Result<Response<auth_api::EndSessionResponse>, Status> {
        *self.ended.lock() += 1;
        Ok(Response::new(auth_api::EndSessionResponse {}))
    }
}

#[tonic::async_trait]
impl SubmitService for Store {
    async fn upload(
        &self,
        _: Request<Streaming<queue_api::SubmitUploadRequest>>,
    ) -> Result<Response<queue_api::SubmitUploadResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn check_sender(
        &self,
        request: Request<queue_api::CheckSenderRequest>,
    ) -> Result<Response<queue_api::CheckSenderResponse>, Status> {
        let request = request.into_inner();
        if request.session != TOKEN || *self.gone.lock() {
            return Err(Status::unauthenticated("no such session"));
        }
        let allowed = request.addresses.iter().map(|a| a == "mox@localhost").collect();
        Ok(Response::new(queue_api::CheckSenderResponse { allowed }))
    }

    async fn enqueue(
        &self,
        request: Request<queue_api::EnqueueRequest>,
    ) -> Result<Response<queue_api::EnqueueResponse>, Status> {
        let request = request.into_inner();
        let ids = (1..=request.recipients.len() as u64).collect();
        self.enqueued.lock().push(request);
        Ok(Response::new(queue_api::EnqueueResponse {
            ids,
            ..queue_api::EnqueueResponse::default()
        }))
    }
}

struct Client {
    stream: DuplexStream,
    store: Store,
}

impl Client {
    async fn new(passwords_in_the_clear: bool) -> Self {
        Self::connect(passwords_in_the_clear, None).await
    }

    /// Past the login, over TLS.
    async fn over_tls() -> Self {
        let tls = TlsInfo {
            version: "TLS1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            sni: None,
            exporter: None,
            server_end_point: None,
            peer_certificates: Vec::new(),
        };
        Self::connect(true, Some(tls)).await.log_in().await
    }

    /// Seconds since 1970.
    fn now(&self) -> i64 {
        Clock::system().unix_millis() / 1000
    }

    async fn connect(passwords_in_the_clear: bool, tls: Option<TlsInfo>) -> Self {
        let store = Store::default();
        let routes = Routes::new(AuthServiceServer::new(store.clone()));
        let routes = routes.add_service(SubmitServiceServer::new(store.clone()));
        let channel = Channel::in_process(routes, Identity::new("submission"));
        let mut listener = mox_config::Listener::new(vec!["127.0.0.1".parse().unwrap()]);
        listener.smtp_max_message_size = 10_000;
        listener.submission.no_require_starttls = passwords_in_the_clear;
        let telemetry = Telemetry::detached();
        let shared = Shared {
            sender: Sender::new(channel.clone()),
            store: channel,
            signing: Signing::default(),
            config: ConfigWatch::fixed(mox_config::Dynamic::default()),
            spool: Budget::new(1 << 20, std::env::temp_dir()),
            clock: Clock::system(),
            metrics: Metrics::register(&telemetry),
            pedantic: false,
            telemetry,
        };
        let (_, shutdown) = Shutdown::new();
        let place = Arc::new(Place {
            shared: Arc::new(shared),
            listener: Arc::new(listener),
            tls: None,
            hostname: "localhost".into(),
            shutdown,
        });
        let info = ConnInfo {
            cid: 7,
            remote: "192.0.2.1:1234".parse().unwrap(),
            local: "192.0.2.2:587".parse().unwrap(),
            listener_name: "test".into(),
            tls,
        };
        let (stream, server) = duplex(1 << 20);
        tokio::spawn(Session::new(place, Box::new(server), info).run());
        let mut client = Self { stream, store };
        assert_eq!(client.codes("EHLO client.example\r\n", 2).await, [220, 250]);
        client
    }

    /// Past the login.
    async fn logged_in() -> Self {
        Self::new(true).await.log_in().await
    }

    async fn log_in(mut self) -> Self {
        let sent = format!("AUTH PLAIN {}\r\n", STANDARD.encode(PLAIN));
        let replies = self.exchange(&sent, 1).await;
        assert_eq!(replies, [format!("334 {}", STANDARD.encode("v=final"))]);
        assert_eq!(self.codes("\r\n", 1).await, [235]);
        self
    }

    /// Sends this, and answers the last lines of as many replies.
    async fn exchange(&mut self, sent: &str, replies: usize) -> Vec<String> {
        self.stream.write_all(sent.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        loop {
            let whole = String::from_utf8_lossy(&text).into_owned();
            let lines = whole.split_inclusive("\r\n").filter(|l| l.ends_with("\r\n"));
            let ended: Vec<String> = lines
                .filter(|l| l.as_bytes().get(3) == Some(&b' '))
                .map(|l| l.trim_end().to_owned())
                .collect();
            if ended.len() >= replies {
                return ended;
            }
            let mut buffer = [0; 4096];
            let read = timeout(Duration::from_secs(10), self.stream.read(&mut buffer)).await;
            let n = read
                .unwrap_or_else(|_| panic!("after {sent:?} only {ended:?}"))
                .unwrap();
            assert!(n > 0, "closed after {sent:?}: {ended:?}");
            text.extend_from_slice(&buffer[..n]);
        }
    }

    async fn codes(&mut self, sent: &str, replies: usize) -> Vec<u16> {
        self.exchange(sent, replies)
            .await
            .iter()
            .map(|l| l[..3].parse().unwrap())
            .collect()
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(10), self.stream.read_to_end(&mut rest))
            .await
            .is_ok()
    }

    /// What comes until the connection is closed.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let read = timeout(Duration::from_secs(10), self.stream.read_to_string(&mut rest)).await;
        read.expect("it stays open").expect("it is text");
        rest
    }
}

const ENVELOPE: &str = "MAIL FROM:<mox@localhost> RET=HDRS ENVID=e\r\n\
                        RCPT TO:<a@b.example> NOTIFY=DELAY ORCPT=rfc822;x@y\r\nRCPT TO:<c@b.example>\r\nDATA\r\n";

#[tokio::test]
async fn a_message_is_completed_and_queued() {
    let mut client = Client::logged_in().await;
    assert_eq!(client.codes(ENVELOPE, 4).await, [250, 250, 250, 354]);
    let message = "From: <mox@localhost>\nBcc: c@b.example\nSubject: x\r\n\r\n..a\n.\nb\r\n.\r\nQUIT\r\n";
    assert_eq!(
        client.exchange(message, 2).await,
        ["250 2.6.0 queued as 1 2", "221 2.0.0 bye"]
    );
    assert!(client.is_closed().await);
    assert_eq!(*client.store.ended.lock(), 1);
    let enqueued = client.store.enqueued.lock();
    let [request] = enqueued.as_slice() else {
        panic!("{}", enqueued.len())
    };
    let content = request.content.clone().unwrap().r#where.unwrap();
    let expected = "From: <mox@localhost>\r\nSubject: x\r\n\r\n.a\r\n.\r\nb\r\n";
    assert_eq!(content, Where::Inline(Bytes::from_static(expected.as_bytes())));
    let prefix = String::from_utf8(request.prefix.to_vec()).unwrap();
    assert!(
        prefix.starts_with("Received: by localhost with ESMTPA\r\n\tid "),
        "{prefix}"
    );
    assert!(
        prefix.contains("\r\nMessage-ID: <") && prefix.contains("\r\nDate: "),
        "{prefix}"
    );
    assert!(!prefix.contains("192.0.2.1"), "{prefix}");
    assert_eq!(
        (request.session.clone(), request.mail_from.as_str()),
        (TOKEN, "mox@localhost")
    );
    assert_eq!((request.dsn_ret.as_str(), request.dsn_envid.as_str()), ("HDRS", "e"));
    let first = &request.recipients[0];
    assert_eq!(
        (first.dsn_notify.as_str(), first.dsn_orcpt.as_str()),
        ("DELAY", "rfc822;x@y")
    );
}

#[tokio::test]
async fn passwords_are_not_asked_for_in_the_clear() {
    let mut client = Client::new(false).await;
    client.stream.write_all(b"EHLO x\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let n = client.stream.read(&mut buffer).await.unwrap();
    assert!(!String::from_utf8_lossy(&buffer[..n]).contains("AUTH"));
    assert_eq!(
        client
            .codes("AUTH PLAIN AAAA\r\nMAIL FROM:<mox@localhost>\r\n", 2)
            .await,
        [538, 530]
    );
}

#[tokio::test]
async fn exchanges_can_be_cancelled_and_mistaken() {
    let mut client = Client::new(true).await;
    assert_eq!(client.codes("AUTH PLAIN\r\n", 1).await, [334]);
    assert_eq!(client.codes("*\r\n", 1).await, [501]);
    assert_eq!(client.codes("AUTH PLAIN\r\n!!!\r\n", 2).await, [334, 501]);
    assert_eq!(
        client
            .codes("AUTH PLAIN !!!\r\nAUTH UNKNOWN\r\nAUTH SCRAM-SHA-256-PLUS\r\n", 3)
            .await,
        [501, 504, 504]
    );
    assert_eq!(client.codes("AUTH PLAIN =\r\n", 1).await, [535]);
    let mut client = Client::logged_in().await;
    assert_eq!(client.codes("AUTH PLAIN\r\n", 1).await, [503]);
}

#[tokio::test]
async fn others_addresses_can_not_be_used() {
    let mut client = Client::logged_in().await;
    assert_eq!(client.codes("MAIL FROM:<other@localhost>\r\n", 1).await, [550]);
    for (header, code) in [
        ("From: other@localhost\r\n", 550),
        ("Subject: x\r\n", 550),
        ("From: mox@localhost\r\nFrom: mox@localhost\r\n", 550),
        ("From: mox@localhost, other@localhost\r\n", 550),
        ("From: Mox <mox@localhost>\r\n", 250),
    ] {
        assert_eq!(client.codes(ENVELOPE, 4).await, [250, 250, 250, 354]);
        assert_eq!(
            client.codes(&format!("{header}\r\na\r\n.\r\n"), 1).await,
            [code],
            "{header}"
        );
    }
    assert_eq!(client.store.enqueued.lock().len(), 1);
}

#[tokio::test]
async fn who_is_logged_out_is_told_and_left() {
    let mut client = Client::logged_in().await;
    *client.store.gone.lock() = true;
    // RFC 5321 §3.8: nothing is answered after 421.
    let replies = client.exchange("MAIL FROM:<mox@localhost>\r\nNOOP\r\n", 1).await;
    assert!(replies[0].starts_with("421 4.7.0"), "{replies:?}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn what_is_too_large_or_has_bare_cr_is_refused_after_its_end() {
    let mut client = Client::logged_in().await;
    assert_eq!(client.codes("MAIL FROM:<mox@localhost> SIZE=10001\r\n", 1).await, [552]);
    let large = format!("From: mox@localhost\r\n\r\n{}", "0123456789\r\n".repeat(1000));
    for (message, code) in [(large.as_str(), 552), ("From: mox@localhost\r\n\r\na\rb\r\n", 550)] {
        assert_eq!(client.codes(ENVELOPE, 4).await, [250, 250, 250, 354]);
        assert_eq!(client.codes(&format!("{message}.\r\nNOOP\r\n"), 2).await, [code, 250]);
    }
    assert!(client.store.enqueued.lock().is_empty());
}

#[tokio::test]
async fn delivery_can_be_put_off_and_bound_to_tls() {
    let mut client = Client::logged_in().await;
    client.stream.write_all(b"EHLO x\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let n = client.stream.read(&mut buffer).await.unwrap();
    let offered = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(offered.contains("-FUTURERELEASE 5184000 2"), "{offered}");
    assert!(!offered.contains("REQUIRETLS"), "{offered}");
    for (parameters, expected) in [
        ("REQUIRETLS", "530 5.7.10"),
        ("HOLDFOR=5184001", "501 5.5.4"),
        ("HOLDUNTIL=2020-01-01T00:00:00Z", "501 5.5.4"),
        ("HOLDUNTIL=9999-01-01T00:00:00Z", "501 5.5.4"),
        ("HOLDFOR=1 HOLDUNTIL=2020-01-01T00:00:00Z", "501 5.5.4"),
        ("HOLDFOR=x", "501 5.5.4"),
    ] {
        let sent = format!("MAIL FROM:<mox@localhost> {parameters}\r\n");
        let reply = client.exchange(&sent, 1).await.remove(0);
        assert!(reply.starts_with(expected), "{parameters}: {reply}");
    }
    let before = client.now();
    let envelope = "MAIL FROM:<mox@localhost> HOLDFOR=3600 SMTPUTF8\r\nRCPT TO:<a@b.example>\r\nDATA\r\n";
    assert_eq!(client.codes(envelope, 3).await, [250, 250, 354]);
    let message = "From: mox@localhost\r\nTLS-Required: No\r\nX-Mox-Extra-Order: 7\r\n\r\na\r\n.\r\n";
    assert_eq!(client.codes(message, 1).await, [250]);
    let request = client.store.enqueued.lock().pop().unwrap();
    let after = request.release_at.unwrap() - before;
    assert!((3600..3660).contains(&after), "{after}");
    assert_eq!(request.requiretls(), queue_api::RequireTls::No);
    assert_eq!(request.extra.get("Order").map(String::as_str), Some("7"));
    assert!(!request.smtputf8, "nothing needs it");
    let content = request.content.unwrap().r#where.unwrap();
    let expected = "From: mox@localhost\r\nTLS-Required: No\r\n\r\na\r\n";
    assert_eq!(content, Where::Inline(Bytes::from_static(expected.as_bytes())));
}

#[tokio::test]
async fn requiretls_counts_more_than_the_header() {
    let mut client = Client::over_tls().await;
    client.stream.write_all(b"EHLO x\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let n = client.stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..n]).contains("-REQUIRETLS\r\n"));
    let envelope = "MAIL FROM:<mox@localhost> REQUIRETLS SMTPUTF8\r\nRCPT TO:<j\u{f6}@b.example>\r\nDATA\r\n";
    assert_eq!(client.codes(envelope, 3).await, [250, 250, 354]);
    let message = "From: mox@localhost\r\nTLS-Required: No\r\n\r\na\r\n.\r\n";
    assert_eq!(client.codes(message, 1).await, [250]);
    let request = client.store.enqueued.lock().pop().unwrap();
    assert_eq!(request.requiretls(), queue_api::RequireTls::Yes);
    assert!(request.smtputf8);
    assert_eq!(request.release_at, None);
}
