//! Ways to deliver other than directly to the recipient's host.

use std::net::{IpAddr, SocketAddr};

use mox_types::Domain;

use crate::section::section;
use crate::value::{Mechanism, Secret};

section! {
    /// A way to deliver: exactly one of these.
    pub struct Transport: Default {
        /// Through another server, with TLS from the start (port 465).
        submissions: Option<TransportSmtp>,
        /// Through another server, with STARTTLS (port 587).
        submission: Option<TransportSmtp>,
        /// Through another server, as servers talk to each other (port 25).
        smtp: Option<TransportSmtp>,
        /// Directly, with connections through a SOCKS5 proxy.
        socks: Option<TransportSocks>,
        /// Directly, with a choice of addresses.
        direct: Option<TransportDirect>,
        /// Not at all: fails at once and for good.
        fail: Option<TransportFail>,
    }
}

section! {
    /// Delivering through another server.
    pub struct TransportSmtp {
        /// Its name, which its certificate must have, or an IP address.
        host: String [required eg "\"smtp.example.org\""],
        /// Its port, if not the usual one.
        port: Option<u16> [eg "587"],
        /// Go on when the certificate cannot be verified.
        starttls_insecure_skip_verify: bool,
        /// Do not use TLS.
        no_starttls: bool,
        /// How to log in.
        auth: Option<TransportAuth>,
    }
}

section! {
    /// Logging in at another server.
    pub struct TransportAuth {
        /// User there.
        username: String [required eg "\"user@example.org\""],
        /// Password there.
        password: Secret [required],
        /// Mechanisms that may be used; the first that both know is taken. PLAIN only when it is named here.
        mechanisms: Vec<Mechanism> [= vec![
            Mechanism::ScramSha256Plus,
            Mechanism::ScramSha256,
            Mechanism::ScramSha1Plus,
            Mechanism::ScramSha1,
            Mechanism::CramMd5,
        ]],
    }
}

section! {
    /// Delivering directly, through a SOCKS5 proxy.
    pub struct TransportSocks {
        /// Of the proxy.
        address: SocketAddr [required eg "\"127.0.0.1:1080\""],
        /// Addresses that the other side sees, for the suggested SPF records.
        remote_ips: Vec<IpAddr> [eg "[\"198.51.100.2\"]"],
        /// The name of those addresses, for EHLO.
        remote_hostname: Domain [required eg "\"mail3.example.org\""],
    }
}

section! {
    /// Delivering directly, with a choice of addresses.
    pub struct TransportDirect: Default {
        /// Do not connect over IPv4.
        disable_ipv4: bool,
        /// Do not connect over IPv6.
        disable_ipv6: bool,
    }
}

section! {
    /// Not delivering.
    pub struct TransportFail: Default {
        /// The code that the sender is told: from 400 to 599.
        smtp_code: u16 [= 554],
        /// The text that the sender is told.
        smtp_message: String [= "fail".to_owned()],
    }
}
