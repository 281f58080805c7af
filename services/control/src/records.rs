//! The DNS records that a domain and its host should have, as a zone file.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mox_config::{Dynamic, Static};
use mox_types::Domain;
use ring::digest::{SHA256, digest};

use crate::keys::{KeyError, PublicKey};

/// RFC 1035 §3.3.14: the octets of one string of a TXT record.
const STRING_MAX: usize = 255;

/// Why records cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The domain is not configured.
    #[error("there is no domain {0} in domains.toml: name one that is there, or add it")]
    NoDomain(Domain),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key cannot be read.
    #[error("reading {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// From what records are made.
pub struct Records<'a> {
    /// `mox.toml`.
    pub fixed: &'a Static,
    /// `domains.toml`.
    pub config: &'a Dynamic,
    /// Their folder.
    pub dir: &'a Path,
    /// The host's public addresses.
    pub ips: Vec<IpAddr>,
    /// Whether the zone of the host is known to be signed with DNSSEC; without, TLSA records have no use.
    pub dnssec: Option<bool>,
}

impl Records<'_> {
    /// The public addresses by the configuration: of the listener called public, or those that are not private.
    #[must_use]
    pub fn configured_ips(fixed: &Static) -> Vec<IpAddr> {
        let mut ips = Vec::new();
        for listener in fixed
            .listeners
            .iter()
            .filter(|(name, l)| *name == "public" || l.smtp.enabled)
            .map(|(_, l)| l)
        {
            let public = if listener.nat_ips.is_empty() {
                &listener.ips
            } else {
                &listener.nat_ips
            };
            for ip in public.iter().filter(|ip| !ip.is_unspecified() && !ip.is_loopback()) {
                if !ips.contains(ip) {
                    ips.push(*ip);
                }
            }
        }
        ips
    }

    /// The zone file.
    ///
    /// # Errors
    /// If the domain is not configured, or a key cannot be read.
    pub fn zone(&self, domain: &Domain) -> Result<String, RecordsError> {
        let settings = self
            .config
            .domains
            .get(domain)
            .ok_or_else(|| RecordsError::NoDomain(domain.clone()))?;
        let name = domain.ascii();
        let host = self.fixed.hostname.ascii();
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        line(&format!(
            "; DNS records for {domain}, in the form of a zone file. Look at them before you add them, above"
        ));
        line("; all if the domain has mail already.");
        line("$TTL 300 ; short at first; make it longer once everything works");
        line("");
        self.host(host, &mut line)?;

        line("; Mail for the domain goes to this host.");
        line(&format!("{name}. MX 10 {host}."));
        line("");

        if !settings.dkim.sign.is_empty() {
            line("; Keys for the signatures of what is sent.");
            for selector in &settings.dkim.sign {
                let Some(record) = self.dkim(domain, selector)? else {
                    continue;
                };
                line(&format!("{selector}._domainkey.{name}. TXT {}", txt(&record)));
            }
            line("");
        }

        line(
            "; Only hosts that the domain's mail goes to may send in its name. After a time without trouble, change ~all",
        );
        line("; into -all.");
        line(&format!("{name}. TXT \"v=spf1 mx ~all\""));
        line("");

        line("; What is neither signed nor sent by such a host is to be rejected, and reports about it arrive here.");
        let reports = settings.dmarc.as_ref().map(|r| {
            let at = r.domain.as_ref().unwrap_or(domain).ascii();
            (
                format!(";rua=mailto:{}", uri_address(&r.localpart.to_string(), at)),
                at.to_owned(),
            )
        });
        let rua = reports.as_ref().map_or("", |(rua, _)| rua.as_str());
        line(&format!(
            "_dmarc.{name}. TXT {}",
            txt(&format!("v=DMARC1;p=reject{rua}"))
        ));
        if let Some((_, at)) = reports.filter(|(_, at)| at != name) {
            line("; The domain that gets the reports agrees to it.");
            line(&format!("{name}._report._dmarc.{at}. TXT \"v=DMARC1;\""));
        }
        line("");

        if let Some(policy) = &settings.mtasts {
            line("; Others must use TLS with a certificate that they can verify: the policy is served at mta-sts.");
            line(&format!("mta-sts.{name}. CNAME {host}."));
            line(&format!("_mta-sts.{name}. TXT \"v=STSv1; id={}\"", policy.policy_id));
            line("");
        }
        if let Some(report) = &settings.tlsrpt {
            line("; Reports about TLS when others deliver to us.");
            let at = report.domain.as_ref().unwrap_or(domain).ascii();
            let to = uri_address(&report.localpart.to_string(), at);
            line(&format!(
                "_smtp._tls.{name}. TXT {}",
                txt(&format!("v=TLSRPTv1; rua=mailto:{to}"))
            ));
            line("");
        }
        self.clients(domain, &mut line);
        self.caa(name, &mut line);
        Ok(out)
    }

    fn host(&self, host: &str, line: &mut dyn FnMut(&str)) -> Result<(), RecordsError> {
        line("; The host itself. Its addresses must lead back to this name in reverse DNS, which is set where the");
        line("; addresses come from.");
        for ip in &self.ips {
            let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
            line(&format!("{host}. {kind} {ip}"));
        }
        if self.ips.is_empty() {
            line(&format!("; {host}. A <IPv4 address of this host>"));
            line(&format!("; {host}. AAAA <IPv6 address of this host>"));
        }
        line(&format!("{host}. TXT \"v=spf1 a -all\""));
        if let Some(report) = &self.fixed.host_tls_rpt {
            let to = uri_address(&report.localpart.to_string(), host);
            line(&format!(
                "_smtp._tls.{host}. TXT {}",
                txt(&format!("v=TLSRPTv1; rua=mailto:{to}"))
            ));
        }
        let mut files: Vec<&PathBuf> = Vec::new();
        let receiving = self.fixed.listeners.values().filter(|l| l.smtp.enabled);
        for file in receiving
            .filter_map(|l| l.tls.as_ref())
            .flat_map(|tls| &tls.host_private_key_files)
        {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        if !files.is_empty() {
            line("");
            line("; The keys of the host's certificates (DANE). Only for a zone that is signed with DNSSEC.");
            if self.dnssec == Some(false) {
                line("; The zone is not signed now, so they are commented out: sign it, and add them.");
            }
            let mark = if self.dnssec == Some(false) { "; " } else { "" };
            for file in files {
                let file = self.dir.join(file);
                let pem = std::fs::read_to_string(&file).map_err(|source| RecordsError::Read {
                    file: file.clone(),
                    source,
                })?;
                if let Some(spki) = PublicKey::of(&pem, &file)?.spki() {
                    // RFC 7672 §3.1: DANE-EE(3), SubjectPublicKeyInfo(1), SHA-256(1).
                    line(&format!(
                        "{mark}_25._tcp.{host}. TLSA 3 1 1 {}",
                        hex(digest(&SHA256, spki).as_ref())
                    ));
                }
            }
        }
        line("");
        Ok(())
    }

    fn dkim(&self, domain: &Domain, selector: &str) -> Result<Option<String>, RecordsError> {
        let Some(settings) = self
            .config
            .domains
            .get(domain)
            .and_then(|d| d.dkim.selectors.get(selector))
        else {
            return Ok(None);
        };
        let (pem, file) = match (&settings.private_key_file, &settings.private_key) {
            (Some(file), _) => {
                let file = self.dir.join(file);
                let pem = std::fs::read_to_string(&file).map_err(|source| RecordsError::Read {
                    file: file.clone(),
                    source,
                })?;
                (pem, file)
            }
            (None, Some(key)) => (key.expose().to_owned(), PathBuf::from("domains.toml")),
            (None, None) => return Ok(None),
        };
        Ok(PublicKey::of(&pem, &file)?.dkim_record())
    }

    /// What mail clients look for.
    fn clients(&self, domain: &Domain, line: &mut dyn FnMut(&str)) {
        let name = domain.ascii();
        let client_host = self
            .config
            .domains
            .get(domain)
            .and_then(|d| d.client_settings_domain.as_ref());
        let host = self.fixed.hostname.ascii();
        let target = client_host.map_or(host, Domain::ascii);
        line("; Settings for mail clients.");
        if target != host {
            line(&format!("{target}. CNAME {host}."));
        }
        line(&format!("autoconfig.{name}. CNAME {host}."));
        let enabled = |on: fn(&mox_config::Listener) -> bool| self.fixed.listeners.values().any(|l| on(l));
        // RFC 6186 §3: a target of "." says that there is no such service. RFC 8314 §3: TLS from the start is better.
        for (service, on, port) in [
            ("_imaps", enabled(|l| l.imaps.enabled), 993),
            ("_submissions", enabled(|l| l.submissions.enabled), 465),
            ("_imap", enabled(|l| l.imap.enabled), 143),
            ("_submission", enabled(|l| l.submission.enabled), 587),
        ] {
            if on {
                let priority = if service.ends_with('s') { 0 } else { 10 };
                line(&format!("{service}._tcp.{name}. SRV {priority} 1 {port} {target}."));
            } else {
                line(&format!("{service}._tcp.{name}. SRV 0 0 0 ."));
            }
        }
        for service in ["_pop3", "_pop3s"] {
            line(&format!("{service}._tcp.{name}. SRV 0 0 0 ."));
        }
        line(&format!("_autodiscover._tcp.{name}. SRV 0 1 443 {host}."));
        line("");
    }

    fn caa(&self, name: &str, line: &mut dyn FnMut(&str)) {
        let issuers: Vec<&String> = self
            .fixed
            .acme
            .values()
            .filter_map(|a| a.issuer_domain_name.as_ref())
            .collect();
        line("; Who may issue certificates for the domain (CAA). Look first for other certificates that are in use.");
        if issuers.is_empty() {
            line(&format!(
                "; {name}. CAA 0 issue \"<domain of your certificate authority>\""
            ));
        }
        for issuer in issuers {
            line(&format!("{name}. CAA 0 issue \"{issuer}\""));
        }
    }
}

