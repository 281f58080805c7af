//! DMARC (RFC 9989): whether the domain in From vouches for a message, and what it asks for if not.

use std::sync::Arc;

use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::common::resolver::ToFqdn as _;
use mail_auth::dmarc::verify::DmarcParameters;
pub use mail_auth::dmarc::{Alignment, Policy as PolicyTag};
use mail_auth::dmarc::{Dmarc, Psd, URI};
use mail_auth::{AuthenticatedMessage, DkimOutput, DmarcOutput, DmarcResult, SpfOutput, SpfResult};
use mox_dns::{Error as DnsError, Resolver, Status};

use crate::answers::Answers;
use crate::spf;

/// RFC 8601 §2.7 with RFC 9989 §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// There is no policy, or no single domain in From.
    #[default]
    None,
    /// The domain vouches for it.
    Pass,
    /// It does not.
    Fail,
    /// It could not be found out now.
    TempError,
    /// The policy can't be understood.
    PermError,
}

impl Outcome {
    /// As in header fields.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// What the domain asks for when a message fails (RFC 9989 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// Nothing.
    #[default]
    None,
    /// To be suspicious.
    Quarantine,
    /// To refuse it.
    Reject,
}

impl Policy {
    /// As in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// Of From, as A-labels. "" if there is none, or several.
    pub domain: String,
    /// Where the policy is published: the domain itself, or one above it.
    pub policy_domain: String,
    /// To be applied on failure: `p`, `sp` or `np` as the domain has it, one step milder with `t=y`.
    pub policy: Policy,
    /// SPF passed for an aligned domain.
    pub spf_aligned: bool,
    /// A signature of an aligned domain is valid.
    pub dkim_aligned: bool,
    /// The policy.
    pub record: Option<Arc<Dmarc>>,
    /// Seconds between reports that the domain asks for (`ri` of RFC 7489, which RFC 9989 dropped); 0 if it does not say.
    pub interval: u32,
    /// Of the policy.
    pub status: Status,
}

/// The names at which policies for a domain may be (RFC 9989 §4.10): of the domain, then of its last seven labels, and so
/// on up.
#[must_use]
pub fn policy_names(domain: &str) -> Vec<String> {
    let fqdn = domain.to_fqdn();
    let labels: Vec<&str> = fqdn.split('.').filter(|label| !label.is_empty()).collect();
    let mut names = Vec::new();
    if labels.len() < 2 {
        return names;
    }
    let mut count = labels.len();
    loop {
        names.push(format!("_dmarc.{}.", labels[labels.len() - count..].join(".")));
        count = match count {
            1 => return names,
            8.. => 7,
            _ => count - 1,
        };
    }
}

