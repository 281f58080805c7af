//! `mox.toml`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fixed::Static;
use crate::listener::Listener;
use crate::problem::{FieldPath, Problem};
use crate::transport::{Transport, TransportSmtp};
use crate::validate::mailbox_problem;

/// Services that limits can be set for.
const LIMITED: [&str; 4] = ["smtp-in", "submission", "imap", "web"];
/// Services that processes can find each other by.
const SERVICES: [&str; 8] = [
    "store",
    "smtp-in",
    "submission",
    "imap",
    "queue-delivery",
    "web",
    "acme",
    "control",
];
/// RFC 5321 §4.5.3.1.7: a server must take messages of at least this many octets.
const MESSAGE_SIZE_MIN: u64 = 64 << 10;

/// What is wrong with the static configuration by itself.
#[must_use]
pub fn static_problems(config: &Static) -> Vec<Problem> {
    let root = FieldPath::root();
    let mut problems = Vec::new();
    let mut bad = |at: FieldPath, message: String| problems.push(Problem::new(at, message));

    if config.data_dir.as_os_str().is_empty() {
        bad(root.key("data_dir"), "must not be empty: name a folder".to_owned());
    }
    if config.user.is_empty() {
        bad(
            root.key("user"),
            "must not be empty: name a user, or a numeric id".to_owned(),
        );
    }
    for (name, listener) in &config.listeners {
        listener_problems(config, name, listener, &root.key("listeners").key(name), &mut bad);
    }
    same_port_problems(config, &mut bad);
    let receives = config.listeners.values().any(|l| l.smtp.enabled);
    if receives && config.postmaster.is_none() {
        let message = "required table postmaster is missing, since mail is received: add [postmaster] with account and \
                       mailbox";
        bad(root.clone(), message.to_owned());
    }
    for (section, mailbox) in [
        ("postmaster", config.postmaster.as_ref().map(|p| &p.mailbox)),
        ("host_tls_rpt", config.host_tls_rpt.as_ref().map(|p| &p.mailbox)),
    ] {
        if let Some(message) = mailbox.and_then(|m| mailbox_problem(m)) {
            bad(root.key(section).key("mailbox"), message);
        }
    }
    initial_mailboxes_problems(config, &mut bad);
    for (name, acme) in &config.acme {
        if !acme.directory_url.starts_with("https://") {
            let at = root.key("acme").key(name).key("directory_url");
            bad(at, format!("{:?} must begin with https://", acme.directory_url));
        }
    }
    for (name, transport) in &config.transports {
        transport_problems(transport, &root.key("transports").key(name), &mut bad);
    }
    for name in config.limits.keys().filter(|n| !LIMITED.contains(&n.as_str())) {
        let message = format!(
            "{name:?} is not a service with limits: these are {}",
            LIMITED.join(", ")
        );
        bad(root.key("limits").key(name), message);
    }
    rpc_problems(config, &mut bad);
    if config.dns.trust_ad && config.dns.validate {
        let message = "validate and trust_ad exclude each other: set validate = false to believe the resolver";
        bad(root.key("dns").key("trust_ad"), message.to_owned());
    }
    if !(0.0..=1.0).contains(&config.telemetry.sample_ratio) {
        bad(
            root.key("telemetry").key("sample_ratio"),
            "must be from 0 to 1".to_owned(),
        );
    }
    problems
}

type Bad<'a> = dyn FnMut(FieldPath, String) + 'a;

