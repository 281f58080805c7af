//! Logging in by a TLS client certificate, and sessions over a restart.

use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::auth_admin_service_server::AuthAdminService as _;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::auth::v1::authenticate_request::{Start, Step as Message};
use mox_proto::auth::v1::authenticate_response::failure::Reason;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success};
use mox_service::Clock;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tonic::{Code, Request};

use super::tests::{PASSWORD, Store, config};
use super::*;

fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Bytes {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "my laptop");
    Bytes::copy_from_slice(params.self_signed(&key).unwrap().der())
}

fn digest(certificate: &[u8]) -> [u8; 32] {
    mox_service::public_key_digest(certificate).unwrap()
}

impl Store {
    fn journal(&self) -> Journal {
        Journal::new(
            self.db.clone(),
            Clock::system(),
            self.sessions.clone(),
            self.authenticator.0.logins.clone(),
        )
    }

    fn admin(&self) -> AuthAdminApi {
        let (db, registry, sessions) = (self.db.clone(), self.registry.clone(), self.sessions.clone());
        AuthAdminApi::new(db, registry, sessions, self.journal(), Clock::system())
    }

    async fn add_key(&self, address: &str, certificate: &Bytes, no_imap_preauth: bool) -> Result<api::PublicKey, Code> {
        let request = api::AddPublicKeyRequest {
            login_address: address.into(),
            name: String::new(),
            no_imap_preauth,
            certificate: certificate.clone(),
        };
        let answer = self.admin().add_public_key(Request::new(request)).await;
        answer
            .map(|answer| answer.into_inner().key.unwrap())
            .map_err(|status| status.code())
    }

    async fn remove_key(&self, certificate: &[u8]) -> Result<(), Code> {
        let request = api::RemovePublicKeyRequest {
            fingerprint: digest(certificate).to_vec().into(),
        };
        let removed = self.admin().remove_public_key(Request::new(request)).await;
        removed.map(drop).map_err(|status| status.code())
    }

    async fn external(&self, certificate: Option<&[u8]>, identity: &[u8], preauth: bool) -> Result<Success, Failure> {
        let start = Start {
            mechanism: "EXTERNAL".into(),
            initial_response: Some(Bytes::copy_from_slice(identity)),
            remote_ip: "192.0.2.1".into(),
            tls: true,
            protocol: "imap".into(),
            tls_public_key: certificate.map_or_else(Bytes::new, |c| Bytes::copy_from_slice(&digest(c))),
            preauth,
            ..Start::default()
        };
        let first = api::AuthenticateRequest {
            step: Some(Message::Start(start)),
        };
        let mut service = AuthServiceClient::new(self.channel("imap"));
        let mut answers = service
            .authenticate(tokio_stream::iter([first]))
            .await
            .unwrap()
            .into_inner();
        match answers.message().await.unwrap().unwrap().step.unwrap() {
            Answer::Success(success) => Ok(success),
            Answer::Failure(failure) => Err(failure),
            Answer::Challenge(_) => panic!("EXTERNAL has no challenge after an initial response"),
        }
    }

    async fn refused(&self, certificate: Option<&[u8]>, identity: &[u8], preauth: bool) -> Reason {
        self.external(certificate, identity, preauth)
            .await
            .unwrap_err()
            .reason()
    }

    async fn logins(&self, account: &str, unknown: bool) -> Vec<api::Login> {
        let request = api::ListLoginsRequest {
            account: account.into(),
            unknown,
            page_token: String::new(),
        };
        let answer = self.admin().list_logins(Request::new(request)).await.unwrap();
        answer.into_inner().logins
    }

    /// As after a restart: sessions that are taken up from what is kept.
    async fn restarted(&self) -> Sessions {
        let sessions = Sessions::default();
        let journal = Journal::new(self.db.clone(), Clock::system(), sessions.clone(), Logins::default());
        journal.restore(&self.registry).await.unwrap();
        sessions
    }

    async fn alive(&self, sessions: &Sessions, success: &Success) -> bool {
        sessions.check(&success.session, &Identity::new("imap")).await.is_ok()
    }
}

use mox_rpc::Identity;

