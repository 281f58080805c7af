//! Who an address is.

use mox_config::Lookup;
use mox_proto::delivery::v1 as api;
use mox_proto::delivery::v1::lookup_recipient_response::Kind;
use mox_types::{AccountId, Address};
use tonic::Status;

use super::Delivery;
use crate::account::AccountError;
use crate::registry::Committed;

/// What the configuration says of an address; `postmaster` alone is one too (RFC 5321 §4.1.1.3).
pub(super) fn find<'a>(committed: &'a Committed, address: &str) -> Result<Lookup<'a>, Status> {
    if address.eq_ignore_ascii_case("postmaster") {
        return Ok(committed.dynamic.postmaster());
    }
    let address: Address = address
        .parse()
        .map_err(|e| Status::invalid_argument(format!("looking up a recipient: {e}")))?;
    Ok(committed.dynamic.destination(&address))
}

impl Delivery {
    pub(super) async fn do_lookup(
        &self,
        request: &api::LookupRecipientRequest,
    ) -> Result<api::LookupRecipientResponse, Status> {
        let committed = self.registry.current();
        let kind = |kind: Kind| api::LookupRecipientResponse {
            kind: kind.into(),
            ..Default::default()
        };
        let recipient = match find(&committed, &request.address)? {
            Lookup::UnknownDomain => return Ok(kind(Kind::NotLocal)),
            Lookup::UnknownAddress => return Ok(kind(Kind::Unknown)),
            Lookup::DomainDisabled => return Ok(kind(Kind::DomainDisabled)),
            Lookup::Alias { alias, address } => {
                let alias_members = alias.addresses.iter().map(ToString::to_string).collect();
                let canonical_address = address.to_string();
                return Ok(api::LookupRecipientResponse {
                    alias_members,
                    canonical_address,
                    alias_post_public: alias.post_public,
                    ..kind(Kind::Alias)
                });
            }
            Lookup::Account(recipient) => recipient,
        };
        let Some(id) = committed.id(recipient.account) else {
            // Its registration is made by the commit of the configuration, so this is about to change.
            return Err(Status::unavailable(format!(
                "account {:?} is being set up",
                recipient.account
            )));
        };
        let reports = committed.dynamic.reports_to(&recipient.address);
        let mut answer = api::LookupRecipientResponse {
            account_id: id.to_bytes(),
            account: recipient.account.to_owned(),
            canonical_address: recipient.address.to_string(),
            dmarc_reports: reports.dmarc,
            tls_reports: reports.tls,
            ..kind(Kind::Account)
        };
        match recipient.destination.map(|d| d.smtp_error.as_str()) {
            Some("") | None => answer.over_quota = self.is_full(id, 0).await?,
            Some(refusal) => {
                answer.kind = Kind::Refused.into();
                answer.smtp_error = refusal.to_owned();
            }
        }
        Ok(answer)
    }

    /// Whether an account has no room for so many more bytes.
    pub(super) async fn is_full(&self, id: AccountId, more: u64) -> Result<bool, AccountError> {
        let state = self.accounts.state(id, 0).await?;
        let quota = self.accounts.quota(&state.record.name);
        // At RCPT the size is not known: what is full already has no room for anything.
        Ok(quota != 0 && state.record.size.saturating_add(more.max(1)) > quota)
    }
}
