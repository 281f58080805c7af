//! Whole exchanges, ours against ours.

use proptest::prelude::*;

use super::*;
use crate::client::Client;

const SECRET: &[u8] = b"server secret";

fn settings() -> ServerSettings {
    ServerSettings {
        local_name: "mail.example.org".into(),
        ..ServerSettings::default()
    }
}

fn bindings() -> ChannelBindings {
    ChannelBindings {
        tls_exporter: Some(vec![1; 32]),
        tls_server_end_point: Some(vec![2; 32]),
    }
}

/// Runs an exchange to its end.
fn run(server: &mut ServerExchange, client: &mut Client, credentials: Option<&Credentials>) -> Step {
    let initial = client.initial();
    let mut step = server.start(initial.as_deref());
    loop {
        step = match step {
            Step::Challenge(data) => match client.step(&data) {
                Ok(answer) => server.step(&answer),
                Err(_) => return Step::Failure(Failure::Malformed),
            },
            Step::Lookup { authcid } => {
                assert_eq!(authcid, "mox@example.org");
                server.supply(credentials, SECRET)
            }
            Step::Success { ref data, .. } => {
                assert!(client.finish((!data.is_empty()).then_some(data)).is_ok());
                return step;
            }
            Step::Failure(_) => return step,
        };
    }
}

#[test]
fn every_mechanism_lets_in_the_right_password_and_no_other() {
    let credentials = Credentials::derive("mox mox \u{e9}").unwrap();
    for mechanism in Mechanism::ALL.into_iter().filter(|m| *m != Mechanism::External) {
        for (password, known, passes) in [
            ("mox mox e\u{301}", true, true),
            ("mox mox", true, false),
            ("mox mox \u{e9}", false, false),
        ] {
            let settings = ServerSettings {
                channel_bindings: bindings(),
                ..settings()
            };
            let mut server = ServerExchange::new(mechanism, settings);
            let mut client = Client::new(mechanism, &bindings(), true, "mox@example.org", password).unwrap();
            let step = run(&mut server, &mut client, known.then_some(&credentials));
            match step {
                Step::Success { authcid, data } => {
                    assert!(passes, "{mechanism} {password}");
                    assert_eq!(authcid, "mox@example.org");
                    assert_eq!(data.is_empty(), !mechanism.name().starts_with("SCRAM"));
                }
                step => {
                    assert!(!passes, "{mechanism} {password}");
                    assert_eq!(step, Step::Failure(Failure::Credentials), "{mechanism} {password}");
                }
            }
            assert_eq!(server.step(b""), Step::Failure(Failure::Over));
        }
    }
}

#[test]
fn a_connection_in_between_is_found_out() {
    let credentials = Credentials::derive("mox").unwrap();
    let other = ChannelBindings {
        tls_exporter: Some(vec![3; 32]),
        tls_server_end_point: None,
    };
    let mut server = ServerExchange::new(
        Mechanism::ScramSha256Plus,
        ServerSettings {
            channel_bindings: bindings(),
            ..settings()
        },
    );
    let mut client = Client::new(Mechanism::ScramSha256Plus, &other, true, "mox@example.org", "mox").unwrap();
    assert_eq!(
        run(&mut server, &mut client, Some(&credentials)),
        Step::Failure(Failure::ChannelBinding)
    );
}

