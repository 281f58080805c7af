//! SPF (RFC 7208): may this host send mail for that domain?
//!
//! [`check_host`] is the function of RFC 7208 §4, with its bounds: look-ups, void look-ups, names of an address, time.
//! [`Outcome`] says which mechanism decided and how trustworthy DNS' answers were.

mod macros;
mod received;
mod record;

use std::net::IpAddr;
use std::time::Duration;

use mox_dns::{Error as DnsError, Resolver, Status};
use tokio::time::{Instant, timeout_at};

pub use macros::{MacroError, MacroString};
pub use received::{Identity, ReceivedSpf};
pub use record::{Directive, Mechanism, Qualifier, RECORD_BYTES, RECORD_TERMS, Record, RecordError, Target, is_record};

use macros::Values;

/// RFC 7208 §4.6.4: terms that ask DNS.
pub const LOOKUPS: u32 = 10;
/// RFC 7208 §4.6.4: look-ups whose answer is that there is nothing.
pub const VOID_LOOKUPS: u32 = 2;
/// RFC 7208 §4.6.4: names of one `mx` or of an address whose addresses are looked up.
const NAMES: usize = 10;
/// RFC 7208 §4.6.4 wants at least 20 seconds for a whole evaluation.
pub const TIME: Duration = Duration::from_secs(20);
/// Octets of an explanation: more does not fit in an SMTP reply.
const EXPLANATION_BYTES: usize = 500;

/// RFC 7208 §2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// There is no policy.
    #[default]
    None,
    /// The domain says nothing about this host.
    Neutral,
    /// The host may use the domain.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// It could not be found out now.
    TempError,
    /// The policy can't be understood.
    PermError,
}

impl Outcome {
    /// As in header fields (RFC 8601 §2.7.2).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The host that connected.
    pub ip: IpAddr,
    /// What it said in EHLO.
    pub helo: &'a str,
    /// Localpart of MAIL FROM, "postmaster" for the HELO identity.
    pub localpart: &'a str,
    /// Domain of MAIL FROM, or the HELO name, as A-labels: whose policy is asked for.
    pub domain: &'a str,
    /// Our host name.
    pub receiver: &'a str,
    /// Seconds since 1970.
    pub now: i64,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// The mechanism that matched, as in its record; "default" when none did.
    pub mechanism: Option<String>,
    /// Why there was no better answer.
    pub problem: Option<String>,
    /// The domain's words to who is refused.
    pub explanation: Option<String>,
    /// Least trustworthy of the answers that DNS gave.
    pub status: Status,
}

/// Why an evaluation ends before a mechanism matches.
#[derive(Debug)]
struct End {
    outcome: Outcome,
    problem: String,
}

impl End {
    fn new(outcome: Outcome, problem: impl Into<String>) -> Self {
        Self {
            outcome,
            problem: problem.into(),
        }
    }
}

/// What a record decides.
struct Decision {
    outcome: Outcome,
    mechanism: Option<String>,
    /// Whose explanation is asked for, and in which domain.
    explanation: Option<(MacroString, String)>,
}

/// Finds out whether a host may use a domain: RFC 7208 §4.
pub async fn check_host(resolver: &dyn Resolver, query: &Query<'_>) -> Verdict {
    check_within(resolver, query, TIME).await
}

async fn check_within(resolver: &dyn Resolver, query: &Query<'_>, time: Duration) -> Verdict {
    let mut evaluation = Evaluation {
        resolver,
        query,
        ip: query.ip.to_canonical(),
        deadline: Instant::now() + time,
        lookups: 0,
        void: 0,
        status: Status::Secure,
        asked: false,
        names: None,
    };
    let result = evaluation.check(query.domain.to_owned(), true).await;
    let status = |e: &Evaluation<'_>| if e.asked { e.status } else { Status::Indeterminate };
    match result {
        Ok(decision) => {
            let explanation = match (&decision.explanation, decision.outcome) {
                (Some((text, domain)), Outcome::Fail) => evaluation.explain(text, domain).await,
                _ => None,
            };
            Verdict {
                outcome: decision.outcome,
                mechanism: decision.mechanism,
                problem: None,
                explanation,
                status: status(&evaluation),
            }
        }
        Err(end) => Verdict {
            outcome: end.outcome,
            mechanism: None,
            problem: Some(end.problem),
            explanation: None,
            status: status(&evaluation),
        },
    }
}

