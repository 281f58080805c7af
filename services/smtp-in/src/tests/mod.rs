//! Sessions over a pipe, with a store that takes down what it is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mox_config::Localserve;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use mox_proto::delivery::v1::lookup_recipient_response::Kind as Found;
use mox_proto::mail::v1::content::Where;
use mox_rpc::Identity;
use mox_service::{ConnInfo, ShutdownTrigger};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// What the store saw and is to do.
#[derive(Default)]
struct Seen {
    delivered: Vec<api::DeliverRequest>,
    uploaded: Vec<u8>,
    keys: Vec<Bytes>,
    /// How many times to be away.
    away: u32,
    /// Recipients that are refused after DATA, with this code.
    refuses: Vec<(String, u32)>,
    /// How long senders wait until their message is taken, in milliseconds.
    delay: u32,
    /// Messages that were decided about.
    assessed: usize,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl DeliveryService for Store {
    async fn lookup_recipient(
        &self,
        request: Request<api::LookupRecipientRequest>,
    ) -> Result<Response<api::LookupRecipientResponse>, Status> {
        let address = request.into_inner().address;
        let (kind, over_quota) = match address.as_str() {
            "mox@localhost" | "second@localhost" | "third@localhost" | "tls@localhost" | "postmaster" => {
                (Found::Account, false)
            }
            "list@localhost" | "public@localhost" => (Found::Alias, false),
            "refused@localhost" | "closing@localhost" => (Found::Refused, false),
            "x@off.example" => (Found::DomainDisabled, false),
            "full@localhost" => (Found::Account, true),
            "broken@localhost" => return Err(Status::internal("broken")),
            other if other.ends_with("@localhost") => (Found::Unknown, false),
            _ => (Found::NotLocal, false),
        };
        let alias_members = match kind {
            Found::Alias => vec!["mox@localhost".to_owned(), "second@localhost".to_owned()],
            _ => Vec::new(),
        };
        Ok(Response::new(api::LookupRecipientResponse {
            kind: kind.into(),
            account_id: Bytes::copy_from_slice(address.as_bytes()),
            tls_reports: address.starts_with("tls@"),
            alias_post_public: address.starts_with("public@"),
            smtp_error: match (kind, address.as_str()) {
                (Found::Refused, "closing@localhost") => "421 4.2.1 not now".into(),
                (Found::Refused, _) => "550 gone".into(),
                _ => String::new(),
            },
            canonical_address: address,
            over_quota,
            alias_members,
            ..Default::default()
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<api::UploadRequest>>,
    ) -> Result<Response<api::UploadResponse>, Status> {
        let mut pieces = request.into_inner();
        let mut all = Vec::new();
        while let Some(piece) = pieces.message().await? {
            all.extend_from_slice(&piece.data);
        }
        let size = all.len() as u64;
        self.0.lock().uploaded = all;
        Ok(Response::new(api::UploadResponse {
            upload_id: Bytes::from_static(b"upload"),
            size,
        }))
    }

    async fn assess(&self, request: Request<api::AssessRequest>) -> Result<Response<api::AssessResponse>, Status> {
        let (refuses, delay_milliseconds) = {
            let mut seen = self.0.lock();
            seen.assessed += 1;
            (seen.refuses.clone(), seen.delay)
        };
        let verdict = |recipient: &api::Recipient| {
            let refused = refuses.iter().find(|(address, _)| *address == recipient.address);
            api::Verdict {
                accept: refused.is_none(),
                mailbox: "Inbox".into(),
                smtp_code: refused.map_or(0, |(_, code)| *code),
                text: "not wanted".into(),
                delay_milliseconds,
                ..Default::default()
            }
        };
        let verdicts = request.into_inner().recipients.iter().map(verdict).collect();
        Ok(Response::new(api::AssessResponse { verdicts }))
    }

    async fn deliver(&self, request: Request<api::DeliverRequest>) -> Result<Response<api::DeliverResponse>, Status> {
        let request = request.into_inner();
        let mut seen = self.0.lock();
        seen.keys.push(request.key.clone());
        if seen.away > 0 {
            seen.away -= 1;
            return Err(Status::unavailable("away"));
        }
        let result = |_| api::DeliveryResult {
            delivered: true,
            ..Default::default()
        };
        let results = request.deliveries.iter().map(result).collect();
        seen.delivered.push(request);
        Ok(Response::new(api::DeliverResponse { results }))
    }
}

/// A client with its session.
struct Client {
    stream: DuplexStream,
    store: Store,
    _stop: ShutdownTrigger,
    shutdown: Shutdown,
    stop: ShutdownTrigger,
    clock: Clock,
    hand: mox_service::ManualClock,
}

/// What a test wants of its session.
#[derive(Default)]
struct Setup {
    localserve: bool,
    pedantic: bool,
    require_starttls: bool,
    resolver: Option<Arc<dyn Resolver>>,
    limits: Option<mox_config::ServiceLimits>,
    /// Time does not pass by itself.
    clock_stands: bool,
}

impl Client {
    fn new(localserve: bool) -> Self {
        Self::with(Setup {
            localserve,
            ..Setup::default()
        })
    }

    fn with(setup: Setup) -> Self {
        let Setup {
            localserve, resolver, ..
        } = setup;
        let store = Store::default();
        let routes = Routes::new(DeliveryServiceServer::new(store.clone()));
        let channel = Channel::in_process(routes, Identity::new("smtp-in"));
        let mut config = Static::new("data".into(), "localhost".parse().unwrap());
        if localserve {
            config.localserve = Some(Localserve {
                address: "mox@localhost".parse().unwrap(),
            });
        }
        let mut listener = mox_config::Listener::new(vec!["127.0.0.1".parse().unwrap()]);
        listener.smtp_max_message_size = 1_000_000;
        listener.smtp.require_starttls = setup.require_starttls;
        config.pedantic = setup.pedantic;
        let (clock, hand) = Clock::manual(std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let hands = hand.clone();
        if !setup.clock_stands {
            // Time goes by a thousand times as fast.
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    hands.advance(Duration::from_secs(1));
                }
            });
        }
        let telemetry = Telemetry::detached();
        let (reports, recorder) = Reports::new(channel.clone(), true, clock.clone(), &telemetry);
        tokio::spawn(recorder.run());
        let shared = Shared {
            store: DeliveryServiceClient::new(channel),
            reports,
            hostnames: hostnames(&config),
            config: Arc::new(config),
            cids: ConfigWatch::fixed(mox_config::Dynamic::default()),
            spool: Budget::new(10_000_000, std::env::temp_dir()),
            resolver,
            blocklists: Blocklists::default(),
            rates: MessageRates::new(&setup.limits.unwrap_or_else(mox_config::ServiceLimits::none)),
            clock: clock.clone(),
            metrics: Metrics::register(&telemetry),
            telemetry,
        };
        let (stop, shutdown) = Shutdown::new();
        let place = Place {
            shared: Arc::new(shared),
            listener: Arc::new(listener),
            tls: None,
            hostname: "localhost".into(),
            shutdown: shutdown.clone(),
        };
        let (stream, server) = duplex(1 << 20);
        let info = ConnInfo {
            cid: 0x1234,
            remote: "192.0.2.1:1234".parse().unwrap(),
            local: "192.0.2.2:25".parse().unwrap(),
            listener_name: "test".into(),
            tls: None,
        };
        tokio::spawn(Session::new(Arc::new(place), Box::new(server), info).run());
        Self {
            stream,
            store,
            _stop: stop.clone(),
            shutdown,
            stop,
            clock,
            hand,
        }
    }

    /// Sends this, and answers the codes of all that comes back once it has that many replies.
    async fn exchange(&mut self, sent: &str, replies: usize) -> Vec<String> {
        self.stream.write_all(sent.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        let ended = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            let lines = text
                .split_inclusive("\r\n")
                .filter(|l| l.ends_with("\r\n") && l.as_bytes().get(3) == Some(&b' '));
            lines.map(|l| l.trim_end().to_owned()).collect::<Vec<_>>()
        };
        while ended(&text).len() < replies {
            let mut buffer = [0; 4096];
            let read = timeout(Duration::from_secs(10), self.stream.read(&mut buffer)).await;
            let n = read
                .unwrap_or_else(|_| panic!("after {sent:?} only {:?}", ended(&text)))
                .unwrap();
            assert!(n > 0, "closed after {sent:?}: {:?}", ended(&text));
            text.extend_from_slice(&buffer[..n]);
        }
        ended(&text)
    }

    /// The codes that these commands get.
    async fn codes(&mut self, sent: &str, replies: usize) -> Vec<u16> {
        self.exchange(sent, replies)
            .await
            .iter()
            .map(|l| l[..3].parse().unwrap())
            .collect()
    }

    /// With a DNS.
    fn zoned() -> Self {
        Self::with(Setup {
            resolver: Some(zone()),
            ..Setup::default()
        })
    }

    /// Past the greeting and EHLO.
    async fn greeted(localserve: bool) -> Self {
        let mut client = Self::new(localserve);
        assert_eq!(client.codes("EHLO client.example\r\n", 2).await, [220, 250]);
        client
    }

    /// As [`Client::codes`], and the seconds that it took by the session's clock.
    async fn timed(&mut self, sent: &str, replies: usize) -> (Vec<u16>, u64) {
        let before = self.clock.unix_millis();
        let codes = self.codes(sent, replies).await;
        (codes, ((self.clock.unix_millis() - before) / 1000) as u64)
    }

    /// What comes until the connection is closed.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let read = timeout(Duration::from_secs(10), self.stream.read_to_string(&mut rest)).await;
        read.expect("it stays open").expect("it is text");
        rest
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(10), self.stream.read_to_end(&mut rest))
            .await
            .is_ok()
    }
}

