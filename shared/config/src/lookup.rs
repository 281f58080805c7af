//! Who receives mail for an address.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use mox_types::{Address, Domain as Name, Localpart};
use serde::{Deserialize, Serialize};

use crate::account::Destination;
use crate::dynamic::{Alias, Domain, Dynamic};
use crate::value::AddressPattern;

/// Whose mail it is that has an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<'a> {
    /// An account's.
    Account(Recipient<'a>),
    /// That of the members of a list.
    Alias {
        /// The list.
        alias: &'a Alias,
        /// Its address as configured.
        address: Address,
    },
    /// The domain is ours, but out of service.
    DomainDisabled,
    /// The domain is ours, but has no such address.
    UnknownAddress,
    /// The domain is not ours.
    UnknownDomain,
}

/// An account that receives mail for an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipient<'a> {
    /// Name of the account.
    pub account: &'a str,
    /// The address without what follows a separator, and in lower case unless the domain keeps case apart.
    pub address: Address,
    /// What is configured for the address; nothing for the postmaster of the host and for reports.
    pub destination: Option<&'a Destination>,
    /// Mailbox to deliver to, without regard to rulesets.
    pub mailbox: &'a str,
    /// Only the catch-all of the domain matched.
    pub catch_all: bool,
    /// Nothing matched, and the developer's mode keeps it.
    pub fallback: bool,
}

/// Addresses by what they lead to. A copy of a configuration makes its own.
#[derive(Default)]
pub struct Index(OnceLock<HashMap<Name, Addresses>>);

/// Which reports of others are expected at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportKinds {
    /// DMARC aggregate reports about a domain.
    pub dmarc: bool,
    /// TLS reports about a domain, or this host.
    pub tls: bool,
}

#[derive(Default)]
struct Addresses {
    exact: HashMap<String, Target>,
    reports: HashMap<String, ReportKinds>,
    catch_all: Option<Arc<str>>,
}

enum Target {
    Destination(Arc<str>, AddressPattern),
    Alias(Localpart),
    /// Reports about this domain, of DMARC or of TLS.
    Report(Name, Kind),
}

#[derive(Clone, Copy)]
enum Kind {
    Dmarc,
    Tls,
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Serialize for Index {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_none()
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(d).map(|_| Self::default())
    }
}

impl crate::section::Setting for Index {
    fn shape() -> crate::section::Shape {
        crate::section::Shape::Leaf(crate::section::Leaf {
            kind: "internal",
            example: "",
            check: crate::section::check_leaf::<Self>,
        })
    }
}

/// What a localpart is found under: in lower case, unless the domain keeps case apart.
fn key(domain: &Domain, localpart: &str) -> String {
    if domain.localpart_case_sensitive {
        localpart.to_owned()
    } else {
        localpart.to_lowercase()
    }
}

/// Without what follows the first separator.
fn without_extra<'l>(domain: &Domain, localpart: &'l str) -> &'l str {
    domain.split_localpart(localpart).0
}

fn is_postmaster(localpart: &Localpart) -> bool {
    // RFC 5321 §4.1.1.3: without regard to case.
    localpart.as_str().eq_ignore_ascii_case("postmaster")
}

