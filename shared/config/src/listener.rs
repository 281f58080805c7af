//! Groups of IP addresses, and the services that listen on them.

use std::net::IpAddr;
use std::path::PathBuf;

use mox_types::Domain;

use crate::duration::Duration;
use crate::section::section;
use crate::value::{Network, TlsVersion};

section! {
    /// IP addresses, and the services that listen on each of them.
    pub struct Listener {
        /// Addresses to listen on. 0.0.0.0 and :: are all addresses of this host.
        ips: Vec<IpAddr> [required eg "[\"192.0.2.1\", \"2001:db8::1\"]"],
        /// The public addresses, if ips has private ones behind network address translation. For checks and suggested
        /// DNS records.
        nat_ips: Vec<IpAddr> [eg "[\"198.51.100.1\"]"],
        /// Name of the host on these addresses, if it is not the one at the top of the file.
        hostname: Option<Domain> [eg "\"mail2.example.org\""],
        /// Networks of proxies that connect with a PROXY header (version 1 or 2), which names the real client. It is
        /// required from these, and not understood from others.
        proxy_networks: Vec<Network> [eg "[\"10.0.0.0/8\"]"],
        /// Certificates. Services that need TLS need this.
        tls: Option<ListenerTls>,
        /// The largest message that is accepted, in bytes.
        smtp_max_message_size: u64 [= 100 << 20],
        /// Receiving mail from other servers.
        smtp: Smtp,
        /// Sending mail for users, with TLS by STARTTLS.
        submission: Submission,
        /// Sending mail for users, with TLS from the start.
        submissions: Submissions,
        /// Reading mail, with TLS by STARTTLS.
        imap: Imap,
        /// Reading mail, with TLS from the start.
        imaps: Imaps,
        /// Users' own settings, without TLS: only for addresses that are not reachable from outside.
        account_http: AccountHttp,
        /// Users' own settings.
        account_https: AccountHttps,
        /// Administration, without TLS: only for addresses that are not reachable from outside.
        admin_http: AdminHttp,
        /// Administration.
        admin_https: AdminHttps,
        /// Reading and sending mail in a browser, without TLS: only for addresses that are not reachable from outside.
        webmail_http: WebmailHttp,
        /// Reading and sending mail in a browser.
        webmail_https: WebmailHttps,
        /// The HTTP API, without TLS: only for addresses that are not reachable from outside.
        webapi_http: WebapiHttp,
        /// The HTTP API.
        webapi_https: WebapiHttps,
        /// Metrics for Prometheus, without TLS and password: only for addresses that are not reachable from outside.
        metrics_http: MetricsHttp,
        /// Profiles of the running process, without TLS and password: only for addresses that are not reachable from
        /// outside.
        pprof_http: PprofHttp,
        /// Settings for mail clients that look for them at autoconfig.<domain> and with autodiscover.
        autoconfig_https: HelperHttps,
        /// Policies at mta-sts.<domain> (RFC 8461).
        mtasts_https: HelperHttps,
        /// The handlers and redirects of domains.toml, without TLS.
        webserver_http: WebserverHttp,
        /// The handlers and redirects of domains.toml.
        webserver_https: WebserverHttps,
    }
}

section! {
    /// Certificates of a listener: from one of the ACME providers, or from files.
    pub struct ListenerTls: Default {
        /// Name of a provider in the acme section.
        acme: Option<String> [eg "\"letsencrypt\""],
        /// Certificates that are provided by other means.
        key_certs: Vec<KeyCert>,
        /// The oldest version of TLS that clients may use.
        min_version: TlsVersion [= TlsVersion::V1_2],
        /// Private keys in PKCS#8 PEM for certificates from ACME, RSA-2048 and ECDSA P-256, so that DANE records stay
        /// valid when certificates are renewed.
        host_private_key_files: Vec<PathBuf> [eg "[\"hostkeys/mail.example.org.rsa2048.privatekey.pkcs8.pem\"]"],
        /// Do not ask clients for certificates, for clients that cannot cope with the question.
        client_auth_disabled: bool,
    }
}

section! {
    /// A certificate and its key.
    pub struct KeyCert {
        /// The certificate and those that lead to its authority, in PEM. A relative path starts at the folder of this
        /// file.
        cert_file: PathBuf [required eg "\"tls/mail.example.org.crt\""],
        /// The private key, in PEM.
        key_file: PathBuf [required eg "\"tls/mail.example.org.key\""],
    }
}