/// An address in a URI (RFC 6068 §2): percent-encoded but for what needs it not.
fn uri_address(localpart: &str, domain: &str) -> String {
    let mut out = String::new();
    for byte in localpart.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    format!("{out}@{domain}")
}

/// The text of a TXT record, in as many strings as it needs.
fn txt(text: &str) -> String {
    let strings: Vec<String> = text
        .as_bytes()
        .chunks(STRING_MAX)
        .map(|part| {
            format!(
                "\"{}\"",
                String::from_utf8_lossy(part).replace('\\', "\\\\").replace('"', "\\\"")
            )
        })
        .collect();
    if strings.len() == 1 {
        strings.concat()
    } else {
        format!("( {} )", strings.join(" "))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use mox_config::Source;

    use super::*;

    #[test]
    fn a_zone_has_what_a_domain_needs() {
        let dir = tempfile::tempdir().unwrap();
        let domain: Domain = "example.org".parse().unwrap();
        let made = crate::domain::make_keys(dir.path(), &domain).unwrap();
        std::fs::write(dir.path().join("host.pem"), crate::keys::new_ecdsa_p256().unwrap()).unwrap();
        std::fs::write(dir.path().join("none.pem"), "").unwrap();
        let fixed = "data_dir = \"d\"\nlog_level = \"info\"\nhostname = \"mail.example.org\"\n\
            [postmaster]\naccount = \"a\"\nmailbox = \"P\"\n\
            [listeners.public]\nips = [\"192.0.2.1\", \"2001:db8::1\"]\nsmtp.enabled = true\nimaps.enabled = true\n\
            [listeners.public.tls]\nkey_certs = [{ cert_file = \"c\", key_file = \"k\" }]\n\
            host_private_key_files = [\"host.pem\"]\n";
        let fixed = Source {
            file: "mox.toml".into(),
            text: fixed.to_owned(),
        }
        .parse_static()
        .unwrap();
        let before = Dynamic::default();
        let mut edit = crate::Edit::new("", &before).unwrap();
        let new = crate::NewDomain {
            domain: domain.clone(),
            account: "a".into(),
            localpart: Some("a".parse().unwrap()),
            selectors: made.selectors.clone(),
            mtasts_policy_id: "1".into(),
        };
        edit.add_domain(&new).unwrap();
        let source = Source {
            file: "domains.toml".into(),
            text: edit.finish(),
        };
        let config = source.parse_dynamic(&fixed).unwrap();
        let ips = Records::configured_ips(&fixed);
        let records = Records {
            fixed: &fixed,
            config: &config,
            dir: dir.path(),
            ips,
            dnssec: None,
        };
        let zone = records.zone(&domain).unwrap();
        for expected in [
            "mail.example.org. A 192.0.2.1\n",
            "mail.example.org. AAAA 2001:db8::1\n",
            "example.org. MX 10 mail.example.org.\n",
            "_25._tcp.mail.example.org. TLSA 3 1 1 ",
            "._domainkey.example.org. TXT ( \"v=DKIM1;h=sha256;p=",
            "._domainkey.example.org. TXT \"v=DKIM1;h=sha256;k=ed25519;p=",
            "example.org. TXT \"v=spf1 mx ~all\"\n",
            "_dmarc.example.org. TXT \"v=DMARC1;p=reject;rua=mailto:dmarcreports@example.org\"\n",
            "_mta-sts.example.org. TXT \"v=STSv1; id=1\"\n",
            "_smtp._tls.example.org. TXT \"v=TLSRPTv1; rua=mailto:tlsreports@example.org\"\n",
            "_imaps._tcp.example.org. SRV 0 1 993 mail.example.org.\n",
            "_imap._tcp.example.org. SRV 0 0 0 .\n",
        ] {
            assert!(zone.contains(expected), "{expected}\n{zone}");
        }
        for text in zone.split('"').skip(1).step_by(2) {
            assert!(text.len() <= STRING_MAX);
        }
        assert!(matches!(
            records.zone(&"x.example".parse().unwrap()),
            Err(RecordsError::NoDomain(_))
        ));
    }
}
