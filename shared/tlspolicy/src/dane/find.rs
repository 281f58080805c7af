//! Where the TLSA records of a host are (RFC 7672 §2.2).

use std::net::IpAddr;

use mox_dns::{Answer, Error, RecordType, Resolver, Status, Tlsa};

/// TLSA records of one host that are taken note of.
const RECORDS_MAX: usize = 64;

/// Records of a host. There are some, and DNSSEC proves that they are its.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The TLSA base domain: the host, or where its CNAMEs lead. It is the name to ask for in TLS (RFC 7672 §8.1).
    pub base: String,
    /// As they are, usable or not.
    pub records: Vec<Tlsa>,
}

/// Looks for the records of a host's port, whose addresses were found already. `None` says that DANE does not apply:
/// there are none, or DNSSEC does not protect them.
///
/// # Errors
/// If it could not be found out whether there are any: then the host must not be used (RFC 7672 §2.1.2).
pub async fn find(
    resolver: &dyn Resolver,
    host: &str,
    port: u16,
    addresses: &Answer<IpAddr>,
) -> Result<Option<Found>, Error> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let canonical = addresses.canonical.trim_end_matches('.').to_ascii_lowercase();
    let mut bases = Vec::with_capacity(2);
    if addresses.status == Status::Secure {
        // RFC 7672 §2.2.3: where the CNAMEs lead comes first.
        bases.push(canonical.as_str());
        if canonical != host {
            bases.push(host.as_str());
        }
    } else if canonical != host {
        // RFC 7672 §2.2.2: the host's own zone may be signed although its CNAME leads out of what is.
        match resolver.lookup(&host, RecordType::Cname).await {
            Ok(alias) if alias.status == Status::Secure => bases.push(host.as_str()),
            Ok(_) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    // RFC 7672 §2.2.2: for a host that is not protected, nothing is asked; DNS servers of some of them fail then.
    for base in bases {
        match resolver.tlsa(&format!("_{port}._tcp.{base}")).await {
            Ok(mut answer) if answer.status == Status::Secure => {
                answer.records.sort();
                answer.records.dedup();
                answer.records.truncate(RECORDS_MAX);
                return Ok(Some(Found {
                    base: base.to_owned(),
                    records: answer.records,
                }));
            }
            Ok(_) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
