//! Every usage, selector and matching type, with certificates made for it; and where records are looked for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mox_dns::{Resolver, Status, Tlsa, ZoneResolver};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::*;
use crate::fault::{CertificateFault, subject_public_key_info};

/// A root, an authority below it, and a host's certificate of that authority.
struct Chain {
    root: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    host: CertificateDer<'static>,
}

static CHAINS: AtomicU32 = AtomicU32::new(0);
const HOST: &str = "mx.example.org";

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn chain_valid(names: &[&str], until: i32) -> Chain {
    let (root_key, key, host_key) = (key(), key(), key());
    // Names of authorities that are not one and the same differ.
    let number = CHAINS.fetch_add(1, Ordering::Relaxed);
    let root_params = authority(&format!("Root {number}"));
    let root = root_params.self_signed(&root_key).unwrap().der().clone();
    let root_issuer = Issuer::new(root_params, root_key);
    let params = authority(&format!("Between {number}"));
    let between = params.signed_by(&key, &root_issuer).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let host = params.signed_by(&host_key, &issuer).unwrap().der().clone();
    Chain {
        root,
        authority: between,
        host,
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn chain() -> Chain {
    chain_valid(&[HOST], 2040)
}

fn record(usage: Usage, selector: Selector, matching: Matching, of: &CertificateDer<'_>) -> Tlsa {
    let bytes = match selector {
        Selector::Cert => of.as_ref(),
        Selector::Spki => subject_public_key_info(of).unwrap(),
    };
    Tlsa {
        usage: usage.number(),
        selector: selector.number(),
        matching: matching.number(),
        data: association(matching, bytes),
    }
}

impl Chain {
    /// Against one record: what the server sends is its certificate, then `sent`.
    fn verify(&self, record: &Tlsa, sent: &[&CertificateDer<'static>], trusted: bool) -> Result<(), CertificateFault> {
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(self.root.clone()).unwrap();
        }
        let sent: Vec<_> = sent.iter().map(|c| (*c).clone()).collect();
        let names = Names(vec![HOST.into(), "example.org".into()]);
        // 2030.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        assert!(is_usable(record, PKIX_USAGES), "{record:?}");
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let verdict = check(
            std::slice::from_ref(record),
            &self.host,
            &sent,
            &names,
            &roots,
            now,
            algorithms,
        );
        verdict.map(drop)
    }
}

const SELECTORS: [Selector; 2] = [Selector::Cert, Selector::Spki];
const MATCHINGS: [Matching; 3] = [Matching::Full, Matching::Sha256, Matching::Sha512];

fn combinations() -> impl Iterator<Item = (Selector, Matching)> {
    SELECTORS.into_iter().flat_map(|s| MATCHINGS.map(|m| (s, m)))
}

fn is_no_match(verdict: &Result<(), CertificateFault>) -> bool {
    matches!(verdict, Err(CertificateFault::NoMatch(_)))
}

#[test]
fn dane_ee_is_the_certificate_and_nothing_else() {
    // Neither name nor time count (RFC 7672 §3.1.1).
    let chains = [
        chain(),
        chain_valid(&["other.example"], 2040),
        chain_valid(&[HOST], 2020),
    ];
    for ((selector, matching), chain) in combinations().flat_map(|c| chains.iter().map(move |chain| (c, chain))) {
        let good = record(Usage::DaneEe, selector, matching, &chain.host);
        assert_eq!(chain.verify(&good, &[], false), Ok(()), "{selector} {matching}");
        let wrong = record(Usage::DaneEe, selector, matching, &chain.authority);
        assert!(is_no_match(&chain.verify(&wrong, &[&chain.authority], true)));
    }
}

#[test]
fn dane_ta_is_an_authority_that_is_sent() {
    let chain = chain();
    for (selector, matching) in combinations() {
        let about = format!("{selector} {matching}");
        for anchor in [&chain.authority, &chain.root] {
            let good = record(Usage::DaneTa, selector, matching, anchor);
            assert_eq!(
                chain.verify(&good, &[&chain.authority, &chain.root], false),
                Ok(()),
                "{about}"
            );
        }
        // Not the host's own certificate (RFC 7671 §5.2), and not what others were signed by.
        let own = record(Usage::DaneTa, selector, matching, &chain.host);
        assert!(chain.verify(&own, &[&chain.authority], true).is_err(), "{about}");
        let stranger = self::chain();
        let wrong = record(Usage::DaneTa, selector, matching, &stranger.authority);
        assert!(is_no_match(&chain.verify(&wrong, &[&chain.authority], true)), "{about}");
        let sent = chain.verify(&wrong, &[&stranger.authority], true);
        assert_eq!(sent, Err(CertificateFault::Issuer), "{about}: sent, and signed nothing");
    }
}

#[test]
fn dane_ta_in_full_need_not_be_sent() {
    let chain = chain();
    for (selector, matching) in combinations() {
        let root = record(Usage::DaneTa, selector, matching, &chain.root);
        let verdict = chain.verify(&root, &[&chain.authority], false);
        match matching {
            // RFC 7671 §5.2.2 and §5.2.3.
            Matching::Full => assert_eq!(verdict, Ok(()), "{selector}"),
            _ => assert!(is_no_match(&verdict), "{selector}"),
        }
    }
}

#[test]
fn dane_ta_needs_name_and_time() {
    let chain = chain_valid(&["other.example"], 2040);
    let good = record(Usage::DaneTa, Selector::Cert, Matching::Sha256, &chain.authority);
    assert!(matches!(
        chain.verify(&good, &[&chain.authority], false),
        Err(CertificateFault::Name(_))
    ));
    // RFC 7672 §3.2.2: the recipient's domain is good as well, and wildcards are.
    for name in ["example.org", "*.example.org"] {
        let chain = chain_valid(&[name], 2040);
        let good = record(Usage::DaneTa, Selector::Cert, Matching::Sha256, &chain.authority);
        assert_eq!(chain.verify(&good, &[&chain.authority], false), Ok(()), "{name}");
    }
    let chain = chain_valid(&[HOST], 2020);
    let good = record(Usage::DaneTa, Selector::Spki, Matching::Sha512, &chain.authority);
    assert_eq!(
        chain.verify(&good, &[&chain.authority], false),
        Err(CertificateFault::Expired)
    );
}

#[test]
fn pkix_ee_needs_the_usual_authorities_too() {
    let chain = chain();
    for (selector, matching) in combinations() {
        let good = record(Usage::PkixEe, selector, matching, &chain.host);
        assert_eq!(
            chain.verify(&good, &[&chain.authority], true),
            Ok(()),
            "{selector} {matching}"
        );
        let untrusted = chain.verify(&good, &[&chain.authority], false);
        assert_eq!(untrusted, Err(CertificateFault::Issuer), "{selector} {matching}");
        let wrong = record(Usage::PkixEe, selector, matching, &self::chain().host);
        assert!(is_no_match(&chain.verify(&wrong, &[&chain.authority], true)));
    }
}

#[test]
fn pkix_ta_is_an_authority_on_the_path() {
    let chain = chain();
    for (selector, matching) in combinations() {
        let about = format!("{selector} {matching}");
        let between = record(Usage::PkixTa, selector, matching, &chain.authority);
        assert_eq!(chain.verify(&between, &[&chain.authority], true), Ok(()), "{about}");
        let untrusted = chain.verify(&between, &[&chain.authority], false);
        assert!(untrusted.is_err(), "{about}");
        let root = record(Usage::PkixTa, selector, matching, &chain.root);
        assert_eq!(
            chain.verify(&root, &[&chain.authority, &chain.root], true),
            Ok(()),
            "{about}"
        );
        let not_sent = chain.verify(&root, &[&chain.authority], true);
        // Only the key of an authority is known here.
        assert_eq!(not_sent.is_ok(), selector == Selector::Spki, "{about}");
        let stranger = self::chain();
        let wrong = record(Usage::PkixTa, selector, matching, &stranger.authority);
        let verdict = chain.verify(&wrong, &[&chain.authority, &stranger.authority], true);
        assert!(is_no_match(&verdict), "{about}: sent, and not on the path");
    }
}

#[test]
fn one_record_that_matches_is_enough() {
    let chain = chain();
    let records = [
        record(Usage::DaneEe, Selector::Spki, Matching::Sha256, &chain.authority),
        record(Usage::DaneEe, Selector::Cert, Matching::Sha512, &chain.host),
    ];
    let names = Names(vec![HOST.into()]);
    let roots = RootCertStore::empty();
    let verdict = check(&records, &chain.host, &[], &names, &roots, UnixTime::now(), &[]);
    assert_eq!(verdict.unwrap(), records[1]);
    let verdict = check(&records[..1], &chain.host, &[], &names, &roots, UnixTime::now(), &[]);
    let error = verdict.unwrap_err().to_string();
    assert!(error.contains("3 1 1 "), "{error}");
}

#[test]
fn records_that_mean_nothing_are_not_used() {
    let chain = chain();
    let good = record(Usage::DaneEe, Selector::Spki, Matching::Sha256, &chain.host);
    assert!(is_usable(&good, SMTP_USAGES));
    for wrong in [
        Tlsa {
            usage: 4,
            ..good.clone()
        },
        Tlsa {
            usage: 255,
            ..good.clone()
        },
        Tlsa {
            usage: 1,
            ..good.clone()
        },
        Tlsa {
            selector: 2,
            ..good.clone()
        },
        Tlsa {
            matching: 3,
            ..good.clone()
        },
        Tlsa {
            matching: 2,
            ..good.clone()
        },
        Tlsa {
            matching: 0,
            ..good.clone()
        },
        Tlsa {
            matching: 0,
            selector: 0,
            ..good.clone()
        },
        Tlsa {
            data: Vec::new(),
            ..good.clone()
        },
        Tlsa {
            data: vec![0; 31],
            ..good.clone()
        },
    ] {
        assert!(!is_usable(&wrong, SMTP_USAGES), "{wrong:?}");
    }
    assert!(is_usable(
        &Tlsa {
            usage: 1,
            ..good.clone()
        },
        PKIX_USAGES
    ));
    // RFC 7671 §9: the strongest digest of each usage and selector, and data in full.
    let strong = record(Usage::DaneEe, Selector::Spki, Matching::Sha512, &chain.host);
    let full = record(Usage::DaneEe, Selector::Spki, Matching::Full, &chain.host);
    let other = record(Usage::DaneEe, Selector::Cert, Matching::Sha256, &chain.host);
    let all = [good, strong.clone(), full.clone(), other.clone()];
    assert_eq!(usable(&all, SMTP_USAGES), [strong, full, other]);
}

#[test]
fn records_are_read_from_text() {
    let parsed = parse("3 1 1 133b919c 9D65d8b1").unwrap();
    assert_eq!((parsed.usage, parsed.selector, parsed.matching), (3, 1, 1));
    assert_eq!(parsed.data, [0x13, 0x3b, 0x91, 0x9c, 0x9d, 0x65, 0xd8, 0xb1]);
    assert_eq!(parse(&parsed.to_string()), Ok(parsed));
    for text in ["", "3 1 1", "3 1 1 a", "3 1 1 gg", "256 1 1 aa", "-1 1 1 aa", "3 1 1 é"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    for (word, usage) in [
        ("dane-ee", Usage::DaneEe),
        ("3", Usage::DaneEe),
        ("PKIX-TA", Usage::PkixTa),
    ] {
        assert_eq!(word.parse(), Ok(usage));
    }
    assert!("4".parse::<Usage>().unwrap_err().to_string().contains("dane-ee (3)"));
}

const ZONE: &str = "
    example.org                   STATUS secure
    mx.example.org                A 192.0.2.1
    _25._tcp.mx.example.org       TLSA 3 1 1 aa
    none.example.org              A 192.0.2.1
    alias.example.org             CNAME mx.example.org
    _25._tcp.alias.example.org    TLSA 3 1 1 bb
    own.example.org               CNAME none.example.org
    _25._tcp.own.example.org      TLSA 3 1 1 cc
    out.example.org               CNAME mx.plain.example
    _25._tcp.out.example.org      TLSA 3 1 1 dd
    mx.plain.example              A 192.0.2.2
    _25._tcp.mx.plain.example     TLSA 3 1 1 ee
    in.plain.example              CNAME mx.example.org
    broken.example.org            A 192.0.2.1
    _25._tcp.broken.example.org   FAIL servfail
    moved.example.org             A 192.0.2.1
    _25._tcp.moved.example.org    CNAME tlsa.example.org
    tlsa.example.org              TLSA 3 1 1 ff
    lost.example.org              A 192.0.2.1
    _25._tcp.lost.example.org     CNAME _25._tcp.mx.plain.example
";

#[tokio::test]
async fn records_are_looked_for_where_cnames_lead_and_then_where_they_begin() {
    let zone = ZoneResolver::parse(ZONE).unwrap();
    for (host, want) in [
        ("mx.example.org", Some(("mx.example.org", 0xaa))),
        ("MX.example.org.", Some(("mx.example.org", 0xaa))),
        ("none.example.org", None),
        ("alias.example.org", Some(("mx.example.org", 0xaa))),
        ("own.example.org", Some(("own.example.org", 0xcc))),
        // The alias is signed, where it leads is not: only what the host itself says counts.
        ("out.example.org", Some(("out.example.org", 0xdd))),
        ("mx.plain.example", None),
        ("in.plain.example", None),
        ("moved.example.org", Some(("moved.example.org", 0xff))),
        ("lost.example.org", None),
    ] {
        let addresses = zone.addresses(host).await.unwrap();
        let found = find(&zone, host, 25, &addresses).await.unwrap();
        let found = found.as_ref().map(|f| (f.base.as_str(), f.records[0].data[0]));
        assert_eq!(found, want, "{host}");
    }
    let addresses = zone.addresses("broken.example.org").await.unwrap();
    assert_eq!(addresses.status, Status::Secure);
    assert!(find(&zone, "broken.example.org", 25, &addresses).await.is_err());
}

proptest! {
    #[test]
    fn no_record_makes_it_panic(
        usage in 0u8..6, selector in 0u8..4, matching in 0u8..5,
        data in proptest::collection::vec(any::<u8>(), 0..80),
        text in ".{0,40}",
    ) {
        let record = Tlsa { usage, selector, matching, data };
        let junk = CertificateDer::from(record.data.clone());
        let names = Names(vec![HOST.into()]);
        let roots = RootCertStore::empty();
        let verdict = check(
            std::slice::from_ref(&record), &junk, std::slice::from_ref(&junk), &names, &roots, UnixTime::now(), &[],
        );
        prop_assert!(usage == 3 || verdict.is_err());
        let _ = (is_usable(&record, PKIX_USAGES), parse(&text));
        prop_assert_eq!(record.data.is_empty() || parse(&record.to_string()).as_ref() == Ok(&record), true);
    }
}
