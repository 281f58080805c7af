//! AUTHENTICATE (RFC 9051 §6.2.2): a SASL exchange that the store decides.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes};
use mox_imap_proto::limits::SASL_LINE;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success, failure::Reason};
use mox_service::Exchange;

use crate::commands::capability;
use crate::limits;
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::{Login, Session};

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
    match converse(session, mechanism, initial_response.map(Bytes::from)).await? {
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

async fn converse(session: &mut Session, mechanism: &str, initial: Option<Bytes>) -> Result<Ended, Failed> {
    let shared = &session.shared;
    let started = Exchange::start(
        &shared.store,
        &session.info,
        "imap",
        &shared.hostname,
        mechanism,
        initial,
    )
    .await;
    let mut exchange = started?;
    loop {
        match exchange.next().await? {
            Answer::Failure(failure) => return Ok(Ended::Failure(failure)),
            Answer::Challenge(challenge) => match respond(session, &challenge).await? {
                Ok(response) => exchange.respond(response)?,
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
