//! From the listeners of the configuration to bound sockets.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use mox_config::{Listener, Static};
use mox_types::Domain;
use socket2::{Protocol, Socket, Type};

use crate::tls::{TlsAcceptorConfig, TlsError, TlsOptions};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Mail from other servers.
    Smtp,
    /// Mail from users, STARTTLS.
    Submission,
    /// Mail from users, TLS.
    Submissions,
    /// IMAP, STARTTLS.
    Imap,
    /// IMAP, TLS.
    Imaps,
    /// Prometheus metrics.
    Metrics,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 6] = [
        Kind::Smtp,
        Kind::Submission,
        Kind::Submissions,
        Kind::Imap,
        Kind::Imaps,
        Kind::Metrics,
    ];

    /// As the configuration calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Smtp => "smtp",
            Kind::Submission => "submission",
            Kind::Submissions => "submissions",
            Kind::Imap => "imap",
            Kind::Imaps => "imaps",
            Kind::Metrics => "metrics_http",
        }
    }

    /// Whether connections begin with a TLS handshake.
    #[must_use]
    pub fn is_implicit_tls(self) -> bool {
        matches!(self, Kind::Submissions | Kind::Imaps)
    }

    /// Its port, if it is enabled on the listener.
    #[must_use]
    pub fn port(self, listener: &Listener) -> Option<u16> {
        let (enabled, port) = match self {
            Kind::Smtp => (listener.smtp.enabled, listener.smtp.port),
            Kind::Submission => (listener.submission.enabled, listener.submission.port),
            Kind::Submissions => (listener.submissions.enabled, listener.submissions.port),
            Kind::Imap => (listener.imap.enabled, listener.imap.port),
            Kind::Imaps => (listener.imaps.enabled, listener.imaps.port),
            Kind::Metrics => (listener.metrics_http.enabled, listener.metrics_http.port),
        };
        enabled.then_some(port)
    }

    /// Whether users log in, for which a certificate of theirs can serve.
    fn has_logins(self) -> bool {
        match self {
            Kind::Submission | Kind::Submissions | Kind::Imap | Kind::Imaps => true,
            Kind::Smtp | Kind::Metrics => false,
        }
    }

    /// Whether it can use TLS at all, by STARTTLS or from the start.
    fn uses_tls(self, listener: &Listener) -> bool {
        match self {
            Kind::Smtp => !listener.smtp.no_starttls,
            Kind::Metrics => false,
            Kind::Submission | Kind::Submissions | Kind::Imap | Kind::Imaps => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One socket of a listener, bound, with what its sessions need to know.
#[derive(Debug)]
pub struct Bound {
    /// Its settings.
    pub listener: Arc<Listener>,
    /// Its name in the configuration.
    pub listener_name: String,
    /// What is spoken.
    pub kind: Kind,
    /// Non-blocking; [`accept`](crate::accept) takes it over.
    pub socket: TcpListener,
    /// Certificates, if it can use TLS and has some.
    pub tls: Option<TlsAcceptorConfig>,
    /// The name that the server gives itself here.
    pub hostname: Domain,
}

impl Bound {
    /// Where it listens, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// Of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Why a socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses the address.
    #[error("listen on {address} for {kind} of listener \"{listener}\": {}", explain(.error, .address))]
    Socket {
        /// Where.
        address: SocketAddr,
        /// For what.
        kind: Kind,
        /// Of which listener.
        listener: String,
        /// Why not.
        error: io::Error,
    },
    /// The listener's certificates can't be used.
    #[error("certificates of listener \"{listener}\": {error}")]
    Tls {
        /// Of which listener.
        listener: String,
        /// What is wrong.
        error: TlsError,
    },
    /// A service that is TLS from the start has no certificate.
    #[error(
        "{kind} of listener \"{listener}\" needs a certificate: add [[listeners.{listener}.tls.key_certs]] with \
         cert_file and key_file, or disable it"
    )]
    NoCertificate {
        /// Which service.
        kind: Kind,
        /// Of which listener.
        listener: String,
    },
}

