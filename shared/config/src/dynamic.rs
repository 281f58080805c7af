//! `domains.toml`: domains and accounts. It is read again whenever it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mox_types::{Address, Domain as Name, Localpart};

use crate::account::Account;
use crate::duration::Duration;
use crate::fixed::{HostTlsRpt, Postmaster};
use crate::lookup::Index;
use crate::section::section;
use crate::value::{DkimHash, MtastsMode, Secret, Separators};
use crate::web::WebHandler;

section! {
    /// The dynamic configuration, `domains.toml`. Changes take effect at once, also those made by hand.
    pub struct Dynamic: Default {
        /// Domains that mail is received for.
        domains: BTreeMap<Name, Domain>,
        /// Accounts: mailboxes and a password, with the addresses that lead there. A name is not an address.
        accounts: BTreeMap<String, Account>,
        /// Domains whose web sites lead permanently to another, over HTTPS.
        web_domain_redirects: BTreeMap<Name, Name>,
        /// What the web server answers. The first that matches is taken.
        web_handlers: Vec<WebHandler>,
        /// Which transport delivers what, after the routes of the account and of the domain. The first that matches is
        /// taken, and without any the message is delivered directly.
        routes: Vec<Route>,
        /// Zones of DNS blocklists in which our own addresses are looked up, for a warning.
        monitor_dnsbls: Vec<Name> [eg "[\"sbl.spamhaus.org\"]"],
        /// What of mox.toml takes part in finding the recipients of mail.
        host: Option<Host> [hidden],
        /// Addresses by what they lead to, made when first needed.
        index: Index [hidden],
    }
}

section! {
    /// What of the static configuration takes part in finding the recipients of mail.
    pub struct Host {
        /// Every name of this host: of the whole, and of listeners.
        hostnames: Vec<Name>,
        /// Who receives mail for the postmaster.
        postmaster: Option<Postmaster>,
        /// Where reports about the TLS of this host arrive.
        tls_rpt: Option<HostTlsRpt>,
        /// Where mail for unknown addresses arrives in developer's mode.
        localserve: Option<Address>,
    }
}

section! {
    /// A domain that mail is received for.
    pub struct Domain: Default {
        /// Out of service: mail for it and from it is put off with a temporary error, and it gets no certificates. Its
        /// users can still log in and read.
        disabled: bool,
        /// For the administrator.
        description: String [eg "\"Example\""],
        /// Name of the host that mail clients are told to connect to, if it is not the one of the server. With a name
        /// within the domain, users need not change settings when the domain moves.
        client_settings_domain: Option<Name> [eg "\"mail.example.org\""],
        /// What separates the part of a localpart that is ignored: with "+", mail for user+anything reaches user. Several
        /// are given as a list.
        localpart_catchall_separator: Option<Separators> [eg "\"+\""],
        /// Several separators. Instead of the above.
        localpart_catchall_separators: Vec<String> [eg "[\"+\", \"-\"]"],
        /// Keep apart addresses that differ in upper and lower case only.
        localpart_case_sensitive: bool,
        /// Signing what is sent.
        dkim: Dkim,
        /// Where reports about mail in the domain's name arrive.
        dmarc: Option<Dmarc>,
        /// The policy that others must use TLS to deliver to us (RFC 8461).
        mtasts: Option<Mtasts>,
        /// Where reports about TLS arrive.
        tlsrpt: Option<Tlsrpt>,
        /// Which transport delivers what is sent from this domain.
        routes: Vec<Route>,
        /// Lists of addresses, by localpart: mail for the alias goes to each.
        aliases: BTreeMap<Localpart, Alias>,
    }
}

section! {
    /// Signing what is sent (RFC 6376).
    pub struct Dkim: Default {
        /// Keys, by the selector that others find the public key under.
        selectors: BTreeMap<String, Selector>,
        /// The selectors that mail is signed with.
        sign: Vec<String> [eg "[\"2026a\", \"2026b\"]"],
    }
}

section! {
    /// A key for signing.
    pub struct Selector: Default {
        /// The hash.
        hash: DkimHash [= DkimHash::Sha256],
        /// How much the message may change on its way.
        canonicalization: Canonicalization,
        /// Header fields that are signed. Without any, those that matter to readers.
        headers: Vec<String> [eg "[\"From\", \"To\", \"Subject\"]"],
        /// Do not prevent that signed header fields are added.
        dont_seal_headers: bool,
        /// How long a signature is valid.
        expiration: Option<Duration> [eg "\"72h\""],
        /// The private key, RSA or Ed25519, as PKCS#8 in PEM. A relative path starts at the folder of this file.
        private_key_file: Option<PathBuf> [eg "\"dkim/2026a._domainkey.example.org.ed25519.privatekey.pkcs8.pem\""],
        /// The private key itself, as PKCS#8 in PEM. Instead of the above.
        private_key: Option<Secret> [eg "\"-----BEGIN PRIVATE KEY-----\\n…\""],
    }
}

