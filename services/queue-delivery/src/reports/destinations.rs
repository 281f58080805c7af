//! Who wants a report.

use mox_dns::Resolver;
use mox_mailauth::dmarc;
use mox_reports::uris::{self, Destination};

/// An address, and how large a report may be (0: any).
pub(super) type Wanted = (String, u64);

/// Who wants a report about TLS.
pub(super) struct TlsWanted {
    /// By mail.
    pub mail: Vec<Wanted>,
    /// By HTTPS: URIs.
    pub posts: Vec<String>,
}

/// HTTPS URIs of one record that are posted to. RFC 8460 §3 leaves it to the sender how many are; the report has
/// arrived when one of them took it.
const POSTS_MAX: usize = 3;

/// Why nobody gets a report.
pub(super) enum Nobody {
    /// Nobody wants one: in a word, for the figures.
    Wants(&'static str),
    /// It could not be found out now.
    Known,
}

fn failed(error: &mox_dns::Error, domain: &str) -> Nobody {
    tracing::info!(%error, domain, "finding out who wants reports");
    Nobody::Known
}

/// Who wants DMARC reports about a policy.
pub(super) async fn of_dmarc(resolver: &dyn Resolver, domain: &str) -> Result<Vec<Wanted>, Nobody> {
    let published = match dmarc::lookup(resolver, domain).await {
        Ok(Some(published)) if published.domain == domain => published,
        // The policy is gone; that of a domain above says nothing about reports of this one's.
        Ok(_) => return Err(Nobody::Wants("no-record")),
        Err(error) => return Err(failed(&error, domain)),
    };
    let found = dmarc::report_destinations(resolver, &published).await;
    let found = found.map_err(|error| failed(&error, domain))?;
    let mut wanted = Vec::new();
    for destination in found {
        if !destination.agrees {
            tracing::info!(
                domain,
                address = destination.address,
                "address does not agree to get reports"
            );
            continue;
        }
        if let Some(Destination::Mail(address, _)) = uris::destination(&format!("mailto:{}", destination.address)) {
            wanted.push((address.to_string(), destination.max_size));
        }
    }
    match wanted.is_empty() {
        true => Err(Nobody::Wants("no-address")),
        false => Ok(wanted),
    }
}

/// Who wants TLS reports about a domain or host (RFC 8460 §3).
pub(super) async fn of_tls(resolver: &dyn Resolver, domain: &str) -> Result<TlsWanted, Nobody> {
    let texts = match resolver.txt(&uris::tls_record_name(domain)).await {
        Ok(answer) => answer.records,
        Err(error) if error.is_not_found() => return Err(Nobody::Wants("no-record")),
        Err(error) => return Err(failed(&error, domain)),
    };
    let (_, record) = uris::only_tls_record(&texts).map_err(|error| {
        tracing::info!(%error, domain, "reading a TLSRPT record");
        Nobody::Wants("no-record")
    })?;
    let mut wanted = TlsWanted {
        mail: Vec::new(),
        posts: Vec::new(),
    };
    for destination in record.destinations {
        match destination {
            Destination::Mail(address, max) => wanted.mail.push((address.to_string(), max)),
            Destination::Https(uri) if wanted.posts.len() < POSTS_MAX => wanted.posts.push(uri),
            Destination::Https(uri) => tracing::info!(domain, uri, "report is not posted to so many URIs"),
        }
    }
    match wanted.mail.is_empty() && wanted.posts.is_empty() {
        true => Err(Nobody::Wants("no-address")),
        false => Ok(wanted),
    }
}
