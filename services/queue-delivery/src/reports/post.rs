//! Posting TLS reports by HTTPS (RFC 8460 §5.4).
//!
//! Where to is said by the DNS of strangers. So it is HTTPS to a host with a valid certificate for its name, or nothing;
//! redirects are not followed; and everything has a bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::Full;
use mox_dns::{Resolver, host_addresses};
use mox_reports::compose::TLS_FILE_TYPE;
use mox_smtp::Stream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::exchange::exchange;
use crate::hooks::Target;
use crate::net::Dialer;

/// How long a post takes at most, with all there is to it.
const TOTAL: Duration = Duration::from_secs(60);
/// One address, to the end of the handshake: another one may answer.
const CONNECT: Duration = Duration::from_secs(15);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// Posts reports.
pub(crate) struct Poster {
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    tls: TlsConnector,
}

impl Poster {
    /// `tls` verifies who it connects to.
    pub(crate) fn new(resolver: Arc<dyn Resolver>, dialer: Arc<dyn Dialer>, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            resolver,
            dialer,
            tls: Arc::new(tls).into(),
        }
    }

    /// Posts a report to some URIs at once; answers which of them did not take it, with the reason in words.
    pub(super) async fn post_all(&self, uris: &[String], file: &Bytes) -> Vec<(String, String)> {
        let posts = uris.iter().map(|uri| async {
            let end = Instant::now() + TOTAL;
            let late = |_| Err(format!("no answer within {} seconds", TOTAL.as_secs()));
            let done = timeout_at(end, self.post(uri, file, end)).await.unwrap_or_else(late);
            done.err().map(|error| (uri.clone(), error))
        });
        join_all(posts).await.into_iter().flatten().collect()
    }

    async fn post(&self, uri: &str, file: &Bytes, end: Instant) -> Result<(), String> {
        let target = Target::parse(uri)?;
        let request = Request::post(&target.path)
            .header(HOST, &target.authority)
            .header(USER_AGENT, format!("mox/{} (report)", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, TLS_FILE_TYPE)
            .header(CONTENT_LENGTH, file.len())
            .header(CONNECTION, "close")
            .body(Full::new(file.clone()))
            .map_err(|e| format!("making a request: {e}"))?;
        let stream = self.connect(&target).await?;
        let (code, _) = exchange(stream, request, &target.authority, end).await?;
        // RFC 8460 §5.4: "typically a 200 or 201". Redirects are not followed.
        match code.is_success() {
            true => Ok(()),
            false => Err(format!("answer was {code}, no success")),
        }
    }

    async fn connect(&self, target: &Target) -> Result<Stream, String> {
        let receiver = &target.receiver;
        // An address has no name that a certificate could be for, and leads to where nobody asked for reports.
        let named = ServerName::try_from(receiver.host.clone()).ok();
        let name = named.filter(|name| receiver.tls && matches!(name, ServerName::DnsName(_)));
        let name = name.ok_or_else(|| format!("{:?} is not https to a host with a name", receiver.host))?;
        let found = host_addresses(self.resolver.as_ref(), &receiver.host).await;
        let found = found.map_err(|e| e.to_string())?;
        let mut error = format!("{} has no address", receiver.host);
        for ip in found.records.into_iter().take(ADDRESSES_MAX) {
            let to = SocketAddr::new(ip, receiver.port);
            let opened = async {
                let stream = self.dialer.dial(to, None).await?;
                self.tls.connect(name.clone(), stream).await
            };
            match timeout_at(Instant::now() + CONNECT, opened).await {
                Ok(Ok(stream)) => return Ok(Box::new(stream)),
                Ok(Err(e)) => error = format!("connecting to {to}: {e}"),
                Err(_) => error = format!("connecting to {to}: no answer in time"),
            }
        }
        Err(error)
    }
}
