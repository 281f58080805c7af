//! The resolver against small servers on loopback.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record};
use mox_dns::{Reason, Resolver, Settings, Status, SystemResolver};
use tokio::net::UdpSocket;

type Answerer = dyn Fn(&Message, &mut Message) + Send + Sync;

async fn server(answer: impl Fn(&Message, &mut Message) + Send + Sync + 'static) -> SocketAddr {
    let answer: Arc<Answerer> = Arc::new(answer);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..n]).unwrap();
            let mut response = Message::response(query.metadata.id, OpCode::Query);
            response.metadata.recursion_available = true;
            response.add_query(query.queries[0].clone());
            answer(&query, &mut response);
            socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
        }
    });
    at
}

fn resolver(at: SocketAddr, trust_ad: bool) -> SystemResolver {
    SystemResolver::new(&Settings {
        servers: vec![at],
        trust_ad,
        ..Settings::default()
    })
    .unwrap()
}

fn address(name: &Name, ip: [u8; 4]) -> Record {
    Record::from_rdata(name.clone(), 60, RData::A(A(ip.into())))
}

#[tokio::test]
async fn the_ad_bit_is_asked_for_and_read_when_it_is_trusted() {
    let at = server(|query, response| {
        response.metadata.authentic_data = query.metadata.authentic_data;
        response.add_answer(address(query.queries[0].name(), [192, 0, 2, 1]));
    })
    .await;
    assert_eq!(
        resolver(at, true).a("host.example").await.unwrap().status,
        Status::Secure
    );
    assert_eq!(
        resolver(at, false).a("host.example").await.unwrap().status,
        Status::Indeterminate
    );
}

#[tokio::test]
async fn cnames_are_followed() {
    let at = server(|query, response| {
        let name = query.queries[0].name();
        let target = Name::from_ascii("Target.example.").unwrap();
        response.add_answer(Record::from_rdata(
            name.clone(),
            60,
            RData::CNAME(CNAME(target.clone())),
        ));
        response.add_answer(address(&target, [192, 0, 2, 2]));
        response.add_answer(address(
            &Name::from_ascii("unrelated.example.").unwrap(),
            [192, 0, 2, 3],
        ));
    })
    .await;
    for trust_ad in [true, false] {
        let answer = resolver(at, trust_ad).a("alias.example").await.unwrap();
        assert_eq!(answer.canonical, "target.example");
        assert_eq!(answer.records, [Ipv4Addr::new(192, 0, 2, 2)]);
    }
}

#[tokio::test]
async fn servers_that_are_named_are_asked_whatever_the_hosts_file_says() {
    let at = server(|query, response| {
        response.add_answer(address(query.queries[0].name(), [192, 0, 2, 1]));
    })
    .await;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = hosts.lines().filter(|line| !line.starts_with('#'));
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    // RFC 6761 §6.3: names of this host itself are not asked for.
    for name in names.filter(|name| !name.contains("localhost")) {
        let answer = resolver(at, false).a(name).await.unwrap();
        assert_eq!(answer.records, [Ipv4Addr::new(192, 0, 2, 1)], "{name}");
    }
}

#[tokio::test]
async fn denials_and_failures_are_told_apart() {
    let at = server(|query, response| {
        response.metadata.response_code = match query.queries[0].name().to_ascii().split('.').next() {
            Some("nxdomain") => ResponseCode::NXDomain,
            Some("servfail") => ResponseCode::ServFail,
            _ => ResponseCode::NoError,
        };
    })
    .await;
    for trust_ad in [true, false] {
        let resolver = resolver(at, trust_ad);
        assert_eq!(resolver.a("nxdomain.example").await.unwrap_err().reason, Reason::NoName);
        assert_eq!(resolver.a("nodata.example").await.unwrap_err().reason, Reason::NoData);
        assert!(resolver.a("servfail.example").await.unwrap_err().is_temporary());
        assert!(!resolver.a("not a name").await.unwrap_err().is_temporary());
    }
}

#[tokio::test]
async fn without_a_server_the_error_is_temporary_and_quick() {
    // A socket that nobody reads, and a port that nobody has.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for at in [silent.local_addr().unwrap(), closed] {
        let start = Instant::now();
        let error = resolver(at, false).mx("domain.example").await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn unsigned_answers_do_not_pass_validation_as_secure() {
    let at = server(|query, response| {
        response.metadata.authentic_data = true;
        response.add_answer(address(query.queries[0].name(), [192, 0, 2, 1]));
    })
    .await;
    let settings = Settings {
        servers: vec![at],
        validate: true,
        ..Settings::default()
    };
    match SystemResolver::new(&settings).unwrap().a("host.example").await {
        Ok(answer) => assert_ne!(answer.status, Status::Secure),
        Err(error) => assert!(error.is_temporary(), "{error}"),
    }
}

#[test]
fn two_ways_of_validating_are_refused() {
    let settings = Settings {
        validate: true,
        trust_ad: true,
        ..Settings::default()
    };
    assert!(SystemResolver::new(&settings).is_err());
}
