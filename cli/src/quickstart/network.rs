//! What can be found out about the machine and its network. Nothing here is needed for setting up: what cannot be found
//! out becomes a note.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use mox_dns::{Resolver, Settings, Status, SystemResolver};
use mox_types::Domain;
use tokio::net::TcpStream;

/// For one question or connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// A domain with servers that take mail from everywhere, to see whether port 25 is open.
const PROBE: &str = "gmail.com";
/// The port of mail between servers.
const SMTP_PORT: u16 = 25;

/// What was found out.
pub struct Found {
    /// Name of the host.
    pub hostname: Domain,
    /// Addresses to listen on.
    pub ips: Vec<IpAddr>,
    /// Public addresses that are not this machine's own.
    pub nat_ips: Vec<IpAddr>,
    /// Whether the zone of the host is signed, if that is known.
    pub dnssec: Option<bool>,
    /// For the reader: what is well, and what is not.
    pub notes: Vec<String>,
}

impl Found {
    /// The addresses that others connect to.
    pub fn public_ips(&self) -> Vec<IpAddr> {
        let own = self.ips.iter().filter(|ip| is_public(**ip));
        self.nat_ips.iter().chain(own).copied().collect()
    }
}

/// Looks at everything.
pub async fn look(domain: &Domain, given: Option<&Domain>, skip_dial: bool) -> Found {
    let mut notes = Vec::new();
    let resolver = resolver(&mut notes);
    let resolver = resolver.as_ref();
    let own = own_addresses();
    let public: Vec<IpAddr> = own.iter().copied().filter(|ip| is_public(*ip)).collect();
    let hostname = match given {
        Some(given) => given.clone(),
        None => hostname(resolver, domain, &public, &mut notes).await,
    };
    let mut found = Found {
        hostname,
        ips: Vec::new(),
        nat_ips: Vec::new(),
        dnssec: None,
        notes: Vec::new(),
    };
    addresses(resolver, given.is_some(), public, &mut found, &mut notes).await;
    if let Some(resolver) = resolver {
        reverse(resolver, &found, &mut notes).await;
        mail_exchangers(resolver, domain, &found, &mut notes).await;
    }
    if skip_dial {
        notes.push(note("Port 25 to other servers was not tried."));
    } else {
        dial(resolver, &mut notes).await;
    }
    found.notes = notes;
    found
}

fn note(text: impl Display) -> String {
    format!("- {text}")
}

fn resolver(notes: &mut Vec<String>) -> Option<SystemResolver> {
    match SystemResolver::new(&Settings {
        validate: true,
        ..Settings::default()
    }) {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            notes.push(note(format!(
                "DNS cannot be asked, so nothing in it was looked at: {error}"
            )));
            None
        }
    }
}

/// Addresses that this machine reaches others from. Nothing is sent to find them.
fn own_addresses() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): where they would be routed to tells the address to use.
    let far: [(SocketAddr, SocketAddr); 2] = [
        (
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        ),
        (
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        ),
    ];
    let source = |(from, to): (SocketAddr, SocketAddr)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    far.into_iter()
        .filter_map(source)
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .collect()
}

/// Whether others can reach an address from anywhere.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6598: addresses that providers share among customers.
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_documentation()
                || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

/// The full name of this machine.
async fn hostname(
    resolver: Option<&SystemResolver>,
    domain: &Domain,
    public: &[IpAddr],
    notes: &mut Vec<String>,
) -> Domain {
    let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if system.contains('.')
        && let Ok(name) = system.parse::<Domain>()
    {
        notes.push(note(format!("The name of this host is {name}.")));
        return name;
    }
    if let Some(resolver) = resolver {
        for ip in public {
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, resolver.ptr(*ip)).await
                && let Some(name) = answer.records.iter().find_map(|n| n.parse::<Domain>().ok())
            {
                notes.push(note(format!(
                    "The name of this host is {name}, by the reverse DNS of {ip}."
                )));
                return name;
            }
        }
    }
    let label = system
        .split('.')
        .next()
        .filter(|l| !l.is_empty() && *l != "localhost")
        .unwrap_or("mail");
    let name = format!("{label}.{domain}").parse::<Domain>();
    let name = name
        .or_else(|_| format!("mail.{domain}").parse())
        .unwrap_or_else(|_| domain.clone());
    notes.push(note(format!(
        "The full name of this host is not known, {name} is taken. If that is wrong, remove the folders config and data \
         afterwards, and run this again with -hostname."
    )));
    name
}