const ENVELOPE: &str = "MAIL FROM:<a@remote.example>\r\nRCPT TO:<mox@localhost>\r\nDATA\r\n";

#[tokio::test]
async fn a_message_is_delivered_with_its_trace() {
    let mut client = Client::greeted(false).await;
    assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
    assert_eq!(
        client.codes("Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n", 2).await,
        [250, 221]
    );
    let seen = client.store.0.lock();
    let [request] = seen.delivered.as_slice() else {
        panic!("{}", seen.delivered.len())
    };
    let content = request.content.clone().unwrap().r#where.unwrap();
    assert_eq!(
        content,
        Where::Inline(Bytes::from_static(b"Subject: x\r\n\r\n.dot\r\n"))
    );
    let envelope = request.envelope.clone().unwrap();
    assert_eq!(
        (envelope.mail_from.as_str(), envelope.ehlo.as_str()),
        ("a@remote.example", "client.example")
    );
    assert_eq!((envelope.remote_ip.as_str(), envelope.cid), ("192.0.2.1", 0x1234));
    let prefix = String::from_utf8(request.deliveries[0].prefix.to_vec()).unwrap();
    let expected = "Return-Path: <a@remote.example>\r\nDelivered-To: mox@localhost\r\nReceived: from client.example ([192.0.2.1])\r\n\
                    \tby localhost with ESMTP\r\n\tid ";
    assert!(
        prefix.starts_with(expected) && prefix.ends_with("+0000\r\n"),
        "{prefix}"
    );
}

