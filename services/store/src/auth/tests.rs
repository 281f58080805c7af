//! Exchanges over the gRPC service, as the other services run them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mox_config::{Account as ConfigAccount, Domain, Dynamic};
use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::auth::v1::authenticate_request::{Start, Step as Message};
use mox_proto::auth::v1::authenticate_response::failure::Reason;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success};
use mox_proto::config::v1::CommitConfigRequest;
use mox_rpc::{Channel, Identity};
use mox_sasl::{ChannelBindings, Client, Mechanism};
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::engine::{Db, Options, RocksEngine};
use crate::registry::Registry;

pub(super) const PASSWORD: &str = "correct horse battery staple";

pub(super) struct Store {
    pub(super) db: Db,
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
    pub(super) authenticator: Authenticator,
    pub(super) hasher: Hasher,
    _dir: tempfile::TempDir,
}

pub(super) fn config(change: impl FnOnce(&mut Dynamic)) -> Dynamic {
    let mut dynamic = Dynamic::default();
    let domain = Domain {
        localpart_catchall_separators: vec!["+".into()],
        ..Domain::default()
    };
    dynamic.domains.insert("example.org".parse().unwrap(), domain);
    let mut account = ConfigAccount::new("example.org".parse().unwrap());
    let destination = |address: &str| {
        (
            serde_json::from_str(&format!("{address:?}")).unwrap(),
            Default::default(),
        )
    };
    account.destinations = BTreeMap::from([destination("User@example.org")]);
    dynamic.accounts.insert("mox".into(), account);
    let mut silent = ConfigAccount::new("example.org".parse().unwrap());
    silent.destinations = BTreeMap::from([destination("silent@example.org")]);
    dynamic.accounts.insert("silent".into(), silent);
    change(&mut dynamic);
    dynamic
}

impl Store {
    pub(super) async fn new(failures: Tiers) -> Self {
        Self::with_limits(Limits { failures, sessions: 0 }).await
    }

    pub(super) async fn with_limits(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db: Db = Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap());
        let sessions = Sessions::default();
        let now = Arc::new(|| 1_800_000_000_000);
        let registry = Registry::open(db.clone(), mox_events::Bus::in_process(), now, sessions.clone())
            .await
            .unwrap();
        let hasher = Hasher::new();
        let logins = Logins::default();
        let now = Arc::new(|| 1_800_000_000_000);
        let limits = [("imap".to_owned(), limits)].into();
        let (registry_, sessions_, hasher_) = (registry.clone(), sessions.clone(), hasher.clone());
        let authenticator = Authenticator::new(db.clone(), registry_, sessions_, hasher_, logins, now, limits)
            .await
            .unwrap();
        let store = Self {
            db,
            registry,
            sessions,
            authenticator,
            hasher,
            _dir: dir,
        };
        store.commit(config(|_| ())).await;
        store
            .registry
            .set_password(&store.hasher, "mox", PASSWORD.into())
            .await
            .unwrap();
        store
    }

    pub(super) async fn commit(&self, dynamic: Dynamic) {
        let snapshot = serde_json::to_vec(&dynamic).unwrap().into();
        let request = CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot,
            ..Default::default()
        };
        self.registry.commit(&request).await.unwrap();
    }

    pub(super) fn channel(&self, caller: &str) -> Channel {
        let routes = tonic::service::Routes::new(AuthApi::new(self.authenticator.clone()).server());
        Channel::in_process(routes, Identity::new(caller))
    }

    pub(super) async fn login_from(
        &self,
        ip: &str,
        mechanism: Mechanism,
        name: &str,
        password: &str,
    ) -> Result<Success, Failure> {
        let bindings = ChannelBindings {
            tls_exporter: Some(vec![7; 32]),
            tls_server_end_point: None,
        };
        let mut client = Client::new(mechanism, &bindings, true, name, password).unwrap();
        let mut service = AuthServiceClient::new(self.channel("imap"));
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let start = Start {
            mechanism: mechanism.name().into(),
            initial_response: client.initial().map(Into::into),
            channel_bindings: bindings
                .pairs()
                .map(|(name, data)| api::authenticate_request::ChannelBinding {
                    r#type: name.into(),
                    data: data.to_vec().into(),
                })
                .collect(),
            remote_ip: ip.into(),
            tls: true,
            protocol: "imap".into(),
            cid: 1,
            local_name: "mail.example.org".into(),
            ..Start::default()
        };
        let send = |step| sender.send(api::AuthenticateRequest { step: Some(step) });
        send(Message::Start(start)).await.unwrap();
        let mut answers = service
            .authenticate(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        loop {
            match answers
                .message()
                .await
                .unwrap()
                .and_then(|answer| answer.step)
                .expect("an answer")
            {
                Answer::Challenge(data) => {
                    let response = client.step(&data).unwrap();
                    send(Message::Response(response.into())).await.unwrap();
                }
                Answer::Success(success) => {
                    let last = Some(success.server_final.as_ref()).filter(|data| !data.is_empty());
                    client.finish(last).unwrap();
                    return Ok(success);
                }
                Answer::Failure(failure) => return Err(failure),
            }
        }
    }

    async fn login(&self, mechanism: Mechanism, name: &str, password: &str) -> Result<Success, Reason> {
        let result = self.login_from("192.0.2.1", mechanism, name, password).await;
        result.map_err(|failure| Reason::try_from(failure.reason).unwrap())
    }
}