impl Dynamic {
    /// Who receives mail for an address. For fast answers, addresses are indexed at the first question; a configuration
    /// that was asked is not changed any more but by way of a copy.
    #[must_use]
    pub fn destination(&self, address: &Address) -> Lookup<'_> {
        let found = self.configured(address);
        if matches!(found, Lookup::UnknownAddress | Lookup::UnknownDomain)
            && let Some(fallback) = self.host.as_ref().and_then(|h| h.localserve.as_ref())
            && let Lookup::Account(recipient) = self.configured(fallback)
        {
            return Lookup::Account(Recipient {
                fallback: true,
                ..recipient
            });
        }
        found
    }

    /// As [`Dynamic::destination`] without the developer's mode: who an address belongs to, for logging in and sending.
    #[must_use]
    pub fn configured(&self, address: &Address) -> Lookup<'_> {
        let Some(domain) = self.domains.get(&address.domain) else {
            return self.of_host(address);
        };
        if domain.disabled {
            return Lookup::DomainDisabled;
        }
        let whole = address.localpart.as_str();
        let base = without_extra(domain, whole);
        let (whole, base) = (key(domain, whole), key(domain, base));
        let index = self.index.0.get_or_init(|| self.build_index());
        let empty = Addresses::default();
        let addresses = index.get(&address.domain).unwrap_or(&empty);
        let canonical = |localpart: &str| Address {
            localpart: Localpart::from_unquoted(localpart).unwrap_or_else(|_| address.localpart.clone()),
            domain: address.domain.clone(),
        };
        for localpart in [&whole, &base] {
            if let Some(found) = addresses
                .exact
                .get(localpart)
                .and_then(|t| self.target(t, || canonical(localpart)))
            {
                return found;
            }
        }
        if let Some(account) = &addresses.catch_all {
            let pattern = AddressPattern::Domain(address.domain.clone());
            if let Some(Lookup::Account(recipient)) = self.account_destination(account, &pattern, || canonical(&base)) {
                return Lookup::Account(Recipient {
                    catch_all: true,
                    ..recipient
                });
            }
        }
        match self.of_host(address) {
            Lookup::UnknownDomain if is_postmaster(&address.localpart) => self.postmaster(),
            Lookup::UnknownDomain => Lookup::UnknownAddress,
            found => found,
        }
    }

    /// Which reports are expected at an address, in any of the forms that mail reaches it by.
    #[must_use]
    pub fn reports_to(&self, address: &Address) -> ReportKinds {
        let whole = address.localpart.as_str();
        let host = self.host.as_ref().filter(|h| h.hostnames.contains(&address.domain));
        let of_host = host
            .and_then(|h| h.tls_rpt.as_ref())
            .is_some_and(|report| report.localpart.as_str().to_lowercase() == whole.to_lowercase());
        let mut kinds = ReportKinds {
            dmarc: false,
            tls: of_host,
        };
        if let Some(domain) = self.domains.get(&address.domain) {
            let index = self.index.0.get_or_init(|| self.build_index());
            let reports = index.get(&address.domain).map(|addresses| &addresses.reports);
            let base = without_extra(domain, whole);
            let found = reports.and_then(|r| r.get(&key(domain, whole)).or_else(|| r.get(&key(domain, base))));
            if let Some(found) = found {
                kinds.dmarc |= found.dmarc;
                kinds.tls |= found.tls;
            }
        }
        kinds
    }

    /// Who receives mail for `postmaster`, without a domain (RFC 5321 §4.1.1.3).
    #[must_use]
    pub fn postmaster(&self) -> Lookup<'_> {
        let Some(host) = &self.host else {
            return Lookup::UnknownAddress;
        };
        let Some(postmaster) = &host.postmaster else {
            return Lookup::UnknownAddress;
        };
        let Some(hostname) = host.hostnames.first() else {
            return Lookup::UnknownAddress;
        };
        let Ok(localpart) = "postmaster".parse() else {
            return Lookup::UnknownAddress;
        };
        let address = Address {
            localpart,
            domain: hostname.clone(),
        };
        self.reported(&postmaster.account, &postmaster.mailbox, address)
            .unwrap_or(Lookup::UnknownAddress)
    }

    /// The addresses of an account, catch-alls left out.
    pub fn addresses_of(&self, account: &str) -> impl Iterator<Item = &Address> {
        let destinations = self.accounts.get(account).map(|a| &a.destinations);
        destinations
            .into_iter()
            .flatten()
            .filter_map(|(pattern, _)| match pattern {
                AddressPattern::Address(address) => Some(address),
                AddressPattern::Domain(_) => None,
            })
    }

    /// Addresses at the name of this host.
    fn of_host(&self, address: &Address) -> Lookup<'_> {
        let Some(host) = self.host.as_ref().filter(|h| h.hostnames.contains(&address.domain)) else {
            return Lookup::UnknownDomain;
        };
        if is_postmaster(&address.localpart) {
            return self.postmaster();
        }
        let same = |l: &Localpart| l.as_str().to_lowercase() == address.localpart.as_str().to_lowercase();
        let report = host.tls_rpt.as_ref().filter(|t| same(&t.localpart));
        report
            .and_then(|t| self.reported(&t.account, &t.mailbox, address.clone()))
            .unwrap_or(Lookup::UnknownAddress)
    }

    fn target(&self, target: &Target, canonical: impl Fn() -> Address) -> Option<Lookup<'_>> {
        match target {
            Target::Destination(account, pattern) => self.account_destination(account, pattern, canonical),
            Target::Alias(localpart) => {
                let mut address = canonical();
                let alias = self.domains.get(&address.domain)?.aliases.get(localpart)?;
                address.localpart = localpart.clone();
                Some(Lookup::Alias { alias, address })
            }
            Target::Report(name, kind) => {
                let domain = self.domains.get(name)?;
                let (account, mailbox) = match kind {
                    Kind::Dmarc => domain.dmarc.as_ref().map(|r| (&r.account, &r.mailbox))?,
                    Kind::Tls => domain.tlsrpt.as_ref().map(|r| (&r.account, &r.mailbox))?,
                };
                self.reported(account, mailbox, canonical())
            }
        }
    }

    fn account_destination(
        &self,
        account: &str,
        pattern: &AddressPattern,
        canonical: impl Fn() -> Address,
    ) -> Option<Lookup<'_>> {
        let (account, entry) = self.accounts.get_key_value(account)?;
        let destination = entry.destinations.get(pattern)?;
        Some(Lookup::Account(Recipient {
            account,
            address: canonical(),
            destination: Some(destination),
            mailbox: destination.mailbox(),
            catch_all: false,
            fallback: false,
        }))
    }

    fn reported<'a>(&'a self, account: &str, mailbox: &'a str, address: Address) -> Option<Lookup<'a>> {
        let (account, _) = self.accounts.get_key_value(account)?;
        let (catch_all, fallback) = (false, false);
        Some(Lookup::Account(Recipient {
            account,
            address,
            destination: None,
            mailbox,
            catch_all,
            fallback,
        }))
    }

    fn build_index(&self) -> HashMap<Name, Addresses> {
        let mut index: HashMap<Name, Addresses> = HashMap::new();
        for (name, account) in &self.accounts {
            let name: Arc<str> = Arc::from(name.as_str());
            for pattern in account.destinations.keys() {
                let Some(domain) = self.domains.get(pattern.domain()) else {
                    continue;
                };
                let addresses = index.entry(pattern.domain().clone()).or_default();
                match pattern {
                    AddressPattern::Address(address) => {
                        let target = Target::Destination(name.clone(), pattern.clone());
                        addresses
                            .exact
                            .entry(key(domain, address.localpart.as_str()))
                            .or_insert(target);
                    }
                    AddressPattern::Domain(_) => {
                        addresses.catch_all.get_or_insert(name.clone());
                    }
                }
            }
        }
        for (name, domain) in &self.domains {
            let addresses = index.entry(name.clone()).or_default();
            for localpart in domain.aliases.keys() {
                let target = Target::Alias(localpart.clone());
                addresses.exact.entry(key(domain, localpart.as_str())).or_insert(target);
            }
        }
        for (name, domain) in &self.domains {
            let dmarc = domain.dmarc.iter().map(|r| (&r.localpart, &r.domain, Kind::Dmarc));
            let tlsrpt = domain.tlsrpt.iter().map(|r| (&r.localpart, &r.domain, Kind::Tls));
            for (localpart, at, kind) in dmarc.chain(tlsrpt) {
                let at = at.as_ref().unwrap_or(name);
                let Some(domain) = self.domains.get(at) else { continue };
                let addresses = index.entry(at.clone()).or_default();
                let kinds = addresses.reports.entry(key(domain, localpart.as_str())).or_default();
                match kind {
                    Kind::Dmarc => kinds.dmarc = true,
                    Kind::Tls => kinds.tls = true,
                }
                let target = Target::Report(name.clone(), kind);
                addresses.exact.entry(key(domain, localpart.as_str())).or_insert(target);
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::Static;
    use crate::load::Source;

    const STATIC: &str = r#"
        data_dir = "data"
        log_level = "info"
        hostname = "mail.example.org"
        [postmaster]
        account = "jane"
        mailbox = "Postmaster"
        [host_tls_rpt]
        account = "jane"
        mailbox = "HostTLS"
        localpart = "tls"
    "#;

    const DYNAMIC: &str = r#"
        [domains."example.org"]
        localpart_catchall_separator = "+"
        [domains."example.org".dmarc]
        localpart = "dmarc"
        account = "jane"
        mailbox = "DMARC"
        [domains."example.org".tlsrpt]
        localpart = "reports"
        account = "jane"
        mailbox = "TLSRPT"
        [domains."example.org".aliases.team]
        addresses = ["jane@example.org"]
        [domains."case.example"]
        localpart_case_sensitive = true
        localpart_catchall_separators = ["-", "_"]
        [domains."off.example"]
        disabled = true
        [accounts.jane]
        domain = "example.org"
        [accounts.jane.destinations."Jane@example.org"]
        mailbox = "Work"
        [accounts.jane.destinations."Jane@case.example"]
        [accounts.rest]
        domain = "case.example"
        [accounts.rest.destinations."@case.example"]
    "#;

    fn config(fixed: &str) -> Dynamic {
        let source = |text: &str| Source {
            file: "test.toml".into(),
            text: text.to_owned(),
        };
        let fixed: Static = source(fixed).parse_static().unwrap();
        source(DYNAMIC).parse_dynamic(&fixed).unwrap()
    }

    fn found(config: &Dynamic, address: &str) -> String {
        match config.destination(&address.parse().unwrap()) {
            Lookup::Account(r) => {
                let how = if r.catch_all {
                    " catch-all"
                } else if r.fallback {
                    " fallback"
                } else {
                    ""
                };
                format!("{} {} {}{how}", r.account, r.address, r.mailbox)
            }
            Lookup::Alias { address, alias } => format!("alias {address} {}", alias.addresses.len()),
            Lookup::DomainDisabled => "disabled".into(),
            Lookup::UnknownAddress => "unknown address".into(),
            Lookup::UnknownDomain => "unknown domain".into(),
        }
    }

    #[test]
    fn addresses_lead_where_they_are_configured_to() {
        let config = config(STATIC);
        for (address, expected) in [
            ("jane@example.org", "jane jane@example.org Work"),
            ("JANE+Shop@Example.ORG", "jane jane@example.org Work"),
            ("+jane@example.org", "unknown address"),
            ("nobody@example.org", "unknown address"),
            ("Team@example.org", "alias team@example.org 1"),
            ("team+x@example.org", "alias team@example.org 1"),
            ("dmarc@example.org", "jane dmarc@example.org DMARC"),
            ("Postmaster@example.org", "jane postmaster@mail.example.org Postmaster"),
            ("Jane@case.example", "jane Jane@case.example Inbox"),
            ("Jane-x_y@case.example", "jane Jane@case.example Inbox"),
            ("jane@case.example", "rest jane@case.example Inbox catch-all"),
            ("any-thing@case.example", "rest any@case.example Inbox catch-all"),
            ("x@off.example", "disabled"),
            ("x@elsewhere.example", "unknown domain"),
            ("postmaster@elsewhere.example", "unknown domain"),
            (
                "postmaster@mail.example.org",
                "jane postmaster@mail.example.org Postmaster",
            ),
            ("tls@mail.example.org", "jane tls@mail.example.org HostTLS"),
            ("x@mail.example.org", "unknown address"),
        ] {
            assert_eq!(found(&config, address), expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_tls_reports_are_known() {
        let config = config(&STATIC.replace("localpart = \"tls\"", "localpart = \"TLS\""));
        let takes = |address: &str| config.reports_to(&address.parse().unwrap()).tls;
        assert!(takes("tls@mail.example.org") && takes("reports@example.org"));
        assert!(!takes("tls@example.org") && !takes("dmarc@example.org") && !takes("reports@case.example"));
    }

    #[test]
    fn reports_are_expected_where_they_are_configured_to_arrive() {
        let config = config(STATIC);
        for (address, dmarc, tls) in [
            ("dmarc@example.org", true, false),
            ("DMARC+x@Example.org", true, false),
            ("jane@example.org", false, false),
            ("dmarc@case.example", false, false),
            ("tls@mail.example.org", false, true),
            ("postmaster@mail.example.org", false, false),
        ] {
            let kinds = config.reports_to(&address.parse().unwrap());
            assert_eq!(kinds, ReportKinds { dmarc, tls }, "{address}");
        }
    }

    #[test]
    fn developers_mode_keeps_everything_but_gives_no_rights() {
        let fixed = format!("{STATIC}\n[localserve]\naddress = \"jane@example.org\"");
        let config = config(&fixed);
        assert_eq!(
            found(&config, "x@elsewhere.example"),
            "jane jane@example.org Work fallback"
        );
        assert_eq!(
            found(&config, "nobody@example.org"),
            "jane jane@example.org Work fallback"
        );
        assert_eq!(found(&config, "x@off.example"), "disabled");
        assert_eq!(
            config.configured(&"x@elsewhere.example".parse().unwrap()),
            Lookup::UnknownDomain
        );
    }

    #[test]
    fn a_configuration_survives_its_way_through_the_store() {
        let config = config(STATIC);
        let _ = found(&config, "jane@example.org");
        let json = serde_json::to_vec(&config).unwrap();
        let back: Dynamic = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, config);
        assert_eq!(found(&back, "jane@example.org"), "jane jane@example.org Work");
    }
}
