//! Asking real servers, through hickory-resolver.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record as WireRecord, RecordType as WireType};
use hickory_resolver::{NameServerPool, PoolContext, Resolver as Hickory, TlsConfig, TokioResolver};

use crate::error::{Error, Reason};
use crate::record::{Answer, Mx, Record, RecordType, Srv, Status, Tlsa};
use crate::resolver::Resolver;

/// How long one server is waited for; RFC 1035 §4.2.1 asks for 2 to 5 seconds.
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);
/// Tries of a question after the first.
const RETRIES: usize = 1;
/// All of a question together, its CNAMEs and its chain of DNSSEC keys included.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(15);
/// CNAMEs that are followed, as recursive resolvers bound them.
const MAX_CNAMES: usize = 8;
/// Answers that are kept.
const CACHE_ANSWERS: u64 = 4096;
/// A denial is kept this long at least: with validation on, its own time is not known.
const DENIAL_MIN_TTL: Duration = Duration::from_secs(30);
/// RFC 2308 §5.
const DENIAL_MAX_TTL: Duration = Duration::from_secs(3 * 3600);
/// RFC 8767 §4 speaks of days; a day is what others use.
const ANSWER_MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// Which servers are asked, and who validates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Recursive servers. Empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Validate DNSSEC here.
    pub validate: bool,
    /// Believe the AD bit of the servers, which must be local and trusted; not together with `validate`.
    pub trust_ad: bool,
    /// DNSKEYs to trust, as a zone file; the root's, if absent.
    pub trust_anchor_file: Option<PathBuf>,
}

/// Settings that no resolver can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read or parsed.
    #[error("reading DNSSEC trust anchors from {}: {cause}", path.display())]
    TrustAnchors {
        /// Of the file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Two answers to who validates.
    #[error("set only one of validate and trust_ad: either DNSSEC is validated here, or by the servers that are asked")]
    Both,
    /// The resolver could not be made.
    #[error("preparing to ask DNS: {0}")]
    Build(String),
}

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

enum Backend {
    /// Validates, or leaves the status open.
    Own { resolver: TokioResolver, validates: bool },
    /// Reads the AD bit. Not cached here: the trusted server does so.
    TrustAd(Pool),
    /// There is no server to ask.
    Nobody(String),
}

/// Asks real servers.
pub struct SystemResolver {
    backend: Backend,
}