/// The record of a domain: text and parsed (RFC 7208 §4.4, §4.5), for those who want to look at it.
///
/// # Errors
/// With the outcome that an evaluation would have, and why.
pub async fn lookup(resolver: &dyn Resolver, domain: &str) -> Result<(String, Record, Status), (Outcome, String)> {
    let texts = match resolver.txt(domain).await {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() => return Err((Outcome::None, error.to_string())),
        Err(error) => return Err((Outcome::TempError, error.to_string())),
    };
    let status = texts.status;
    let (text, record) = one_record(domain, &texts.records).map_err(|end| (end.outcome, end.problem))?;
    Ok((text, record, status))
}

/// The one record among a domain's texts.
fn one_record(domain: &str, texts: &[Vec<u8>]) -> Result<(String, Record), End> {
    let mut records = texts.iter().filter(|text| is_record(text));
    let Some(text) = records.next() else {
        return Err(End::new(Outcome::None, format!("{domain} has no SPF record")));
    };
    if records.next().is_some() {
        let problem = format!("{domain} has more than one SPF record");
        return Err(End::new(Outcome::PermError, problem));
    }
    let record = Record::parse(text).map_err(|e| {
        End::new(
            Outcome::PermError,
            format!("the SPF record of {domain} is misformed: {e}"),
        )
    })?;
    Ok((String::from_utf8_lossy(text).into_owned(), record))
}

struct Evaluation<'a> {
    resolver: &'a dyn Resolver,
    query: &'a Query<'a>,
    ip: IpAddr,
    deadline: Instant,
    lookups: u32,
    void: u32,
    status: Status,
    asked: bool,
    /// Names of the address, once they are looked up.
    names: Option<Vec<String>>,
}

