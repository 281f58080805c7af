//! What is found out about a message's sender: iprev, SPF, DKIM, ARC and DMARC (`mox_mailauth`).
//!
//! In developer's mode nobody is asked, and every finding is "unknown", which decides nothing. Otherwise all questions
//! together have one bound in time: a DNS that does not answer makes temporary errors of the findings, and holds no mail
//! up for longer.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use mox_dns::Resolver;
use mox_mailauth::message::{Signed, Verdicts, verify_signed};
use mox_mailauth::results::Results;
use mox_mailauth::{Error, dmarc, iprev, organizational_domain, spf};
use mox_message::HeaderSummary;
use mox_proto::delivery::v1::{DmarcPolicy, DmarcResult, Validation};
use mox_proto::report::v1::DmarcEvaluation;
use mox_smtp::{Path, PathHost};
use mox_spool::Message;
use mox_types::Domain;
use tokio::time::{Instant, timeout_at};

use crate::session::Session;
use crate::transaction::Transaction;
use crate::{limits, reports};

/// What was found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// What the domain of MAIL FROM says to who may not send for it.
    pub spf_explanation: String,
    /// Names of the client's address that lead back to it.
    pub iprev_names: Vec<String>,
    /// There is none, for sure.
    pub iprev_failed: bool,
    pub ehlo: Validation,
    pub mail_from: Validation,
    pub msg_from: Validation,
    /// The address in From, if there is exactly one.
    pub from: String,
    /// Whose its domain is.
    pub from_organization: String,
    /// Domains with a valid signature.
    pub dkim_domains: Vec<String>,
    pub dmarc: DmarcResult,
    pub dmarc_policy: DmarcPolicy,
    /// The trusted sealer that says that the message passed DMARC before it was changed (RFC 8617), if it fails here.
    pub arc_sealer: String,
    /// What is to be reported of it, if the domain in From asks for reports; without what became of it.
    pub evaluation: Option<DmarcEvaluation>,
    /// Header fields that say so, with their line ends.
    pub header: Bytes,
}

/// Who says hello, and where.
pub(crate) struct Client {
    /// Its address.
    pub ip: IpAddr,
    /// The name in EHLO.
    pub helo: String,
    /// Our host name.
    pub hostname: String,
    /// Seconds since 1970.
    pub now: i64,
    /// Whose ARC results count.
    pub trusted_sealers: Vec<Domain>,
}

impl Client {
    /// Whose session it is.
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            ip: session.info.remote.ip().to_canonical(),
            helo: session.hello.as_ref().map(|h| h.name.to_string()).unwrap_or_default(),
            hostname: session.place.hostname.clone(),
            now: session.place.shared.clock.unix_millis().div_euclid(1000),
            trusted_sealers: session.place.shared.config.arc.trusted_sealers.clone(),
        }
    }
}

async fn verify(
    resolver: &Arc<dyn Resolver>,
    message: &Message,
    domain: &str,
    envelope: &spf::Verdict,
) -> Result<Verdicts, Error> {
    let signed = message.read(Signed::of).await;
    match signed.map_err(|e| Error::Setup(e.to_string()))? {
        Some(signed) => verify_signed(Arc::clone(resolver), signed, domain, envelope).await,
        // It has no header.
        None => Ok(Verdicts::default()),
    }
}

/// Finds out about a message that was received.
pub(crate) async fn analyze(
    resolver: Option<&Arc<dyn Resolver>>,
    client: &Client,
    transaction: &Transaction,
    message: &Message,
) -> Findings {
    let Some(resolver) = resolver else {
        return Findings::default();
    };
    let question = Question::new(client, transaction);
    let deadline = Instant::now() + limits::AUTHENTICATION;
    let host = async {
        let found = timeout_at(deadline, iprev::look_up(&**resolver, question.ip)).await;
        found.unwrap_or(iprev::Verdict {
            outcome: iprev::Outcome::TempError,
            ..iprev::Verdict::default()
        })
    };
    let helo = async {
        match &question.helo_domain {
            Some(domain) => Some(question.check(resolver, "postmaster", domain, deadline).await),
            None => None,
        }
    };
    let (host, helo) = tokio::join!(host, helo);
    let mail_from = match &transaction.spf {
        Some(verdict) => Some(verdict.clone()),
        None => question.mail_from(resolver, deadline).await,
    };
    // RFC 7208 §2.4: without a MAIL FROM, the name in EHLO stands for it.
    let (envelope, domain) = match (&mail_from, &question.mail_from) {
        (Some(verdict), Some((_, domain))) => (verdict.clone(), domain.as_str()),
        _ => (
            helo.clone().unwrap_or_default(),
            question.helo_domain.as_deref().unwrap_or_default(),
        ),
    };
    let verdicts = match timeout_at(deadline, verify(resolver, message, domain, &envelope)).await {
        Ok(Ok(verdicts)) => verdicts,
        Ok(Err(error)) => {
            tracing::error!(%error, "authenticating a message");
            late()
        }
        Err(_) => late(),
    };
    let summary = HeaderSummary::of(&message[..mox_message::header_end(message)]);
    let from = summary.from_address().map(ToString::to_string).unwrap_or_default();
    let found = Found {
        host,
        helo,
        mail_from,
        verdicts,
    };
    found.findings(&question, domain, envelope.outcome, from)
}