impl SystemResolver {
    /// From settings. A system without any DNS server makes a resolver too: every question to it fails temporarily.
    ///
    /// # Errors
    /// If the trust anchors can't be read, or both ways of validating are asked for.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        if settings.validate && settings.trust_ad {
            return Err(SettingsError::Both);
        }
        let (config, mut options) = if settings.servers.is_empty() {
            match hickory_resolver::system_conf::read_system_conf() {
                Ok((config, options)) if !config.name_servers().is_empty() => (config, options),
                Ok(_) => return Ok(Self::nobody("/etc/resolv.conf names no server")),
                Err(e) => return Ok(Self::nobody(&format!("reading /etc/resolv.conf: {e}"))),
            }
        } else {
            let servers = settings.servers.iter().map(|s| name_server(*s)).collect();
            let mut options = ResolverOpts::default();
            // Who names servers wants their answers, and not what this machine's hosts file says instead of them.
            options.use_hosts_file = ResolveHosts::Never;
            (ResolverConfig::from_parts(None, Vec::new(), servers), options)
        };
        options.timeout = SERVER_TIMEOUT;
        options.attempts = RETRIES;
        options.edns0 = true;
        options.validate = settings.validate;
        options.cache_size = CACHE_ANSWERS;
        options.negative_min_ttl = Some(DENIAL_MIN_TTL);
        options.negative_max_ttl = Some(DENIAL_MAX_TTL);
        options.positive_max_ttl = Some(ANSWER_MAX_TTL);
        // CNAMEs stay in the answer, for their status.
        options.preserve_intermediates = true;
        // A delivery attempt to each of hundreds of domains may ask at once.
        options.max_active_requests = 1024;
        let build = |e: NetError| SettingsError::Build(e.to_string());
        if settings.trust_ad {
            let context = Arc::new(PoolContext::new(options, TlsConfig::new().map_err(build)?));
            let pool =
                NameServerPool::from_config(config.name_servers().to_vec(), context, TokioRuntimeProvider::default());
            return Ok(Self {
                backend: Backend::TrustAd(RetryDnsHandle::new(pool, RETRIES)),
            });
        }
        let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        if settings.validate
            && let Some(path) = &settings.trust_anchor_file
        {
            let anchors = TrustAnchors::from_file(path).map_err(|e| SettingsError::TrustAnchors {
                path: path.clone(),
                cause: e.to_string(),
            })?;
            builder = builder.with_trust_anchor(Arc::new(anchors));
        }
        let resolver = builder.build().map_err(build)?;
        Ok(Self {
            backend: Backend::Own {
                resolver,
                validates: settings.validate,
            },
        })
    }

    fn nobody(why: &str) -> Self {
        tracing::warn!(why, "there is no DNS server to ask");
        Self {
            backend: Backend::Nobody(why.to_owned()),
        }
    }

    async fn ask(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        let fail = |reason, status| Error::new(name, record, reason, status);
        let mut wire = Name::from_ascii(name).map_err(|_| fail(Reason::Name, Status::Indeterminate))?;
        wire.set_fqdn(true);
        let (records, ad) = match &self.backend {
            Backend::Nobody(why) => return Err(fail(Reason::Unreachable(why.clone()), Status::Indeterminate)),
            Backend::Own { resolver, .. } => match resolver.lookup(wire.clone(), wire_type(record)).await {
                Ok(lookup) => (lookup.answers().to_vec(), None),
                Err(e) => return Err(self.failure(name, record, e)),
            },
            Backend::TrustAd(pool) => {
                let mut request = DnsRequest::from_query(
                    Query::query(wire.clone(), wire_type(record)),
                    DnsRequestOptions::default(),
                );
                // RFC 6840 §5.7: asks for the AD bit without asking for signatures.
                request.metadata.authentic_data = true;
                let response = pool.send(request).first_answer().await;
                match response.and_then(|r| {
                    let ad = r.metadata.authentic_data;
                    Ok((DnsError::from_response(r)?, ad))
                }) {
                    Ok((response, ad)) => (response.answers.clone(), Some(ad)),
                    Err(e) => return Err(self.failure(name, record, e)),
                }
            }
        };
        let status = match (&self.backend, ad) {
            (_, Some(true)) => Status::Secure,
            (_, Some(false)) | (Backend::Own { validates: false, .. }, None) => Status::Indeterminate,
            _ => least(&records),
        };
        if status == Status::Bogus {
            return Err(fail(Reason::Bogus, status));
        }
        let canonical = if record == RecordType::Cname {
            wire
        } else {
            chase(&wire, &records)
        };
        let found: Vec<Record> = records
            .iter()
            .filter(|r| r.name == canonical)
            .filter_map(|r| from_wire(&r.data))
            .filter(|r| r.record_type() == record)
            .collect();
        if found.is_empty() {
            return Err(fail(Reason::NoData, status));
        }
        Ok(Answer {
            records: found,
            status,
            canonical: text(&canonical),
        })
    }

    fn failure(&self, name: &str, record: RecordType, error: NetError) -> Error {
        let validates = matches!(self.backend, Backend::Own { validates: true, .. });
        let denied = |code| {
            if code == ResponseCode::NXDomain {
                Reason::NoName
            } else {
                Reason::NoData
            }
        };
        let (reason, status) = match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain | ResponseCode::NoError => {
                    let proven = none.authorities.as_deref().map_or(Status::Indeterminate, least);
                    (
                        denied(none.response_code),
                        if validates { proven } else { Status::Indeterminate },
                    )
                }
                other => (Reason::Server(other.to_string()), Status::Indeterminate),
            },
            NetError::Dns(
                DnsError::Nsec {
                    proof: Proof::Bogus, ..
                }
                | DnsError::DnssecBogus,
            ) => (Reason::Bogus, Status::Bogus),
            NetError::Dns(DnsError::Nsec { response, proof, .. }) => {
                (denied(response.metadata.response_code), status_of(proof))
            }
            NetError::Dns(DnsError::ResponseCode(code)) => (Reason::Server(code.to_string()), Status::Indeterminate),
            NetError::Timeout => (Reason::Timeout, Status::Indeterminate),
            NetError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => (Reason::Timeout, Status::Indeterminate),
            other => (Reason::Unreachable(other.to_string()), Status::Indeterminate),
        };
        Error::new(name, record, reason, status)
    }
}

