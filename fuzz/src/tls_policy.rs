//! MTA-STS records and policies, and TLSA records and the certificates they are held against: none makes a parser panic,
//! and what was understood is understood again when it is written.

use mox_tlspolicy::dane::{Matching, Names, PKIX_USAGES, association, check, describe, is_usable, parse, usable};
use mox_tlspolicy::mtasts::{POLICY_MAX, Policy, Record};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};

/// See the top. The first octet says what the rest is.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match kind % 4 {
        0 => {
            if let Ok(record) = Record::parse(&text) {
                assert!((1..=32).contains(&record.id.len()));
                let written = format!("v=STSv1; id={};", record.id);
                assert_eq!(Record::parse(&written), Ok(record));
            }
        }
        1 => {
            if let Ok(policy) = Policy::parse(rest) {
                assert_eq!(Policy::parse(policy.to_string().as_bytes()).as_ref(), Ok(&policy));
                assert!(policy.to_string().len() <= POLICY_MAX.max(2 * rest.len() + 200));
                let _ = policy.matches(&text);
            }
        }
        2 => {
            if let Ok(record) = parse(&text) {
                assert_eq!(parse(&record.to_string()).as_ref(), Ok(&record));
                let _ = (describe(std::slice::from_ref(&record)), is_usable(&record, PKIX_USAGES));
            }
        }
        _ => certificate(rest),
    }
}

/// A certificate, held against records that are made of it and of what it is not.
fn certificate(der: &[u8]) {
    let certificate = CertificateDer::from(der);
    let (roots, names) = (RootCertStore::empty(), Names(vec!["mx.example".to_owned()]));
    let provider = rustls::crypto::ring::default_provider();
    for usage in 0..4 {
        for selector in 0..2 {
            for matching in [Matching::Full, Matching::Sha256, Matching::Sha512] {
                let record = mox_dns::Tlsa {
                    usage,
                    selector,
                    matching: matching.number(),
                    data: association(matching, der),
                };
                let records = usable(std::slice::from_ref(&record), PKIX_USAGES);
                let chain = std::slice::from_ref(&certificate);
                let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
                let algorithms = provider.signature_verification_algorithms.all;
                let verdict = check(&records, &certificate, chain, &names, &roots, now, algorithms);
                // Nobody vouches for anything here: only a record of the certificate itself can match.
                assert!(verdict.is_err() || usage == 3 || usage == 2);
            }
        }
    }
}
