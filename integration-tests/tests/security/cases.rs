//! The rows of the matrix, and what is to come of each.

use crate::cells::{Case, Dane, Host, Message, Route, Sts};

/// What is usual.
const BASE: Case = Case {
    title: "",
    label: "",
    host: Host::Tls,
    route: Route::Mx,
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

/// A policy that can't be had.
const UNFETCHED: Case = Case {
    signed: false,
    expected: "delivered with TLS; –; sts: 1 sts-policy-fetch-error",
    mox_only: true,
    ..BASE
};

/// All of them.
pub const ALL: &[Case] = &[
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
        title: "TLS-Required: No, STARTTLS before, none now",
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
        title: "DANE, domain is an alias",
        label: "danealias",
        route: Route::Alias,
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "DANE, domain without MX",
        label: "danenomx",
        route: Route::Itself,
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "DANE wrong at the first host, good at the second",
        label: "danesecond",
        route: Route::Second,
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok, tlsa: 1 tlsa-invalid",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "null MX",
        label: "nullmx",
        route: Route::Null,
        expected: "failed; failed 5.1.10; –",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "DANE good (3 1 1), certificate expired",
        label: "daneexpired",
        host: Host::Expired,
        dane: Dane::Good,
        expected: "delivered with TLS; –; tlsa: 1 ok",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "STARTTLS, certificate of an unknown authority",
        label: "untrusted",
        signed: false,
        host: Host::Untrusted,
        expected: "delivered with TLS; –; no-policy-found: 1 ok",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "MTA-STS enforce, certificate of unknown authority",
        label: "stsuntrusted",
        signed: false,
        host: Host::Untrusted,
        sts: Sts::Policy("enforce", true),
        expected: "deferred; delayed 4.7.5; sts: 5 certificate-not-trusted",
        mox_only: true,
        ..BASE
    },
    Case {
        title: "MTA-STS enforce, certificate expired",
        label: "stsexpired",
        signed: false,
        host: Host::Expired,
        sts: Sts::Policy("enforce", true),
        expected: "deferred; delayed 4.7.5; sts: 5 certificate-expired",
        mox_only: true,
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
