//! Whom an account has sent to: known by what it puts into the queue, and by what lies in its mailbox for sent mail, as
//! clients of other servers, and other programs, put it there. A message from somebody it wrote to is more likely to be
//! wanted. Who sends through the queue and keeps a copy counts twice: what matters is whether, and when.

use std::collections::BTreeMap;

use bytes::Bytes;
use mox_proto::mail::v1::{Computed, EnvelopeAddress};
use mox_proto::record::v1 as record;
use mox_types::{AccountId, Address, Domain, Localpart};
use prost::Message as _;

use super::rows::Reader;
use super::state::Mailbox;
use super::{AccountError, AccountTx};
use crate::engine::{Db, Limit, Order};
use crate::keys;

/// RFC 6154 §2: the mailbox for messages that have been sent.
const SENT: &str = "\\Sent";
/// Most recipients that are recorded of a message: whom somebody writes to is few; what has more is a mailing.
const RECIPIENTS_MAX: usize = 1000;

/// Whether what is put into a mailbox was sent by its owner.
#[must_use]
pub fn is_sent(mailbox: &Mailbox) -> bool {
    mailbox.special_use.iter().any(|u| u.eq_ignore_ascii_case(SENT))
}

/// Records whom messages were sent to: the addresses of To, Cc and Bcc of each, and when (seconds since 1970). What was
/// computed from a message is given as it is kept.
///
/// # Errors
/// If what is kept cannot be read.
pub async fn record_recipients(tx: &mut AccountTx, messages: &[(Bytes, i64)]) -> Result<(), AccountError> {
    let mut seen: BTreeMap<Bytes, record::Recipient> = BTreeMap::new();
    for (computed, at) in messages {
        count_recipients(tx.account(), computed, *at, &mut seen)?;
    }
    let known = tx.get_many(seen.keys().cloned().collect()).await?;
    for ((key, mut recipient), known) in seen.into_iter().zip(known) {
        if let Some(known) = known {
            let known = record::Recipient::decode(known).map_err(|_| AccountError::Damaged("a recipient"))?;
            add(&mut recipient, &known);
        }
        tx.put(key, recipient.encode_to_vec());
    }
    Ok(())
}

/// Adds the recipients of one message, by their keys, to what was counted before.
///
/// # Errors
/// If what was computed from it cannot be read.
pub fn count_recipients(
    account: AccountId,
    computed: &Bytes,
    at: i64,
    seen: &mut BTreeMap<Bytes, record::Recipient>,
) -> Result<(), AccountError> {
    let computed = Computed::decode(computed.clone()).map_err(|_| AccountError::Damaged("a message's structure"))?;
    let envelope = computed.envelope.unwrap_or_default();
    let all = [envelope.to, envelope.cc, envelope.bcc].into_iter().flatten();
    let mut keys: Vec<Bytes> = all
        .filter_map(|a| address(&a))
        .take(RECIPIENTS_MAX)
        .map(|a| recipient_key(account, &a))
        .collect();
    keys.sort_unstable();
    // Who is in To and in Cc gets the message once.
    keys.dedup();
    for key in keys {
        add(seen.entry(key).or_default(), &once(at));
    }
    Ok(())
}

/// The record of somebody after so many more messages were sent at a time (seconds since 1970).
#[must_use]
pub fn write_to(known: Option<&record::Recipient>, messages: u64, at: i64) -> record::Recipient {
    let mut now = once(at);
    now.messages = messages;
    if let Some(known) = known {
        add(&mut now, known);
    }
    now
}

/// What is known of somebody that the account may have sent to.
///
/// # Errors
/// If it cannot be read.
pub async fn find_recipient(
    db: &Db,
    account: AccountId,
    address: &Address,
) -> Result<Option<record::Recipient>, AccountError> {
    let value = db.get(recipient_key(account, address)).await?;
    value
        .map(|v| record::Recipient::decode(v.data).map_err(|_| AccountError::Damaged("a recipient")))
        .transpose()
}

/// Whether the account has sent to anybody at a domain.
///
/// # Errors
/// If it cannot be read.
pub async fn knows_domain(db: &Db, account: AccountId, domain: &Domain) -> Result<bool, AccountError> {
    let range = keys::recipients_at(account, domain.as_str());
    let page = db.scan(range, Limit::rows(1), Order::Ascending).await?;
    Ok(!page.rows.is_empty())
}

fn once(at: i64) -> record::Recipient {
    record::Recipient {
        first: at,
        last: at,
        messages: 1,
    }
}

fn add(recipient: &mut record::Recipient, other: &record::Recipient) {
    if recipient.messages == 0 {
        *recipient = *other;
        return;
    }
    recipient.first = recipient.first.min(other.first);
    recipient.last = recipient.last.max(other.last);
    recipient.messages = recipient.messages.saturating_add(other.messages);
}

/// Where somebody is kept. Localparts are looked up without regard to case, which practically nobody tells apart.
#[must_use]
pub fn recipient_key(account: AccountId, address: &Address) -> Bytes {
    keys::recipient(
        account,
        address.domain.as_str(),
        &address.localpart.as_str().to_lowercase(),
    )
}

/// The address of an item of an envelope; groups have none.
fn address(item: &EnvelopeAddress) -> Option<Address> {
    let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.as_ref()?.to_vec()).ok();
    Some(Address {
        localpart: Localpart::from_unquoted(&text(&item.mailbox)?).ok()?,
        domain: text(&item.host)?.parse().ok()?,
    })
}