fn listener_problems(config: &Static, name: &str, listener: &Listener, at: &FieldPath, bad: &mut Bad<'_>) {
    if listener.ips.is_empty() {
        bad(
            at.key("ips"),
            "must not be empty: list IP addresses; 0.0.0.0 and :: are all of this host".to_owned(),
        );
    }
    if listener.smtp_max_message_size < MESSAGE_SIZE_MIN {
        bad(
            at.key("smtp_max_message_size"),
            format!("must be at least {MESSAGE_SIZE_MIN} bytes"),
        );
    }
    if let Some(tls) = &listener.tls {
        match &tls.acme {
            Some(acme) if !config.acme.contains_key(acme) => {
                bad(
                    at.key("tls").key("acme"),
                    format!("there is no provider {acme:?} in the acme section"),
                );
            }
            Some(_) if !tls.key_certs.is_empty() => {
                bad(
                    at.key("tls"),
                    "acme and key_certs exclude each other: remove one of them".to_owned(),
                );
            }
            None if tls.key_certs.is_empty() => {
                bad(
                    at.key("tls"),
                    "has no certificate: set acme, or add key_certs".to_owned(),
                );
            }
            _ => {}
        }
    } else {
        let needs = [
            ("submissions", listener.submissions.enabled),
            ("imaps", listener.imaps.enabled),
            ("account_https", listener.account_https.enabled),
            ("admin_https", listener.admin_https.enabled),
            ("webmail_https", listener.webmail_https.enabled),
            ("webapi_https", listener.webapi_https.enabled),
            (
                "autoconfig_https",
                listener.autoconfig_https.enabled && !listener.autoconfig_https.non_tls,
            ),
            (
                "mtasts_https",
                listener.mtasts_https.enabled && !listener.mtasts_https.non_tls,
            ),
            ("webserver_https", listener.webserver_https.enabled),
        ];
        for (service, _) in needs.iter().filter(|(_, needs)| *needs) {
            bad(
                at.key(service),
                "needs certificates: add a tls table to the listener".to_owned(),
            );
        }
        for (service, open) in [
            (
                "submission",
                listener.submission.enabled && !listener.submission.no_require_starttls,
            ),
            ("imap", listener.imap.enabled && !listener.imap.no_require_starttls),
        ] {
            if open {
                let message = "nobody could log in without certificates: add a tls table to the listener, or set \
                               no_require_starttls for a network that nobody else can read";
                bad(at.key(service), message.to_owned());
            }
        }
        if listener.smtp.enabled && listener.smtp.require_starttls {
            bad(
                at.key("smtp").key("require_starttls"),
                "needs certificates: add a tls table to the listener".to_owned(),
            );
        }
    }
    if listener.smtp.no_starttls && listener.smtp.require_starttls {
        bad(
            at.key("smtp"),
            "no_starttls and require_starttls exclude each other: remove one of them".to_owned(),
        );
    }
    if name == "public" {
        for (n, ip) in listener.ips.iter().enumerate().filter(|(_, ip)| ip.is_loopback()) {
            let message = format!("{ip} cannot be reached from outside: use another listener than public for it");
            bad(at.key("ips").entry(n), message);
        }
    }
    for (service, path) in [
        ("account_http", &listener.account_http.path),
        ("account_https", &listener.account_https.path),
        ("admin_http", &listener.admin_http.path),
        ("admin_https", &listener.admin_https.path),
        ("webmail_http", &listener.webmail_http.path),
        ("webmail_https", &listener.webmail_https.path),
        ("webapi_http", &listener.webapi_http.path),
        ("webapi_https", &listener.webapi_https.path),
    ] {
        if !(path.starts_with('/') && path.ends_with('/')) {
            bad(
                at.key(service).key("path"),
                format!("{path:?} must begin and end with a slash"),
            );
        }
    }
}

/// The ports of the services that cannot share one with others.
fn ports(listener: &Listener) -> Vec<(&'static str, u16)> {
    [
        ("smtp", listener.smtp.enabled, listener.smtp.port),
        ("submission", listener.submission.enabled, listener.submission.port),
        ("submissions", listener.submissions.enabled, listener.submissions.port),
        ("imap", listener.imap.enabled, listener.imap.port),
        ("imaps", listener.imaps.enabled, listener.imaps.port),
        (
            "metrics_http",
            listener.metrics_http.enabled,
            listener.metrics_http.port,
        ),
        ("pprof_http", listener.pprof_http.enabled, listener.pprof_http.port),
    ]
    .into_iter()
    .filter_map(|(name, enabled, port)| enabled.then_some((name, port)))
    .collect()
}

fn same_port_problems(config: &Static, bad: &mut Bad<'_>) {
    let mut taken: BTreeMap<(IpAddr, u16), String> = BTreeMap::new();
    for (name, listener) in &config.listeners {
        for (service, port) in ports(listener) {
            let at = FieldPath::root().key("listeners").key(name).key(service);
            for ip in &listener.ips {
                let this = at.to_string();
                // Port 0 is any free one.
                if port != 0
                    && let Some(other) = taken.insert((*ip, port), this)
                {
                    bad(
                        at.clone(),
                        format!("port {port} on {ip} is used by {other} already: choose another port"),
                    );
                }
            }
        }
    }
}

