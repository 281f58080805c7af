//! One SASL exchange, from the first message to a session or a failure.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::authenticate_request::{Start, Step as Message};
use mox_proto::auth::v1::authenticate_response::failure::Reason;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success};
use mox_proto::record::v1 as record;
use mox_rpc::Identity;
use mox_sasl::{ChannelBindings, Credentials, MESSAGE_MAX, Mechanism, ServerExchange, ServerSettings, Step};
use mox_service::PublicKeyDigest;
use mox_types::{AccountId, Address};
use prost::Message as _;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::logins::{self, Attempt};
use super::sessions::Full;
use super::{Authenticator, Basis, SESSION_LIFE, SessionInfo, credentials, external, journal};
use crate::keys;

/// Messages of a client in an exchange: no mechanism has more than three.
const MESSAGES_MAX: usize = 8;
/// An exchange that takes longer is ended: as long as a person needs to type a password.
const EXCHANGE_TIME: Duration = Duration::from_secs(60);
/// How a login is recorded that the client did not ask for.
const PREAUTH: &str = "tlsclientauth";

type Answers = Sender<Result<api::AuthenticateResponse, Status>>;

/// An account that a name was resolved to.
pub(super) struct Account {
    pub id: AccountId,
    name: String,
    /// What its user is told instead of being let in.
    disabled: String,
    credentials: Option<(Credentials, u64)>,
    /// What a session is begun with.
    pub basis: Basis,
}

/// What became known in an exchange, for the record of logins.
#[derive(Default)]
pub(super) struct Found {
    pub account: Option<AccountId>,
    pub login_address: String,
    pub public_key: Option<PublicKeyDigest>,
}

/// What an exchange ended with.
enum Outcome {
    Success {
        account: Account,
        login_address: String,
        data: Vec<u8>,
    },
    Failure(Reason, String),
}

fn failure(reason: Reason) -> Outcome {
    Outcome::Failure(reason, String::new())
}

/// As logins are recorded and counted.
fn result(reason: Reason) -> &'static str {
    match reason {
        Reason::Credentials => "badcreds",
        Reason::Mechanism => "badmechanism",
        Reason::Malformed => "badprotocol",
        Reason::Disabled => "logindisabled",
        Reason::Rate => "ratelimited",
        Reason::ChannelBinding => "badchanbind",
        Reason::Aborted => "aborted",
        Reason::Sessions => "toomanysessions",
        Reason::Unspecified => "error",
    }
}

/// Runs an exchange.
///
/// # Errors
/// If the store fails, or the caller does. A client that fails is an answer.
pub(super) async fn run<S>(
    authenticator: &Authenticator,
    caller: Identity,
    messages: &mut S,
    answers: &Answers,
) -> Result<(), Status>
where
    S: Stream<Item = Result<api::AuthenticateRequest, Status>> + Unpin + Send,
{
    let Some(Message::Start(start)) = messages.next().await.transpose()?.and_then(|m| m.step) else {
        return Err(Status::invalid_argument("an exchange begins with start"));
    };
    let ip = IpAddr::from_str(&start.remote_ip)
        .map_err(|_| Status::invalid_argument(format!("remote_ip {:?} is no IP address", start.remote_ip)))?;
    let public_key = external::shown(&start)?;
    let mut exchange = Exchange {
        authenticator,
        messages,
        answers,
        sent: Vec::new(),
        found: Found::default(),
    };
    let outcome = if authenticator.may_try(&start.protocol, ip) {
        match tokio::time::timeout(EXCHANGE_TIME, exchange.run(&start, public_key)).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(failure(Reason::Aborted)),
        }
    } else {
        Ok(Outcome::Failure(
            Reason::Rate,
            "too many failed logins from your network, try again in a minute".into(),
        ))
    };
    let found = exchange.found;
    let conclusion = Conclusion {
        authenticator,
        start: &start,
        ip,
    };
    let answer = conclusion.draw(caller, found, outcome).await?;
    let _ = answers.send(Ok(api::AuthenticateResponse { step: Some(answer) })).await;
    Ok(())
}

