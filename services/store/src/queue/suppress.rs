//! Addresses that an account's messages are not sent to, since earlier ones failed for good, or because somebody said so.
//!
//! What counts is the base of an address, so that `user.name+shop@example.org` stands for `username@example.org` too:
//! most providers deliver both to one mailbox, and sending on to a mailbox that does not exist harms the reputation of
//! who sends.

use mox_proto::queue::v1::{
    AttemptResult, Entry, ListSuppressionsRequest, ListSuppressionsResponse, Retired, Suppression,
};
use mox_types::{AccountId, Address};
use prost::Message;

use super::find::Row;
use super::index::{Field, normal};
use super::{Queue, QueueError, record};
use crate::engine::{Commit, Limit, Order, after};
use crate::keys::{self, QueueList, QueueOrder};

/// Suppressions of an answer.
const PAGE: usize = 1000;
/// Octets of a reason that are kept.
const REASON_MAX: usize = 1000;
/// Failures for good of whatever kind, one after the other, after which an address is not sent to.
const FAILURES: usize = 3;
/// Retired messages to an address that are looked at: more than one account may send there.
const HISTORY: usize = 20;
/// RFC 3463: what says that there is no such mailbox, and will not be. §3.2: bad mailbox, bad system, bad syntax, mailbox
/// has moved; RFC 7505: null MX; §3.3: mailbox disabled.
const NO_MAILBOX: [&str; 6] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"];
/// RFC 5321 §4.2.3: user not local; RFC 7504: domain does not accept mail.
const NO_MAILBOX_CODES: [u32; 2] = [551, 556];

/// What of an address counts: in lower case, without dots, and without what follows the first "+" or "-" of its
/// localpart.
#[must_use]
pub fn base_address(address: &Address) -> String {
    let localpart = address.localpart.as_str().to_lowercase();
    let base = localpart.split(['+', '-']).next().unwrap_or_default().replace('.', "");
    let base = if base.is_empty() { localpart } else { base };
    format!("{base}@{}", address.domain.ascii())
}

/// Of an entry's recipient, if it is an address.
pub(super) fn base_of(recipient: &str) -> Option<String> {
    recipient.parse().ok().as_ref().map(base_address)
}

fn says_no_mailbox(result: &AttemptResult) -> bool {
    NO_MAILBOX.contains(&result.enhanced_code.as_str())
}

/// Whether others refuse a recipient for good: a host, or a domain by its DNS. What a transport that fails says does not
/// count: that is ours, whatever its code.
fn is_refusal(result: &AttemptResult) -> bool {
    result.smtp_code / 100 == 5 && (!result.remote_host.is_empty() || says_no_mailbox(result))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(REASON_MAX)].to_owned()
}

impl Queue {
    /// Puts the recipient of a message that failed onto its account's list, in the commit of that failure, if the answer
    /// says that it does not exist, or it is one of several failures. Answers whether it did.
    pub(crate) async fn suppress_failed(
        &self,
        commit: &mut Commit,
        entry: &Entry,
        result: &AttemptResult,
        now: i64,
    ) -> Result<bool, QueueError> {
        if entry.dsn || entry.suppressed || !is_refusal(result) {
            return Ok(false);
        }
        let Some(base) = base_of(&entry.recipient) else {
            return Ok(false);
        };
        let account = record::account_of(entry)?;
        let key = keys::queue_suppression(account, &base);
        if self.db().get(key.clone()).await?.is_some() {
            return Ok(false);
        }
        let at_once = says_no_mailbox(result) || NO_MAILBOX_CODES.contains(&result.smtp_code);
        if !at_once && !self.failed_before(entry).await? {
            return Ok(false);
        }
        let suppression = Suppression {
            account: entry.account.clone(),
            base_address: base,
            address: entry.recipient.clone(),
            manual: false,
            reason: shortened(&format!("message {} failed: {}", entry.id, result.error)),
            created: now,
        };
        commit.put(key, suppression.encode_to_vec());
        Ok(true)
    }