/// What is said of a message that could not be looked at in time.
fn late() -> Verdicts {
    Verdicts {
        dmarc: dmarc::Verdict {
            outcome: dmarc::Outcome::TempError,
            ..dmarc::Verdict::default()
        },
        ..Verdicts::default()
    }
}

/// What is asked about a client.
pub(crate) struct Question<'a> {
    client: &'a Client,
    ip: IpAddr,
    /// The name in EHLO, if it is a domain.
    helo_domain: Option<String>,
    /// Localpart and domain, as A-labels.
    mail_from: Option<(String, String)>,
    /// MAIL FROM as header fields have it.
    address: String,
}

impl<'a> Question<'a> {
    pub(crate) fn new(client: &'a Client, transaction: &Transaction) -> Self {
        let domain = |path: &Path| match &path.host {
            PathHost::Domain(domain) => Some((path.localpart.as_str().to_owned(), domain.ascii().to_owned())),
            // RFC 7208 §4.3: an address literal is no domain that could have a policy.
            _ => None,
        };
        let helo = client.helo.parse::<Domain>().ok();
        Self {
            client,
            ip: client.ip,
            helo_domain: helo.map(|d| d.ascii().to_owned()).filter(|d| d.contains('.')),
            mail_from: transaction.mail_from.as_ref().and_then(domain),
            address: transaction.reverse_path(),
        }
    }

    /// SPF of MAIL FROM, if that has a domain.
    pub(crate) async fn mail_from(&self, resolver: &Arc<dyn Resolver>, deadline: Instant) -> Option<spf::Verdict> {
        let (localpart, domain) = self.mail_from.as_ref()?;
        Some(self.check(resolver, localpart, domain, deadline).await)
    }

    /// The domain in MAIL FROM; "" if that is null.
    fn reported(&self) -> &str {
        self.mail_from.as_ref().map_or("", |(_, domain)| domain)
    }

    async fn check(
        &self,
        resolver: &Arc<dyn Resolver>,
        localpart: &str,
        domain: &str,
        deadline: Instant,
    ) -> spf::Verdict {
        let query = spf::Query {
            ip: self.ip,
            helo: &self.client.helo,
            localpart,
            domain,
            receiver: &self.client.hostname,
            now: self.client.now,
        };
        let checked = timeout_at(deadline, spf::check_host(&**resolver, &query)).await;
        checked.unwrap_or(spf::Verdict {
            outcome: spf::Outcome::TempError,
            problem: Some("no answer in time".to_owned()),
            ..spf::Verdict::default()
        })
    }
}

struct Found {
    host: iprev::Verdict,
    helo: Option<spf::Verdict>,
    mail_from: Option<spf::Verdict>,
    verdicts: Verdicts,
}