const ALL: [Mechanism; 7] = [
    Mechanism::Plain,
    Mechanism::Login,
    Mechanism::CramMd5,
    Mechanism::ScramSha1,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha256,
    Mechanism::ScramSha256Plus,
];

#[tokio::test]
async fn every_mechanism_lets_in_with_the_password_and_with_no_other() {
    let store = Store::new([0; 3]).await;
    for mechanism in ALL {
        let success = store.login(mechanism, "user@example.org", PASSWORD).await.unwrap();
        assert_eq!(success.account, "mox", "{mechanism}");
        assert_eq!(success.login_address, "user@example.org");
        let caller = Identity::new("imap");
        let session = store.sessions.check(&success.session, &caller).await.unwrap();
        assert_eq!(session.account.to_bytes(), success.account_id);
        for (name, password) in [
            ("user@example.org", "wrong"),
            ("nobody@example.org", PASSWORD),
            ("user@example.net", PASSWORD),
            ("mox", PASSWORD),
            ("silent@example.org", PASSWORD),
        ] {
            let refused = store.login(mechanism, name, password).await;
            assert_eq!(refused.unwrap_err(), Reason::Credentials, "{mechanism} {name}");
        }
    }
    // Without a certificate.
    let external = Mechanism::External;
    assert_eq!(
        store.login(external, "user@example.org", "").await.unwrap_err(),
        Reason::Credentials
    );
}

#[tokio::test]
async fn addresses_are_logged_in_with_in_the_forms_that_mail_reaches_them_by() {
    let store = Store::new([0; 3]).await;
    for name in ["USER@example.org", "user+tag@example.org", "user@EXAMPLE.org"] {
        assert_eq!(
            store.login(Mechanism::Plain, name, PASSWORD).await.unwrap().account,
            "mox",
            "{name}"
        );
    }
    store
        .commit(config(|c| c.domains.values_mut().for_each(|d| d.disabled = true)))
        .await;
    assert!(
        store
            .login(Mechanism::Plain, "user@example.org", PASSWORD)
            .await
            .is_ok(),
        "users of a disabled domain"
    );
}

#[tokio::test]
async fn a_changed_password_ends_sessions_and_what_was_remembered() {
    let store = Store::new([0; 3]).await;
    let caller = Identity::new("imap");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        tokens.push(
            store
                .login(Mechanism::Plain, "user@example.org", PASSWORD)
                .await
                .unwrap()
                .session,
        );
    }
    store
        .registry
        .set_password(&store.hasher, "mox", "another one".into())
        .await
        .unwrap();
    for token in tokens {
        assert_eq!(
            store.sessions.check(&token, &caller).await.unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
    }
    assert_eq!(
        store
            .login(Mechanism::Plain, "user@example.org", PASSWORD)
            .await
            .unwrap_err(),
        Reason::Credentials
    );
    assert!(
        store
            .login(Mechanism::Plain, "user@example.org", "another one")
            .await
            .is_ok()
    );
    let invalid = store.registry.set_password(&store.hasher, "mox", String::new()).await;
    assert!(matches!(invalid, Err(crate::registry::RegistryError::Invalid(_))));
    let nobody = store.registry.set_password(&store.hasher, "nobody", "x".into()).await;
    assert!(matches!(nobody, Err(crate::registry::RegistryError::NoAccount(_))));
}

#[tokio::test]
async fn a_disabled_login_is_told_why_but_only_with_the_password() {
    let store = Store::new([0; 3]).await;
    let token = store
        .login(Mechanism::Plain, "user@example.org", PASSWORD)
        .await
        .unwrap()
        .session;
    store
        .commit(config(|c| {
            c.accounts.get_mut("mox").unwrap().login_disabled = "please call us".into();
        }))
        .await;
    assert!(store.sessions.check(&token, &Identity::new("imap")).await.is_err());
    for mechanism in ALL {
        let failure = store
            .login_from("192.0.2.1", mechanism, "user@example.org", PASSWORD)
            .await
            .unwrap_err();
        assert_eq!(
            (failure.reason(), failure.text.as_str()),
            (Reason::Disabled, "please call us"),
            "{mechanism}"
        );
        assert_eq!(
            store.login(mechanism, "user@example.org", "x").await.unwrap_err(),
            Reason::Credentials
        );
    }
}

