//! Public keys that log in: of TLS certificates that clients show.
//!
//! Only the key in a certificate counts. That a client has the private key was verified by the service that its TLS
//! connection ends at, which tells the key's fingerprint; names, dates and issuers are not looked at.

use bytes::Bytes;
use mox_proto::auth::v1 as api;
use mox_proto::record::v1 as record;
use mox_service::{CERTIFICATE_MAX, PublicKeyDigest, public_key_digest};
use mox_types::{AccountId, Address};
use prost::Message as _;
use tonic::Status;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519, Oid,
};
use x509_parser::public_key::PublicKey;

use crate::engine::{Commit, Db, EngineError, Limit, Order};
use crate::keys;
use crate::registry::{Committed, Registry};

/// Most keys of an account.
const KEYS_MAX: usize = 1000;
/// Octets of a name.
const NAME_MAX: usize = 256;
/// Keys in a page of a list: their certificates fit in an answer.
const PAGE: usize = 200;

/// A key, and whose it is.
pub(super) struct Known {
    pub account: AccountId,
    pub record: record::TlsPublicKey,
    /// Of the record.
    pub version: u64,
}

/// A key that is registered.
///
/// # Errors
/// If the engine fails, or the record is damaged.
pub(super) async fn find(db: &Db, key: &PublicKeyDigest) -> Result<Option<Known>, Status> {
    let Some(value) = db.get(keys::tls_public_key(key)).await.map_err(Status::from)? else {
        return Ok(None);
    };
    let (account, record) = decode(value.data)?;
    Ok(Some(Known {
        account,
        record,
        version: value.version,
    }))
}

fn decode(value: Bytes) -> Result<(AccountId, record::TlsPublicKey), Status> {
    let record = record::TlsPublicKey::decode(value).map_err(|_| damaged())?;
    let account = AccountId::try_from(&record.account_id).map_err(|_| damaged())?;
    Ok((account, record))
}

fn damaged() -> Status {
    Status::data_loss("the record of a TLS public key is damaged")
}

