//! DNS for `mail-auth`, which asks by itself and of a resolver of its own, but looks into a cache first.
//!
//! The cache is all that it gets. It has every name that a verification can come to ask for, without answers at first.
//! Those that are asked for are noted, asked of our resolver (with its DNSSEC status, in tests of a zone in memory), and
//! the verification is run again. Each run is cheap beside the questions, and the number of names is bounded.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::resolver::ToFqdn as _;
use mail_auth::common::verify::DomainKey;
use mail_auth::dmarc::Dmarc;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{DnsError, DnssecStatus, Error, MX, MessageAuthenticator, Parameters, RecordSet, ResolverCache, Txt};
use mox_dns::{Reason, Resolver, Status};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Most names that are asked for because of one message: keys of signatures and seals, policies along domains.
const NAMES: usize = 96;
/// How long all questions for one message may take.
const TIME: Duration = Duration::from_secs(30);

/// Verifies, without a server to ask: every question is answered by a cache. Made once, as it reads all certificates that
/// the system trusts.
static OFFLINE: LazyLock<Result<MessageAuthenticator, String>> = LazyLock::new(|| {
    let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    MessageAuthenticator::new(config, ResolverOpts::default()).map_err(|e| e.to_string())
});

/// Answers that are known, and questions that came up. As a cache, it answers texts from its table.
pub(crate) struct Answers {
    resolver: Arc<dyn Resolver>,
    offline: &'static MessageAuthenticator,
    table: Mutex<Table>,
    deadline: Instant,
}

type Table = HashMap<Box<str>, Entry>;

/// A name that may be asked for.
#[derive(Default)]
struct Entry {
    answer: Option<(Txt, Status)>,
    /// Of a policy for DMARC: see [`crate::dmarc::Verdict::interval`].
    interval: u32,
    wanted: bool,
}

impl Answers {
    pub(crate) fn new(resolver: Arc<dyn Resolver>) -> Result<Self, crate::Error> {
        let offline = OFFLINE.as_ref().map_err(|e| crate::Error::Setup(e.clone()))?;
        Ok(Self {
            resolver,
            offline,
            table: Mutex::default(),
            deadline: Instant::now() + TIME,
        })
    }

