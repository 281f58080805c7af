//! How a destination is reached: its hosts, and a session with one of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mox_config::{Transport, TransportAuth, TransportSmtp};
use mox_dns::{Resolver, host_addresses, mail_hosts};
use mox_proto::queue::v1::RequireTls;
use mox_sasl::Mechanism;
use mox_smtp::Stream;
use mox_smtp::client::{Client, ClientError, Timeouts, TlsDetails, handshake};
use mox_tlspolicy::Trust;
use mox_tlspolicy::verify::{Checks, client_config};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;

use crate::idle::{Idle, Session};
use crate::net::Dialer;
use crate::places::{Place, Places};
use crate::route::Destination;
use crate::secure::{Demands, HostPolicy, Policies, Results, SecurityMetrics};
use crate::verdict::Failure;

/// RFC 5321 §4.5.4.2, RFC 6409 §3.1, RFC 8314 §7.3.
const SMTP_PORT: u16 = 25;
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;
/// Addresses of one host that are tried. RFC 5321 §5.1 asks for two at least.
const HOST_ADDRESSES: usize = 4;

/// A number, another at each call.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What is needed to reach others.
pub struct Outside {
    /// Our name.
    pub hostname: String,
    /// DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Connections.
    pub dialer: Arc<dyn Dialer>,
    /// Authorities whose certificates are valid.
    pub trust: Trust,
    /// MTA-STS, and what is remembered of hosts.
    pub policies: Arc<Policies>,
    /// Figures about TLS.
    pub security: SecurityMetrics,
    /// Of SMTP.
    pub timeouts: Timeouts,
    /// Sessions that wait for another message.
    pub idle: Idle,
    /// How many sessions there are with whom.
    pub places: Places,
    /// For the order of hosts that are equal.
    pub random: Random,
    /// The port of a recipient's hosts.
    pub smtp_port: u16,
}

impl Outside {
    /// With what is usual in the world.
    #[must_use]
    pub fn new(
        hostname: String,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
        trust: Trust,
        policies: Arc<Policies>,
        security: SecurityMetrics,
        random: Random,
    ) -> Self {
        Self {
            hostname,
            resolver,
            dialer,
            trust,
            policies,
            security,
            timeouts: Timeouts::default(),
            idle: Idle::default(),
            places: Places::default(),
            random,
            smtp_port: SMTP_PORT,
        }
    }
}

/// What there is for a message at an address.
pub enum Room {
    /// A session.
    Session(Session),
    /// The right to begin one.
    Place(Place),
}

/// TLS as a destination wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// As is demanded of the host.
    Demanded,
    /// By STARTTLS.
    StartTls { verify: bool },
    /// From the start.
    Immediate { verify: bool },
    /// None.
    Plain,
}

/// How a destination is reached.
pub struct Plan {
    /// Names or addresses, in the order to try.
    pub hosts: Vec<String>,
    port: u16,
    hello: String,
    security: Security,
    /// Of recipients' hosts, not of relays.
    demands: Option<Demands>,
    /// Of hosts whose addresses were asked for.
    policies: Mutex<HashMap<String, HostPolicy>>,
    /// What TLS led to.
    pub results: Results,
    auth: Option<TransportAuth>,
    proxy: Option<SocketAddr>,
    ipv4: bool,
    ipv6: bool,
}

impl Outside {
    /// A session with an address of a host that waits for a message, if there is one that may be `shared`, or a place
    /// for one of its own; `None` if there are as many as there may be, for too long.
    pub async fn room(&self, host: &str, address: SocketAddr, shared: Option<RequireTls>) -> Option<Room> {
        let end = Place::end();
        loop {
            let session = shared.and_then(|requiretls| self.idle.take_shared(host, address, requiretls));
            if let Some(session) = session {
                return Some(Room::Session(session));
            }
            let mut place = self.places.at(address);
            if place.is_full() {
                self.idle.end_one(address);
            }
            if place.take(end).await.ok()? {
                return Some(Room::Place(place));
            }
        }
    }