/// What follows from an exchange.
struct Conclusion<'a> {
    authenticator: &'a Authenticator,
    start: &'a Start,
    ip: IpAddr,
}

impl Conclusion<'_> {
    /// Makes a session of a success, and takes note of every end.
    async fn draw(&self, caller: Identity, found: Found, outcome: Result<Outcome, Status>) -> Result<Answer, Status> {
        let outcome = match outcome {
            Ok(Outcome::Success {
                account,
                login_address,
                data,
            }) => match self.session(&account, &login_address, &found, caller).await {
                Ok(Ok(session)) => {
                    return Ok(Answer::Success(Success {
                        session,
                        account_id: account.id.to_bytes(),
                        account: account.name,
                        login_address,
                        expires_seconds: u32::try_from(SESSION_LIFE.as_secs()).unwrap_or(u32::MAX),
                        server_final: data.into(),
                    }));
                }
                Ok(Err(failure)) => Ok(failure),
                Err(status) => Err(status),
            },
            other => other,
        };
        let (reason, text) = match outcome {
            Ok(Outcome::Failure(reason, text)) => (reason, text),
            Ok(Outcome::Success { .. }) => (Reason::Unspecified, String::new()),
            Err(status) => {
                self.note(&found, "error");
                return Err(status);
            }
        };
        // A client may have a certificate for something else: that is no login.
        let asked = !(self.start.preauth && matches!(reason, Reason::Credentials | Reason::Mechanism | Reason::Rate));
        if asked {
            if matches!(reason, Reason::Credentials | Reason::ChannelBinding) {
                self.authenticator.0.failures.add(self.ip);
            }
            self.note(&found, result(reason));
            let (cid, protocol, mechanism) = (self.start.cid, &self.start.protocol, self.mechanism());
            tracing::info!(
                cid = %format_args!("{cid:x}"), remote = %self.ip, protocol, mechanism, reason = result(reason),
                "login failed"
            );
        }
        Ok(Answer::Failure(Failure {
            reason: reason.into(),
            text,
        }))
    }

    async fn session(
        &self,
        account: &Account,
        login_address: &str,
        found: &Found,
        caller: Identity,
    ) -> Result<Result<Bytes, Outcome>, Status> {
        let inner = &self.authenticator.0;
        let info = SessionInfo {
            account: account.id,
            name: account.name.as_str().into(),
            login_address: login_address.into(),
        };
        let attempt = (self.attempt(found, "ok"), self.authenticator.now());
        let most = self.authenticator.limits(&self.start.protocol).sessions;
        let begun = inner
            .sessions
            .begin_kept(info, caller.clone(), account.basis, attempt, most);
        let token = match begun {
            Ok(token) => token,
            Err(Full::Store) => return Err(Status::resource_exhausted("too many sessions, try again later")),
            Err(Full::Account) => {
                let text = format!("the account has {most} connections already, which is the most");
                return Ok(Err(Outcome::Failure(Reason::Sessions, text)));
            }
        };
        // What was taken from the account meanwhile ended its sessions before there was this one.
        let good = journal::is_good(&inner.db, account.id, &account.basis).await;
        if !matches!(good, Ok(true)) || inner.registry.current().name(account.id).is_none() {
            inner.sessions.end(&token, &caller);
            good?;
            return Ok(Err(failure(Reason::Credentials)));
        }
        self.note(found, "ok");
        let (cid, protocol, mechanism) = (self.start.cid, &self.start.protocol, self.mechanism());
        tracing::info!(
            cid = %format_args!("{cid:x}"), remote = %self.ip, protocol, mechanism, account = account.name,
            login = login_address, "logged in"
        );
        Ok(Ok(token))
    }

    /// A client chooses the text of a mechanism: only names that there are become labels.
    fn mechanism(&self) -> &'static str {
        if self.start.preauth {
            return PREAUTH;
        }
        Mechanism::from_str(&self.start.mechanism).map_or("unknown", Mechanism::name)
    }

    fn attempt(&self, found: &Found, result: &'static str) -> Attempt {
        let start = self.start;
        Attempt {
            account: found.account,
            login_address: found.login_address.clone(),
            remote_ip: self.ip,
            local_ip: logins::text(&start.local_ip),
            protocol: logins::text(&start.protocol),
            client_id: logins::text(&start.client_id),
            mechanism: self.mechanism(),
            tls: logins::text(&start.tls_details),
            public_key: found.public_key,
            result,
        }
    }

    fn note(&self, found: &Found, result: &'static str) {
        let inner = &self.authenticator.0;
        self.authenticator.count(&self.start.protocol, self.mechanism(), result);
        inner.logins.add(self.attempt(found, result), self.authenticator.now());
    }
}

