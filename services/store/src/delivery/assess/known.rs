//! Stage: somebody whom the account has written to is welcome, if the message is shown to be from there.

use mox_proto::delivery::v1::Verdict;
use mox_types::Address;

use super::verdict::Draft;
use super::{Case, Delivery};
use crate::account::history::{self, Kind, Sender};
use crate::account::{AccountError, find_recipient};

impl Delivery {
    pub(super) async fn is_known(&self, case: &Case<'_>, draft: &Draft<'_>) -> Result<Option<Verdict>, AccountError> {
        if !history::is_from_verified(&case.sender) {
            return Ok(None);
        }
        let Ok(address) = case.from.parse::<Address>() else {
            return Ok(None);
        };
        let db = self.accounts.db();
        if find_recipient(db, case.account, &address).await?.is_none() {
            return Ok(None);
        }
        // What the user said last counts: people whose accounts were taken over are known too.
        let sender = Sender {
            kind: Kind::From,
            name: format!("{}@{}", case.sender.msg_from_localpart, case.sender.msg_from_domain).to_lowercase(),
        };
        let latest = history::latest(db, case.account, &sender, 0, 1).await?;
        if latest.first().is_some_and(|judged| judged.junk) {
            return Ok(None);
        }
        Ok(Some(
            draft.accept_for("known", format!("the account has written to {address}")),
        ))
    }
}
