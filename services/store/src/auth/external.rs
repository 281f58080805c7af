//! EXTERNAL (RFC 4422 appendix A): whom the public key of the client's TLS certificate stands for.

use std::str::FromStr;

use bytes::Bytes;
use mox_proto::auth::v1::authenticate_request::Start;
use mox_proto::auth::v1::authenticate_response::failure::Reason;
use mox_sasl::prepare_username;
use mox_service::PublicKeyDigest;
use mox_types::Address;
use tonic::Status;

use super::exchange::{Account, Found};
use super::{Authenticator, public_keys};

/// The key that a service saw in a client's TLS handshake.
///
/// # Errors
/// If what the service sent is not a fingerprint.
pub(super) fn shown(start: &Start) -> Result<Option<PublicKeyDigest>, Status> {
    match start.tls_public_key.as_ref() {
        [] => Ok(None),
        key => public_keys::fingerprint(key).map(Some),
    }
}

/// Decides about a key, and the identity that its owner wants to act as: none, or an address of the same account.
///
/// # Errors
/// If the store fails.
pub(super) async fn decide(
    authenticator: &Authenticator,
    key: Option<PublicKeyDigest>,
    identity: &Bytes,
    preauth: bool,
    found: &mut Found,
) -> Result<Result<Account, Reason>, Status> {
    let inner = &authenticator.0;
    let Some(key) = key else {
        return Ok(Err(Reason::Credentials));
    };
    found.public_key = Some(key);
    let Ok(identity) = std::str::from_utf8(identity) else {
        return Ok(Err(Reason::Malformed));
    };
    let Some(known) = public_keys::find(&inner.db, &key).await? else {
        found.login_address = super::logins::text(identity);
        return Ok(Err(Reason::Credentials));
    };
    if preauth && known.record.no_imap_preauth {
        return Ok(Err(Reason::Mechanism));
    }
    let own = known.record.login_address;
    let wanted = match identity {
        "" => own.clone(),
        identity => match prepare_username(identity) {
            Ok(wanted) => wanted,
            Err(_) => return Ok(Err(Reason::Malformed)),
        },
    };
    found.login_address = super::logins::text(&wanted);
    found.account = Some(known.account);
    // Both must be the account's by now: the key's own address may have been given to another.
    let committed = inner.registry.current();
    for address in [&own, &wanted] {
        let account = Address::from_str(address)
            .ok()
            .and_then(|address| committed.login(&address));
        if account.is_none_or(|(account, _)| account != known.account) {
            return Ok(Err(Reason::Credentials));
        }
    }
    let Some(mut account) = authenticator.lookup(&wanted).await? else {
        return Ok(Err(Reason::Credentials));
    };
    account.basis.public_key = Some((key, known.version));
    Ok(Ok(account))
}