impl Evaluation<'_> {
    /// check_host() of RFC 7208 §4, of the first domain or of an included or redirected one.
    async fn check(&mut self, domain: String, first: bool) -> Result<Decision, End> {
        // RFC 7208 §4.3.
        if !is_domain(&domain) {
            let problem = format!("{domain:?} is no domain name of several labels");
            return Err(End::new(Outcome::None, problem));
        }
        let texts = match self.ask(self.resolver.txt(&domain)).await? {
            Ok(answer) => answer,
            // For the first domain this is not void: it is the answer.
            Err(error) if first => return Err(End::new(Outcome::None, error.to_string())),
            Err(error) => {
                self.count_void()?;
                return Err(End::new(Outcome::None, error.to_string()));
            }
        };
        let (_, record) = one_record(&domain, &texts.records)?;
        for directive in &record.directives {
            if Box::pin(self.matches(&directive.mechanism, &domain)).await? {
                let outcome = match directive.qualifier {
                    Qualifier::Pass => Outcome::Pass,
                    Qualifier::Fail => Outcome::Fail,
                    Qualifier::SoftFail => Outcome::SoftFail,
                    Qualifier::Neutral => Outcome::Neutral,
                };
                return Ok(Decision {
                    outcome,
                    mechanism: Some(directive.to_string()),
                    explanation: record.explanation.map(|text| (text, domain)),
                });
            }
        }
        if let Some(redirect) = &record.redirect {
            self.count_lookup()?;
            let Some(target) = self.expand(redirect, &domain).await? else {
                let problem = format!("redirect={redirect} in the SPF record of {domain} is no domain here");
                return Err(End::new(Outcome::PermError, problem));
            };
            return Box::pin(self.check(target.clone(), false))
                .await
                .map_err(|end| match end.outcome {
                    // RFC 7208 §6.1.
                    Outcome::None => End::new(Outcome::PermError, format!("redirect={target}: {}", end.problem)),
                    _ => end,
                });
        }
        // RFC 7208 §4.7.
        Ok(Decision {
            outcome: Outcome::Neutral,
            mechanism: Some("default".to_owned()),
            explanation: None,
        })
    }

    /// RFC 7208 §5.
    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, End> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, bits) => Ok(within(self.ip, (*network).into(), *bits)),
            Mechanism::Ip6(network, bits) => Ok(within(self.ip, (*network).into(), *bits)),
            Mechanism::Include(target) => {
                self.count_lookup()?;
                let Some(target) = self.expand(target, domain).await? else {
                    return Ok(false);
                };
                // RFC 7208 §5.2, the table.
                match self.check(target.clone(), false).await {
                    Ok(decision) => Ok(decision.outcome == Outcome::Pass),
                    Err(end) if end.outcome == Outcome::None => Err(End::new(
                        Outcome::PermError,
                        format!("include:{target}: {}", end.problem),
                    )),
                    Err(end) => Err(end),
                }
            }
            Mechanism::A(target) => {
                self.count_lookup()?;
                match self.target(target.domain.as_ref(), domain).await? {
                    Some(name) => self.host_matches(&name, target).await,
                    None => Ok(false),
                }
            }
            Mechanism::Mx(target) => {
                self.count_lookup()?;
                match self.target(target.domain.as_ref(), domain).await? {
                    Some(name) => self.mx_matches(&name, target).await,
                    None => Ok(false),
                }
            }
            Mechanism::Exists(target) => {
                self.count_lookup()?;
                let Some(name) = self.expand(target, domain).await? else {
                    return Ok(false);
                };
                // RFC 7208 §5.7: the type is A, whatever the client's address is.
                let answer = self.ask(self.resolver.a(&name)).await?;
                self.found(answer).map(|answer| answer.is_some())
            }
            Mechanism::Ptr(target) => {
                self.count_lookup()?;
                let Some(name) = self.target(target.as_ref(), domain).await? else {
                    return Ok(false);
                };
                let names = self.validated_names(&name).await?;
                Ok(names.iter().any(|n| is_at_or_below(n, &name)))
            }
        }
    }

    /// The domain that a mechanism names, or the current one.
    async fn target(&mut self, target: Option<&MacroString>, domain: &str) -> Result<Option<String>, End> {
        match target {
            Some(target) => self.expand(target, domain).await,
            None => Ok(Some(domain.to_owned())),
        }
    }

    /// A domain-spec's domain. None if it is none: that matches nothing (RFC 7208 §4.8).
    async fn expand(&mut self, text: &MacroString, domain: &str) -> Result<Option<String>, End> {
        let name = if text.needs_validated_name() {
            self.validated_name(domain).await?
        } else {
            String::new()
        };
        Ok(text.expand_domain(&self.values(domain, &name)).filter(|d| is_name(d)))
    }

    fn values<'v>(&'v self, domain: &'v str, validated_name: &'v str) -> Values<'v> {
        Values {
            localpart: self.query.localpart,
            sender_domain: self.query.domain,
            domain,
            ip: self.ip,
            helo: self.query.helo,
            validated_name,
            receiver: self.query.receiver,
            now: self.query.now,
        }
    }

    async fn host_matches(&mut self, host: &str, target: &Target) -> Result<bool, End> {
        // RFC 7208 §5: the type is that of the client's address.
        if self.ip.is_ipv4() {
            let answer = self.ask(self.resolver.a(host)).await?;
            let found = self.found(answer)?.unwrap_or_default();
            Ok(found.into_iter().any(|ip| within(self.ip, ip.into(), target.v4)))
        } else {
            let answer = self.ask(self.resolver.aaaa(host)).await?;
            let found = self.found(answer)?.unwrap_or_default();
            Ok(found.into_iter().any(|ip| within(self.ip, ip.into(), target.v6)))
        }
    }

    async fn mx_matches(&mut self, name: &str, target: &Target) -> Result<bool, End> {
        let answer = self.ask(self.resolver.mx(name)).await?;
        let hosts = self.found(answer)?.unwrap_or_default();
        for (i, mx) in hosts.iter().enumerate() {
            if i >= NAMES {
                let problem = format!("{name} has more than {NAMES} mail exchangers");
                return Err(End::new(Outcome::PermError, problem));
            }
            // The null MX (RFC 7505) is no host.
            if is_name(&mx.host) && self.host_matches(&mx.host, target).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The names of the client's address that lead back to it (RFC 7208 §5.5), those of `domain` first.
    async fn validated_names(&mut self, domain: &str) -> Result<Vec<String>, End> {
        if self.names.is_none() {
            let names = self.look_up_names().await?;
            self.names = Some(names);
        }
        let mut names = self.names.clone().unwrap_or_default();
        names.sort_by_key(|name| {
            let same = name.eq_ignore_ascii_case(domain);
            (!same, !is_at_or_below(name, domain))
        });
        Ok(names)
    }

    async fn look_up_names(&mut self) -> Result<Vec<String>, End> {
        // RFC 7208 §5.5: errors here mean that nothing matches, and below, that a name is passed over.
        let Ok(Ok(answer)) = self.ask(self.resolver.ptr(self.ip)).await else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for name in answer.records.into_iter().take(NAMES) {
            let leads_back = if self.ip.is_ipv4() {
                let found = self.ask(self.resolver.a(&name)).await;
                found.is_ok_and(|f| f.is_ok_and(|f| f.records.iter().any(|ip| IpAddr::V4(*ip) == self.ip)))
            } else {
                let found = self.ask(self.resolver.aaaa(&name)).await;
                found.is_ok_and(|f| f.is_ok_and(|f| f.records.iter().any(|ip| IpAddr::V6(*ip) == self.ip)))
            };
            if leads_back {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// RFC 7208 §7.3, `p`.
    async fn validated_name(&mut self, domain: &str) -> Result<String, End> {
        let names = self.validated_names(domain).await?;
        Ok(names.into_iter().next().unwrap_or_else(|| "unknown".to_owned()))
    }

    /// RFC 7208 §6.2: whatever goes wrong, there is no explanation.
    async fn explain(&mut self, text: &MacroString, domain: &str) -> Option<String> {
        let name = self.expand(text, domain).await.ok()??;
        let answer = self.ask(self.resolver.txt(&name)).await.ok()?.ok()?;
        let [text] = answer.records.as_slice() else { return None };
        let text = std::str::from_utf8(text).ok().filter(|t| t.is_ascii())?;
        let text = MacroString::parse_explanation(text).ok()?;
        let validated = if text.needs_validated_name() {
            self.validated_name(domain).await.ok()?
        } else {
            String::new()
        };
        let mut explanation = text.expand(&self.values(domain, &validated))?;
        explanation.retain(|c| matches!(c, ' '..='~'));
        explanation.truncate(EXPLANATION_BYTES);
        (!explanation.is_empty()).then_some(explanation)
    }

    /// Asks DNS, within what is left of the time. Answers that something is not there are the inner error; that it could
    /// not be found out ends the evaluation.
    async fn ask<T>(
        &mut self,
        question: impl Future<Output = Result<mox_dns::Answer<T>, DnsError>>,
    ) -> Result<Result<mox_dns::Answer<T>, DnsError>, End> {
        let answer = timeout_at(self.deadline, question).await;
        self.asked = true;
        match answer {
            Err(_) => Err(End::new(Outcome::TempError, "DNS took longer than an evaluation may")),
            Ok(Ok(answer)) => {
                self.status = self.status.min(answer.status);
                Ok(Ok(answer))
            }
            Ok(Err(error)) if error.is_temporary() => Err(End::new(Outcome::TempError, error.to_string())),
            Ok(Err(error)) => {
                self.status = self.status.min(error.status);
                Ok(Err(error))
            }
        }
    }

    /// The records of an answer; that there are none is counted.
    fn found<T>(&mut self, answer: Result<mox_dns::Answer<T>, DnsError>) -> Result<Option<Vec<T>>, End> {
        match answer {
            Ok(answer) => Ok(Some(answer.records)),
            Err(_) => {
                self.count_void()?;
                Ok(None)
            }
        }
    }

    fn count_lookup(&mut self) -> Result<(), End> {
        self.lookups += 1;
        if self.lookups > LOOKUPS {
            let problem = format!("the policy takes more than {LOOKUPS} look-ups");
            return Err(End::new(Outcome::PermError, problem));
        }
        Ok(())
    }

    fn count_void(&mut self) -> Result<(), End> {
        self.void += 1;
        if self.void > VOID_LOOKUPS {
            let problem = format!("more than {VOID_LOOKUPS} look-ups of the policy found nothing");
            return Err(End::new(Outcome::PermError, problem));
        }
        Ok(())
    }
}

/// Whether an address is in a network of the same family.
fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(ip) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(ip) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

/// A name that can be asked for (RFC 1035 §2.3.4): labels of 1 to 63 octets. Macros can put spaces into one.
fn is_name(name: &str) -> bool {
    let labels = name.split('.').all(|label| (1..=63).contains(&label.len()));
    labels && name.len() <= 253 && name.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// RFC 7208 §4.3: of several labels.
fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    is_name(name) && name.contains('.') && name.parse::<IpAddr>().is_err()
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.trim_end_matches('.'), domain.trim_end_matches('.'));
    let Some(start) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    name.is_char_boundary(start)
        && name[start..].eq_ignore_ascii_case(domain)
        && (start == 0 || name.as_bytes()[start - 1] == b'.')
}

#[cfg(test)]
mod tests;