section! {
    /// Receiving mail from other servers.
    pub struct Smtp: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 25],
        /// Do not offer TLS.
        no_starttls: bool,
        /// Refuse mail that is not sent over TLS. Some legitimate mail never arrives.
        require_starttls: bool,
        /// Do not offer REQUIRETLS (RFC 8689), by which a sender can ask for TLS on the whole way.
        no_require_tls: bool,
        /// Zones of DNS blocklists that are asked about unknown senders.
        dnsbls: Vec<Domain> [eg "[\"sbl.spamhaus.org\"]"],
        /// How long mail from unknown senders waits before it is accepted.
        first_time_sender_delay: Duration [= Duration::from_secs(15)],
        /// Do not offer to resume TLS sessions, for senders that do it wrongly.
        tls_session_tickets_disabled: bool,
    }
}

section! {
    /// Sending mail for users, with TLS by STARTTLS.
    pub struct Submission: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 587],
        /// Let users log in without TLS, which lets everybody on the way read passwords.
        no_require_starttls: bool,
    }
}

section! {
    /// Sending mail for users, with TLS from the start.
    pub struct Submissions: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 465],
        /// Also on the HTTPS port, for clients that ask for the protocol smtp by ALPN.
        enabled_on_https: bool,
    }
}

section! {
    /// Reading mail, with TLS by STARTTLS.
    pub struct Imap: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 143],
        /// Let users log in without TLS, which lets everybody on the way read passwords.
        no_require_starttls: bool,
    }
}

section! {
    /// Reading mail, with TLS from the start.
    pub struct Imaps: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 993],
        /// Also on the HTTPS port, for clients that ask for the protocol imap by ALPN.
        enabled_on_https: bool,
    }
}

macro_rules! web {
    ($($(#[doc = $doc:literal])+ $name:ident $port:literal $path:literal;)+) => {
        $(section! {
            $(#[doc = $doc])+
            pub struct $name: Default {
                /// Whether it listens.
                enabled: bool,
                /// Its port.
                port: u16 [= $port],
                /// Where it is on the site.
                path: String [= $path.to_owned()],
                /// Believe X-Forwarded headers about the client. Only behind a proxy that sets them.
                forwarded: bool,
            }
        })+
    };
}

web! {
    /// Users' own settings.
    AccountHttp 80 "/";
    /// Users' own settings.
    AccountHttps 443 "/";
    /// Administration.
    AdminHttp 80 "/admin/";
    /// Administration.
    AdminHttps 443 "/admin/";
    /// Webmail.
    WebmailHttp 80 "/webmail/";
    /// Webmail.
    WebmailHttps 443 "/webmail/";
    /// The HTTP API.
    WebapiHttp 80 "/webapi/";
    /// The HTTP API.
    WebapiHttps 443 "/webapi/";
}

section! {
    /// Metrics for Prometheus.
    pub struct MetricsHttp: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 8010],
    }
}

section! {
    /// Profiles of the running process.
    pub struct PprofHttp: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 8011],
    }
}

section! {
    /// What clients and servers look for at well-known names of a domain.
    pub struct HelperHttps: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port. Another one than 443 needs forwarding.
        port: u16 [= 443],
        /// Plain HTTP, behind a proxy that does TLS.
        non_tls: bool,
        /// Believe X-Forwarded headers about the client. Only behind a proxy that sets them.
        forwarded: bool,
    }
}

section! {
    /// Handlers and redirects without TLS.
    pub struct WebserverHttp: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 80],
        /// No limit on requests.
        rate_limit_disabled: bool,
    }
}

section! {
    /// Handlers and redirects with TLS.
    pub struct WebserverHttps: Default {
        /// Whether it listens.
        enabled: bool,
        /// Its port.
        port: u16 [= 443],
        /// No limit on requests.
        rate_limit_disabled: bool,
    }
}

impl Listener {
    /// A listener on these addresses, with nothing enabled.
    #[must_use]
    pub fn new(ips: Vec<IpAddr>) -> Self {
        Self {
            ips,
            nat_ips: Vec::new(),
            hostname: None,
            proxy_networks: Vec::new(),
            tls: None,
            smtp_max_message_size: 100 << 20,
            smtp: Smtp::default(),
            submission: Submission::default(),
            submissions: Submissions::default(),
            imap: Imap::default(),
            imaps: Imaps::default(),
            account_http: AccountHttp::default(),
            account_https: AccountHttps::default(),
            admin_http: AdminHttp::default(),
            admin_https: AdminHttps::default(),
            webmail_http: WebmailHttp::default(),
            webmail_https: WebmailHttps::default(),
            webapi_http: WebapiHttp::default(),
            webapi_https: WebapiHttps::default(),
            metrics_http: MetricsHttp::default(),
            pprof_http: PprofHttp::default(),
            autoconfig_https: HelperHttps::default(),
            mtasts_https: HelperHttps::default(),
            webserver_http: WebserverHttp::default(),
            webserver_https: WebserverHttps::default(),
        }
    }
}