#[tokio::test]
async fn everything_can_be_pipelined() {
    let mut client = Client::greeted(false).await;
    let all = "MAIL FROM:<>\r\nRCPT TO:<mox@localhost>\r\nRCPT TO:<nobody@localhost>\r\nRCPT TO:<public@localhost>\r\n\
               RCPT TO:<Postmaster>\r\nDATA\r\n";
    assert_eq!(client.codes(all, 6).await, [250, 250, 250, 250, 250, 354]);
    assert_eq!(
        client.codes("a\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nNOOP\r\n", 4).await,
        [250, 250, 250, 250]
    );
    let seen = client.store.0.lock();
    let deliveries = &seen.delivered[0].deliveries;
    let to: Vec<_> = deliveries
        .iter()
        .map(|d| d.recipient.clone().unwrap())
        .map(|r| (r.rcpt_to, r.address))
        .collect();
    // The list has one who was addressed already, and who gets no second copy.
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        to,
        [
            pair("mox@localhost", "mox@localhost"),
            pair("postmaster", "postmaster"),
            pair("public@localhost", "second@localhost"),
        ]
    );
    assert!(deliveries[0].prefix.starts_with(b"Return-Path: <>\r\n"));
    assert!(!String::from_utf8_lossy(&deliveries[0].prefix).contains("\tfor "));
}

