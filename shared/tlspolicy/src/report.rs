//! What results are in TLS reports (RFC 8460).

/// Why a session was not as a policy wants it (RFC 8460 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResultType {
    /// The host does not offer STARTTLS.
    StartTlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate leads to no authority that is trusted.
    CertificateNotTrusted,
    /// Any other failure.
    ValidationFailure,
    /// No TLSA record is of use, or matches.
    TlsaInvalid,
    /// An answer failed DNSSEC validation.
    DnssecInvalid,
    /// DANE was demanded, and there are no records.
    DaneRequired,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// The policy is none.
    StsPolicyInvalid,
    /// The certificate of the policy's host is not valid.
    StsWebpkiInvalid,
}