section! {
    /// How much a signed message may change on its way (RFC 6376 §3.4).
    pub struct Canonicalization: Default {
        /// White space and case in header fields.
        header_relaxed: bool [= true],
        /// White space in the body.
        body_relaxed: bool [= true],
    }
}

section! {
    /// Where aggregate reports about mail in the domain's name arrive.
    pub struct Dmarc {
        /// Before the "@".
        localpart: Localpart [required eg "\"dmarcreports\""],
        /// Behind the "@", if it is not the domain itself.
        domain: Option<Name>,
        /// Name of an account.
        account: String [required eg "\"mox\""],
        /// Mailbox of that account.
        mailbox: String [required eg "\"DMARC\""],
    }
}

section! {
    /// The policy that others must use TLS to deliver to us.
    pub struct Mtasts {
        /// Changes with every change of the policy, so that others notice: up to 32 letters and digits.
        policy_id: String [required eg "\"20260101T000000\""],
        /// What others do when they cannot.
        mode: MtastsMode [= MtastsMode::Enforce],
        /// How long others remember the policy.
        max_age: Duration [= Duration::from_days(1)],
        /// Hosts that receive mail for the domain. Without any, this host. "*.example.org" is any host of example.org.
        mx: Vec<String> [eg "[\"mail.example.org\"]"],
    }
}

section! {
    /// Where reports about TLS arrive (RFC 8460).
    pub struct Tlsrpt {
        /// Before the "@".
        localpart: Localpart [required eg "\"tlsreports\""],
        /// Behind the "@", if it is not the domain itself.
        domain: Option<Name>,
        /// Name of an account.
        account: String [required eg "\"mox\""],
        /// Mailbox of that account.
        mailbox: String [required eg "\"TLSRPT\""],
    }
}

section! {
    /// Which transport delivers what.
    pub struct Route: Default {
        /// Domains of the sender; with a leading dot, those below it too. Without any, all.
        from_domain: Vec<String> [eg "[\"example.org\", \".example.net\"]"],
        /// Domains of the recipient; with a leading dot, those below it too. Without any, all.
        to_domain: Vec<String> [eg "[\"example.com\"]"],
        /// Only after so many attempts have failed.
        minimum_attempts: u32 [= 0],
        /// Name of a transport in mox.toml.
        transport: String [eg "\"relay\""],
    }
}

section! {
    /// A list of addresses.
    pub struct Alias {
        /// Who gets the mail: local addresses. The sender, and who is addressed already, gets no second copy.
        addresses: Vec<Address> [required eg "[\"user@example.org\"]"],
        /// Anybody may write to the list, not only its members.
        post_public: bool,
        /// Members may see who the others are.
        list_members: bool,
        /// Members may use the address of the list as their own when they write.
        allow_msg_from: bool,
    }
}

impl Domain {
    /// Every separator, of both settings.
    pub fn separators(&self) -> impl Iterator<Item = &str> {
        let one = self.localpart_catchall_separator.iter().flat_map(|s| &s.0);
        one.chain(&self.localpart_catchall_separators)
            .map(String::as_str)
            .filter(|s| !s.is_empty())
    }

    /// A localpart before its first separator, and behind it; all of it if it has none. A localpart is never empty, so
    /// a separator at its start is none.
    #[must_use]
    pub fn split_localpart<'l>(&self, localpart: &'l str) -> (&'l str, Option<&'l str>) {
        let first = self
            .separators()
            .filter_map(|s| localpart.find(s).map(|at| (at, s.len())))
            .filter(|(at, _)| *at > 0)
            .min_by_key(|(at, length)| (*at, std::cmp::Reverse(*length)));
        match first {
            Some((at, length)) => (&localpart[..at], Some(&localpart[at + length..])),
            None => (localpart, None),
        }
    }
}

impl Route {
    /// Whether the route is for a message of such a sender and recipient after so many attempts.
    #[must_use]
    pub fn matches(&self, from: Option<&Name>, to: &Name, attempts: u32) -> bool {
        let any = |list: &[String], name: Option<&Name>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|pattern| domain_matches(pattern, name)))
        };
        attempts >= self.minimum_attempts && any(&self.from_domain, from) && any(&self.to_domain, Some(to))
    }
}

/// Whether a domain is the one of a pattern or, if that begins with a dot, below it as well.
fn domain_matches(pattern: &str, name: &Name) -> bool {
    match pattern.strip_prefix('.') {
        Some(parent) => parent.parse::<Name>().is_ok_and(|parent| name.is_within(&parent)),
        None => pattern.parse::<Name>().is_ok_and(|exact| *name == exact),
    }
}

impl Dynamic {
    /// The first route of the account, its domain of sending, or all that is for such a message.
    #[must_use]
    pub fn route(&self, account: &str, from: Option<&Name>, to: &Name, attempts: u32) -> Option<&Route> {
        let account = self.accounts.get(account).map(|a| &a.routes);
        let domain = from.and_then(|from| self.domains.get(from)).map(|d| &d.routes);
        let mut routes = account.into_iter().chain(domain).flatten().chain(&self.routes);
        routes.find(|route| route.matches(from, to, attempts))
    }
}
