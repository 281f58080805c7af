//! Postfix from Debian: receiving with and without TLS, and sending with DANE.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Postfix as Instance, PostfixSettings, free_ip, wait};

use crate::certificates::{Authority, Certificate};

/// A running instance.
pub struct Postfix(Instance);

impl Postfix {
    /// Where it is to offer TLS, and where not, before it is started: DNS needs them.
    pub fn addresses() -> (IpAddr, IpAddr) {
        (free_ip(), free_ip())
    }

    /// Starts it, to receive for some domains, and with TLS policies for others.
    pub fn start(
        (tls, plain): (IpAddr, IpAddr),
        dns: IpAddr,
        authority: &Authority,
        certificate: &Certificate,
        domains: &[String],
        policies: &[(String, String)],
    ) -> Result<Self> {
        let mut main = main_cf(authority, certificate, domains);
        let policies: Vec<String> = policies.iter().map(|(d, p)| format!("{{{d}={p}}}")).collect();
        if !policies.is_empty() {
            main.push_str(&format!(
                "smtp_tls_policy_maps = inline:{{ {} }}\n",
                policies.join(", ")
            ));
        }
        let instance = Instance::start(&PostfixSettings {
            main: &main,
            listeners: &[
                (SocketAddr::new(tls, 25), ""),
                (SocketAddr::new(plain, 25), "-o smtpd_tls_security_level=none"),
            ],
            resolv_conf: Some(&format!("nameserver {dns}\noptions edns0 trust-ad\n")),
        })?;
        Ok(Self(instance))
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Puts a message into its queue.
    pub fn send(&self, from: &str, to: &str, message: &str) -> Result<()> {
        let config = self.0.config();
        succeed("sendmail", &["-C", &config, "-i", "-f", from, to], message).map(drop)
    }

    /// What became of the message for a recipient: the end of its line in the log, and what it says of TLS with the
    /// host.
    pub fn outcome(&self, to: &str) -> Result<String> {
        let what = format!("Postfix to try {to}");
        wait::until(&what, wait::DEADLINE, || {
            let log = self.log();
            let line = log
                .lines()
                .rev()
                .find(|l| l.contains(&format!("to=<{to}>")) && l.contains("status="));
            Ok(line.map(|l| l[l.find("dsn=").unwrap_or(0)..].to_owned()))
        })
        .with_context(|| self.log())
    }

    /// The message with this subject, if it arrived for a recipient.
    pub fn message(&self, to: &str, subject: &str) -> Option<String> {
        let subject = format!("Subject: {subject}\n");
        self.messages(to).into_iter().find(|text| text.contains(&subject))
    }

    /// What arrived for a recipient.
    pub fn messages(&self, to: &str) -> Vec<String> {
        let (local, domain) = to.split_once('@').unwrap_or_default();
        let folder = self.0.mail().join(format!("{local}-{domain}")).join("new");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }
}

fn main_cf(authority: &Authority, certificate: &Certificate, domains: &[String]) -> String {
    let maps: Vec<String> = domains.iter().map(|d| format!("{{x@{d}=x-{d}/}}")).collect();
    format!(
        "myhostname = postfix.example\n\
         inet_interfaces = all\n\
         virtual_mailbox_domains = {domains}\n\
         virtual_mailbox_maps = inline:{{ {maps} }}\n\
         smtpd_tls_cert_file = {cert}\n\
         smtpd_tls_key_file = {key}\n\
         smtpd_tls_security_level = may\n\
         smtp_tls_security_level = dane\n\
         smtp_dns_support_level = dnssec\n\
         smtp_host_lookup = dns\n\
         smtp_tls_CAfile = {ca}\n\
         maximal_queue_lifetime = 0\n\
         smtp_tls_loglevel = 1\n",
        domains = domains.join(", "),
        maps = maps.join(", "),
        cert = certificate.cert.display(),
        key = certificate.key.display(),
        ca = authority.pem().display(),
    )
}
