//! Addresses and https URIs that no reports are sent to: because reports were refused there, or because the administrator says so.

use mox_proto::report::v1::{ListSuppressedRequest, ListSuppressedResponse, Suppressed};
use mox_reports::uris::{self, Destination};
use mox_types::Address;
use prost::Message as _;

use super::{ReportError, Reports};
use crate::engine::{Commit, Limit, Order};
use crate::keys;

/// How long an address is left alone after it refused a report: asking for reports again takes a while to be noticed.
const AFTER_FAILURE: i64 = 30 * 24 * 3600;
/// Octets of a comment.
const COMMENT: usize = 500;
/// Of an answer.
const PAGE: usize = 1000;

/// Leaves an address alone for a while.
pub(super) fn after_failure(commit: &mut Commit, address: &str, error: &str, now: i64) {
    let seconds = now / 1000;
    let suppressed = Suppressed {
        address: address.to_owned(),
        until: seconds + AFTER_FAILURE,
        comment: shortened(&format!("a report was not delivered: {error}")),
        created: seconds,
    };
    commit.put(keys::report_suppressed(address), suppressed.encode_to_vec());
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(COMMENT)].to_owned()
}

/// An address, or an https URI, as it is kept.
fn destination(text: &str) -> Result<String, mox_types::AddressError> {
    match uris::destination(text) {
        Some(Destination::Https(uri)) => Ok(uri),
        _ => Ok(text.parse::<Address>()?.to_string()),
    }
}

/// Whether reports are not sent there now.
fn is_active(suppressed: &Suppressed, now: i64) -> bool {
    suppressed.until == 0 || suppressed.until > now / 1000
}

impl Reports {
    /// Those of some addresses that no reports are sent to.
    pub(super) async fn suppressed(&self, addresses: &[String], now: i64) -> Result<Vec<String>, ReportError> {
        let all = addresses
            .iter()
            .map(|address| keys::report_suppressed(address))
            .collect();
        let mut found = Vec::new();
        for (address, value) in addresses.iter().zip(self.db().get_many(all).await?) {
            let Some(value) = value else { continue };
            let suppressed =
                Suppressed::decode(value.data).map_err(|_| ReportError::Damaged("a suppressed address"))?;
            if is_active(&suppressed, now) {
                found.push(address.clone());
            }
        }
        Ok(found)
    }

    /// Lists all, by address.
    pub(super) async fn list_suppressed(
        &self,
        request: &ListSuppressedRequest,
    ) -> Result<ListSuppressedResponse, ReportError> {
        let mut range = keys::report_suppressed_all();
        if !request.page_token.is_empty() {
            range.start = request.page_token.clone().max(range.start);
        }
        let page = self
            .db()
            .scan(range.clone(), Limit::rows(PAGE), Order::Ascending)
            .await?;
        let next_page_token = page.rest(&range).map(|rest| rest.start).unwrap_or_default();
        let suppressed = page
            .rows
            .into_iter()
            .map(|(_, value)| Suppressed::decode(value.data).map_err(|_| ReportError::Damaged("a suppressed address")));
        Ok(ListSuppressedResponse {
            suppressed: suppressed.collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    /// Adds one, or replaces what there is of its address.
    pub(super) async fn add_suppressed(&self, mut suppressed: Suppressed) -> Result<(), ReportError> {
        suppressed.address = destination(&suppressed.address)
            .map_err(|e| ReportError::Invalid(format!("suppressing {:?}: {e}", suppressed.address)))?;
        suppressed.comment = shortened(&suppressed.comment);
        suppressed.created = self.now() / 1000;
        let mut commit = Commit::new();
        commit.put(keys::report_suppressed(&suppressed.address), suppressed.encode_to_vec());
        self.db().commit(commit).await?;
        Ok(())
    }

    /// Removes one.
    pub(super) async fn remove_suppressed(&self, address: &str) -> Result<(), ReportError> {
        let address = destination(address).unwrap_or_else(|_| address.to_owned());
        let key = keys::report_suppressed(&address);
        if self.db().get(key.clone()).await?.is_none() {
            return Err(ReportError::None("such suppressed address"));
        }
        let mut commit = Commit::new();
        commit.delete(key).set_frees();
        self.db().commit(commit).await?;
        Ok(())
    }

    /// Forgets those whose time is over.
    pub(super) async fn clean_suppressed(&self, now: i64) -> Result<(), ReportError> {
        let mut left = Some(keys::report_suppressed_all());
        while let Some(range) = left.take() {
            let page = self
                .db()
                .scan(range.clone(), Limit::rows(PAGE), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut commit = Commit::new();
            for (key, value) in page.rows {
                let over = Suppressed::decode(value.data).is_ok_and(|suppressed| !is_active(&suppressed, now));
                if over {
                    commit.require_at(key.clone(), value.version).delete(key).set_frees();
                }
            }
            if !commit.operations.is_empty() {
                self.db().commit(commit).await?;
            }
        }
        Ok(())
    }
}
