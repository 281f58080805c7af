//! AUTH (RFC 4954): a SASL exchange that the store decides.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mox_proto::auth::v1::authenticate_response::{Failure, failure::Reason};
use mox_service::{Attempt, Ended, Exchange, Response, Turn};
use mox_smtp::Reply;
use mox_smtp::limits::AUTH_LINE;
use mox_telemetry::TraceKind;
use tonic::Status;

use crate::limits;
use crate::session::{Session, Stop};

const PLUS: [&str; 2] = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"];
const OTHERS: [&str; 5] = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"];

/// What can be used on this connection, best first.
pub(crate) fn mechanisms(session: &Session) -> Vec<&'static str> {
    // With a certificate whose key may be registered.
    let external = session.info.has_public_key().then_some("EXTERNAL");
    let plus = PLUS.into_iter().filter(|_| session.info.binds_channel());
    external.into_iter().chain(plus).chain(OTHERS).collect()
}

pub(crate) async fn run(session: &mut Session, mechanism: &str, initial: Option<String>) -> Result<Reply, Stop> {
    if session.ehlo.is_none() {
        return Ok(Reply::new(503, (5, 1), "say EHLO first"));
    }
    if session.login.is_some() {
        return Ok(Reply::new(503, (5, 1), "you are logged in already"));
    }
    // RFC 4954 §4: not within a transaction.
    if session.transaction.is_some() {
        return Ok(Reply::new(503, (5, 1), "not during a transaction"));
    }
    if !session.may_log_in() {
        return Ok(Reply::new(538, (7, 11), "start TLS before logging in"));
    }
    let Some(mechanism) = mechanisms(session).into_iter().find(|m| *m == mechanism) else {
        return Ok(Reply::new(504, (5, 4), "there is no such mechanism"));
    };
    // RFC 4954 §4: "=" is an empty initial response.
    let initial = match initial.as_deref() {
        None => None,
        Some("=") => Some(Bytes::new()),
        Some(text) => match STANDARD.decode(text) {
            Ok(data) => Some(data.into()),
            Err(_) => return Ok(Reply::new(501, (5, 2), "the initial response is not base64")),
        },
    };
    match converse(session, mechanism, initial).await {
        Ok(Ended::Success(success)) => {
            tracing::info!(
                account = success.account,
                address = success.login_address,
                mechanism,
                "logged in"
            );
            session.place.shared.metrics.login(mechanism, "ok");
            session.log_in(success.session, success.login_address);
            session.failed_logins = 0;
            Ok(Reply::new(235, (7, 0), "logged in"))
        }
        Ok(Ended::Failure(failure)) => refuse(session, mechanism, &failure).await,
        // RFC 4954 §4.
        Ok(Ended::Cancelled) => Ok(Reply::new(501, (7, 0), "cancelled")),
        Ok(Ended::Malformed) => Ok(Reply::new(501, (5, 2), "that was not base64")),
        Err(Failed::Stop(stop)) => Err(stop),
        Err(Failed::Store(status)) => {
            tracing::warn!(%status, "logging in");
            session.place.shared.metrics.login(mechanism, "error");
            Ok(Reply::new(454, (7, 0), "can't log in now, try again later"))
        }
    }
}

enum Failed {
    Stop(Stop),
    Store(Status),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Store(status)
    }
}

async fn converse(session: &mut Session, mechanism: &str, initial: Option<Bytes>) -> Result<Ended, Failed> {
    let place = &session.place;
    let store = &place.shared.store;
    let client_id = session.ehlo.as_ref().map(ToString::to_string).unwrap_or_default();
    let attempt = Attempt {
        protocol: "submission",
        host: &place.hostname,
        client_id: &client_id,
        mechanism,
        initial_response: initial,
        preauth: false,
    };
    let mut exchange = Exchange::start(store, &session.info, attempt).await?;
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
    let secrets = session.traces(TraceKind::Auth);
    let connection = session.connection()?;
    connection.reply(&Reply::plain(334, STANDARD.encode(challenge)));
    let line = match connection.read_line(AUTH_LINE).await {
        Ok(line) => line,
        Err(error) if error.is_of_the_line() => return Ok(Response::Malformed),
        Err(error) => return Err(error.into()),
    };
    if secrets {
        tracing::trace!(line = %String::from_utf8_lossy(line), "C");
    }
    if line == b"*" {
        return Ok(Response::Cancelled);
    }
    let decoded = STANDARD.decode(line);
    Ok(decoded.map_or(Response::Malformed, |data| Response::Data(data.into())))
}

async fn refuse(session: &mut Session, mechanism: &'static str, failure: &Failure) -> Result<Reply, Stop> {
    let reason = failure.reason();
    tracing::info!(mechanism, ?reason, "login failed");
    session.place.shared.metrics.login(mechanism, reason.as_str_name());
    let reply = match reason {
        Reason::Mechanism => {
            return Ok(Reply::new(
                504,
                (5, 4),
                "this mechanism can't be used with this account",
            ));
        }
        Reason::Malformed => return Ok(Reply::new(501, (5, 2), "that is not what the mechanism says")),
        Reason::Aborted => return Ok(Reply::new(501, (7, 0), "aborted")),
        Reason::Disabled if failure.text.is_empty() => Reply::new(525, (7, 13), "logging in is disabled"),
        Reason::Disabled => Reply::new(525, (7, 13), failure.text.clone()),
        Reason::Rate => Reply::new(454, (7, 0), "too many failed logins, try again later"),
        Reason::ChannelBinding => Reply::new(535, (7, 8), "the connection is not the one that the client believes"),
        Reason::Sessions => return Ok(Reply::new(454, (4, 7), format!("{}, try again later", failure.text))),
        Reason::Credentials if mechanism == "EXTERNAL" => {
            Reply::new(535, (7, 8), "the certificate is not registered for this user")
        }
        Reason::Credentials | Reason::Unspecified => Reply::new(535, (7, 8), "name or password is wrong"),
    };
    session.failed_logins += 1;
    session.pause(limits::FAILED_LOGIN_PAUSE * session.failed_logins).await;
    if session.failed_logins >= limits::FAILED_LOGINS {
        session.say(&reply)?;
        return Err(Stop::Reply(Reply::new(
            421,
            (7, 0),
            "too many failed logins, closing the connection",
        )));
    }
    Ok(reply)
}