    /// Who verifies with [`Answers::parameters`].
    pub(crate) fn authenticator(&self) -> &MessageAuthenticator {
        self.offline
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names that may be asked for. Beyond the bound they stay unknown, and are a temporary error when asked for.
    pub(crate) fn register(&self, names: impl IntoIterator<Item = String>) {
        let mut table = self.table();
        for name in names {
            if table.len() >= NAMES {
                return;
            }
            table.entry(name.to_fqdn().into()).or_default();
        }
    }

    /// The least trustworthy of some answers.
    pub(crate) fn status(&self, names: impl IntoIterator<Item = String>) -> Status {
        let table = self.table();
        let known = names
            .into_iter()
            .filter_map(|name| table.get(&*name.to_fqdn())?.answer.as_ref());
        known.map(|known| known.1).min().unwrap_or_default()
    }

    /// The policy record at a name.
    pub(crate) fn dmarc(&self, name: &str) -> Option<Arc<Dmarc>> {
        match &self.table().get(&*name.to_fqdn())?.answer.as_ref()?.0 {
            Txt::Dmarc(record) => Some(Arc::clone(record)),
            _ => None,
        }
    }

    /// How often the policy at a name asks for reports.
    pub(crate) fn interval(&self, name: &str) -> u32 {
        self.table().get(&*name.to_fqdn()).map_or(0, |entry| entry.interval)
    }

    /// Asks what came up. True if there are new answers, so that verifying again is worthwhile.
    pub(crate) async fn ask(&self) -> bool {
        let wanted: Vec<Box<str>> = {
            let mut table = self.table();
            let wanted = table.iter_mut().filter(|(_, entry)| entry.wanted);
            wanted
                .map(|(name, entry)| {
                    entry.wanted = false;
                    name.clone()
                })
                .collect()
        };
        let mut questions = JoinSet::new();
        for name in wanted {
            let (resolver, deadline) = (Arc::clone(&self.resolver), self.deadline);
            questions.spawn(async move {
                let mut interval = 0;
                let answer = match timeout_at(deadline, resolver.txt(&name)).await {
                    Ok(Ok(answer)) => {
                        interval = answer
                            .records
                            .iter()
                            .map(|text| crate::dmarc::interval(text))
                            .max()
                            .unwrap_or(0);
                        (read(&name, &answer.records), answer.status)
                    }
                    Ok(Err(error)) if error.is_temporary() => (Txt::Error(temporary(&error.to_string())), error.status),
                    Ok(Err(error)) => (Txt::Error(not_found(error.reason == Reason::NoName)), error.status),
                    Err(_) => (Txt::Error(temporary("no answer in time")), Status::Indeterminate),
                };
                (name, answer, interval)
            });
        }
        let any = !questions.is_empty();
        while let Some(answered) = questions.join_next().await {
            if let Ok((name, answer, interval)) = answered {
                let mut table = self.table();
                let entry = table.entry(name).or_default();
                (entry.answer, entry.interval) = (Some(answer), interval);
            }
        }
        any
    }

    /// Whether a name exists, of any type; None if that could not be found out (RFC 8020, RFC 9989 §4.10.1).
    pub(crate) async fn exists(&self, name: &str) -> Option<bool> {
        match timeout_at(self.deadline, self.resolver.a(name)).await {
            Ok(Ok(_)) => Some(true),
            Ok(Err(error)) if error.is_temporary() => None,
            Ok(Err(error)) => Some(error.reason != Reason::NoName),
            Err(_) => None,
        }
    }
}

fn temporary(why: &str) -> Error {
    Error::Dns(DnsError::Resolver(why.to_owned()))
}

fn not_found(no_name: bool) -> Error {
    Error::Dns(DnsError::RecordNotFound(if no_name {
        ResponseCode::NXDomain
    } else {
        ResponseCode::NoError
    }))
}

/// Whether a key is for mail, and for the hash that we accept (RFC 6376 §3.6.1): others are as good as none.
fn is_for_us(record: &[u8]) -> bool {
    let record = String::from_utf8_lossy(record);
    record.split(';').all(|tag| {
        let Some((name, value)) = tag.split_once('=') else {
            return true;
        };
        let mut values = value.split(':').map(str::trim);
        match name.trim() {
            "s" => values.any(|service| matches!(service, "*" | "email")),
            "h" => values.any(|hash| hash == "sha256"),
            _ => true,
        }
    })
}

/// What the texts of a name say; by its name it is known what they should be.
fn read(name: &str, texts: &[Vec<u8>]) -> Txt {
    if name.contains("._domainkey.") {
        // RFC 6376 §3.6.2.2: of several records any may be taken.
        let mut result = Err(Error::Dns(DnsError::InvalidRecordType));
        for text in texts.iter().filter(|text| is_for_us(text)) {
            result = DomainKey::parse(text);
            if result.is_ok() {
                break;
            }
        }
        return result.map_or_else(Txt::Error, |key| Txt::DomainKey(Arc::new(key)));
    }
    // RFC 9989 §4.10: what is no policy record is left out, and several of them count as none.
    let mut records = texts.iter().filter_map(|text| Dmarc::parse(text).ok());
    match (records.next(), records.next()) {
        (Some(record), None) => Txt::Dmarc(Arc::new(record)),
        _ => Txt::Error(not_found(false)),
    }
}

/// Parameters of which this is the cache for all that is asked for.
pub(crate) type Asking<'a, P> = Parameters<
    'a,
    P,
    Answers,
    Unused<Box<str>, RecordSet<MX>>,
    Answers,
    Unused<Box<str>, RecordSet<Ipv6Addr>>,
    Unused<IpAddr, RecordSet<Box<str>>>,
>;

impl Answers {
    /// `mail-auth`'s parameters.
    pub(crate) fn parameters<P>(&self, params: P) -> Asking<'_, P> {
        Parameters {
            params,
            cache_txt: Some(self),
            cache_mx: None,
            cache_ptr: None,
            cache_ipv4: Some(self),
            cache_ipv6: None,
        }
    }
}

/// For the questions that are never asked here.
pub(crate) struct Unused<K, V>(std::marker::PhantomData<(K, V)>);

impl<K, V> ResolverCache<K, V> for Unused<K, V> {
    fn get<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: K, _: V, _: std::time::Instant) {}
}

impl ResolverCache<Box<str>, Txt> for Answers {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut table = self.table();
        match table.get_mut(name) {
            Some(Entry {
                answer: Some((answer, _)),
                ..
            }) => Some(answer.clone()),
            Some(entry) => {
                entry.wanted = true;
                Some(Txt::Error(temporary("not asked yet")))
            }
            None => Some(Txt::Error(temporary("too many names for one message"))),
        }
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

impl ResolverCache<Box<str>, RecordSet<Ipv4Addr>> for Answers {
    fn get<Q>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Only asked for whether a name exists, which is found out before.
        Some(RecordSet {
            rrset: Arc::new([Ipv4Addr::UNSPECIFIED]),
            dnssec_status: DnssecStatus::Indeterminate,
        })
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: RecordSet<Ipv4Addr>, _: std::time::Instant) {}
}
