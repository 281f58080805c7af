//! The cells of the matrix: what a domain has in DNS, what the message says, and what is to come of it.

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
    expected: &'static str,
    /// From Postfix, which sends no TLS reports; "" if it does not know of it. MTA-STS is what a policy map says.
    from_postfix: &'static str,
    /// To Postfix, if that is another.
    to_postfix: Option<&'static str>,
    /// Between two of mox only: which host receives, makes no difference.
    mox_only: bool,
}

const BASE: Case = Case {
    title: "",
    label: "",
    host: Host::Tls,
    alias: false,
    named: true,
    signed: true,
    dane: Dane::None,
    sts: Sts::None,
    message: Message::Plain,
    expected: "",
    from_postfix: "",
    to_postfix: None,
    mox_only: false,
};

const UNFETCHED: Case = Case {
    signed: false,
    expected: "delivered with TLS; –; sts: 1 sts-policy-fetch-error",
    mox_only: true,
    ..BASE
};

const CASES: &[Case] = &[
    Case {
        title: "plain: no STARTTLS",
        label: "plaintext",
        host: Host::Plain,
        expected: "delivered without TLS; –; no-policy-found: 1 starttls-not-supported",
        from_postfix: "delivered without TLS; –",
        ..BASE
    },
    Case {
        title: "STARTTLS",
        label: "starttls",
        expected: "delivered with TLS; –; no-policy-found: 1 ok",
        from_postfix: "delivered with TLS; –",
        ..BASE
    },
    Case {
        title: "STARTTLS, domain without DNSSEC",
        label: "unsigned",
        signed: false,
        dane: Dane::Wrong,
        expected: "delivered with TLS; –; no-policy-found: 1 ok",
        from_postfix: "delivered with TLS; –",
        ..BASE
    },
    Case {
        title: "STARTTLS that does not work",
        label: "nohandshake",
        signed: false,
        host: Host::NoHandshake,
        expected: "delivered without TLS; –; no-policy-found: 1 validation-failure",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "STARTTLS before, not offered now",
        label: "loststarttls",
        signed: false,
        host: Host::LostStartTls,
        expected: "deferred; delayed 4.7.5; no-policy-found: 1 ok and 5 starttls-not-supported",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "STARTTLS before, does not work now",
        label: "losthandshake",
        signed: false,
        host: Host::LostHandshake,
        expected: "deferred; delayed 4.7.5; no-policy-found: 1 ok and 5 validation-failure",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "TLS-Required: No, STARTTLS before, not offered now",
        label: "nolost",
        signed: false,
        host: Host::LostStartTls,
        message: Message::NotRequired,
        expected: "delivered without TLS; –; no-policy-found: 1 ok and 1 starttls-not-supported",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "DANE good (3 1 1)",
        label: "dane",
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        from_postfix: "delivered with TLS, verified; –",
        ..BASE
    },
    Case {
        title: "DANE good (2 0 1)",
        label: "daneta",
        dane: Dane::Authority,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        from_postfix: "delivered with TLS, verified; –",
        ..BASE
    },
    Case {
        title: "DANE wrong",
        label: "danewrong",
        dane: Dane::Wrong,
        expected: "deferred; delayed 4.7.5; tlsa: 5 tlsa-invalid",
        from_postfix: "failed; failed 4.7.5",
        ..BASE
    },
    Case {
        title: "DANE, host without STARTTLS",
        label: "daneplain",
        host: Host::Plain,
        dane: Dane::Good,
        expected: "deferred; delayed 4.7.5; tlsa: 5 starttls-not-supported",
        from_postfix: "failed; failed 4.7.4",
        ..BASE
    },
    Case {
        title: "DANE, only records that mean nothing",
        label: "daneunusable",
        dane: Dane::Unusable,
        expected: "delivered with TLS; –; tlsa: 1 tlsa-invalid",
        from_postfix: "delivered with TLS; –",
        ..BASE
    },
    Case {
        title: "DANE, only records of usages 0 and 1",
        label: "danepkix",
        dane: Dane::Pkix,
        expected: "delivered with TLS; –; tlsa: 1 tlsa-invalid",
        from_postfix: "delivered with TLS; –",
        ..BASE
    },
    Case {
        title: "DANE, only usages 0 and 1, no STARTTLS",
        label: "danepkixplain",
        host: Host::Plain,
        dane: Dane::Pkix,
        expected: "deferred; delayed 4.7.5; tlsa: 5 starttls-not-supported",
        from_postfix: "failed; failed 4.7.4",
        ..BASE
    },
    Case {
        title: "DANE good (3 1 1) beside usage 1, wrong",
        label: "danegoodpkix",
        dane: Dane::PkixWrong,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        from_postfix: "delivered with TLS, verified; –",
        ..BASE
    },
    Case {
        title: "DANE wrong (3 1 1) beside usage 1, good",
        label: "danewrongpkix",
        dane: Dane::PkixOnly,
        expected: "deferred; delayed 4.7.5; tlsa: 5 tlsa-invalid",
        from_postfix: "failed; failed 4.7.5",
        ..BASE
    },
    Case {
        title: "DANE through CNAME",
        label: "danecname",
        alias: true,
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        from_postfix: "delivered with TLS, verified; –",
        ..BASE
    },
    Case {
        title: "DANE, signature broken",
        label: "danebogus",
        dane: Dane::Bogus,
        expected: "deferred; delayed 4.4.3; tlsa: 5 dnssec-invalid",
        from_postfix: "failed; failed 4.7.5",
        ..BASE
    },
    Case {
        title: "MTA-STS enforce good",
        label: "stsgood",
        signed: false,
        sts: Sts::Policy("enforce", true),
        expected: "delivered with TLS; –; sts: 1 ok",
        from_postfix: "delivered with TLS, verified; –",
        ..BASE
    },
    Case {
        title: "MTA-STS enforce, certificate of another name",
        label: "stsname",
        signed: false,
        named: false,
        sts: Sts::Policy("enforce", true),
        expected: "deferred; delayed 4.7.5; sts: 5 certificate-host-mismatch",
        from_postfix: "failed; failed 4.7.5",
        ..BASE
    },
    Case {
        title: "MTA-STS enforce, host that is not named",
        label: "stsmx",
        signed: false,
        sts: Sts::Policy("enforce", false),
        expected: "deferred; delayed 4.7.5; sts: 5 validation-failure",
        from_postfix: "failed; failed 4.7.5",
        ..BASE
    },
    Case {
        title: "MTA-STS enforce, host without STARTTLS",
        label: "stsplain",
        signed: false,
        host: Host::Plain,
        sts: Sts::Policy("enforce", true),
        expected: "deferred; delayed 4.7.5; sts: 5 starttls-not-supported",
        from_postfix: "failed; failed 4.7.4",
        ..BASE
    },
    Case {
        title: "MTA-STS testing, certificate of another name",
        label: "ststesting",
        signed: false,
        named: false,
        sts: Sts::Policy("testing", true),
        expected: "delivered with TLS; –; sts: 1 certificate-host-mismatch",
        from_postfix: "delivered with TLS; –",
        ..BASE
    },
    Case {
        title: "MTA-STS, policy can't be fetched",
        label: "stsbroken",
        signed: false,
        sts: Sts::Broken,
        expected: "delivered with TLS; –; sts: 1 sts-policy-fetch-error",
        ..BASE
    },
    Case {
        title: "MTA-STS, policy moved (301)",
        label: "sts301",
        sts: Sts::Moved(301),
        ..UNFETCHED
    },
    Case {
        title: "MTA-STS, policy moved (302)",
        label: "sts302",
        sts: Sts::Moved(302),
        ..UNFETCHED
    },
    Case {
        title: "MTA-STS, policy of another media type",
        label: "stshtml",
        sts: Sts::OfType("text/html"),
        ..UNFETCHED
    },
    Case {
        title: "MTA-STS, policy of 9 MB",
        label: "stslarge",
        sts: Sts::WithMore("megabytes"),
        ..UNFETCHED
    },
    Case {
        title: "MTA-STS, policy without end",
        label: "stsendless",
        sts: Sts::WithMore("endless"),
        ..UNFETCHED
    },
    Case {
        title: "MTA-STS testing, STARTTLS that does not work",
        label: "stsnohandshake",
        signed: false,
        host: Host::NoHandshake,
        sts: Sts::Policy("testing", true),
        expected: "delivered without TLS; –; sts: 1 validation-failure",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "MTA-STS, policy's host with a wrong certificate",
        label: "stsmisnamed",
        signed: false,
        sts: Sts::Misnamed,
        expected: "delivered with TLS; –; sts: 1 sts-webpki-invalid",
        ..BASE
    },
    Case {
        title: "MTA-STS, policy that is none",
        label: "stsnonsense",
        signed: false,
        sts: Sts::Nonsense,
        expected: "delivered with TLS; –; sts: 1 sts-policy-invalid",
        ..BASE
    },
    Case {
        title: "MTA-STS enforce good, DANE wrong",
        label: "both",
        dane: Dane::Wrong,
        sts: Sts::Policy("enforce", true),
        expected: "deferred; delayed 4.7.5; sts: 5 ok, tlsa: 5 tlsa-invalid",
        ..BASE
    },
    Case {
        title: "REQUIRETLS, supported, DANE",
        label: "reqdane",
        dane: Dane::Good,
        message: Message::Required,
        expected: "delivered with TLS and REQUIRETLS; –; tlsa: 1 ok",
        to_postfix: Some("failed; failed 5.7.30; tlsa: 1 ok"),
        ..BASE
    },
    Case {
        title: "REQUIRETLS, supported, MTA-STS",
        label: "reqsts",
        signed: false,
        sts: Sts::Policy("testing", true),
        message: Message::Required,
        expected: "delivered with TLS and REQUIRETLS; –; sts: 1 ok",
        to_postfix: Some("failed; failed 5.7.30; sts: 1 ok"),
        ..BASE
    },
    Case {
        title: "REQUIRETLS, not supported by the host",
        label: "reqno",
        host: Host::NoRequireTls,
        dane: Dane::Good,
        message: Message::Required,
        expected: "failed; failed 5.7.30; tlsa: 1 ok",
        ..BASE
    },
    Case {
        title: "REQUIRETLS, host without STARTTLS",
        label: "reqplain",
        host: Host::Plain,
        message: Message::Required,
        expected: "failed; failed 5.7.30; no-policy-found: 1 starttls-not-supported",
        ..BASE
    },
    Case {
        title: "REQUIRETLS, neither DNSSEC nor MTA-STS",
        label: "requnsure",
        signed: false,
        message: Message::Required,
        expected: "failed; failed 5.7.30; –",
        ..BASE
    },
    Case {
        title: "TLS-Required: No, DANE wrong",
        label: "nodane",
        dane: Dane::Wrong,
        message: Message::NotRequired,
        expected: "delivered with TLS; –; tlsa: 1 tlsa-invalid",
        ..BASE
    },
    Case {
        title: "TLS-Required: No, MTA-STS, no STARTTLS",
        label: "nosts",
        signed: false,
        host: Host::Plain,
        sts: Sts::Policy("enforce", true),
        message: Message::NotRequired,
        expected: "delivered without TLS; –; sts: 1 starttls-not-supported",
        ..BASE
    },
];

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
        for case in CASES.iter().copied() {
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
        format!("mx.{}", self.domain())
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
