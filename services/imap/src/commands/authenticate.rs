//! AUTHENTICATE (RFC 9051 §6.2.2): a SASL exchange that the store decides. And logging in by the certificate that the
//! client showed, before it says anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes};
use mox_imap_proto::limits::SASL_LINE;
use mox_proto::auth::v1::DescribeClientRequest;
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success, failure::Reason};
use mox_service::{Attempt, Ended, Exchange, Response, Turn};

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

/// What a client said it is goes into the record of its login, which is now or was before.
pub(crate) async fn identify(session: &mut Session, client_id: &str) {
    let mut kept = client_id.to_owned();
    kept.truncate(kept.floor_char_boundary(limits::CLIENT_ID));
    match &session.login {
        None => session.client_id = kept,
        Some(login) => {
            let request = DescribeClientRequest {
                session: login.token.clone(),
                client_id: kept,
            };
            // It is for people who look at the record only.
            let _ = session.shared.auth().describe_client(request).await;
        }
    }
}

/// Logs in whose certificate speaks for it (RFC 9051 §7.1.4, PREAUTH). False: the client has to log in itself.
///
/// # Errors
/// If the certificate is of an account that nobody may log in to.
pub(crate) async fn preauth(session: &mut Session) -> Result<bool, Stop> {
    let shared = &session.shared;
    let attempt = Attempt {
        protocol: "imap",
        host: &shared.hostname,
        mechanism: "EXTERNAL",
        initial_response: Some(Bytes::new()),
        preauth: true,
        ..Attempt::default()
    };
    let answer = async {
        Exchange::start(&shared.store, &session.info, attempt)
            .await?
            .next()
            .await
    };
    match answer.await {
        Ok(Answer::Success(success)) => {
            log_in(session, "preauth", success);
            Ok(true)
        }
        Ok(Answer::Failure(failure)) => match failure.reason() {
            Reason::Disabled => Err(Stop::Bye(disabled(&failure).into())),
            Reason::Sessions => Err(Stop::Bye(failure.text.into())),
            _ => Ok(false),
        },
        Ok(Answer::Challenge(_)) => Ok(false),
        Err(error) => {
            tracing::warn!(%error, "logging in by certificate");
            Ok(false)
        }
    }
}

/// What the user of an account is told that nobody may log in to.
fn disabled(failure: &Failure) -> String {
    match failure.text.as_str() {
        "" => "Logging in is disabled".to_owned(),
        text => text.to_owned(),
    }
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

async fn converse(session: &mut Session, mechanism: &str, initial: Option<Bytes>) -> Result<Ended, Failed> {
    let shared = &session.shared;
    let attempt = Attempt {
        protocol: "imap",
        host: &shared.hostname,
        client_id: &session.client_id,
        mechanism,
        initial_response: initial,
        preauth: false,
    };
    let mut exchange = Exchange::start(&shared.store, &session.info, attempt).await?;
    let mut response = None;
    loop {
        match exchange.turn(response).await? {
            Turn::Ask(challenge) => response = Some(respond(session, &challenge).await?),
            Turn::Over(ended) => return Ok(ended),
        }
    }
}

/// Sends a challenge and reads what answers it.
async fn respond(session: &mut Session, challenge: &Bytes) -> Result<Response, Stop> {
    let line = format!("+ {}\r\n", STANDARD.encode(challenge));
    session.connection.out.put_slice(line.as_bytes());
    session.connection.flush().await?;
    let line = session.connection.line(SASL_LINE).await?;
    if line.as_ref() == b"*" {
        return Ok(Response::Cancelled);
    }
    let decoded = STANDARD.decode(&line);
    Ok(decoded.map_or(Response::Malformed, |data| Response::Data(data.into())))
}

fn log_in(session: &mut Session, mechanism: &str, success: Success) -> Reply {
    tracing::info!(
        account = success.account,
        address = success.login_address,
        mechanism,
        "logged in"
    );
    session.shared.metrics.login(mechanism, "ok");
    // A copy: as it came, it holds all of the buffer that the answer was read into.
    let token = Bytes::copy_from_slice(&success.session);
    let subscription = session.shared.hub.subscribe(token.clone());
    session.login = Some(Login {
        token,
        account: success.account,
        address: success.login_address,
        subscription,
    });
    session.failed_logins = 0;
    session.client_id = String::new();
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
        Reason::Disabled => Reply::no(disabled(failure)).code("CONTACTADMIN"),
        Reason::Sessions => return Err(Reply::no(failure.text.clone()).code("LIMIT").into()),
        Reason::Rate => no("Too many failed logins, try again later").code("LIMIT"),
        Reason::ChannelBinding => {
            no("The connection is not the one that the client believes").code("AUTHENTICATIONFAILED")
        }
        // RFC 4422 appendix A: EXTERNAL knows no password.
        Reason::Credentials if mechanism == "EXTERNAL" => {
            no("The certificate is not registered for this user").code("AUTHENTICATIONFAILED")
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