/// Evaluates a message. `mail_from_domain` is what SPF was asked for.
pub(crate) async fn verify(
    answers: &Answers,
    message: &AuthenticatedMessage<'_>,
    dkim: &[DkimOutput<'_>],
    mail_from_domain: &str,
    spf: &spf::Verdict,
) -> Verdict {
    let spf = SpfOutput::new(mail_from_domain.to_owned()).with_result(match spf.outcome {
        spf::Outcome::Pass => SpfResult::Pass,
        spf::Outcome::Fail => SpfResult::Fail,
        spf::Outcome::SoftFail => SpfResult::SoftFail,
        spf::Outcome::Neutral => SpfResult::Neutral,
        spf::Outcome::TempError => SpfResult::TempError,
        spf::Outcome::PermError => SpfResult::PermError,
        spf::Outcome::None => SpfResult::None,
    });
    for from in &message.from {
        if let Some((_, domain)) = from.rsplit_once('@') {
            answers.register(policy_names(domain));
        }
    }
    answers.register(policy_names(mail_from_domain));
    for signature in dkim.iter().filter_map(DkimOutput::signature) {
        answers.register(policy_names(&signature.d));
    }
    let output = loop {
        let params = DmarcParameters::new(message, dkim, mail_from_domain, &spf);
        let out = answers.authenticator().verify_dmarc(answers.parameters(params)).await;
        if !answers.ask().await {
            break out;
        }
    };
    verdict(answers, &output).await
}

async fn verdict(answers: &Answers, output: &DmarcOutput) -> Verdict {
    let domain = output.domain().to_owned();
    let outcome = match output.result() {
        DmarcResult::Pass => Outcome::Pass,
        DmarcResult::Fail(_) => Outcome::Fail,
        DmarcResult::TempError(_) => Outcome::TempError,
        DmarcResult::PermError(_) => Outcome::PermError,
        DmarcResult::None => Outcome::None,
    };
    let names = policy_names(&domain);
    let record = output.dmarc_record_cloned();
    let place = record.as_ref().and_then(|record| {
        let here = |name: &&String| answers.dmarc(name).is_some_and(|found| Arc::ptr_eq(&found, record));
        names.iter().find(here)
    });
    let mut tag = output.policy();
    if let (Some(record), Some(place)) = (&record, place)
        && Some(place) != names.first()
        && record.np != record.sp
        && record.p != PolicyTag::Unspecified
        && answers.exists(&domain).await == Some(false)
    {
        // RFC 9989 §4.7: "np" is for names that don't exist.
        tag = match (record.np, record.t) {
            (PolicyTag::Reject, true) => PolicyTag::Quarantine,
            (PolicyTag::Quarantine, true) => PolicyTag::None,
            (policy, _) => policy,
        };
    }
    Verdict {
        outcome,
        policy_domain: place
            .and_then(|name| name.strip_prefix("_dmarc."))
            .map(|name| name.trim_end_matches('.').to_owned())
            .unwrap_or_default(),
        policy: match tag {
            PolicyTag::Reject => Policy::Reject,
            PolicyTag::Quarantine => Policy::Quarantine,
            PolicyTag::None | PolicyTag::Unspecified => Policy::None,
        },
        spf_aligned: *output.spf_result() == DmarcResult::Pass,
        dkim_aligned: *output.dkim_result() == DmarcResult::Pass,
        interval: place.map_or(0, |name| answers.interval(name)),
        record,
        status: answers.status(names),
        domain,
    }
}

/// `ri` in the text of a record; 0 if it has none.
pub(crate) fn interval(text: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(text);
    let tags = text.split(';').filter_map(|tag| tag.split_once('='));
    let mut found = tags.filter(|(name, _)| name.trim() == "ri");
    found.find_map(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// The policy that applies to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it is published.
    pub domain: String,
    /// What is asked for when a message of the domain fails.
    pub policy: Policy,
    /// As published.
    pub text: String,
    /// As understood.
    pub record: Arc<Dmarc>,
    /// Of the answer.
    pub status: Status,
}

/// Looks for the policy of a domain: its own, or that of the domain furthest up that has one (RFC 9989 §4.10.1).
///
/// # Errors
/// If DNS could not be asked.
pub async fn lookup(resolver: &dyn Resolver, domain: &str) -> Result<Option<Published>, DnsError> {
    let mut found: Option<Published> = None;
    for (i, name) in policy_names(domain).into_iter().enumerate() {
        let answer = match resolver.txt(&name).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let records = answer
            .records
            .iter()
            .filter_map(|text| Some((text, Dmarc::parse(text).ok()?)));
        let records: Vec<_> = records.collect();
        // Several count as none.
        let [(text, record)] = records.as_slice() else { continue };
        let own = i == 0;
        let tag = if own { record.p } else { record.sp };
        let stop = own || matches!(record.psd, Psd::Yes | Psd::No);
        found = Some(Published {
            domain: name.trim_start_matches("_dmarc.").trim_end_matches('.').to_owned(),
            policy: match tag {
                PolicyTag::Reject => Policy::Reject,
                PolicyTag::Quarantine => Policy::Quarantine,
                PolicyTag::None | PolicyTag::Unspecified => Policy::None,
            },
            text: String::from_utf8_lossy(text).into_owned(),
            record: Arc::new(record.clone()),
            status: answer.status,
        });
        if stop {
            break;
        }
    }
    Ok(found)
}

/// The addresses that a domain's policy asks to send reports to, each with whether it agrees to get them
/// (RFC 9990 §4).
///
/// # Errors
/// If DNS could not be asked.
pub async fn check_report_addresses(resolver: &dyn Resolver, domain: &str) -> Result<Vec<(String, bool)>, DnsError> {
    let Some(published) = lookup(resolver, domain).await? else {
        return Ok(Vec::new());
    };
    let mut checked = Vec::new();
    let addresses = published.record.rua().iter().chain(published.record.ruf());
    for uri in addresses.take(REPORT_ADDRESSES) {
        let address = uri.uri().to_owned();
        let agrees = match address.rsplit_once('@') {
            Some((_, host)) => agrees(resolver, &published.domain, host).await?,
            None => false,
        };
        checked.push((address, agrees));
    }
    Ok(checked)
}

/// An address that a policy wants aggregate reports sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDestination {
    /// As in the record, without "mailto:".
    pub address: String,
    /// Octets of a report that it takes; 0 is any.
    pub max_size: u64,
    /// It agrees to get them.
    pub agrees: bool,
}

/// Where the aggregate reports about a policy are to be sent (RFC 9990 §4).
///
/// # Errors
/// If DNS could not be asked.
pub async fn report_destinations(
    resolver: &dyn Resolver,
    published: &Published,
) -> Result<Vec<ReportDestination>, DnsError> {
    let mut destinations: Vec<ReportDestination> = Vec::new();
    let host_of = |address: &str| address.rsplit_once('@').map(|(_, host)| host.to_owned());
    for uri in published.record.rua().iter().take(REPORT_ADDRESSES) {
        let Some(host) = host_of(uri.uri()) else { continue };
        // The domain of the address can have it another way, but not name others.
        let (agrees, instead) = match consent(resolver, &published.domain, &host).await? {
            None => (false, Vec::new()),
            Some(instead) => (true, instead),
        };
        let same = |uri: &&URI| host_of(uri.uri()).is_some_and(|h| h.eq_ignore_ascii_case(&host));
        let mut uris: Vec<&URI> = instead.iter().filter(same).take(REPORT_ADDRESSES).collect();
        if uris.is_empty() {
            uris.push(uri);
        }
        for uri in uris {
            let found = ReportDestination {
                address: uri.uri().to_owned(),
                max_size: uri.max_size() as u64,
                agrees,
            };
            if destinations.len() < REPORT_ADDRESSES && !destinations.contains(&found) {
                destinations.push(found);
            }
        }
    }
    Ok(destinations)
}

/// Most addresses of a policy that are looked at.
const REPORT_ADDRESSES: usize = 20;

/// Whether a domain agrees to get reports about another's (RFC 9990 §4). Within one organization nobody is asked.
async fn agrees(resolver: &dyn Resolver, policy_domain: &str, host: &str) -> Result<bool, DnsError> {
    Ok(consent(resolver, policy_domain, host).await?.is_some())
}

/// That a domain agrees, and the addresses that it names instead; None if it does not agree.
async fn consent(resolver: &dyn Resolver, policy_domain: &str, host: &str) -> Result<Option<Vec<URI>>, DnsError> {
    let organization = |domain: &str| crate::organizational_domain(domain);
    if organization(policy_domain) == organization(host) {
        return Ok(Some(Vec::new()));
    }
    let name = format!("{policy_domain}._report._dmarc.{}", host.trim_end_matches('.'));
    match resolver.txt(&name).await {
        Ok(answer) => {
            let mut records = answer
                .records
                .iter()
                .filter(|text| text.starts_with(b"v=DMARC1"))
                .peekable();
            if records.peek().is_none() {
                return Ok(None);
            }
            let parsed = records.filter_map(|text| Dmarc::parse(text).ok());
            Ok(Some(parsed.flat_map(|record| record.rua).collect()))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn destinations_of_reports_agree_and_choose() {
        let mut resolver = mox_dns::ZoneResolver::new();
        for (name, text) in [
            (
                "_dmarc.example.org",
                "v=DMARC1; p=none; rua=mailto:a@sub.example.org, mailto:b@far.example!10m,mailto:c@no.example,mailto:d@other.example",
            ),
            ("example.org._report._dmarc.far.example", "v=DMARC1;"),
            ("example.org._report._dmarc.no.example", "nonsense"),
            (
                "example.org._report._dmarc.other.example",
                "v=DMARC1; rua=mailto:e@other.example,mailto:f@victim.example",
            ),
        ] {
            resolver.add(name, mox_dns::Record::Txt(text.into()));
        }
        let published = lookup(&resolver, "example.org").await.unwrap().unwrap();
        let found = report_destinations(&resolver, &published).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|d| (d.address.as_str(), d.max_size, d.agrees))
            .collect();
        assert_eq!(
            found,
            [
                ("a@sub.example.org", 0, true),
                ("b@far.example", 10 << 20, true),
                ("c@no.example", 0, false),
                ("e@other.example", 0, true),
            ]
        );
    }

    #[test]
    fn intervals_are_read() {
        assert_eq!(interval(b"v=DMARC1; p=none; ri = 3600 ;rua=x"), 3600);
        assert_eq!(interval(b"v=DMARC1; ri=often"), 0);
        assert_eq!(interval(b"v=DMARC1; prix=5"), 0);
    }

    #[test]
    fn policies_are_looked_for_upwards() {
        assert_eq!(
            policy_names("a.b.Example.org"),
            [
                "_dmarc.a.b.example.org.",
                "_dmarc.b.example.org.",
                "_dmarc.example.org.",
                "_dmarc.org."
            ]
        );
        let deep = policy_names("1.2.3.4.5.6.7.8.9.10.example.org");
        assert_eq!(deep.len(), 8);
        assert_eq!(deep[1], "_dmarc.6.7.8.9.10.example.org.");
        assert!(policy_names("localhost").is_empty());
    }
}
