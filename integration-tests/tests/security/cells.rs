//! What a cell of the matrix is made of: what a domain has in DNS, what its host does, and what the message says.

use crate::cases;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Mox,
    Postfix,
}

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Mox,
    Postfix,
}

/// A host of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// With STARTTLS, and REQUIRETLS where it is known.
    Tls,
    /// Without STARTTLS.
    Plain,
    /// With STARTTLS, without REQUIRETLS.
    NoRequireTls,
    /// With a certificate whose time is over.
    Expired,
    /// With a certificate of an authority that nobody trusts.
    Untrusted,
    /// With STARTTLS that never works: somebody is in between.
    NoHandshake,
    /// With STARTTLS for a first message; then somebody in between leaves it out.
    LostStartTls,
    /// With STARTTLS for a first message; then somebody in between breaks it.
    LostHandshake,
}

impl Host {
    /// Whether it had TLS with the sender before.
    pub fn had_tls(self) -> bool {
        matches!(self, Self::LostStartTls | Self::LostHandshake)
    }
}

/// How DNS leads from the domain to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By an MX record.
    Mx,
    /// The domain is an alias of one with an MX record.
    Alias,
    /// It has no MX record, and is its own host (RFC 5321 §5.1).
    Itself,
    /// A host that must not be used comes before it: its TLSA records are wrong.
    Second,
    /// Nowhere: a null MX (RFC 7505).
    Null,
}

/// TLSA records of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dane {
    None,
    /// 3 1 1, of its key.
    Good,
    /// 2 0 1, of the authority.
    Authority,
    /// 3 1 1, of nothing.
    Wrong,
    /// 3 1 1 of its key, changed after signing.
    Bogus,
    /// A record that means nothing.
    Unusable,
    /// 1 1 1, of its key, and 0 0 1, of the authority, which are not for mail (RFC 7672 §3.1.3).
    Pkix,
    /// 1 1 1 of nothing beside 3 1 1 of its key.
    PkixWrong,
    /// 1 1 1 of its key beside 3 1 1 of nothing.
    PkixOnly,
}

/// An MTA-STS policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sts {
    None,
    /// Mode, and whether it names the host.
    Policy(&'static str, bool),
    /// A record, and nothing behind it.
    Broken,
    /// A host of the policy whose certificate is not for it.
    Misnamed,
    /// A text that is no policy.
    Nonsense,
    /// A policy that must not count, as another host has it that the answer of this one leads to; with the code.
    Moved(u16),
    /// A policy that must not count, of another media type.
    OfType(&'static str),
    /// A policy that must not count, and more than one may have.
    WithMore(&'static str),
}

impl Sts {
    /// Whether the policy, if it counted, would keep mail away.
    pub fn is_trap(self) -> bool {
        matches!(self, Self::Moved(_) | Self::OfType(_) | Self::WithMore(_))
    }
}

/// What the message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    Plain,
    /// REQUIRETLS.
    Required,
    /// `TLS-Required: No`.
    NotRequired,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// For people.
    pub title: &'static str,
    /// Label of the domain.
    pub label: &'static str,
    pub host: Host,
    pub route: Route,
    /// The host's name is an alias.
    pub alias: bool,
    /// The certificate has the host's name.
    pub named: bool,
    /// DNSSEC protects the domain.
    pub signed: bool,
    pub dane: Dane,
    pub sts: Sts,
    pub message: Message,
    /// From mox.
    pub expected: &'static str,
    /// From Postfix, which sends no TLS reports; "" if it does not know of it. MTA-STS is what a policy map says.
    pub from_postfix: &'static str,
    /// To Postfix, if that is another.
    pub to_postfix: Option<&'static str>,
    /// Between two of mox only: which host receives, makes no difference.
    pub mox_only: bool,
}

/// A case, from one to another.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub case: Case,
    pub from: From,
    pub to: To,
}

/// All cells.
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (from, to) in [(From::Mox, To::Mox), (From::Mox, To::Postfix), (From::Postfix, To::Mox)] {
        for case in cases::ALL.iter().copied() {
            let cell = Cell { case, from, to };
            // What Postfix 3.7 does not know of: of REQUIRETLS it is shown that it has none.
            let known = match (from, to) {
                (From::Mox, To::Mox) => true,
                _ if case.mox_only => false,
                (From::Postfix, _) => !case.from_postfix.is_empty(),
                (From::Mox, To::Postfix) => case.host != Host::NoRequireTls,
            };
            if known {
                cells.push(cell);
            }
        }
    }
    cells
}

impl Cell {
    /// What is to come of it: outcome; DSN; TLS report.
    pub fn expected(&self) -> &'static str {
        match (self.from, self.to) {
            (From::Postfix, _) => self.case.from_postfix,
            (_, To::Postfix) => self.case.to_postfix.unwrap_or(self.case.expected),
            _ => self.case.expected,
        }
    }

    pub fn title(&self) -> String {
        format!("{:?} → {:?}, {}", self.from, self.to, self.case.title)
    }

    fn end(&self) -> &'static str {
        match self.to {
            To::Mox => "m",
            To::Postfix => "p",
        }
    }

    /// Whether a TLS report tells of it.
    pub fn is_reported(&self) -> bool {
        self.expected().split("; ").nth(2).is_some_and(|report| report != "–")
    }

    /// The recipient's domain; the same from whom ever.
    pub fn domain(&self) -> String {
        let zone = if self.case.signed { "example" } else { "plain.example" };
        format!("{}-{}.{zone}", self.case.label, self.end())
    }

    pub fn recipient(&self) -> String {
        format!("x@{}", self.domain())
    }

    /// Of the message.
    pub fn subject(&self) -> String {
        format!("{} from {:?}", self.case.label, self.from)
    }

    /// The name in MX.
    pub fn mx(&self) -> String {
        match self.case.route {
            Route::Itself => self.domain(),
            _ => format!("mx.{}", self.domain()),
        }
    }

    /// The name that has the addresses and TLSA records.
    pub fn base(&self) -> String {
        if self.case.alias {
            format!("host.{}", self.domain())
        } else {
            self.mx()
        }
    }
}