fn initial_mailboxes_problems(config: &Static, bad: &mut Bad<'_>) {
    let at = FieldPath::root().key("initial_mailboxes");
    let special = &config.initial_mailboxes.special_use;
    let uses = [
        ("sent", &special.sent),
        ("archive", &special.archive),
        ("trash", &special.trash),
        ("draft", &special.draft),
        ("junk", &special.junk),
    ];
    let mut seen: Vec<String> = Vec::new();
    let special = uses
        .iter()
        .filter(|(_, n)| !n.is_empty())
        .map(|(f, n)| (at.key("special_use").key(f), *n));
    let regular = config
        .initial_mailboxes
        .regular
        .iter()
        .enumerate()
        .map(|(n, m)| (at.key("regular").entry(n), m));
    for (at, name) in special.chain(regular) {
        if let Some(message) = mailbox_problem(name) {
            bad(at, message);
        } else if seen.contains(name) || name.eq_ignore_ascii_case("inbox") {
            bad(at, format!("mailbox {name:?} is there already: remove it here"));
        }
        seen.push(name.clone());
    }
}

fn transport_problems(transport: &Transport, at: &FieldPath, bad: &mut Bad<'_>) {
    let servers = [
        ("submissions", &transport.submissions),
        ("submission", &transport.submission),
        ("smtp", &transport.smtp),
    ];
    let ways = servers.iter().filter(|(_, t)| t.is_some()).count()
        + usize::from(transport.socks.is_some())
        + usize::from(transport.direct.is_some())
        + usize::from(transport.fail.is_some());
    if ways != 1 {
        let message =
            format!("must have exactly one of submissions, submission, smtp, socks, direct and fail, not {ways}");
        bad(at.clone(), message);
    }
    for (kind, server) in servers {
        if let Some(server) = server {
            server_problems(kind, server, &at.key(kind), bad);
        }
    }
    if let Some(direct) = &transport.direct
        && direct.disable_ipv4
        && direct.disable_ipv6
    {
        bad(
            at.key("direct"),
            "disables both IPv4 and IPv6, so nothing is left: remove one".to_owned(),
        );
    }
    if let Some(fail) = &transport.fail
        && !(400..600).contains(&fail.smtp_code)
    {
        bad(
            at.key("fail").key("smtp_code"),
            format!("{} must be from 400 to 599", fail.smtp_code),
        );
    }
}

fn server_problems(kind: &str, server: &TransportSmtp, at: &FieldPath, bad: &mut Bad<'_>) {
    if server.host.parse::<IpAddr>().is_err() && server.host.parse::<mox_types::Domain>().is_err() {
        bad(
            at.key("host"),
            format!("{:?} is neither a host name nor an IP address", server.host),
        );
    }
    if kind == "submissions" && server.no_starttls {
        bad(
            at.key("no_starttls"),
            "submissions has TLS from the start: use submission or smtp without it".to_owned(),
        );
    }
    if let Some(auth) = &server.auth
        && auth.mechanisms.is_empty()
    {
        bad(
            at.key("auth").key("mechanisms"),
            "must not be empty: remove it for the default".to_owned(),
        );
    }
}

fn rpc_problems(config: &Static, bad: &mut Bad<'_>) {
    let at = FieldPath::root().key("rpc");
    for name in config.rpc.services.keys().filter(|n| !SERVICES.contains(&n.as_str())) {
        bad(
            at.key("services").key(name),
            format!("{name:?} is not a service: these are {}", SERVICES.join(", ")),
        );
    }
    if let Some(listen) = &config.rpc.listen
        && config.rpc.tls.is_none()
        && !listen.starts_with("unix:")
    {
        let host = listen.rsplit_once(':').map_or(listen.as_str(), |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if host != "localhost" && !ip.is_ok_and(|ip| ip.is_loopback()) {
            let message = format!("{listen} can be reached by others, so it needs mutual TLS: add a tls table");
            bad(at.key("listen"), message);
        }
    }
}