#[tokio::test]
async fn a_registered_key_logs_in_as_its_account_and_as_nobody_else() {
    let store = Store::new([0; 3]).await;
    for algorithm in [
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        let own = certificate(algorithm);
        assert_eq!(store.refused(Some(&own), b"", false).await, Reason::Credentials);
        let key = store.add_key("user@example.org", &own, false).await.unwrap();
        assert_eq!((key.account.as_str(), key.name.as_str()), ("mox", "my laptop"));
        for identity in ["", "user@example.org", "USER@example.org", "user+tag@example.org"] {
            let success = store.external(Some(&own), identity.as_bytes(), false).await.unwrap();
            let wanted = if identity.is_empty() {
                "user@example.org"
            } else {
                identity
            };
            assert_eq!(
                (success.account.as_str(), success.login_address.as_str()),
                ("mox", wanted)
            );
            assert!(store.alive(&store.sessions, &success).await);
        }
        for identity in ["silent@example.org", "nobody@example.org", "mox", "user@example.net"] {
            let refused = store.refused(Some(&own), identity.as_bytes(), false).await;
            assert_eq!(refused, Reason::Credentials, "{identity}");
        }
        assert_eq!(store.refused(Some(&own), b"\xff", false).await, Reason::Malformed);
        assert_eq!(store.refused(Some(&own), b"a\0b", false).await, Reason::Malformed);
    }
    assert_eq!(store.refused(None, b"", false).await, Reason::Credentials);
    assert_eq!(
        store.refused(None, b"user@example.org", false).await,
        Reason::Credentials
    );
}

#[tokio::test]
async fn keys_are_added_to_logins_once_and_their_sessions_end_with_them() {
    let store = Store::new([0; 3]).await;
    let own = certificate(&rcgen::PKCS_ED25519);
    assert_eq!(
        store.add_key("nobody@example.org", &own, false).await.unwrap_err(),
        Code::NotFound
    );
    assert_eq!(
        store.add_key("user", &own, false).await.unwrap_err(),
        Code::InvalidArgument
    );
    let junk = Bytes::from_static(b"junk");
    let added = store.add_key("user@example.org", &junk, false).await;
    assert_eq!(added.unwrap_err(), Code::InvalidArgument);
    store.add_key("user@example.org", &own, false).await.unwrap();
    let again = store.add_key("silent@example.org", &own, false).await;
    assert_eq!(again.unwrap_err(), Code::AlreadyExists);
    let by_key = store.external(Some(&own), b"", false).await.unwrap();
    let by_password = store
        .login_from("192.0.2.1", mox_sasl::Mechanism::Plain, "user@example.org", PASSWORD)
        .await
        .unwrap();
    let mut revoked = store.sessions.revocations();
    store.remove_key(&own).await.unwrap();
    assert!(revoked.try_recv().is_ok());
    assert!(!store.alive(&store.sessions, &by_key).await);
    assert!(
        store.alive(&store.sessions, &by_password).await,
        "the password is good still"
    );
    assert_eq!(store.remove_key(&own).await.unwrap_err(), Code::NotFound);
    assert_eq!(store.refused(Some(&own), b"", false).await, Reason::Credentials);
}

#[tokio::test]
async fn preauth_is_for_keys_that_want_it_and_is_no_failed_login() {
    let store = Store::new([1, 0, 0]).await;
    let (yes, no, unknown) = (
        certificate(&rcgen::PKCS_ED25519),
        certificate(&rcgen::PKCS_ED25519),
        certificate(&rcgen::PKCS_ED25519),
    );
    store.add_key("user@example.org", &yes, false).await.unwrap();
    store.add_key("user@example.org", &no, true).await.unwrap();
    for _ in 0..3 {
        assert!(store.external(Some(&unknown), b"", true).await.is_err());
        assert!(store.external(Some(&no), b"", true).await.is_err());
    }
    assert!(store.logins("", false).await.is_empty(), "nobody tried to log in");
    store.external(Some(&yes), b"", true).await.unwrap();
    store.external(Some(&no), b"", false).await.unwrap();
    let mut logins = store.logins("mox", false).await;
    logins.sort_by(|a, b| a.mechanism.cmp(&b.mechanism));
    let shown: Vec<_> = logins
        .iter()
        .map(|l| (l.mechanism.as_str(), l.result.as_str(), l.public_key.len()))
        .collect();
    assert_eq!(shown, [("EXTERNAL", "ok", 43), ("tlsclientauth", "ok", 43)]);
    // A real attempt counts.
    assert_eq!(store.refused(Some(&unknown), b"", false).await, Reason::Credentials);
    assert_eq!(store.refused(Some(&yes), b"", false).await, Reason::Rate);
}

#[tokio::test]
async fn a_disabled_account_is_told_so_and_an_address_of_another_is_no_longer_the_keys() {
    let store = Store::new([0; 3]).await;
    let own = certificate(&rcgen::PKCS_ED25519);
    store.add_key("user@example.org", &own, false).await.unwrap();
    let disabled = config(|c| c.accounts.get_mut("mox").unwrap().login_disabled = "call us".into());
    store.commit(disabled).await;
    for preauth in [false, true] {
        let failure = store.external(Some(&own), b"", preauth).await.unwrap_err();
        assert_eq!((failure.reason(), failure.text.as_str()), (Reason::Disabled, "call us"));
    }
    let moved = config(|c| {
        let addresses = std::mem::take(&mut c.accounts.get_mut("mox").unwrap().destinations);
        c.accounts.get_mut("silent").unwrap().destinations.extend(addresses);
    });
    store.commit(moved).await;
    assert_eq!(store.refused(Some(&own), b"", false).await, Reason::Credentials);
}

