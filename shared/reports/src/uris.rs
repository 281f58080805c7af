//! Where domains want their reports: URIs in DMARC and TLSRPT records.

use mox_types::Address;

use crate::limits;

/// A destination of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// By mail, to an address, messages of at most so many octets (0 is any).
    Mail(Address, u64),
    /// By HTTPS POST (RFC 8460 §5.4); the URI as given.
    Https(String),
}

/// A TLSRPT record (RFC 8460 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRecord {
    /// In the order given.
    pub destinations: Vec<Destination>,
    /// URIs that are no destinations for us.
    pub unusable: Vec<String>,
}

/// Why a text is no TLSRPT record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is something else.
    #[error("record does not begin with v=TLSRPTv1")]
    Version,
    /// A field is not as they are.
    #[error("field {0:?} of the record is not of the form name=value")]
    Field(String),
    /// It names no destination.
    #[error("record has no rua field")]
    NoDestination,
    /// It has several.
    #[error("record has more than one rua field")]
    Several,
}

/// Why a domain has no TLSRPT record that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRecord {
    /// All texts are something else.
    #[error("none of the texts begins with v=TLSRPTv1")]
    None,
    /// There are several.
    #[error("there are {0} TLSRPT records: with more than one, no reports are sent")]
    Several(usize),
    /// There is one that can't be read.
    #[error("the record {0:?} can't be used: {1}")]
    Invalid(String, RecordError),
}

/// Where the TLSRPT record of a domain or host is.
#[must_use]
pub fn tls_record_name(domain: &str) -> String {
    format!("_smtp._tls.{}", domain.trim_end_matches('.'))
}

/// The record that counts of the texts at [`tls_record_name`], with its text.
///
/// # Errors
/// If there is none.
pub fn only_tls_record(texts: &[Vec<u8>]) -> Result<(String, TlsRecord), NoRecord> {
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text));
    let mut ours = texts.filter(|text| is_tls_record(text));
    let first = ours.next().ok_or(NoRecord::None)?.into_owned();
    // RFC 8460 §3: with several, the domain has none.
    match ours.count() {
        0 => match tls_record(&first) {
            Ok(record) => Ok((first, record)),
            Err(error) => Err(NoRecord::Invalid(crate::text::clean(&first), error)),
        },
        more => Err(NoRecord::Several(more + 1)),
    }
}

/// Whether a text claims to be a TLSRPT record: others at the same name are passed over (RFC 8460 §3).
#[must_use]
pub fn is_tls_record(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first
        .split_once('=')
        .is_some_and(|(name, value)| name.trim() == "v" && value.trim() == "TLSRPTv1")
}

/// Reads a TLSRPT record.
///
/// # Errors
/// If it is none.
pub fn tls_record(text: &str) -> Result<TlsRecord, RecordError> {
    if !is_tls_record(text) {
        return Err(RecordError::Version);
    }
    let mut rua = None;
    for field in text.split(';').skip(1).map(str::trim).filter(|f| !f.is_empty()) {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| RecordError::Field(crate::text::clean(field)))?;
        // Others are extensions.
        if name.trim() == "rua" && rua.replace(value.trim()).is_some() {
            return Err(RecordError::Several);
        }
    }
    let rua = rua.ok_or(RecordError::NoDestination)?;
    let mut record = TlsRecord {
        destinations: Vec::new(),
        unusable: Vec::new(),
    };
    // RFC 8460 §3: a comma within a URI is encoded.
    for uri in rua
        .split(',')
        .map(str::trim)
        .filter(|u| !u.is_empty())
        .take(limits::URIS)
    {
        match destination(uri) {
            Some(destination) => record.destinations.push(destination),
            None => record.unusable.push(crate::text::clean(uri)),
        }
    }
    Ok(record)
}

/// What a URI leads to, if we can send there.
#[must_use]
pub fn destination(uri: &str) -> Option<Destination> {
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        return mail(rest).map(|address| Destination::Mail(address, 0));
    }
    let is_https = scheme.eq_ignore_ascii_case("https") && rest.starts_with("//") && rest.len() > 2;
    let clean = uri.len() <= limits::TEXT && uri.chars().all(|c| c.is_ascii_graphic());
    (is_https && clean).then(|| Destination::Https(uri.to_owned()))
}

/// The address of a mailto URI (RFC 6068), of which header fields are not heeded.
fn mail(rest: &str) -> Option<Address> {
    let address = rest.split(['?', '!']).next().unwrap_or_default();
    decoded(address)?.parse().ok()
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out)
        .ok()
        .filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let record =
            tls_record("v=TLSRPTv1; rua=mailto:a%2Bb@example.org, https://x.example/r?a=1,ftp://y ; x=y;").unwrap();
        assert_eq!(
            record.destinations,
            [
                Destination::Mail("a+b@example.org".parse().unwrap(), 0),
                Destination::Https("https://x.example/r?a=1".into()),
            ]
        );
        assert_eq!(record.unusable, ["ftp://y"]);
        assert_eq!(tls_record("v=TLSRPTv2; rua=mailto:a@b"), Err(RecordError::Version));
        assert_eq!(tls_record("v=TLSRPTv1"), Err(RecordError::NoDestination));
        assert_eq!(
            tls_record("v=TLSRPTv1; rua=mailto:a@b; rua=x"),
            Err(RecordError::Several)
        );
        assert_eq!(tls_record("v=TLSRPTv1; rua"), Err(RecordError::Field("rua".into())));
    }

    #[test]
    fn one_record_counts_and_two_are_none() {
        let of = |texts: &[&str]| {
            let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            only_tls_record(&texts)
        };
        let good = "v=TLSRPTv1; rua=mailto:a@example.org";
        let (text, record) = of(&["v=spf1 -all", good, "v=TLSRPTv10; rua=mailto:b@example.org"]).unwrap();
        assert_eq!((text.as_str(), record.destinations.len()), (good, 1));
        assert_eq!(of(&[]), Err(NoRecord::None));
        assert_eq!(of(&["v=spf1 -all"]), Err(NoRecord::None));
        assert_eq!(of(&[good, "v=TLSRPTv1"]), Err(NoRecord::Several(2)));
        assert_eq!(
            of(&["v=TLSRPTv1"]),
            Err(NoRecord::Invalid("v=TLSRPTv1".into(), RecordError::NoDestination))
        );
        assert_eq!(tls_record_name("a.example."), "_smtp._tls.a.example");
    }

    #[test]
    fn addresses_of_uris_can_not_break_out() {
        assert_eq!(
            destination("mailto:a@example.org?subject=x"),
            Some(Destination::Mail("a@example.org".parse().unwrap(), 0))
        );
        for bad in [
            "mailto:",
            "mailto:a",
            "mailto:a%0d%0ab@example.org",
            "mailto:a%4@x",
            "https:",
            "https://",
            "https://a b",
        ] {
            assert_eq!(destination(bad), None, "{bad}");
        }
    }
}