#[tokio::test]
async fn recipients_are_refused_for_what_they_are() {
    let mut client = Client::greeted(false).await;
    let replies = client
        .exchange(
            "RCPT TO:<mox@localhost>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@localhost>\r\nRCPT TO:<x@other.example>\r\n\
             RCPT TO:<full@localhost>\r\nRCPT TO:<broken@localhost>\r\nRCPT TO:<mox@[127.0.0.1]>\r\nRCPT TO:<é@localhost>\r\n\
             RCPT TO:<x@off.example>\r\nDATA\r\nRCPT TO:<nobody@localhost>\r\n",
            11,
        )
        .await;
    let starts = [
        "503 5.5.1",
        "250 2.1.0",
        "550 5.2.1 gone",
        "550 5.7.1",
        "452 4.2.2",
        "451 4.3.0",
        "550 5.7.1",
        "550 5.6.7",
        "450 4.2.1",
        "554 5.5.1",
        "250 2.1.5",
    ];
    for (reply, start) in replies.iter().zip(starts) {
        assert!(reply.starts_with(start), "{reply} is not {start}");
    }
}

#[tokio::test]
async fn bare_line_ends_are_refused_and_smuggle_nothing() {
    for data in [
        "a\n.\nMAIL FROM:<evil@b>\r\n.\r\n",
        "a\r\n.\nMAIL FROM:<evil@b>\r\n.\r\n",
        "a\rb\r\n.\r\n",
        "a\n.\r\nQUIT\r\n.\r\n",
    ] {
        let mut client = Client::greeted(false).await;
        assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
        assert_eq!(client.codes(data, 1).await, [554], "{data:?}");
        assert_eq!(client.codes("NOOP\r\nNOOP\nNOOP\r\n", 3).await, [250, 500, 250]);
        assert!(client.store.0.lock().delivered.is_empty());
    }
}

