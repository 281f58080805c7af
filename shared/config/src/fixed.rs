//! `mox.toml`: read once, at start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mox_types::{Address, Domain, Localpart};

use crate::duration::Duration;
use crate::limits::ServiceLimits;
use crate::listener::Listener;
use crate::section::section;
use crate::transport::Transport;
use crate::value::{LogLevel, Secret, StoreEngine};

section! {
    /// The static configuration, `mox.toml`. Changes take effect when mox is started again.
    pub struct Static {
        /// Where everything durable is kept. A relative path starts at the folder of this file.
        data_dir: PathBuf [required eg "\"../data\""],
        /// How much is logged, where package_log_levels does not say otherwise: error, info, debug, trace (with
        /// protocol transcripts), traceauth (also with passwords), tracedata (also with whole messages).
        log_level: LogLevel [required eg "\"info\""],
        /// Levels for single packages, such as smtp-in, imap, queue-delivery or store.
        package_log_levels: BTreeMap<String, LogLevel>,
        /// The user to run as, by name or numeric id. Started as root, mox binds its sockets and then becomes this user.
        user: String [= "mox".to_owned()],
        /// Leave the owner and mode of the configuration and data as they are, instead of repairing them at start.
        no_fix_permissions: bool,
        /// The full name of this host, as in its A and AAAA records and in the reverse DNS of its addresses.
        hostname: Domain [required eg "\"mail.example.org\""],
        /// Look once a day in DNS for a new release, and tell the postmaster about it.
        check_updates: bool,
        /// Turn violations of protocols that are tolerated otherwise into errors.
        pedantic: bool,
        /// Verifying the certificates of others.
        tls: Tls,
        /// Providers of certificates, by a name that listeners refer to.
        acme: BTreeMap<String, Acme>,
        /// File with the hash of the administration password, as `mox setadminpassword` writes it. A relative path
        /// starts at the folder of this file.
        admin_password_file: Option<PathBuf> [eg "\"adminpasswd\""],
        /// Groups of addresses with the services that listen on them. The one called public faces the internet, and is
        /// checked more strictly.
        listeners: BTreeMap<String, Arc<Listener>>,
        /// Who receives mail for postmaster, for postmaster at this host, and for the postmaster of domains that have
        /// none. Required where mail is received.
        postmaster: Option<Postmaster>,
        /// Where others send reports about the TLS of this host, which they do when it has DANE records.
        host_tls_rpt: Option<HostTlsRpt>,
        /// What a new account starts with. Inbox is always there.
        initial_mailboxes: InitialMailboxes,
        /// Ways to deliver other than directly to the recipient's host, by the name that routes refer to.
        transports: BTreeMap<String, Transport>,
        /// Do not send aggregate reports about DMARC to the domains that ask for them.
        no_outgoing_dmarc_reports: bool,
        /// Do not send reports about TLS to the domains that ask for them.
        no_outgoing_tls_reports: bool,
        /// Send TLS reports also when every connection of the day succeeded.
        outgoing_tls_reports_for_all_success: bool,
        /// How many bytes all messages of an account may have together, unless the account says otherwise. 0 is no limit.
        quota_message_size: u64 [= 0],
        /// Asking DNS.
        dns: Dns,
        /// Evaluating chains of authenticated relays (ARC).
        arc: ArcSealing,
        /// Limits on clients, for each service: smtp-in, submission, imap, web.
        limits: BTreeMap<String, ServiceLimits>,
        /// Traces.
        telemetry: Telemetry,
        /// Where this process answers the others, and where it finds them. Only for services that run apart.
        rpc: Rpc,
        /// How processes tell each other that something happened.
        events: Events,
        /// How the store keeps its records.
        store: Store,
        /// Developer's mode: no limits on rates, and mail for unknown local addresses is kept too.
        localserve: Option<Localserve>,
    }
}

section! {
    /// Verifying the certificates of others.
    pub struct Tls: Default {
        /// Authorities whose certificates are trusted.
        ca: Ca,
    }
}

