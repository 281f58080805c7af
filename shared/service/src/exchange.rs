//! A SASL exchange between the client of a session and the store, which decides.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::auth::v1::authenticate_request::{ChannelBinding, Start, Step};
use mox_proto::auth::v1::authenticate_response::{Failure, Step as Answer, Success};
use mox_proto::auth::v1::{AuthenticateRequest, AuthenticateResponse};
use mox_rpc::Channel;
use tonic::{Status, Streaming};

use crate::ConnInfo;

/// The store ends an exchange after this.
const LONGEST: Duration = Duration::from_secs(60);

/// One exchange. The session carries the store's challenges to the client, and back what answers them, until the store
/// answers with success or failure.
pub struct Exchange {
    steps: mpsc::Sender<AuthenticateRequest>,
    answers: Streaming<AuthenticateResponse>,
    /// Whose last word is with the client.
    success: Option<Success>,
}

/// How a client wants to log in.
#[derive(Debug, Clone, Default)]
pub struct Attempt<'a> {
    /// The session's protocol, such as `imap`.
    pub protocol: &'a str,
    /// The name by which the client knows this server.
    pub host: &'a str,
    /// What the client says it is; empty if it has not.
    pub client_id: &'a str,
    /// The mechanism that it chose, in upper case.
    pub mechanism: &'a str,
    /// What it sent with it.
    pub initial_response: Option<Bytes>,
    /// It has not asked: only its certificate speaks for it. `mechanism` is EXTERNAL then.
    pub preauth: bool,
}

/// What a client answers to a challenge.
pub enum Response {
    /// This.
    Data(Bytes),
    /// That it wants no more of it.
    Cancelled,
    /// Something that its protocol cannot carry.
    Malformed,
}

/// Whose turn it is.
pub enum Turn {
    /// The client's, with this challenge.
    Ask(Bytes),
    /// Nobody's.
    Over(Ended),
}

/// How an exchange ended.
pub enum Ended {
    /// The client is who it says.
    Success(Success),
    /// It may not log in, or not so.
    Failure(Failure),
    /// By the client.
    Cancelled,
    /// By what the client sent.
    Malformed,
}

impl Exchange {
    /// Begins an exchange for the client of a connection.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn start(store: &Channel, info: &ConnInfo, attempt: Attempt<'_>) -> Result<Self, Status> {
        let tls = info.tls.as_ref();
        let key = tls.and_then(crate::TlsInfo::public_key);
        let start = Start {
            mechanism: attempt.mechanism.to_owned(),
            initial_response: attempt.initial_response,
            channel_bindings: channel_bindings(info),
            remote_ip: info.remote.ip().to_string(),
            tls: tls.is_some(),
            protocol: attempt.protocol.to_owned(),
            cid: info.cid,
            local_name: attempt.host.to_owned(),
            tls_public_key: key.map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key)),
            local_ip: info.local.ip().to_string(),
            tls_details: tls.map_or_else(String::new, |tls| format!("{} {}", tls.version, tls.cipher)),
            client_id: attempt.client_id.to_owned(),
            preauth: attempt.preauth,
        };
        let (mut steps, requests) = mpsc::channel(1);
        send(&mut steps, Step::Start(start))?;
        let mut request = tonic::Request::new(requests);
        request.set_timeout(LONGEST);
        let answers = AuthServiceClient::new(store.clone())
            .authenticate(request)
            .await?
            .into_inner();
        Ok(Self {
            steps,
            answers,
            success: None,
        })
    }

    /// Goes on until the client is to be asked, or all is over. `response` is what it answered to the last challenge,
    /// and `None` at first.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn turn(&mut self, response: Option<Response>) -> Result<Turn, Status> {
        match response {
            None => {}
            Some(Response::Cancelled) => return Ok(Turn::Over(Ended::Cancelled)),
            Some(Response::Malformed) => return Ok(Turn::Over(Ended::Malformed)),
            Some(Response::Data(data)) => match self.success.take() {
                Some(success) => return Ok(Turn::Over(Ended::Success(success))),
                None => send(&mut self.steps, Step::Response(data))?,
            },
        }
        Ok(match self.next().await? {
            Answer::Failure(failure) => Turn::Over(Ended::Failure(failure)),
            Answer::Challenge(challenge) => Turn::Ask(challenge),
            Answer::Success(success) if success.server_final.is_empty() => Turn::Over(Ended::Success(success)),
            // RFC 4954 §4, RFC 9051 §6.2.2: neither protocol has data with success, so that it is a challenge, which is
            // answered with nothing.
            Answer::Success(success) => {
                let last = success.server_final.clone();
                self.success = Some(success);
                Turn::Ask(last)
            }
        })
    }

    /// What the store says next. After success or failure there is nothing more.
    ///
    /// # Errors
    /// If the store can't be asked any longer.
    pub async fn next(&mut self) -> Result<Answer, Status> {
        let answer = self.answers.message().await?.and_then(|a| a.step);
        answer.ok_or_else(|| Status::unavailable("the exchange ended without a result"))
    }
}

fn send(steps: &mut mpsc::Sender<AuthenticateRequest>, step: Step) -> Result<(), Status> {
    let sent = steps.try_send(AuthenticateRequest { step: Some(step) });
    sent.map_err(|_| Status::unavailable("the exchange has ended"))
}

fn channel_bindings(info: &ConnInfo) -> Vec<ChannelBinding> {
    let Some(tls) = &info.tls else { return Vec::new() };
    let exporter = tls.exporter.as_ref().map(|data| ("tls-exporter", &data[..]));
    let end_point = tls
        .server_end_point
        .as_ref()
        .map(|data| ("tls-server-end-point", &data[..]));
    let binding = |(kind, data): (&str, &[u8])| ChannelBinding {
        r#type: kind.to_owned(),
        data: Bytes::copy_from_slice(data),
    };
    exporter.into_iter().chain(end_point).map(binding).collect()
}

impl ConnInfo {
    /// Whether the client showed a certificate, whose key may log it in.
    #[must_use]
    pub fn has_public_key(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.peer_certificates.is_empty())
    }

    /// Whether mechanisms with channel binding (-PLUS) can be used. Where they can't, they must not be offered: a client
    /// would take it for an attack.
    #[must_use]
    pub fn binds_channel(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|t| t.exporter.is_some() || t.server_end_point.is_some())
    }
}