    /// Whether the account's latest messages to an entry's recipient that are kept all failed for good.
    async fn failed_before(&self, entry: &Entry) -> Result<bool, QueueError> {
        let (address, _) = normal(&entry.recipient);
        let range = keys::queue_index_range(
            QueueList::Retired,
            Field::To as u8,
            QueueOrder::Activity,
            &address,
            (0, 0)..(i64::MAX, u64::MAX),
        );
        let page = self.db().scan(range, Limit::rows(HISTORY), Order::Descending).await?;
        let ids = page.rows.iter().filter_map(|(key, _)| keys::parse_queue_index(key));
        let wanted = ids.map(|(_, id)| keys::queue_retired(id)).collect();
        let mut failures = 1;
        for value in self.db().get_many(wanted).await?.into_iter().flatten() {
            let retired = Retired::read(&value.data)?;
            let Some(before) = retired.entry.filter(|before| before.account_id == entry.account_id) else {
                continue;
            };
            if retired.success || !before.results.last().is_some_and(is_refusal) {
                break;
            }
            failures += 1;
            if failures == FAILURES {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts an address onto an account's list, in a commit of something that says that messages to it fail: a
    /// notification that came back for one. Nothing is changed if it is there.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn suppress(
        &self,
        commit: &mut Commit,
        id: AccountId,
        account: &str,
        address: &Address,
        reason: &str,
    ) -> Result<bool, QueueError> {
        let base = base_address(address);
        let key = keys::queue_suppression(id, &base);
        if self.db().get(key.clone()).await?.is_some() {
            return Ok(false);
        }
        let suppression = Suppression {
            account: account.to_owned(),
            base_address: base,
            address: address.to_string(),
            manual: false,
            reason: shortened(reason),
            created: self.now(),
        };
        commit.put(key, suppression.encode_to_vec());
        Ok(true)
    }

    /// Puts an address onto an account's list.
    ///
    /// # Errors
    /// If it is there, or the engine fails.
    pub async fn add_suppression(
        &self,
        id: AccountId,
        account: &str,
        address: &str,
        reason: &str,
    ) -> Result<Suppression, QueueError> {
        let address = parse(address)?;
        let suppression = Suppression {
            account: account.to_owned(),
            base_address: base_address(&address),
            address: address.to_string(),
            manual: true,
            reason: shortened(reason),
            created: self.now(),
        };
        let key = keys::queue_suppression(id, &suppression.base_address);
        let mut commit = Commit::new();
        commit.require_absent(key.clone());
        commit.put(key, suppression.encode_to_vec());
        match self.db().commit(commit).await {
            Ok(_) => Ok(suppression),
            Err(crate::engine::EngineError::Conflict { .. }) => Err(QueueError::Exists(format!(
                "{} is on the suppression list of account {account} already",
                suppression.base_address
            ))),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes an address off an account's list.
    ///
    /// # Errors
    /// If it is not there, or the engine fails.
    pub async fn remove_suppression(&self, id: AccountId, account: &str, address: &str) -> Result<(), QueueError> {
        let base = base_address(&parse(address)?);
        let key = keys::queue_suppression(id, &base);
        let mut commit = Commit::new();
        commit.require_present(key.clone());
        commit.delete(key);
        match self.db().commit(commit).await {
            Ok(_) => Ok(()),
            Err(crate::engine::EngineError::Conflict { .. }) => Err(QueueError::NotFound(format!(
                "{base} is not on the suppression list of account {account}"
            ))),
            Err(e) => Err(e.into()),
        }
    }

    /// What is on an account's list, or on those of all.
    ///
    /// # Errors
    /// If the request makes no sense, or the engine fails.
    pub async fn list_suppressions(
        &self,
        id: Option<AccountId>,
        request: &ListSuppressionsRequest,
    ) -> Result<ListSuppressionsResponse, QueueError> {
        let base = match request.address.as_str() {
            "" => None,
            text => Some(base_address(&parse(text)?)),
        };
        if let (Some(id), Some(base)) = (id, &base) {
            let found = self.db().get(keys::queue_suppression(id, base)).await?;
            return Ok(ListSuppressionsResponse {
                suppressions: found
                    .iter()
                    .map(|value| decode(&value.data))
                    .collect::<Result<_, _>>()?,
                next_page_token: String::new(),
            });
        }
        let mut range = id.map_or_else(keys::queue_suppressions_all, keys::queue_suppressions);
        if !request.page_token.is_empty() {
            range.start = token(&request.page_token)
                .filter(|key| range.contains(key))
                .ok_or_else(|| QueueError::Invalid("page_token is none of ours".into()))?;
        }
        let page = self.db().scan(range, Limit::rows(PAGE), Order::Ascending).await?;
        let next = page.rows.last().filter(|_| page.more).map(|(key, _)| hex(&after(key)));
        let mut suppressions = Vec::with_capacity(page.rows.len());
        for (_, value) in &page.rows {
            let suppression = decode(&value.data)?;
            if base.as_ref().is_none_or(|base| *base == suppression.base_address) {
                suppressions.push(suppression);
            }
        }
        Ok(ListSuppressionsResponse {
            suppressions,
            next_page_token: next.unwrap_or_default(),
        })
    }
}

fn parse(address: &str) -> Result<Address, QueueError> {
    address
        .parse()
        .map_err(|e| QueueError::Invalid(format!("address {address:?}: {e}")))
}

fn decode(data: &bytes::Bytes) -> Result<Suppression, QueueError> {
    Suppression::decode(data.clone()).map_err(|_| QueueError::Damaged("a suppression"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token(text: &str) -> Option<bytes::Bytes> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len())
        .step_by(2)
        .map(digits)
        .collect::<Option<Vec<u8>>>()
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_an_address_have_one_base() {
        let base = |text: &str| base_address(&text.parse().unwrap());
        for same in [
            "username@example.org",
            "User.Name+shop@example.org",
            "user.name-list@EXAMPLE.org",
        ] {
            assert_eq!(base(same), "username@example.org", "{same}");
        }
        assert_eq!(
            base("+x@example.org"),
            "+x@example.org",
            "an address is never without localpart"
        );
        assert_eq!(base("x@bücher.example"), "x@xn--bcher-kva.example");
    }

    #[test]
    fn tokens_are_keys() {
        assert_eq!(token(&hex(b"q\x00\xff")).as_deref(), Some(&b"q\x00\xff"[..]));
        assert_eq!(token("1"), None);
        assert_eq!(token("zz"), None);
    }
}
