//! Whether a certificate is one that TLSA records speak of.

use mox_dns::Tlsa;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::record::{Matching, Selector, Usage, describe, names, sequence};
use crate::fault::CertificateFault;

/// The names of which a certificate needs one, where names count (RFC 7672 §3.2.2): the TLSA base domain, and the
/// recipient's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

/// What a chain is checked with.
struct Chain<'a> {
    leaf: &'a CertificateDer<'a>,
    rest: &'a [CertificateDer<'a>],
    reference: &'a Names,
    roots: &'a RootCertStore,
    now: UnixTime,
    algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
}

/// Looks for a record, of those that are usable, that a certificate satisfies; `rest` is what the server sent with it.
/// `roots` are asked for the usages that begin with PKIX only.
///
/// # Errors
/// What is wrong with the certificate; if several records fail for different reasons, of the one that came furthest.
pub fn check(
    records: &[Tlsa],
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    reference: &Names,
    roots: &RootCertStore,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<Tlsa, CertificateFault> {
    let chain = Chain {
        leaf,
        rest,
        reference,
        roots,
        now,
        algorithms,
    };
    let mut fault = CertificateFault::NoMatch(describe(records));
    for record in records {
        let verdict = match Usage::from_number(record.usage) {
            Some(Usage::DaneEe) => chain.dane_ee(record),
            Some(Usage::DaneTa) => chain.dane_ta(record),
            Some(Usage::PkixEe) => chain.pkix_ee(record),
            Some(Usage::PkixTa) => chain.pkix_ta(record),
            None => None,
        };
        match verdict {
            Some(Ok(())) => return Ok(record.clone()),
            Some(Err(closer)) => fault = closer,
            None => {}
        }
    }
    Err(fault)
}

/// What a path must satisfy besides.
type PathCheck<'a> = dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error> + 'a;

/// `None`: the record speaks of another certificate.
type Verdict = Option<Result<(), CertificateFault>>;

impl Chain<'_> {
    /// RFC 7671 §5.1, RFC 7672 §3.1.1: name and time of the certificate do not matter; the record says both.
    fn dane_ee(&self, record: &Tlsa) -> Verdict {
        names(record, self.leaf).then_some(Ok(()))
    }

    /// RFC 7671 §5.2, RFC 7672 §3.1.2: the authority is among what the server sent, or in the record.
    fn dane_ta(&self, record: &Tlsa) -> Verdict {
        let data = CertificateDer::from(record.data.as_slice());
        let full = Matching::from_number(record.matching) == Some(Matching::Full);
        let selector = Selector::from_number(record.selector);
        let mut anchors: Vec<TrustAnchor<'_>> = self
            .rest
            .iter()
            .filter(|certificate| names(record, certificate))
            .filter_map(|certificate| webpki::anchor_from_trusted_cert(certificate).ok())
            .collect();
        let sent = !anchors.is_empty();
        match selector {
            Some(Selector::Cert) if full && !sent => anchors.extend(webpki::anchor_from_trusted_cert(&data).ok()),
            // RFC 7671 §5.2.3: a key without a certificate. It may have signed any certificate of the chain.
            Some(Selector::Spki) if full && !sent => {
                if let Some(key) = sequence(&record.data) {
                    let links = std::iter::once(self.leaf).chain(self.rest);
                    anchors.extend(links.filter_map(|certificate| {
                        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
                        let issuer = sequence(parsed.tbs_certificate.issuer.as_raw())?.to_vec();
                        Some(TrustAnchor {
                            subject: issuer.into(),
                            subject_public_key_info: key.into(),
                            name_constraints: None,
                        })
                    }));
                }
            }
            _ => {}
        }
        if anchors.is_empty() {
            return None;
        }
        match self.path(&anchors, None) {
            // An authority that is only in the record may have nothing to do with this certificate.
            Err(CertificateFault::Issuer | CertificateFault::Invalid(_)) if !sent => None,
            verdict => Some(verdict),
        }
    }

    /// RFC 6698 §2.1.1: the certificate is the one of the record, and valid as any other.
    fn pkix_ee(&self, record: &Tlsa) -> Verdict {
        names(record, self.leaf).then(|| self.path(&self.roots.roots, None))
    }

    /// RFC 6698 §2.1.1: valid as any other, by a path with the authority of the record.
    fn pkix_ta(&self, record: &Tlsa) -> Verdict {
        let through = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().any(|c| names(record, &c.der()));
            // Of the authority at the end only the key is known; its certificate, if the server sent it.
            let key = webpki::spki_for_anchor(path.anchor());
            let end = self.rest.iter().any(|certificate| {
                names(record, certificate)
                    && webpki::anchor_from_trusted_cert(certificate).is_ok_and(|a| {
                        a.subject == path.anchor().subject
                            && a.subject_public_key_info == path.anchor().subject_public_key_info
                    })
            });
            let end = end
                || (Selector::from_number(record.selector) == Some(Selector::Spki)
                    && Matching::from_number(record.matching)
                        .is_some_and(|m| super::association(m, &key) == record.data));
            if between || end {
                Ok(())
            } else {
                Err(webpki::Error::UnknownIssuer)
            }
        };
        match self.path(&self.roots.roots, None) {
            Err(fault) => Some(Err(fault)),
            // The record speaks of an authority that has no part in any path.
            Ok(()) => self.path(&self.roots.roots, Some(&through)).ok().map(Ok),
        }
    }

    /// Whether there is a valid path to one of the anchors, for one of the names.
    fn path(&self, anchors: &[TrustAnchor<'_>], through: Option<&PathCheck<'_>>) -> Result<(), CertificateFault> {
        let wanted = self.reference.0.join(" or ");
        let fault = |e: webpki::Error| CertificateFault::from_library(&e, &wanted);
        let leaf = EndEntityCert::try_from(self.leaf).map_err(fault)?;
        leaf.verify_for_usage(
            self.algorithms,
            anchors,
            self.rest,
            self.now,
            KeyUsage::server_auth(),
            None,
            through,
        )
        .map_err(fault)?;
        let named = self.reference.0.iter().any(|name| {
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
        });
        if named {
            Ok(())
        } else {
            Err(CertificateFault::Name(wanted))
        }
    }
}
