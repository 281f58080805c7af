//! One SASL exchange, from the first message to a session or a failure.

use std::net::IpAddr;
use std::str::FromStr;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mox_proto::auth::v1 as api;
use mox_proto::auth::v1::authenticate_request::{Start, Step as Message};
use mox_proto::auth::v1::authenticate_response::failure::Reason;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success};
use mox_proto::record::v1 as record;
use mox_rpc::Identity;
use mox_sasl::{ChannelBindings, Credentials, Mechanism, ServerExchange, ServerSettings, Step};
use mox_types::{AccountId, Address};
use prost::Message as _;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::{Authenticator, SESSION_LIFE, SessionInfo, credentials};
use crate::keys;

/// Messages of a client in an exchange: no mechanism has more than three.
const MESSAGES_MAX: usize = 8;

type Answers = Sender<Result<api::AuthenticateResponse, Status>>;

/// An account that a name was resolved to.
struct Account {
    id: AccountId,
    name: String,
    /// What its user is told instead of being let in.
    disabled: String,
    credentials: Option<(Credentials, u64)>,
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
    let outcome = if authenticator.may_try(&start.protocol, ip) {
        Exchange {
            authenticator,
            messages,
            answers,
            sent: Vec::new(),
        }
        .run(&start)
        .await?
    } else {
        Outcome::Failure(
            Reason::Rate,
            "too many failed logins from your network, try again in a minute".into(),
        )
    };
    let answer = conclude(authenticator, caller, &start, ip, outcome)?;
    let _ = answers.send(Ok(api::AuthenticateResponse { step: Some(answer) })).await;
    Ok(())
}

/// Makes a session of a success, and takes note of a failure.
fn conclude(
    authenticator: &Authenticator,
    caller: Identity,
    start: &Start,
    ip: IpAddr,
    outcome: Outcome,
) -> Result<Answer, Status> {
    let (protocol, cid) = (&start.protocol, start.cid);
    // A client chooses the text of a mechanism: only names that there are become labels.
    let mechanism = Mechanism::from_str(&start.mechanism).map_or("unknown", Mechanism::name);
    match outcome {
        Outcome::Success {
            account,
            login_address,
            data,
        } => {
            let info = SessionInfo {
                account: account.id,
                name: account.name.as_str().into(),
                login_address: login_address.as_str().into(),
            };
            let session = authenticator.0.sessions.begin(info, caller)?;
            authenticator.count(protocol, mechanism, "success");
            tracing::info!(cid = %format_args!("{cid:x}"), remote = %ip, protocol, mechanism, account = account.name, login = login_address, "logged in");
            Ok(Answer::Success(Success {
                session,
                account_id: account.id.to_bytes(),
                account: account.name,
                login_address,
                expires_seconds: u32::try_from(SESSION_LIFE.as_secs()).unwrap_or(u32::MAX),
                server_final: data.into(),
            }))
        }
        Outcome::Failure(reason, text) => {
            if matches!(reason, Reason::Credentials | Reason::ChannelBinding) {
                authenticator.0.failures.add(ip);
            }
            let name = reason.as_str_name().trim_start_matches("REASON_").to_lowercase();
            authenticator.count(protocol, mechanism, &name);
            tracing::info!(cid = %format_args!("{cid:x}"), remote = %ip, protocol, mechanism, reason = name, "login failed");
            Ok(Answer::Failure(Failure {
                reason: reason.into(),
                text,
            }))
        }
    }
}

struct Exchange<'a, S> {
    authenticator: &'a Authenticator,
    messages: &'a mut S,
    answers: &'a Answers,
    /// What the client sent, if it shows the password.
    sent: Vec<Bytes>,
}

impl<S> Exchange<'_, S>
where
    S: Stream<Item = Result<api::AuthenticateRequest, Status>> + Unpin + Send,
{
    async fn run(&mut self, start: &Start) -> Result<Outcome, Status> {
        let mechanism = match Mechanism::from_str(&start.mechanism) {
            // Certificates of clients are not mapped to accounts yet.
            Ok(Mechanism::External) | Err(_) => return Ok(failure(Reason::Mechanism)),
            Ok(mechanism) => mechanism,
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
                    let answer = api::AuthenticateResponse {
                        step: Some(Answer::Challenge(data.into())),
                    };
                    if self.answers.send(Ok(answer)).await.is_err() {
                        return Ok(failure(Reason::Aborted));
                    }
                    match self.messages.next().await.transpose()?.and_then(|m| m.step) {
                        Some(Message::Response(response)) => {
                            let step = exchange.step(&response);
                            self.sent.push(response);
                            step
                        }
                        Some(Message::Start(_)) => {
                            return Err(Status::invalid_argument("an exchange has begun already"));
                        }
                        None => return Ok(failure(Reason::Aborted)),
                    }
                }
                Step::Lookup { authcid } => {
                    let account = self.authenticator.lookup(&authcid).await?;
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
    async fn lookup(&self, authcid: &str) -> Result<Option<Account>, Status> {
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
            credentials,
        }))
    }
}