section! {
    /// Authorities for outgoing SMTP and HTTPS.
    pub struct Ca: Default {
        /// Trust the authorities of the system besides those in cert_files. Without cert_files, the system's are
        /// trusted in any case.
        additional_to_system: bool,
        /// PEM files with certificates of authorities. Relative paths start at the folder of this file.
        cert_files: Vec<PathBuf> [eg "[\"ca.pem\"]"],
    }
}

section! {
    /// A provider of certificates (RFC 8555).
    pub struct Acme {
        /// Its directory.
        directory_url: String [required eg "\"https://acme-v02.api.letsencrypt.org/directory\""],
        /// Whom the provider may write to about the account.
        contact_email: Address [required],
        /// How long before its end a certificate is renewed.
        renew_before: Duration [= Duration::from_days(30)],
        /// Where the provider's challenge over TLS arrives at our listeners; another port than 443 needs forwarding.
        port: u16 [= 443],
        /// The provider's name in CAA records, for the DNS records that are suggested.
        issuer_domain_name: Option<String> [eg "\"letsencrypt.org\""],
        /// For providers that take only customers known by other means.
        external_account_binding: Option<ExternalAccountBinding>,
    }
}

section! {
    /// Binds the ACME account to one the provider has already (RFC 8555 §7.3.4).
    pub struct ExternalAccountBinding {
        /// As the provider calls the key.
        key_id: String [required eg "\"key-1\""],
        /// File with the key as the provider gives it, in URL-safe base64.
        key_file: PathBuf [required eg "\"acme-key.txt\""],
    }
}

section! {
    /// Who receives mail for the postmaster.
    pub struct Postmaster {
        /// Name of an account.
        account: String [required eg "\"mox\""],
        /// Mailbox of that account.
        mailbox: String [required eg "\"Postmaster\""],
    }
}

section! {
    /// Where reports about the TLS of this host arrive (RFC 8460).
    pub struct HostTlsRpt {
        /// Name of an account.
        account: String [required eg "\"mox\""],
        /// Mailbox of that account.
        mailbox: String [required eg "\"TLSRPT\""],
        /// Before the "@" of the host's name.
        localpart: Localpart [required eg "\"tlsreports\""],
    }
}

section! {
    /// What a new account starts with.
    pub struct InitialMailboxes: Default {
        /// Mailboxes with a special use (RFC 6154).
        special_use: SpecialUse,
        /// Others.
        regular: Vec<String> [eg "[\"Receipts\"]"],
    }
}

section! {
    /// Names of the mailboxes with a special use. An empty name leaves it out.
    pub struct SpecialUse: Default {
        /// Copies of what was sent.
        sent: String [= "Sent".to_owned()],
        /// What is kept.
        archive: String [= "Archive".to_owned()],
        /// What is thrown away.
        trash: String [= "Trash".to_owned()],
        /// What is being written.
        draft: String [= "Drafts".to_owned()],
        /// What is not wanted.
        junk: String [= "Junk".to_owned()],
    }
}

section! {
    /// Asking DNS.
    pub struct Dns: Default {
        /// Servers to ask. Without any, those of the system.
        servers: Vec<SocketAddr> [eg "[\"127.0.0.1:53\"]"],
        /// Trust anchors for DNSSEC in the form of zone files. Without it, the built-in ones of the root.
        trust_anchor_file: Option<PathBuf> [eg "\"root.key\""],
        /// Verify DNSSEC signatures here.
        validate: bool [= true],
        /// Believe the resolver when it says that it verified them, instead of verifying. Only for a resolver that is
        /// reached over a trusted path, such as one on this host.
        trust_ad: bool,
    }
}

section! {
    /// Evaluating chains of authenticated relays.
    pub struct ArcSealing: Default {
        /// Domains whose results count when a message that they forwarded fails DMARC.
        trusted_sealers: Vec<Domain> [eg "[\"example.net\"]"],
    }
}