    /// Finds out how a destination is reached. `transport` is the one that it names.
    ///
    /// # Errors
    /// If it can't be reached, or does not want to.
    pub async fn plan(
        &self,
        destination: &Destination,
        transport: Option<&Transport>,
        requiretls: RequireTls,
    ) -> Result<Plan, Failure> {
        let mut plan = Plan {
            hosts: Vec::new(),
            port: self.smtp_port,
            hello: self.hostname.clone(),
            security: Security::Demanded,
            demands: None,
            policies: Mutex::default(),
            results: Results::new(self.security.clone()),
            auth: None,
            proxy: None,
            ipv4: true,
            ipv6: true,
        };
        match (destination, transport) {
            (Destination::Domain { domain, .. }, transport) => {
                if let Some(socks) = transport.and_then(|t| t.socks.as_ref()) {
                    plan.proxy = Some(socks.address);
                    plan.hello = socks.remote_hostname.ascii().to_owned();
                }
                if let Some(direct) = transport.and_then(|t| t.direct.as_ref()) {
                    plan.ipv4 = !direct.disable_ipv4;
                    plan.ipv6 = !direct.disable_ipv6;
                }
                let hosts = mail_hosts(self.resolver.as_ref(), domain, (self.random)()).await;
                let hosts = hosts.map_err(|e| Failure::no_host(&e))?;
                let sts = self.policies.find(domain.ascii()).await;
                plan.demands = Some(Demands::new(domain.ascii(), &hosts, sts, requiretls));
                plan.hosts = hosts.hosts.into_iter().map(|host| host.name).collect();
            }
            (Destination::Transport(_), Some(Transport { fail: Some(fail), .. })) => {
                let permanent = fail.smtp_code / 100 != 4;
                return Err(Failure {
                    code: fail.smtp_code,
                    ..Failure::ours(permanent, (7, 0), format!("{} {}", fail.smtp_code, fail.smtp_message))
                });
            }
            (Destination::Transport(name), transport) => {
                let none = || {
                    Failure::ours(
                        false,
                        (3, 5),
                        format!("transport {name} says nothing about how to deliver"),
                    )
                };
                let transport = transport.ok_or_else(none)?;
                let (smtp, port, immediate) = match transport {
                    Transport {
                        submissions: Some(smtp),
                        ..
                    } => (smtp, SUBMISSIONS_PORT, true),
                    Transport {
                        submission: Some(smtp), ..
                    } => (smtp, SUBMISSION_PORT, false),
                    Transport { smtp: Some(smtp), .. } => (smtp, SMTP_PORT, false),
                    _ => return Err(none()),
                };
                plan.relay(smtp, port, immediate, requiretls);
            }
        }
        Ok(plan)
    }
}

impl Plan {
    fn relay(&mut self, smtp: &TransportSmtp, port: u16, immediate: bool, requiretls: RequireTls) {
        // RFC 8689 §4.2.1: a message that requires it goes to nobody who is not verified.
        let verify = !smtp.starttls_insecure_skip_verify || requiretls == RequireTls::Yes;
        self.hosts = vec![smtp.host.trim_end_matches('.').to_owned()];
        self.port = smtp.port.unwrap_or(port);
        self.security = match (immediate, smtp.no_starttls) {
            (true, _) => Security::Immediate { verify },
            (false, true) => Security::Plain,
            (false, false) => Security::StartTls { verify },
        };
        self.auth.clone_from(&smtp.auth);
    }

