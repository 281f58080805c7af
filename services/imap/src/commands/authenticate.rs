//! AUTHENTICATE (RFC 9051 §6.2.2): a SASL exchange that the store decides.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes};
use futures::channel::mpsc;
use mox_imap_proto::limits::SASL_LINE;
use mox_proto::auth::v1::authenticate_request::{ChannelBinding, Start, Step};
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success, failure::Reason};
use mox_proto::auth::v1::{AuthenticateRequest, AuthenticateResponse};
use tonic::{Status, Streaming};

use crate::commands::capability;
use crate::limits;
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::{Login, Session};

/// The store ends an exchange after a minute.
const EXCHANGE: Duration = Duration::from_secs(60);

pub(super) async fn run(session: &mut Session, mechanism: &str, initial_response: Option<Vec<u8>>) -> Outcome {
    if session.login.is_some() {
        return Err(Reply::bad("You are logged in already").into());
    }
    if !session.may_log_in() {
        return Err(Reply::no("Start TLS before logging in").code("PRIVACYREQUIRED").into());
    }
    if !capability::mechanisms(session).contains(&mechanism) {
        return Err(Reply::no("There is no such mechanism").into());
    }
    exchange(session, mechanism, initial_response).await
}

/// Runs an exchange to its end, and logs in if it succeeds.
pub(super) async fn exchange(session: &mut Session, mechanism: &str, initial_response: Option<Vec<u8>>) -> Outcome {
    match converse(session, mechanism, initial_response).await? {
        Ended::Success(success) => Ok(log_in(session, mechanism, success)),
        Ended::Failure(failure) => refuse(session, mechanism, &failure).await,
        // RFC 9051 §6.2.2: a client that cancels is answered with BAD.
        Ended::Cancelled => Err(Reply::bad("Cancelled").into()),
        Ended::Malformed => Err(Reply::bad("That was not base64").into()),
    }
}

enum Ended {
    Success(Success),
    Failure(Failure),
    Cancelled,
    Malformed,
}

async fn converse(session: &mut Session, mechanism: &str, first: Option<Vec<u8>>) -> Result<Ended, Failed> {
    let (mut steps, requests) = mpsc::channel(1);
    send(&mut steps, Step::Start(start(session, mechanism, first)))?;
    let mut auth = session.shared.auth();
    let mut request = tonic::Request::new(requests);
    request.set_timeout(EXCHANGE);
    let mut answers = auth.authenticate(request).await?.into_inner();
    loop {
        match next(&mut answers).await? {
            Answer::Failure(failure) => return Ok(Ended::Failure(failure)),
            Answer::Challenge(challenge) => match respond(session, &challenge).await? {
                Ok(response) => send(&mut steps, Step::Response(response))?,
                Err(ended) => return Ok(ended),
            },
            Answer::Success(success) => {
                // RFC 9051 §6.2.2 has no data with success: it is a challenge that is answered with nothing.
                if !success.server_final.is_empty()
                    && let Err(ended) = respond(session, &success.server_final).await?
                {
                    return Ok(ended);
                }
                return Ok(Ended::Success(success));
            }
        }
    }
}

fn send(steps: &mut mpsc::Sender<AuthenticateRequest>, step: Step) -> Result<(), Failed> {
    let sent = steps.try_send(AuthenticateRequest { step: Some(step) });
    sent.map_err(|_| Status::unavailable("the exchange has ended").into())
}

async fn next(answers: &mut Streaming<AuthenticateResponse>) -> Result<Answer, Status> {
    let answer = answers.message().await?.and_then(|a| a.step);
    answer.ok_or_else(|| Status::unavailable("the exchange ended without a result"))
}

/// Sends a challenge and reads what answers it.
async fn respond(session: &mut Session, challenge: &Bytes) -> Result<Result<Bytes, Ended>, Stop> {
    let line = format!("+ {}\r\n", STANDARD.encode(challenge));
    session.connection.out.put_slice(line.as_bytes());
    session.connection.flush().await?;
    let line = session.connection.line(SASL_LINE).await?;
    if line.as_ref() == b"*" {
        return Ok(Err(Ended::Cancelled));
    }
    Ok(STANDARD.decode(&line).map(Bytes::from).map_err(|_| Ended::Malformed))
}

fn start(session: &Session, mechanism: &str, first: Option<Vec<u8>>) -> Start {
    let mut channel_bindings = Vec::new();
    if let Some(tls) = &session.info.tls {
        let mut add = |kind: &str, data: &[u8]| {
            channel_bindings.push(ChannelBinding {
                r#type: kind.to_owned(),
                data: Bytes::copy_from_slice(data),
            });
        };
        if let Some(exporter) = &tls.exporter {
            add("tls-exporter", exporter);
        }
        if let Some(end_point) = &tls.server_end_point {
            add("tls-server-end-point", end_point);
        }
    }
    Start {
        mechanism: mechanism.to_owned(),
        initial_response: first.map(Bytes::from),
        channel_bindings,
        remote_ip: session.info.remote.ip().to_string(),
        tls: session.info.tls.is_some(),
        protocol: "imap".to_owned(),
        cid: session.info.cid,
        local_name: session.shared.hostname.clone(),
    }
}

fn log_in(session: &mut Session, mechanism: &str, success: Success) -> Reply {
    tracing::info!(
        account = success.account,
        address = success.login_address,
        mechanism,
        "logged in"
    );
    session.shared.metrics.login(mechanism, "ok");
    let subscription = session.shared.hub.subscribe(success.session.clone());
    session.login = Some(Login {
        token: success.session,
        account: success.account,
        subscription,
    });
    session.failed_logins = 0;
    Reply::ok("Logged in").code(format!("CAPABILITY {}", capability::list(session)))
}

async fn refuse(session: &mut Session, mechanism: &str, failure: &Failure) -> Outcome {
    let reason = failure.reason();
    tracing::info!(mechanism, ?reason, "login failed");
    session.shared.metrics.login(mechanism, reason.as_str_name());
    let no = |text: &'static str| Reply::no(text);
    let reply = match reason {
        Reason::Mechanism => return Err(no("This mechanism can't be used with this account").into()),
        Reason::Malformed => return Err(Reply::bad("That is not what the mechanism says").into()),
        Reason::Aborted => return Err(no("Aborted").into()),
        Reason::Disabled => {
            let text = if failure.text.is_empty() {
                "Logging in is disabled".into()
            } else {
                failure.text.clone()
            };
            Reply::no(text).code("CONTACTADMIN")
        }
        Reason::Rate => no("Too many failed logins, try again later").code("LIMIT"),
        Reason::ChannelBinding => {
            no("The connection is not the one that the client believes").code("AUTHENTICATIONFAILED")
        }
        Reason::Credentials | Reason::Unspecified => no("Name or password is wrong").code("AUTHENTICATIONFAILED"),
    };
    session.failed_logins += 1;
    tokio::time::sleep(limits::FAILED_LOGIN_PAUSE * session.failed_logins).await;
    if session.failed_logins >= limits::FAILED_LOGINS {
        return Err(Stop::Bye("Too many failed logins".into()).into());
    }
    Err(reply.into())
}