impl Found {
    fn findings(
        &self,
        question: &Question<'_>,
        envelope_domain: &str,
        envelope: spf::Outcome,
        from: String,
    ) -> Findings {
        let from_domain = from
            .rsplit_once('@')
            .and_then(|(_, domain)| domain.parse::<Domain>().ok())
            .map(|domain| domain.ascii().to_owned())
            .unwrap_or_default();
        let from_organization = organizational_domain(&from_domain);
        let signers: Vec<String> = self.verdicts.signers().map(str::to_owned).collect();
        let spf_domain = (envelope == spf::Outcome::Pass).then_some(envelope_domain);
        let verified = || signers.iter().map(String::as_str).chain(spf_domain);
        let dmarc = &self.verdicts.dmarc;
        let msg_from = if from_domain.is_empty() {
            Validation::None
        } else if verified().any(|d| d.eq_ignore_ascii_case(&from_domain)) {
            Validation::Strict
        } else if dmarc.outcome == dmarc::Outcome::Pass {
            Validation::Dmarc
        } else if verified().any(|d| organizational_domain(d) == from_organization) {
            Validation::Relaxed
        } else {
            match dmarc.outcome {
                dmarc::Outcome::TempError => Validation::Temperror,
                dmarc::Outcome::PermError => Validation::Permerror,
                dmarc::Outcome::Fail => Validation::Fail,
                dmarc::Outcome::None | dmarc::Outcome::Pass => Validation::None,
            }
        };
        Findings {
            spf_explanation: self
                .mail_from
                .as_ref()
                .and_then(|v| v.explanation.clone())
                .unwrap_or_default(),
            iprev_names: self.host.names.clone(),
            iprev_failed: matches!(self.host.outcome, iprev::Outcome::Fail | iprev::Outcome::PermError),
            ehlo: self.helo.as_ref().map_or(Validation::None, |v| validation(v.outcome)),
            mail_from: self
                .mail_from
                .as_ref()
                .map_or(Validation::None, |v| validation(v.outcome)),
            msg_from,
            from,
            from_organization,
            dkim_domains: signers,
            dmarc: match dmarc.outcome {
                dmarc::Outcome::None => DmarcResult::None,
                dmarc::Outcome::Pass => DmarcResult::Pass,
                dmarc::Outcome::Fail => DmarcResult::Fail,
                dmarc::Outcome::TempError => DmarcResult::Temperror,
                dmarc::Outcome::PermError => DmarcResult::Permerror,
            },
            dmarc_policy: match dmarc.policy {
                dmarc::Policy::None => DmarcPolicy::None,
                dmarc::Policy::Quarantine => DmarcPolicy::Quarantine,
                dmarc::Policy::Reject => DmarcPolicy::Reject,
            },
            arc_sealer: match dmarc.outcome {
                dmarc::Outcome::Fail => self.arc_sealer(question).unwrap_or_default(),
                _ => String::new(),
            },
            evaluation: reports::evaluation(
                &self.verdicts,
                question.ip,
                envelope_domain,
                envelope,
                question.reported(),
            ),
            header: self.header(question),
        }
    }

    /// Who of the trusted sealers vouches for the message.
    fn arc_sealer(&self, question: &Question<'_>) -> Option<String> {
        let trusted = &question.client.trusted_sealers;
        let is_trusted = |name: &str| trusted.iter().any(|domain| domain.ascii().eq_ignore_ascii_case(name));
        let sealer = self.verdicts.arc.vouches(&self.verdicts.dmarc.domain, is_trusted);
        sealer.map(str::to_owned)
    }

    /// Authentication-Results, and Received-SPF for each name that was checked.
    fn header(&self, question: &Question<'_>) -> Bytes {
        let Client { helo, hostname, .. } = question.client;
        let mut fields = Results {
            authserv_id: hostname,
            ip: question.ip,
            iprev: Some(&self.host),
            helo: self.helo.as_ref().map(|v| (v, helo.as_str())),
            mail_from: self.mail_from.as_ref().map(|v| (v, question.address.as_str())),
            message: &self.verdicts,
        }
        .to_string();
        let checked = [
            (self.mail_from.as_ref(), spf::Identity::MailFrom),
            (self.helo.as_ref(), spf::Identity::Helo),
        ];
        for (verdict, identity) in checked {
            let Some(verdict) = verdict else { continue };
            let field = spf::ReceivedSpf {
                verdict,
                identity,
                ip: question.ip,
                envelope_from: &question.address,
                helo,
                receiver: hostname,
            };
            let _ = write!(fields, "{field}");
        }
        fields.into()
    }
}

fn validation(outcome: spf::Outcome) -> Validation {
    match outcome {
        spf::Outcome::None => Validation::None,
        spf::Outcome::Neutral => Validation::Neutral,
        spf::Outcome::Pass => Validation::Pass,
        spf::Outcome::Fail => Validation::Fail,
        spf::Outcome::SoftFail => Validation::Softfail,
        spf::Outcome::TempError => Validation::Temperror,
        spf::Outcome::PermError => Validation::Permerror,
    }
}