/// The system's error with what to do about it.
fn explain(error: &io::Error, address: &SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address in use: another program listens there (find it with \"ss -ltnp sport = :{port}\"); \
             stop it, or change the port in mox.toml"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "permission denied: ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; \
             start as root, or change port {port} in mox.toml"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{} is not an address of this host; correct \"ips\" in mox.toml",
                address.ip()
            )
        }
        _ => error.to_string(),
    }
}

/// Binds a socket for each IP address of each listener that has one of `kinds` enabled. Relative certificate paths start
/// at `config_dir`, the folder of mox.toml.
///
/// # Errors
/// The first that can't be had; those bound before are closed again.
pub fn bind(config: &Static, config_dir: &Path, kinds: &[Kind]) -> Result<Vec<Bound>, BindError> {
    bind_inherited(config, config_dir, kinds, Vec::new())
}

/// As [`bind`], but takes sockets that were bound before, such as by the same program as root, where they fit.
///
/// # Errors
/// As [`bind`].
pub fn bind_inherited(
    config: &Static,
    config_dir: &Path,
    kinds: &[Kind],
    inherited: Vec<TcpListener>,
) -> Result<Vec<Bound>, BindError> {
    let mut inherited: HashMap<SocketAddr, TcpListener> = inherited
        .into_iter()
        .filter_map(|socket| Some((socket.local_addr().ok()?, socket)))
        .collect();
    let mut bound = Vec::new();
    for (name, listener) in &config.listeners {
        let mut certificates = Certificates {
            listener,
            name,
            config_dir,
            loaded: Vec::new(),
        };
        for kind in kinds {
            let Some(port) = kind.port(listener) else { continue };
            let tls = certificates.of(*kind)?;
            if kind.is_implicit_tls() && tls.is_none() {
                return Err(BindError::NoCertificate {
                    kind: *kind,
                    listener: name.clone(),
                });
            }
            for ip in &listener.ips {
                let address = SocketAddr::new(*ip, port);
                let socket = match inherited.remove(&address) {
                    Some(socket) => socket.set_nonblocking(true).map(|()| socket),
                    None => listen(address),
                };
                let socket = socket.map_err(|error| BindError::Socket {
                    address,
                    kind: *kind,
                    listener: name.clone(),
                    error,
                })?;
                bound.push(Bound {
                    listener: Arc::clone(listener),
                    listener_name: name.clone(),
                    kind: *kind,
                    socket,
                    tls: tls.clone(),
                    hostname: listener.hostname.clone().unwrap_or_else(|| config.hostname.clone()),
                });
            }
        }
    }
    Ok(bound)
}

/// The certificates of one listener: loaded once for each way of using them, and shared by its sockets.
struct Certificates<'a> {
    listener: &'a Listener,
    name: &'a str,
    config_dir: &'a Path,
    loaded: Vec<(TlsOptions, TlsAcceptorConfig)>,
}

impl Certificates<'_> {
    fn of(&mut self, kind: Kind) -> Result<Option<TlsAcceptorConfig>, BindError> {
        let Some(tls) = &self.listener.tls else { return Ok(None) };
        if tls.key_certs.is_empty() || !kind.uses_tls(self.listener) {
            return Ok(None);
        }
        let options = TlsOptions {
            resumption: kind != Kind::Smtp || !self.listener.smtp.tls_session_tickets_disabled,
            client_certificates: kind.has_logins() && !tls.client_auth_disabled,
        };
        if let Some((_, loaded)) = self.loaded.iter().find(|(known, _)| *known == options) {
            return Ok(Some(loaded.clone()));
        }
        let loaded = TlsAcceptorConfig::load(tls, self.config_dir, options).map_err(|error| BindError::Tls {
            listener: self.name.to_owned(),
            error,
        })?;
        self.loaded.push((options, loaded.clone()));
        Ok(Some(loaded))
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(socket2::Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the previous process to be forgotten.
    socket.set_reuse_address(true)?;
    if matches!(address.ip(), IpAddr::V6(_)) {
        // So that 0.0.0.0 and :: can be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