/// What to listen on: own public addresses, or everything if others' addresses lead here.
async fn addresses(
    resolver: Option<&SystemResolver>,
    given: bool,
    public: Vec<IpAddr>,
    found: &mut Found,
    notes: &mut Vec<String>,
) {
    let mut in_dns = Vec::new();
    if let Some(resolver) = resolver {
        match tokio::time::timeout(PATIENCE, resolver.addresses(found.hostname.ascii())).await {
            Ok(Ok(answer)) => {
                in_dns = answer.records;
                found.dnssec = match answer.status {
                    Status::Secure => Some(true),
                    Status::Insecure => Some(false),
                    Status::Indeterminate | Status::Bogus => None,
                };
                let list: Vec<String> = in_dns.iter().map(ToString::to_string).collect();
                notes.push(note(format!("{} is {} in DNS.", found.hostname, list.join(" and "))));
            }
            Ok(Err(error)) if error.is_not_found() => notes.push(note(format!(
                "{} has no addresses in DNS yet: create the records below.",
                found.hostname
            ))),
            Ok(Err(error)) => notes.push(note(format!(
                "The addresses of {} were not found out ({error}): check that this machine can use DNS.",
                found.hostname
            ))),
            Err(_) => notes.push(note("DNS did not answer in time: check that this machine can use DNS.")),
        }
    }
    let own = |ip: &IpAddr| TcpListener::bind((*ip, 0)).is_ok();
    let (here, elsewhere): (Vec<IpAddr>, Vec<IpAddr>) = in_dns.into_iter().partition(own);
    let here: Vec<IpAddr> = here.into_iter().filter(|ip| !ip.is_loopback()).collect();
    let elsewhere: Vec<IpAddr> = elsewhere.into_iter().filter(|ip| is_public(*ip)).collect();
    if given && !here.is_empty() {
        found.ips = here;
    } else if !public.is_empty() {
        found.ips = public;
    } else {
        found.ips = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
            found.ips.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        }
        found.nat_ips = elsewhere;
        notes.push(note(if found.nat_ips.is_empty() {
            "This machine has no public address of its own, so mox listens on all addresses. If it is behind network \
             address translation, forward its ports, and list the public addresses as nat_ips in config/mox.toml."
        } else {
            "The addresses of the host in DNS are not this machine's own, so mox listens on all addresses: forward its \
             ports to here."
        }));
    }
}

async fn reverse(resolver: &SystemResolver, found: &Found, notes: &mut Vec<String>) {
    for ip in found.public_ips() {
        match tokio::time::timeout(PATIENCE, resolver.ptr(ip)).await {
            Ok(Ok(answer)) if answer.records.iter().any(|n| n.parse::<Domain>().is_ok_and(|n| n == found.hostname)) => {
                notes.push(note(format!("The reverse DNS of {ip} is {}, as it should be.", found.hostname)));
            }
            Ok(Ok(answer)) => notes.push(note(format!(
                "The reverse DNS of {ip} is {}, not {}: others may refuse your mail. It is changed where the address comes \
                 from.",
                answer.records.join(", "),
                found.hostname
            ))),
            Ok(Err(error)) if error.is_not_found() => notes.push(note(format!(
                "{ip} has no reverse DNS: have it set to {}, or others may refuse your mail.",
                found.hostname
            ))),
            Ok(Err(error)) => notes.push(note(format!("The reverse DNS of {ip} was not found out ({error})."))),
            Err(_) => notes.push(note(format!("The reverse DNS of {ip} was not found out in time."))),
        }
    }
}

async fn mail_exchangers(resolver: &SystemResolver, domain: &Domain, found: &Found, notes: &mut Vec<String>) {
    let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, resolver.mx(domain.ascii())).await else {
        return;
    };
    let others: Vec<String> = answer
        .records
        .iter()
        .map(|mx| mx.host.clone())
        .filter(|h| h.trim_end_matches('.') != found.hostname.ascii())
        .collect();
    if !others.is_empty() {
        notes.push(note(format!(
            "Mail for {domain} goes to {} now: once you change the MX record, it arrives here instead.",
            others.join(", ")
        )));
    }
}

/// Tries whether other servers can be reached.
async fn dial(resolver: Option<&SystemResolver>, notes: &mut Vec<String>) {
    let host = match resolver {
        Some(resolver) => match tokio::time::timeout(PATIENCE, resolver.mx(PROBE)).await {
            Ok(Ok(answer)) => answer
                .records
                .first()
                .map(|mx| mx.host.trim_end_matches('.').to_owned()),
            _ => None,
        },
        None => None,
    };
    let Some(host) = host else {
        notes.push(note(format!(
            "Port {SMTP_PORT} to other servers was not tried, since DNS does not tell where one is. Without network, use \
             -skipdial."
        )));
        return;
    };
    let result = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), SMTP_PORT))).await;
    let failed = match result {
        Ok(Ok(_)) => {
            notes.push(note(format!(
                "Port {SMTP_PORT} of {host} answers: mail can be sent from here."
            )));
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} seconds", PATIENCE.as_secs()),
    };
    notes.push(note(format!(
        "Port {SMTP_PORT} of {host} cannot be reached ({failed}). Many providers block it until asked: mail cannot be sent \
         from here before that, or before a transport is configured."
    )));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_others() {
        for (ip, public) in [
            ("8.8.8.8", true),
            ("10.1.2.3", false),
            ("100.64.1.1", false),
            ("192.0.2.2", false),
            ("100.128.1.1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("2001:4860::1", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }
}