#[tokio::test]
async fn large_messages_are_uploaded_and_larger_ones_refused() {
    let mut client = Client::greeted(false).await;
    let line = format!("{}\r\n", "x".repeat(98));
    assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
    assert_eq!(client.codes(&format!("{}.\r\n", line.repeat(9000)), 1).await, [250]);
    assert_eq!(client.store.0.lock().uploaded, line.repeat(9000).as_bytes());
    assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
    assert_eq!(client.codes(&format!("{}.\r\n", line.repeat(10_001)), 1).await, [552]);
    assert_eq!(client.codes("MAIL FROM:<a@b> SIZE=1000001\r\n", 1).await, [552]);
    assert_eq!(client.store.0.lock().delivered.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_again_with_the_same_key() {
    let mut client = Client::greeted(false).await;
    client.store.0.lock().away = 2;
    assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
    assert_eq!(client.codes("a\r\n.\r\n", 1).await, [250]);
    let seen = client.store.0.lock();
    assert_eq!(seen.delivered.len(), 1);
    assert!(seen.keys.len() == 3 && seen.keys.iter().all(|k| *k == seen.keys[0]));
}

#[tokio::test]
async fn messages_that_go_in_circles_are_refused() {
    let mut client = Client::greeted(false).await;
    for (hops, code) in [(100, 250), (101, 554)] {
        assert_eq!(client.codes(ENVELOPE, 3).await, [250, 250, 354]);
        assert_eq!(
            client
                .codes(&format!("{}\r\n.\r\n", "Received: x\r\n".repeat(hops)), 1)
                .await,
            [code]
        );
    }
}

#[tokio::test]
async fn order_and_mistakes_have_their_limits() {
    let mut client = Client::new(false);
    assert_eq!(
        client
            .codes("MAIL FROM:<a@b>\r\nDATA\r\nAUTH PLAIN\r\nSTARTTLS\r\n", 5)
            .await,
        [220, 503, 503, 502, 503]
    );
    assert_eq!(
        client.codes("HELO x\r\nVRFY x\r\nEXPN x\r\nHELP\r\n", 4).await,
        [250, 252, 502, 214]
    );
    assert_eq!(
        client
            .codes("MAIL FROM:<a@b> HOLDFOR=1\r\nMAIL FROM:<a@b> REQUIRETLS\r\n", 2)
            .await,
        [555, 555]
    );
    // What was pipelined behind a refused MAIL is no mistake.
    let rcpts = "RCPT TO:<mox@localhost>\r\n".repeat(20);
    let behind = format!("MAIL FROM:<a@b> SIZE=9999999\r\n{rcpts}DATA\r\n");
    assert_eq!(client.codes(&behind, 22).await[20..], [503, 503]);
    assert_eq!(
        client.codes("MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", 2).await,
        [250, 503]
    );
    assert_eq!(client.codes("BAD\r\nBAD\r\nBAD\r\n", 4).await, [500, 500, 500, 421]);
    assert!(client.is_closed().await);
    // A recipient may ask for 421, behind which there is nothing.
    let mut client = Client::greeted(false).await;
    let replies = client
        .exchange("MAIL FROM:<a@b>\r\nRCPT TO:<closing@localhost>\r\nNOOP\r\n", 2)
        .await;
    assert_eq!(replies[1..], ["421 4.2.1 not now"]);
    assert_eq!(client.rest().await, "");
    let mut client = Client::greeted(false).await;
    assert_eq!(client.codes("MAIL FROM:<a@b>\r\n", 1).await, [250]);
    let many = "RCPT TO:<nobody@elsewhere.example>\r\n".repeat(50);
    assert_eq!(client.codes(&many, 51).await.last(), Some(&421));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn the_end_of_the_server_is_told() {
    let mut client = Client::greeted(false).await;
    assert_eq!(
        client.codes("MAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n", 3).await,
        [250, 250, 250]
    );
    client.stop.begin();
    client.shutdown.begun().await;
    // What has begun may be finished.
    assert_eq!(client.codes("RCPT TO:<mox@localhost>\r\nDATA\r\n", 2).await, [250, 354]);
    assert_eq!(client.codes("a\r\n.\r\n", 2).await, [250, 421]);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn developers_get_every_message_and_the_errors_they_ask_for() {
    let mut client = Client::greeted(true).await;
    let rcpt = |to: &str| format!("MAIL FROM:<a@b>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
    for to in ["nobody@localhost", "x@other.example", "mox@[127.0.0.1]"] {
        assert_eq!(client.codes(&rcpt(to), 3).await, [250, 250, 354], "{to}");
        assert_eq!(client.codes("a\r\n.\r\n", 1).await, [250]);
        let delivery = client.store.0.lock().delivered.pop().unwrap().deliveries.pop().unwrap();
        let recipient = delivery.recipient.unwrap();
        assert_eq!(
            (recipient.address.as_str(), recipient.rcpt_to.as_str()),
            ("mox@localhost", to)
        );
    }
    for (to, code) in [
        ("temperror@x.example", 451),
        ("permerror@localhost", 550),
        ("u452@localhost", 452),
    ] {
        assert_eq!(client.codes(&rcpt(to), 3).await, [250, 250, 354], "{to}");
        assert_eq!(client.codes("a\r\n.\r\n", 1).await, [code]);
    }
    assert_eq!(client.codes("MAIL FROM:<mailfrom551@b>\r\n", 1).await, [551]);
    assert_eq!(
        client
            .codes("MAIL FROM:<a@b>\r\nRCPT TO:<rcptto-temperror@b>\r\nRSET\r\n", 3)
            .await,
        [250, 451, 250]
    );
    assert!(client.store.0.lock().delivered.is_empty());
    assert_eq!(client.codes("MAIL FROM:<mailfrom-timeout@b>\r\n", 0).await, [0u16; 0]);
    let mut buffer = [0; 10];
    assert!(
        timeout(Duration::from_millis(100), client.stream.read(&mut buffer))
            .await
            .is_err()
    );
}

/// A zone with policies; in its text form ";" would begin a comment.
fn zone() -> Arc<dyn Resolver> {
    let mut zone = mox_dns::ZoneResolver::parse(
        "example.org MX 10 mx.example.org\nmx.example.org A 192.0.2.1\n192.0.2.1 PTR mx.example.org\n\
         example.org TXT v=spf1 mx -all\nother.example TXT v=spf1 -all\nother.example A 192.0.2.9\n\
         slow.example FAIL timeout\nnull.example MX 0 .\nbare.example TXT nothing\nspfslow.example A 192.0.2.9\n\
         spfslow.example TXT v=spf1 include:slow.example -all\n",
    )
    .unwrap();
    let policy = |text: &str| mox_dns::Record::Txt(text.as_bytes().to_vec());
    zone.add("_dmarc.example.org", policy("v=DMARC1; p=reject"));
    zone.add("_dmarc.other.example", policy("v=DMARC1; p=quarantine"));
    Arc::new(zone)
}

/// What the store is told of a message from this address, with this From.
async fn authenticated(mail_from: &str, from: &str) -> api::DeliverRequest {
    let mut client = Client::zoned();
    client.exchange("EHLO mx.example.org\r\n", 2).await;
    let sent = format!(
        "MAIL FROM:<{mail_from}>\r\nRCPT TO:<mox@localhost>\r\nDATA\r\nAuthentication-Results: localhost; spf=pass\r\n\
         X-Mox-Reason: known\r\nFrom: {from}\r\nSubject: hi\r\n\r\nhi\r\n.\r\n"
    );
    let replies = client.exchange(&sent, 4).await;
    assert!(replies[3].starts_with("250 "), "{replies:?}");
    let mut seen = client.store.0.lock();
    seen.delivered.pop().unwrap()
}

#[tokio::test]
async fn who_sends_is_found_out() {
    use api::{DmarcPolicy, DmarcResult, Validation};
    let seen = authenticated("joe@example.org", "Joe <joe@example.org>").await;
    let envelope = seen.envelope.unwrap();
    assert_eq!(envelope.iprev_names, ["mx.example.org"]);
    assert!(!envelope.iprev_failed);
    assert_eq!(envelope.mail_from_validation(), Validation::Pass);
    assert_eq!(envelope.msg_from_validation(), Validation::Strict);
    assert_eq!(
        (envelope.dmarc(), envelope.dmarc_policy()),
        (DmarcResult::Pass, DmarcPolicy::Reject)
    );
    assert_eq!(envelope.msg_from, "joe@example.org");
    let prefix = String::from_utf8(seen.deliveries[0].prefix.to_vec()).unwrap();
    for wanted in [
        "\r\nAuthentication-Results: localhost;\r\n\tiprev=pass",
        "spf=pass (without dnssec) (mx)\r\n\t smtp.mailfrom=joe@example.org",
        "dmarc=pass",
        "\r\nReceived-SPF: Pass ",
        "mx.example.org",
    ] {
        assert!(prefix.contains(wanted), "{wanted:?} in {prefix}");
    }
    let Some(Where::Inline(content)) = seen.content.unwrap().r#where else {
        panic!("not inline")
    };
    assert!(
        content.starts_with(b"From: Joe"),
        "what only we may say is removed: {content:?}"
    );
}

#[tokio::test]
async fn who_pretends_is_found_out() {
    use api::{DmarcPolicy, DmarcResult, Validation};
    let envelope = authenticated("a@other.example", "b@other.example")
        .await
        .envelope
        .unwrap();
    assert_eq!(envelope.mail_from_validation(), Validation::Fail);
    assert_eq!(envelope.msg_from_validation(), Validation::Fail);
    assert_eq!(
        (envelope.dmarc(), envelope.dmarc_policy()),
        (DmarcResult::Fail, DmarcPolicy::Quarantine)
    );
    // The null reverse-path: the name in EHLO is what is checked.
    let envelope = authenticated("", "b@nothing.example").await.envelope.unwrap();
    assert_eq!(envelope.mail_from_validation(), Validation::None);
    assert_eq!(envelope.dmarc(), DmarcResult::None);
    let envelope = authenticated("a@spfslow.example", "a@spfslow.example")
        .await
        .envelope
        .unwrap();
    assert_eq!(envelope.mail_from_validation(), Validation::Temperror);
}

mod chunking;
mod leaving;
mod recipients;