#[tokio::test]
async fn an_account_that_is_gone_from_the_configuration_is_nobodys_login() {
    let store = Store::new([0; 3]).await;
    let token = store
        .login(Mechanism::Plain, "user@example.org", PASSWORD)
        .await
        .unwrap()
        .session;
    store.commit(config(|c| drop(c.accounts.remove("mox")))).await;
    assert!(store.sessions.check(&token, &Identity::new("imap")).await.is_err());
    assert_eq!(
        store
            .login(Mechanism::Plain, "user@example.org", PASSWORD)
            .await
            .unwrap_err(),
        Reason::Credentials
    );
    // Put back, it is the same account.
    store.commit(config(|_| ())).await;
    assert!(
        store
            .login(Mechanism::Plain, "user@example.org", PASSWORD)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn guessing_is_stopped_for_the_network_and_only_there() {
    let store = Store::new([3, 5, 100]).await;
    for _ in 0..3 {
        assert_eq!(
            store
                .login(Mechanism::ScramSha256, "user@example.org", "guess")
                .await
                .unwrap_err(),
            Reason::Credentials
        );
    }
    assert_eq!(
        store
            .login(Mechanism::Plain, "user@example.org", PASSWORD)
            .await
            .unwrap_err(),
        Reason::Rate
    );
    let from = |ip: &'static str| store.login_from(ip, Mechanism::Plain, "user@example.org", PASSWORD);
    assert!(from("192.0.2.2").await.is_ok());
    assert!(from("198.51.100.1").await.is_ok());
}

#[tokio::test]
async fn logging_in_again_with_plain_is_not_hashed_again() {
    let store = Store::new([0; 3]).await;
    let time = |n: usize| {
        let store = &store;
        async move {
            let start = std::time::Instant::now();
            for _ in 0..n {
                store
                    .login(Mechanism::Plain, "user@example.org", PASSWORD)
                    .await
                    .unwrap();
            }
            start.elapsed()
        }
    };
    let first = time(1).await;
    let later = time(20).await;
    assert!(later < first * 10, "20 more took {later:?}, the first {first:?}");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_their_callers_and_end_unless_renewed() {
    let sessions = Sessions::default();
    let (imap, web) = (Identity::new("imap"), Identity::new("web"));
    let info = SessionInfo {
        account: mox_types::AccountId::new(),
        name: "mox".into(),
        login_address: "a@b".into(),
    };
    let token = sessions.begin(info.clone(), imap.clone()).unwrap();
    assert_eq!(token.len(), 32);
    assert_eq!(sessions.check(&token, &imap).await.unwrap(), info);
    assert!(sessions.check(&token, &web).await.is_err());
    assert!(sessions.check(b"", &imap).await.is_err());
    assert!(!sessions.renew(&token, &web));
    sessions.end(&token, &web);
    tokio::time::advance(SESSION_LIFE - Duration::from_secs(1)).await;
    assert!(sessions.renew(&token, &imap));
    tokio::time::advance(SESSION_LIFE - Duration::from_secs(1)).await;
    assert!(sessions.check(&token, &imap).await.is_ok());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(sessions.check(&token, &imap).await.is_err());
    assert!(!sessions.renew(&token, &imap));

    let token = sessions.begin(info.clone(), imap.clone()).unwrap();
    sessions.end(&token, &imap);
    assert!(sessions.check(&token, &imap).await.is_err());
    let token = sessions.begin(info.clone(), imap.clone()).unwrap();
    let mut revoked = sessions.revocations();
    sessions.revoke(info.account);
    assert!(sessions.check(&token, &imap).await.is_err());
    assert_eq!(revoked.recv().await.unwrap(), info.account);
}

#[tokio::test]
async fn a_malformed_exchange_is_refused() {
    let store = Store::new([0; 3]).await;
    let mut service = AuthServiceClient::new(store.channel("imap"));
    for first in [
        api::AuthenticateRequest { step: None },
        api::AuthenticateRequest {
            step: Some(Message::Response(Bytes::new())),
        },
        api::AuthenticateRequest {
            step: Some(Message::Start(Start::default())),
        },
    ] {
        let mut answers = service
            .authenticate(tokio_stream::iter([first]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            answers.message().await.unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
    }
    let start = Start {
        mechanism: "PLAIN".into(),
        remote_ip: "::1".into(),
        protocol: "imap".into(),
        ..Default::default()
    };
    // Gone after the challenge.
    let first = api::AuthenticateRequest {
        step: Some(Message::Start(start.clone())),
    };
    let mut answers = service
        .authenticate(tokio_stream::iter([first]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        answers.message().await.unwrap().unwrap().step,
        Some(Answer::Challenge(Bytes::new()))
    );
    let last = answers.message().await.unwrap().unwrap().step;
    assert!(matches!(last, Some(Answer::Failure(f)) if f.reason() == Reason::Aborted));
    let start = Start {
        initial_response: Some(Bytes::from_static(b"\0\0")),
        ..start
    };
    let first = api::AuthenticateRequest {
        step: Some(Message::Start(start)),
    };
    let mut answers = service
        .authenticate(tokio_stream::iter([first]))
        .await
        .unwrap()
        .into_inner();
    let last = answers.message().await.unwrap().unwrap().step;
    assert!(matches!(last, Some(Answer::Failure(f)) if f.reason() == Reason::Malformed));
}