/// Adds the key of a certificate to the account that an address logs in to.
///
/// # Errors
/// If the address is nobody's login, the certificate is not one, or its key is registered already.
pub(super) async fn add(
    db: &Db,
    registry: &Registry,
    now: i64,
    request: api::AddPublicKeyRequest,
) -> Result<api::PublicKey, Status> {
    let committed = registry.current();
    let address: Address = request
        .login_address
        .parse()
        .map_err(|e| Status::invalid_argument(format!("adding a TLS public key: {:?}: {e}", request.login_address)))?;
    let Some((account, _)) = committed.login(&address) else {
        return Err(Status::not_found(format!(
            "adding a TLS public key: no account logs in with {address}: name an address of the account"
        )));
    };
    let (fingerprint, kind, common_name) = examine(&request.certificate)?;
    let name = match request.name.trim() {
        "" => common_name,
        name => name.to_owned(),
    };
    if name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "adding a TLS public key: its name is not at most {NAME_MAX} octets of printable characters"
        )));
    }
    if of_account(db, account).await?.len() >= KEYS_MAX {
        return Err(Status::resource_exhausted(format!(
            "adding a TLS public key: the account has {KEYS_MAX}, remove some first"
        )));
    }
    let record = record::TlsPublicKey {
        account_id: account.to_bytes(),
        login_address: address.to_string(),
        name,
        r#type: kind,
        no_imap_preauth: request.no_imap_preauth,
        created: now,
        certificate: request.certificate,
    };
    let key = keys::tls_public_key(&fingerprint);
    let mut commit = Commit::new();
    commit
        .require_absent(key.clone())
        .require_present(keys::account(account))
        .put(key, record.encode_to_vec());
    match db.commit(commit).await {
        Ok(_) => Ok(shown(&committed, &fingerprint, account, record)),
        Err(EngineError::Conflict { condition: 0 }) => Err(Status::already_exists(
            "adding a TLS public key: it is registered already; remove it first to change it",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Removes a key.
///
/// # Errors
/// If there is none.
pub(super) async fn remove(db: &Db, fingerprint: &PublicKeyDigest) -> Result<(), Status> {
    let key = keys::tls_public_key(fingerprint);
    let mut commit = Commit::new();
    commit.require_present(key.clone()).delete(key).set_frees();
    match db.commit(commit).await {
        Ok(_) => Ok(()),
        Err(EngineError::Conflict { .. }) => Err(Status::not_found(
            "there is no TLS public key with this fingerprint: mox config tlspubkey list shows those there are",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Keys as asked for.
///
/// # Errors
/// If there is no such account or key.
pub(super) async fn list(
    db: &Db,
    registry: &Registry,
    request: &api::ListPublicKeysRequest,
) -> Result<api::ListPublicKeysResponse, Status> {
    let committed = registry.current();
    if !request.fingerprint.is_empty() {
        let fingerprint = fingerprint(&request.fingerprint)?;
        let known = find(db, &fingerprint).await?.ok_or_else(|| {
            Status::not_found(
                "there is no TLS public key with this fingerprint: mox config tlspubkey list shows those there are",
            )
        })?;
        return Ok(api::ListPublicKeysResponse {
            keys: vec![shown(&committed, &fingerprint, known.account, known.record)],
            next_page_token: String::new(),
        });
    }
    let only = match request.account.as_str() {
        "" => None,
        name => Some(
            committed
                .id(name)
                .ok_or_else(|| Status::not_found(format!("there is no account {name:?}")))?,
        ),
    };
    let mut range = keys::tls_public_keys();
    if !request.page_token.is_empty() {
        range.start = crate::engine::after(&keys::tls_public_key(&parse_token(&request.page_token)?));
    }
    let page = db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
    let mut answer = api::ListPublicKeysResponse::default();
    if page.rest(&range).is_some()
        && let Some((last, _)) = page.rows.last()
    {
        let last = keys::parse_tls_public_key(last).ok_or_else(damaged)?;
        answer.next_page_token = hex(&last);
    }
    for (key, value) in page.rows {
        let fingerprint = keys::parse_tls_public_key(&key).ok_or_else(damaged)?;
        let (account, record) = decode(value.data)?;
        if only.is_none_or(|only| only == account) {
            answer.keys.push(shown(&committed, &fingerprint, account, record));
        }
    }
    Ok(answer)
}

/// Keys of one account, to be removed with it.
///
/// # Errors
/// If the engine fails.
pub(crate) async fn of_account(db: &Db, wanted: AccountId) -> Result<Vec<Bytes>, EngineError> {
    let mut found = Vec::new();
    let mut left = Some(keys::tls_public_keys());
    while let Some(range) = left {
        let page = db.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        left = page.rest(&range);
        for (key, value) in page.rows {
            if decode(value.data).is_ok_and(|(account, _)| account == wanted) {
                found.push(key);
            }
        }
    }
    Ok(found)
}

/// A fingerprint from a request.
///
/// # Errors
/// If it has not the length of one.
pub(super) fn fingerprint(bytes: &[u8]) -> Result<PublicKeyDigest, Status> {
    bytes
        .try_into()
        .map_err(|_| Status::invalid_argument("a fingerprint has 32 octets"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn parse_token(token: &str) -> Result<PublicKeyDigest, Status> {
    let bytes: Option<Vec<u8>> = token
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Status::invalid_argument("page_token is not one"))
}

fn shown(
    committed: &Committed,
    fingerprint: &PublicKeyDigest,
    account: AccountId,
    record: record::TlsPublicKey,
) -> api::PublicKey {
    api::PublicKey {
        fingerprint: Bytes::copy_from_slice(fingerprint),
        account: committed.name(account).unwrap_or_default().to_owned(),
        login_address: record.login_address,
        name: record.name,
        r#type: record.r#type,
        no_imap_preauth: record.no_imap_preauth,
        created: record.created,
        certificate: record.certificate,
    }
}

/// The fingerprint, the kind of key, and the common name of a certificate.
fn examine(certificate: &[u8]) -> Result<(PublicKeyDigest, String, String), Status> {
    let refuse = |why: &str| Status::invalid_argument(format!("adding a TLS public key: {why}"));
    if certificate.len() > CERTIFICATE_MAX {
        return Err(refuse("the certificate is too large"));
    }
    let fingerprint = public_key_digest(certificate).ok_or_else(|| refuse("what was given is not a certificate"))?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| refuse("what was given is not a certificate"))?;
    let kind = kind(&parsed).ok_or_else(|| {
        refuse("its key is of a kind that clients cannot log in with: use Ed25519, ECDSA P-256 or P-384, or RSA with 2048 bits or more")
    })?;
    let name = parsed.subject().iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default();
    let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Ok((fingerprint, kind, name))
}

/// What kind of key a certificate has; None if clients cannot use it.
fn kind(certificate: &X509Certificate<'_>) -> Option<String> {
    let info = certificate.public_key();
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Some("ed25519".to_owned());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve: Oid<'_> = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
        let known = [
            (OID_EC_P256, "ecdsa-p256"),
            (OID_NIST_EC_P384, "ecdsa-p384"),
            (OID_NIST_EC_P521, "ecdsa-p521"),
        ];
        return known
            .into_iter()
            .find(|(oid, _)| *oid == curve)
            .map(|(_, name)| name.to_owned());
    }
    match info.parsed().ok()? {
        // What the TLS library verifies (RFC 8446 §4.2.3 leaves sizes open).
        PublicKey::RSA(key) if key.key_size() >= 2048 => Some(format!("rsa-{}", key.key_size())),
        _ => None,
    }
}