struct Exchange<'a, S> {
    authenticator: &'a Authenticator,
    messages: &'a mut S,
    answers: &'a Answers,
    /// What the client sent, if it shows the password.
    sent: Vec<Bytes>,
    found: Found,
}

impl<S> Exchange<'_, S>
where
    S: Stream<Item = Result<api::AuthenticateRequest, Status>> + Unpin + Send,
{
    async fn run(&mut self, start: &Start, public_key: Option<PublicKeyDigest>) -> Result<Outcome, Status> {
        let mechanism = match Mechanism::from_str(&start.mechanism) {
            Ok(Mechanism::External) => return self.external(start, public_key).await,
            Ok(mechanism) => mechanism,
            Err(_) => return Ok(failure(Reason::Mechanism)),
        };
        let bindings = start
            .channel_bindings
            .iter()
            .map(|binding| (&binding.r#type, &binding.data));
        let settings = ServerSettings {
            channel_bindings: ChannelBindings::from_pairs(bindings),
            local_name: start.local_name.clone(),
            external: None,
        };
        let mut exchange = ServerExchange::new(mechanism, settings);
        self.sent.extend(start.initial_response.clone());
        let mut step = exchange.start(start.initial_response.as_deref());
        // Set by the look-up, which is before any success.
        let mut found: Option<(Option<Account>, String)> = None;
        for _ in 0..MESSAGES_MAX {
            step = match step {
                Step::Challenge(data) => {
                    let Some(response) = self.ask(data.into()).await? else {
                        return Ok(failure(Reason::Aborted));
                    };
                    let step = exchange.step(&response);
                    self.sent.push(response);
                    step
                }
                Step::Lookup { authcid } => {
                    self.found.login_address = logins::text(&authcid);
                    let account = self.authenticator.lookup(&authcid).await?;
                    self.found.account = account.as_ref().map(|account| account.id);
                    let step = self.supply(&mut exchange, &authcid, account.as_ref()).await?;
                    found = Some((account, authcid));
                    step
                }
                Step::Success { data, .. } => {
                    let Some((Some(account), login_address)) = found else {
                        return Err(Status::internal("an exchange succeeded without an account"));
                    };
                    // Only whoever has the password is told.
                    if !account.disabled.is_empty() {
                        return Ok(Outcome::Failure(Reason::Disabled, account.disabled));
                    }
                    return Ok(Outcome::Success {
                        account,
                        login_address,
                        data,
                    });
                }
                Step::Failure(why) => {
                    return Ok(failure(match why {
                        mox_sasl::Failure::Credentials | mox_sasl::Failure::Authorization => Reason::Credentials,
                        mox_sasl::Failure::Malformed => Reason::Malformed,
                        mox_sasl::Failure::ChannelBinding => Reason::ChannelBinding,
                        mox_sasl::Failure::Over => Reason::Aborted,
                    }));
                }
            };
        }
        Ok(failure(Reason::Malformed))
    }

    /// Sends a challenge. None: the client has given up.
    async fn ask(&mut self, challenge: Bytes) -> Result<Option<Bytes>, Status> {
        let answer = api::AuthenticateResponse {
            step: Some(Answer::Challenge(challenge)),
        };
        if self.answers.send(Ok(answer)).await.is_err() {
            return Ok(None);
        }
        match self.messages.next().await {
            Some(Ok(message)) => match message.step {
                Some(Message::Response(response)) => Ok(Some(response)),
                Some(Message::Start(_)) => Err(Status::invalid_argument("an exchange has begun already")),
                None => Ok(None),
            },
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// RFC 4422 appendix A: one message, the identity to act as.
    async fn external(&mut self, start: &Start, public_key: Option<PublicKeyDigest>) -> Result<Outcome, Status> {
        let identity = match &start.initial_response {
            Some(identity) => identity.clone(),
            None => match self.ask(Bytes::new()).await? {
                Some(identity) => identity,
                None => return Ok(failure(Reason::Aborted)),
            },
        };
        if identity.len() > MESSAGE_MAX {
            return Ok(failure(Reason::Malformed));
        }
        let decided = external::decide(
            self.authenticator,
            public_key,
            &identity,
            start.preauth,
            &mut self.found,
        );
        match decided.await? {
            Ok(account) if !account.disabled.is_empty() => Ok(Outcome::Failure(Reason::Disabled, account.disabled)),
            Ok(account) => Ok(Outcome::Success {
                account,
                login_address: self.found.login_address.clone(),
                data: Vec::new(),
            }),
            Err(reason) => Ok(failure(reason)),
        }
    }

    /// Goes on with what is kept of the account. A password that was right a short while ago is not hashed again.
    async fn supply(
        &self,
        exchange: &mut ServerExchange,
        authcid: &str,
        account: Option<&Account>,
    ) -> Result<Step, Status> {
        let inner = &self.authenticator.0;
        let mechanism = exchange.mechanism();
        let known = account.and_then(|account| Some((account.id, account.credentials.as_ref()?)));
        let secret = inner.secret.clone();
        if !mechanism.shows_password() {
            return Ok(exchange.supply(known.map(|(_, (credentials, _))| credentials), &secret));
        }
        let sent = inner.recent.sent(mechanism.name(), self.sent.iter().map(Bytes::as_ref));
        if let Some((id, (_, version))) = known
            && inner.recent.knows(&sent, id, *version)
        {
            return Ok(Step::Success {
                authcid: authcid.to_owned(),
                data: Vec::new(),
            });
        }
        let credentials = known.map(|(_, (credentials, _))| credentials.clone());
        let moved = std::mem::replace(exchange, ServerExchange::new(mechanism, ServerSettings::default()));
        let step = inner
            .hasher
            .run(move || {
                let mut exchange = moved;
                exchange.supply(credentials.as_ref(), &secret)
            })
            .await?;
        if let (Step::Success { .. }, Some((id, (_, version)))) = (&step, known) {
            inner.recent.add(sent, id, *version);
        }
        Ok(step)
    }
}

impl Authenticator {
    /// The account that a name logs in to. Names are addresses.
    pub(super) async fn lookup(&self, authcid: &str) -> Result<Option<Account>, Status> {
        let committed = self.0.registry.current();
        let Some((id, name)) = Address::from_str(authcid)
            .ok()
            .and_then(|address| committed.login(&address))
        else {
            // As long as for a name that there is.
            let nobody = AccountId::from([0; 16]);
            let _ = self.0.db.get(keys::credentials(nobody)).await.map_err(Status::from)?;
            return Ok(None);
        };
        let disabled = committed
            .dynamic
            .accounts
            .get(name)
            .map_or("", |account| &account.login_disabled);
        let credentials = match self.0.db.get(keys::credentials(id)).await.map_err(Status::from)? {
            None => None,
            Some(value) => {
                let kept = record::Credentials::decode(value.data)
                    .map_err(|_| Status::data_loss(format!("credentials of account {name:?} are damaged")))?;
                Some((credentials(&kept), value.version))
            }
        };
        Ok(Some(Account {
            id,
            name: name.to_owned(),
            disabled: disabled.to_owned(),
            basis: Basis {
                credentials: credentials.as_ref().map_or(0, |(_, version)| *version),
                public_key: None,
            },
            credentials,
        }))
    }
}