section! {
    /// Traces.
    pub struct Telemetry: Default {
        /// OpenTelemetry collector that traces are sent to, over gRPC. Without it, there are none.
        otlp_endpoint: Option<String> [eg "\"http://127.0.0.1:4317\""],
        /// The part of traces that is kept, from 0 to 1.
        sample_ratio: f64 [= 1.0],
    }
}

section! {
    /// Calls between processes.
    pub struct Rpc: Default {
        /// Where this process answers: host:port, or unix:path. Anything but loopback and unix needs tls.
        listen: Option<String> [eg "\"127.0.0.1:7001\""],
        /// Where this process gives its metrics and health over HTTP: host:port.
        metrics_listen: Option<String> [eg "\"127.0.0.1:8011\""],
        /// Where the others answer, by service: store, smtp-in, submission, imap, queue-delivery, web, acme, control.
        services: BTreeMap<String, String>,
        /// Certificates for mutual TLS.
        tls: Option<RpcTls>,
    }
}

section! {
    /// Certificates for mutual TLS between processes. The name in the certificate is the identity of the process.
    pub struct RpcTls {
        /// This process's certificate, in PEM.
        cert_file: PathBuf [required eg "\"tls/store.crt\""],
        /// Its private key, in PEM.
        key_file: PathBuf [required eg "\"tls/store.key\""],
        /// The authority that signs the certificates of all, in PEM.
        ca_file: PathBuf [required eg "\"tls/ca.crt\""],
    }
}

section! {
    /// How processes tell each other that something happened.
    pub struct Events: Default {
        /// NATS server for processes that run apart. Without it, events stay within the process.
        nats_url: Option<Secret> [eg "\"nats://127.0.0.1:4222\""],
    }
}

section! {
    /// How the store keeps its records.
    pub struct Store: Default {
        /// The database.
        engine: StoreEngine [= StoreEngine::Rocksdb],
        /// Memory for cached records, in bytes.
        cache_bytes: u64 [= 64 << 20],
        /// When less than this is free on the disk, in bytes, nothing more is accepted.
        reserve_bytes: u64 [= 512 << 20],
    }
}

section! {
    /// Developer's mode.
    pub struct Localserve {
        /// Whoever a message is for, if no account has the address, it arrives here.
        address: Address [required eg "\"mox@localhost\""],
    }
}

impl Static {
    /// The smallest configuration, for tests and for building others on.
    #[must_use]
    pub fn new(data_dir: PathBuf, hostname: Domain) -> Self {
        Self {
            data_dir,
            log_level: LogLevel::Info,
            package_log_levels: BTreeMap::new(),
            user: "mox".to_owned(),
            no_fix_permissions: false,
            hostname,
            check_updates: false,
            pedantic: false,
            tls: Tls::default(),
            acme: BTreeMap::new(),
            admin_password_file: None,
            listeners: BTreeMap::new(),
            postmaster: None,
            host_tls_rpt: None,
            initial_mailboxes: InitialMailboxes::default(),
            transports: BTreeMap::new(),
            no_outgoing_dmarc_reports: false,
            no_outgoing_tls_reports: false,
            outgoing_tls_reports_for_all_success: false,
            quota_message_size: 0,
            dns: Dns::default(),
            arc: ArcSealing::default(),
            limits: BTreeMap::new(),
            telemetry: Telemetry::default(),
            rpc: Rpc::default(),
            events: Events::default(),
            store: Store::default(),
            localserve: None,
        }
    }

    /// The limits of a service: as configured, the defaults, or none at all in developer's mode.
    #[must_use]
    pub fn limits(&self, service: &str) -> ServiceLimits {
        match self.limits.get(service) {
            Some(limits) => limits.clone(),
            None if self.localserve.is_some() => ServiceLimits::none(),
            None => ServiceLimits::default(),
        }
    }

    /// Where data is kept, seen from the folder of the file.
    #[must_use]
    pub fn data_dir(&self, config_dir: &Path) -> PathBuf {
        config_dir.join(&self.data_dir)
    }
}
