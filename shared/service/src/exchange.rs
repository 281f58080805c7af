//! A SASL exchange between the client of a session and the store, which decides.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::auth::v1::authenticate_request::{ChannelBinding, Start, Step};
use mox_proto::auth::v1::authenticate_response::Step as Answer;
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
}

impl Exchange {
    /// Begins an exchange for the client of a connection, with the `mechanism` that it chose and what it sent with it.
    /// `protocol` is the session's, such as `imap`; `host` the name by which the client knows this server.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn start(
        store: &Channel,
        info: &ConnInfo,
        protocol: &str,
        host: &str,
        mechanism: &str,
        initial_response: Option<Bytes>,
    ) -> Result<Self, Status> {
        let start = Start {
            mechanism: mechanism.to_owned(),
            initial_response,
            channel_bindings: channel_bindings(info),
            remote_ip: info.remote.ip().to_string(),
            tls: info.tls.is_some(),
            protocol: protocol.to_owned(),
            cid: info.cid,
            local_name: host.to_owned(),
        };
        let (mut steps, requests) = mpsc::channel(1);
        send(&mut steps, Step::Start(start))?;
        let mut request = tonic::Request::new(requests);
        request.set_timeout(LONGEST);
        let answers = AuthServiceClient::new(store.clone())
            .authenticate(request)
            .await?
            .into_inner();
        Ok(Self { steps, answers })
    }

    /// What the store says next. After success or failure there is nothing more.
    ///
    /// # Errors
    /// If the store can't be asked any longer.
    pub async fn next(&mut self) -> Result<Answer, Status> {
        let answer = self.answers.message().await?.and_then(|a| a.step);
        answer.ok_or_else(|| Status::unavailable("the exchange ended without a result"))
    }

    /// What the client answers to a challenge.
    ///
    /// # Errors
    /// If the store has ended the exchange.
    pub fn respond(&mut self, response: Bytes) -> Result<(), Status> {
        send(&mut self.steps, Step::Response(response))
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
    /// Whether mechanisms with channel binding (-PLUS) can be used. Where they can't, they must not be offered: a client
    /// would take it for an attack.
    #[must_use]
    pub fn binds_channel(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|t| t.exporter.is_some() || t.server_end_point.is_some())
    }
}