#[test]
fn plain_takes_its_three_parts_and_no_others() {
    let credentials = Credentials::derive("secret").unwrap();
    let start = |message: &[u8]| ServerExchange::new(Mechanism::Plain, settings()).start(Some(message));
    let looked = Step::Lookup {
        authcid: "a@example.org".into(),
    };
    assert_eq!(start(b"\0a@example.org\0secret"), looked);
    assert_eq!(start(b"a@example.org\0a@example.org\0secret"), looked);
    assert_eq!(
        start(b"b@example.org\0a@example.org\0secret"),
        Step::Failure(Failure::Authorization)
    );
    assert_eq!(start(b"\0a@example.org\0"), Step::Failure(Failure::Credentials));
    for bad in [
        &b""[..],
        b"a",
        b"a\0b",
        b"\0\0c",
        b"\0a\0b\0c",
        b"\0a\xff\0b",
        &[b'a'; MESSAGE_MAX + 1],
    ] {
        assert_eq!(start(bad), Step::Failure(Failure::Malformed), "{bad:?}");
    }
    let mut late = ServerExchange::new(Mechanism::Plain, settings());
    assert_eq!(late.start(None), Step::Challenge(Vec::new()));
    assert_eq!(late.step(b"\0a@example.org\0secret"), looked);
    assert!(matches!(late.supply(Some(&credentials), SECRET), Step::Success { .. }));
    assert_eq!(late.supply(Some(&credentials), SECRET), Step::Failure(Failure::Over));
}

#[test]
fn login_takes_the_name_at_once_too() {
    let mut server = ServerExchange::new(Mechanism::Login, settings());
    assert_eq!(
        server.start(Some(b"a@example.org")),
        Step::Challenge(b"Password:".to_vec())
    );
    assert_eq!(
        server.step(b"secret"),
        Step::Lookup {
            authcid: "a@example.org".into()
        }
    );
}

#[test]
fn external_is_whom_the_certificate_names() {
    let credentials = Credentials::default();
    let external = |identity: Option<&str>| {
        let external = identity.map(str::to_owned);
        ServerExchange::new(Mechanism::External, ServerSettings { external, ..settings() })
    };
    assert_eq!(external(None).start(Some(b"")), Step::Failure(Failure::Credentials));
    assert_eq!(
        external(Some("a@b.example")).start(Some(b"c@b.example")),
        Step::Failure(Failure::Authorization)
    );
    let mut server = external(Some("a@b.example"));
    assert_eq!(
        server.start(Some(b"")),
        Step::Lookup {
            authcid: "a@b.example".into()
        }
    );
    let success = Step::Success {
        authcid: "a@b.example".into(),
        data: Vec::new(),
    };
    assert_eq!(server.supply(Some(&credentials), SECRET), success);
    let mut gone = external(Some("a@b.example"));
    gone.start(Some(b""));
    assert_eq!(gone.supply(None, SECRET), Step::Failure(Failure::Credentials));
}

#[test]
fn cram_md5_has_no_initial_response_and_no_challenge_twice() {
    let new = || ServerExchange::new(Mechanism::CramMd5, settings());
    assert_eq!(new().start(Some(b"")), Step::Failure(Failure::Malformed));
    let (a, b) = (new().start(None), new().start(None));
    assert!(matches!(&a, Step::Challenge(c) if c.ends_with(b"@mail.example.org>")));
    assert_ne!(a, b);
}

#[test]
fn an_unknown_name_keeps_its_salt() {
    let salt = |name: &str| {
        let mut server = ServerExchange::new(Mechanism::ScramSha256, settings());
        server.start(Some(format!("n,,n={name},r=abc").as_bytes()));
        match server.supply(None, SECRET) {
            Step::Challenge(c) => String::from_utf8(c).unwrap().split_once(",s=").unwrap().1.to_owned(),
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(salt("a@example.org"), salt("a@example.org"));
    assert_ne!(salt("a@example.org"), salt("b@example.org"));
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(which in 0usize..8, messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..4)) {
        let mut server = ServerExchange::new(Mechanism::ALL[which], settings());
        server.start(Some(&messages[0]));
        for message in &messages[1..] {
            server.step(message);
        }
    }

    #[test]
    fn no_scram_text_makes_it_panic(message in "[nyp]?(=tls-exporter)?,(a=[a-z=,]{0,5})?,[nrmx=,a-zA-Z0-9]{0,30}") {
        let mut server = ServerExchange::new(Mechanism::ScramSha256, settings());
        if let Step::Lookup { .. } = server.start(Some(message.as_bytes())) {
            server.supply(None, SECRET);
            server.step(message.as_bytes());
        }
    }
}