#[tokio::test]
async fn sessions_survive_a_restart_as_long_as_what_they_were_begun_with() {
    let store = Store::new([0; 3]).await;
    let own = certificate(&rcgen::PKCS_ED25519);
    store.add_key("user@example.org", &own, false).await.unwrap();
    let by_key = store.external(Some(&own), b"", false).await.unwrap();
    let by_password = || store.login_from("192.0.2.1", mox_sasl::Mechanism::Plain, "user@example.org", PASSWORD);
    let (first, ended) = (by_password().await.unwrap(), by_password().await.unwrap());
    assert!(!store.alive(&store.restarted().await, &first).await, "not written yet");
    store.journal().write().await.unwrap();
    store.sessions.end(&ended.session, &Identity::new("imap"));
    store.journal().write().await.unwrap();
    let sessions = store.restarted().await;
    assert!(store.alive(&sessions, &first).await && store.alive(&sessions, &by_key).await);
    assert!(!store.alive(&sessions, &ended).await);
    assert!(sessions.check(&first.session, &Identity::new("web")).await.is_err());
    assert!(sessions.renew(&first.session, &Identity::new("imap")));
    // Nothing more is written: as if it was killed.
    store.remove_key(&own).await.unwrap();
    let sessions = store.restarted().await;
    assert!(store.alive(&sessions, &first).await && !store.alive(&sessions, &by_key).await);
    store
        .registry
        .set_password(&store.hasher, "mox", "another one".into())
        .await
        .unwrap();
    assert_eq!(store.restarted().await.count(), 0, "the password was changed");
}

#[tokio::test]
async fn sessions_of_disabled_accounts_are_not_taken_up() {
    let store = Store::new([0; 3]).await;
    let login = || store.login_from("192.0.2.1", mox_sasl::Mechanism::Plain, "user@example.org", PASSWORD);
    let success = login().await.unwrap();
    store.journal().write().await.unwrap();
    store
        .commit(config(|c| {
            c.accounts.get_mut("mox").unwrap().login_disabled = "call us".into();
        }))
        .await;
    assert!(!store.alive(&store.restarted().await, &success).await);
}

#[tokio::test]
async fn every_login_is_recorded_with_its_result() {
    let store = Store::new([0; 3]).await;
    let try_in = |name: &'static str, password: &'static str| {
        store.login_from("192.0.2.1", mox_sasl::Mechanism::ScramSha256, name, password)
    };
    let success = try_in("user@example.org", PASSWORD).await.unwrap();
    for _ in 0..3 {
        try_in("user@example.org", "wrong").await.unwrap_err();
    }
    try_in("nobody@example.org", "wrong").await.unwrap_err();
    let request = api::DescribeClientRequest {
        session: success.session,
        client_id: "mutt 2".into(),
    };
    AuthServiceClient::new(store.channel("imap"))
        .describe_client(request)
        .await
        .unwrap();
    let mut logins = store.logins("mox", false).await;
    logins.sort_by_key(|login| login.count);
    let shown: Vec<_> = logins
        .iter()
        .map(|l| {
            (
                l.count,
                l.result.as_str(),
                l.client_id.as_str(),
                l.login_address.as_str(),
            )
        })
        .collect();
    let expected = [
        (1, "ok", "mutt 2", "user@example.org"),
        (3, "badcreds", "", "user@example.org"),
    ];
    assert_eq!(shown, expected);
    let unknown = store.logins("", true).await;
    assert_eq!(unknown.len(), 1);
    assert_eq!(
        (unknown[0].account.as_str(), unknown[0].login_address.as_str()),
        ("", "nobody@example.org")
    );
    assert_eq!(store.logins("", false).await.len(), 3);
}

#[tokio::test]
async fn an_account_has_a_limit_of_sessions_at_a_service() {
    let store = Store::with_limits(Limits {
        failures: [0; 3],
        sessions: 2,
    })
    .await;
    let login = || store.login_from("192.0.2.1", mox_sasl::Mechanism::Plain, "user@example.org", PASSWORD);
    let first = login().await.unwrap();
    login().await.unwrap();
    assert_eq!(login().await.unwrap_err().reason(), Reason::Sessions);
    store.sessions.end(&first.session, &Identity::new("imap"));
    login().await.unwrap();
}