impl SystemResolver {
    /// Asks for each step of a chain of CNAMEs by itself. The library takes a denial at the end of a chain for one of its
    /// beginning, and so for a forged one: a host behind a signed CNAME that has no IPv6 address would have none at all.
    async fn step_by_step(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        let (mut at, mut status) = (name.to_owned(), Status::Secure);
        for _ in 0..MAX_CNAMES {
            let alias = self.ask(&at, RecordType::Cname).await?;
            status = status.min(alias.status);
            let target = alias.records.into_iter().find_map(|r| match r {
                Record::Cname(target) => Some(target),
                _ => None,
            });
            at = target.ok_or_else(|| Error::new(&at, RecordType::Cname, Reason::NoData, alias.status))?;
            match self.ask(&at, record).await {
                Ok(answer) => {
                    return Ok(Answer {
                        status: status.min(answer.status),
                        ..answer
                    });
                }
                // It may be another CNAME.
                Err(error) if error.reason == Reason::Bogus => {}
                Err(error) => return Err(Error::new(name, record, error.reason, status.min(error.status))),
            }
        }
        Err(Error::new(name, record, Reason::Loop, status))
    }

    async fn ask_validated(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        match self.ask(name, record).await {
            Err(bogus) if bogus.reason == Reason::Bogus && record != RecordType::Cname => {
                self.step_by_step(name, record)
                    .await
                    .map_err(|error| match error.record {
                        // Without a CNAME, or with one that is forged, the first answer stands.
                        RecordType::Cname => bogus,
                        _ => error,
                    })
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        let answer = tokio::time::timeout(QUESTION_TIMEOUT, self.ask_validated(name, record)).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(name, record, Reason::Timeout, Status::Indeterminate)));
        if let Err(error) = &answer
            && error.reason == Reason::Bogus
        {
            tracing::warn!(
                %error,
                "if this is so for every name, the DNS servers that are asked leave out DNSSEC records: ask others, or do \
                 not validate"
            );
        }
        answer
    }
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut server.connections {
        connection.port = at.port();
    }
    server
}

fn status_of(proof: Proof) -> Status {
    match proof {
        Proof::Secure => Status::Secure,
        Proof::Insecure => Status::Insecure,
        Proof::Bogus => Status::Bogus,
        Proof::Indeterminate => Status::Indeterminate,
    }
}

fn least(records: &[WireRecord]) -> Status {
    records
        .iter()
        .filter(|r| r.record_type() != WireType::RRSIG)
        .map(|r| status_of(r.proof))
        .min()
        .unwrap_or(Status::Indeterminate)
}

/// Where the CNAMEs of an answer lead. Each step takes another record, so it ends.
fn chase(name: &Name, records: &[WireRecord]) -> Name {
    let mut at = name.clone();
    for _ in records {
        let next = records.iter().find_map(|r| match &r.data {
            RData::CNAME(to) if r.name == at => Some(to.0.clone()),
            _ => None,
        });
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

fn wire_type(record: RecordType) -> WireType {
    match record {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Cname => WireType::CNAME,
        RecordType::Mx => WireType::MX,
        RecordType::Ns => WireType::NS,
        RecordType::Ptr => WireType::PTR,
        RecordType::Srv => WireType::SRV,
        RecordType::Tlsa => WireType::TLSA,
        RecordType::Txt => WireType::TXT,
    }
}

/// In lower case, without the trailing dot.
fn text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn from_wire(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(ip) => Record::A(ip.0),
        RData::AAAA(ip) => Record::Aaaa(ip.0),
        RData::CNAME(name) => Record::Cname(text(&name.0)),
        RData::MX(mx) => Record::Mx(Mx {
            preference: mx.preference,
            host: text(&mx.exchange),
        }),
        RData::NS(name) => Record::Ns(text(&name.0)),
        RData::PTR(name) => Record::Ptr(text(&name.0)),
        RData::TXT(txt) => Record::Txt(txt.txt_data.concat()),
        RData::SRV(srv) => Record::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: text(&srv.target),
        }),
        RData::TLSA(tlsa) => Record::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => return None,
    })
}
