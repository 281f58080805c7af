//! Submitting a message to the mail server of the settings.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use mox_config::{Mechanism as Name, Sendmail};
use mox_sasl::Mechanism;
use mox_smtp::Stream;
use mox_smtp::client::{Client, ClientError, Timeouts, Transaction, TransactionRecipient, handshake};
use mox_types::Address;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::message::Outgoing;

/// For a connection to one address.
const CONNECT: Duration = Duration::from_secs(30);
/// For everything: programs wait for it.
const ALL: Duration = Duration::from_secs(15 * 60);
/// Mechanisms that don't show the password, from the safest.
const SAFE: [Mechanism; 5] = [
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha1,
    Mechanism::CramMd5,
];

/// Why recipients did not get the message.
pub struct Failed {
    /// Trying again will not help.
    pub permanent: bool,
    /// Who did not get it.
    pub recipients: Vec<Address>,
    /// Why.
    pub error: anyhow::Error,
}

/// Submits a message.
///
/// # Errors
/// If not every recipient was taken.
pub fn submit(settings: &Sendmail, outgoing: &Outgoing) -> Result<(), Failed> {
    let all = |error: anyhow::Error| Failed {
        permanent: error
            .downcast_ref::<ClientError>()
            .is_some_and(ClientError::is_permanent),
        recipients: outgoing.recipients.clone(),
        error,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .map_err(all)?;
    runtime.block_on(async {
        let session = tokio::time::timeout(ALL, session(settings, outgoing));
        let replies = session
            .await
            .unwrap_or_else(|_| Err(anyhow!("it took too long")))
            .map_err(all)?;
        let refused: Vec<_> = outgoing
            .recipients
            .iter()
            .zip(&replies)
            .filter(|(_, r)| !r.is_success())
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = refused.iter().map(|(to, reply)| format!("{to}: {reply}")).collect();
        Err(Failed {
            permanent: refused.iter().all(|(_, reply)| reply.is_permanent()),
            recipients: refused.into_iter().map(|(to, _)| to.clone()).collect(),
            error: anyhow!("server refused {}", texts.join("; ")),
        })
    })
}

async fn session(settings: &Sendmail, outgoing: &Outgoing) -> Result<Vec<mox_smtp::Reply>> {
    let mut client = connect(settings).await?;
    if !settings.username.is_empty() {
        let mut mechanisms = match settings.auth_method {
            Some(name) => vec![mechanism(name)?],
            None => SAFE.to_vec(),
        };
        if settings.auth_method.is_none() && client.tls().is_some() {
            mechanisms.push(Mechanism::Plain);
        }
        let password = settings.password.expose();
        client
            .authenticate(&mechanisms, &settings.username, password)
            .await
            .with_context(|| format!("logging in as {}", settings.username))?;
    }
    let recipients: Vec<TransactionRecipient<'_>> = outgoing
        .recipients
        .iter()
        .map(|address| TransactionRecipient {
            address,
            notify: None,
            orcpt: None,
        })
        .collect();
    let header = mox_message::header_end(&outgoing.content);
    let transaction = Transaction {
        mail_from: Some(&settings.from),
        recipients: &recipients,
        size: outgoing.content.len() as u64,
        eight_bit: !outgoing.content.is_ascii(),
        smtputf8: !outgoing.content[..header].is_ascii(),
        requiretls: settings.require_tls == Some(true),
        ret: None,
        envid: None,
    };
    let content = Bytes::copy_from_slice(&outgoing.content);
    let pieces = futures::stream::iter([Ok(content)]);
    let replies = client.deliver(&transaction, Box::pin(pieces), || true).await?;
    client.quit().await;
    Ok(replies)
}

fn mechanism(name: Name) -> Result<Mechanism> {
    let mechanism = name.as_str().parse();
    mechanism.map_err(|_| anyhow!("auth_method {name} is not known"))
}

/// A session, with TLS as the settings want it.
async fn connect(settings: &Sendmail) -> Result<Client> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let at = || format!("connecting to {host}, port {port}");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.with_context(at)?.collect();
    let mut last = anyhow!("{host} has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return begin(settings, Box::new(stream), address).await.with_context(at),
            Ok(Err(error)) => last = anyhow!("{address}: {error}"),
            Err(_) => last = anyhow!("{address}: no answer in time"),
        }
    }
    Err(last.context(at()))
}

async fn begin(settings: &Sendmail, stream: Stream, address: SocketAddr) -> Result<Client> {
    let (hello, timeouts) = (settings.local_hostname.as_str(), Timeouts::default());
    let name =
        ServerName::try_from(settings.host.clone()).unwrap_or_else(|_| ServerName::IpAddress(address.ip().into()));
    if settings.tls {
        let (stream, details) = handshake(stream, super::tls::config(settings)?, name, timeouts.handshake).await?;
        return Ok(Client::connect(stream, Some(details), hello, timeouts).await?);
    }
    let client = Client::connect(stream, None, hello, timeouts).await?;
    if settings.starttls {
        return Ok(client.starttls(super::tls::config(settings)?, name).await?);
    }
    Ok(client)
}
