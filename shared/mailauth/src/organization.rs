//! Whose a domain is, by the public suffix list: for reputation only. DMARC finds it out by DNS (RFC 9989 §4.10).

/// The organizational domain of a domain name (A-labels): the public suffix and one label more, in lower case. A name
/// that is a public suffix itself, or in no known one, is its own.
#[must_use]
pub fn organizational_domain(domain: &str) -> String {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    match psl::domain_str(&domain) {
        Some(organizational) => organizational.to_owned(),
        None => domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organizations_are_one_label_below_a_public_suffix() {
        for (domain, want) in [
            ("Mail.Example.ORG.", "example.org"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("example.org", "example.org"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(organizational_domain(domain), want);
        }
    }
}
