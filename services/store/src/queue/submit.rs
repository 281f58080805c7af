//! Who may send as whom.

use mox_config::{Dynamic, Lookup};
use mox_types::Address;

use super::QueueError;

/// Whether an account may use an address as From or MAIL FROM: one that leads to it, also by the catch-all of its
/// domain, or that of a list that it is a member of and that lets members do so.
///
/// # Errors
/// If the domain is out of service: what is sent from it is put off.
pub fn may_send_as(config: &Dynamic, account: &str, address: &Address) -> Result<bool, QueueError> {
    let leads_here =
        |address: &Address| matches!(config.configured(address), Lookup::Account(r) if r.account == account);
    Ok(match config.configured(address) {
        Lookup::Account(recipient) => recipient.account == account,
        Lookup::Alias { alias, .. } => alias.allow_msg_from && alias.addresses.iter().any(leads_here),
        Lookup::DomainDisabled => {
            return Err(QueueError::Status(
                tonic::Code::Unavailable,
                format!("domain {} is out of service, try again later", address.domain),
            ));
        }
        Lookup::UnknownAddress | Lookup::UnknownDomain => false,
    })
}