    /// The addresses of one of its hosts, in the order to try.
    ///
    /// # Errors
    /// If there are none that can be used.
    pub async fn addresses(&self, outside: &Outside, host: &str) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(demands) = &self.demands {
            let admitted = demands.admit(host);
            admitted.inspect_err(|_| demands.report_mismatch(&self.results, host))?;
        }
        let answer = host_addresses(outside.resolver.as_ref(), host).await.map_err(|e| {
            // RFC 3463 §3.5: unable to route, as no name server has an address for a host that is named.
            Failure::ours(
                !e.is_temporary(),
                if e.is_temporary() { (4, 3) } else { (4, 4) },
                e.to_string(),
            )
        })?;
        if let Some(demands) = &self.demands {
            let policy = demands.host(outside, host, self.port, &answer, &self.results).await?;
            self.policies.lock().insert(host.to_owned(), policy);
        }
        let usable = |ip: &IpAddr| if ip.is_ipv4() { self.ipv4 } else { self.ipv6 };
        let all: Vec<SocketAddr> = answer
            .records
            .into_iter()
            .filter(usable)
            .map(|ip| SocketAddr::new(ip, self.port))
            .collect();
        if all.is_empty() {
            // Temporary, as what is configured can be changed, and a route for later attempts may be of another mind.
            let text = format!("host {host} has no address of a family that its transport allows");
            return Err(Failure::ours(false, (4, 4), text));
        }
        // Both families are tried: one of them is often broken.
        let (v6, v4): (Vec<_>, Vec<_>) = all.into_iter().partition(SocketAddr::is_ipv6);
        let mut mixed = Vec::new();
        for n in 0..v6.len().max(v4.len()) {
            mixed.extend(v6.get(n).into_iter().chain(v4.get(n)));
        }
        mixed.truncate(HOST_ADDRESSES);
        Ok(mixed)
    }

    /// Whether sessions with a host whose addresses were asked for are as good for other domains that have it: directly
    /// reached, and without a policy that says how it is to be verified.
    #[must_use]
    pub fn is_shared(&self, host: &str) -> bool {
        let policies = self.policies.lock();
        let open = |demands: &Demands, policy: &HostPolicy| !demands.has_policy() && !policy.has_records();
        self.proxy.is_none()
            && self.ipv4
            && self.ipv6
            && matches!((&self.demands, policies.get(host)), (Some(demands), Some(policy)) if open(demands, policy))
    }

    /// A session with a host, ready for messages.
    ///
    /// # Errors
    /// If the host does not answer, or not as it should.
    pub async fn open(&self, outside: &Outside, host: &str, address: SocketAddr) -> Result<Client, Failure> {
        let mut client = match self.security {
            Security::Plain => self.plain(outside, address).await?,
            Security::Immediate { verify } => {
                let (config, name) = (config(outside, verify)?, server_name(host, address));
                let stream = self.dial(outside, address).await?;
                let secured = handshake(stream, config, name, outside.timeouts.handshake).await;
                let (stream, details) = secured.map_err(|e| Failure::session(&e))?;
                self.greet(outside, stream, Some(details)).await?
            }
            Security::StartTls { verify } => {
                let client = self.plain(outside, address).await?;
                let (config, name) = (config(outside, verify)?, server_name(host, address));
                client.starttls(config, name).await.map_err(|e| Failure::session(&e))?
            }
            Security::Demanded => {
                let policy = self.policies.lock().get(host).cloned();
                match (&self.demands, policy) {
                    (Some(demands), Some(policy)) => self.open_host(outside, demands, &policy, host, address).await?,
                    _ => return Err(Failure::ours(false, (3, 5), "the host's addresses were not asked for")),
                }
            }
        };
        if let Some(auth) = &self.auth {
            let names = auth
                .mechanisms
                .iter()
                .filter_map(|m| m.as_str().parse::<Mechanism>().ok());
            let preferred: Vec<Mechanism> = names.collect();
            let done = client
                .authenticate(&preferred, &auth.username, auth.password.expose())
                .await;
            done.map_err(|e: ClientError| Failure::session(&e))?;
        }
        Ok(client)
    }

    async fn dial(&self, outside: &Outside, address: SocketAddr) -> Result<Stream, Failure> {
        let dialed = outside.dialer.dial(address, self.proxy).await;
        // RFC 3463 §3.5: no answer from host.
        dialed.map_err(|e| Failure::ours(false, (4, 1), format!("connecting to {address}: {e}")))
    }

    async fn greet(&self, outside: &Outside, stream: Stream, tls: Option<TlsDetails>) -> Result<Client, Failure> {
        let client = Client::connect(stream, tls, &self.hello, outside.timeouts).await;
        client.map_err(|e| Failure::session(&e))
    }

    pub(crate) async fn plain(&self, outside: &Outside, address: SocketAddr) -> Result<Client, Failure> {
        let stream = self.dial(outside, address).await?;
        self.greet(outside, stream, None).await
    }
}

fn config(outside: &Outside, verify: bool) -> Result<Arc<rustls::ClientConfig>, Failure> {
    if verify {
        return Ok(outside.trust.verified());
    }
    let made = client_config(&outside.trust, Checks::default());
    made.map(|(config, _)| config)
        .map_err(|e| Failure::ours(false, (3, 5), format!("preparing TLS: {e}")))
}

/// A name that TLS can ask for; for those that are none, the address.
pub(crate) fn server_name(host: &str, address: SocketAddr) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(address.ip().into()))
}
