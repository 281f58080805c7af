//! How much an account may send in a day, and whom it has written to.
//!
//! What was sent is counted by spans of time in one record an account, so that a submission costs the same however much
//! was sent before. Whom the account has written to is what [`crate::account`] keeps of it: it says who is written to for
//! the first time here, and who is known when mail from them comes in.

use std::collections::BTreeMap;

use bytes::Bytes;
use mox_config::Account;
use mox_proto::record::v1::sent_meter::Span;
use mox_proto::record::v1::{Recipient, Registration, SentMeter};
use mox_types::Address;
use prost::Message as _;

use super::enqueue::Submitter;
use super::{Queue, QueueError};
use crate::account::{recipient_key, write_to};
use crate::engine::{Commit, Value};
use crate::keys;

/// A day, in milliseconds: the window slides, by spans.
const DAY: i64 = 24 * 3600 * 1000;
/// What is counted together, in milliseconds. What was sent counts for up to so much longer than a day; a record has at
/// most [`DAY`] / [`SPAN`] + 2 of them, about 2 KB.
const SPAN: i64 = 10 * 60 * 1000;

/// What is asked for in one submission.
pub(super) struct Sending<'a> {
    pub submitter: &'a Submitter,
    /// None: there are no limits.
    pub limits: Option<&'a Account>,
    pub recipients: &'a [Address],
    /// That it was written to them is remembered; it is not of notifications, which nobody wrote.
    pub remember: bool,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// Counts recipients against the limits of their account, and remembers them, in the commit that adds them. Those who
/// send from one account at the same time wait for each other, so that the limits hold exactly.
pub(super) async fn count(queue: &Queue, commit: &mut Commit, sending: &Sending<'_>) -> Result<(), QueueError> {
    let account = sending.submitter.id;
    // Who is there twice is written to twice, but new once.
    let mut times: BTreeMap<Bytes, u64> = BTreeMap::new();
    for to in sending.recipients {
        *times.entry(recipient_key(account, to)).or_default() += 1;
    }
    let own = [keys::queue_meter(account), keys::name(&sending.submitter.name)];
    let asked = times.keys().cloned().chain(own.clone()).collect();
    let mut values = queue.db().get_many(asked).await?;
    let registration = values.pop().flatten();
    let meter = values.pop().flatten();
    let [meter_key, name_key] = own;

    // An account that is being removed leaves nothing behind.
    if let Some(value) = &registration {
        let registration =
            Registration::decode(value.data.clone()).map_err(|_| QueueError::Damaged("an account's registration"))?;
        if registration.removing || registration.disabled {
            return Err(QueueError::NoAccount(sending.submitter.name.clone()));
        }
    }
    commit.require_unchanged(name_key, registration.as_ref());

    if let Some(limits) = sending.limits {
        let new = values.iter().filter(|known| known.is_none()).count() as u64;
        let counted = add(meter.as_ref(), limits, sending, new)?;
        commit.require_unchanged(meter_key.clone(), meter.as_ref());
        commit.put(meter_key, counted.encode_to_vec());
        if meter.is_some_and(|meter| meter.data.is_empty()) {
            for range in keys::queue_sent_rows(account) {
                commit.delete_range(range);
            }
        }
    }
    if sending.remember {
        for ((key, times), known) in times.into_iter().zip(values) {
            let before = known
                .as_ref()
                .map(|value| Recipient::decode(value.data.clone()))
                .transpose();
            let before = before.map_err(|_| QueueError::Damaged("a recipient"))?;
            commit.require_unchanged(key.clone(), known.as_ref());
            commit.put(
                key,
                write_to(before.as_ref(), times, sending.now.div_euclid(1000)).encode_to_vec(),
            );
        }
    }
    Ok(())
}

/// The record with what is asked for, if that is within the limits.
fn add(meter: Option<&Value>, limits: &Account, sending: &Sending<'_>, new: u64) -> Result<SentMeter, QueueError> {
    let mut meter = match meter {
        Some(value) => {
            SentMeter::decode(value.data.clone()).map_err(|_| QueueError::Damaged("what an account sent"))?
        }
        None => SentMeter::default(),
    };
    let now = sending.now;
    // After a clock was set back, what was counted before may be of the future: that of more than a day is forgotten.
    meter
        .spans
        .retain(|span| span.start.saturating_add(SPAN) > now - DAY && span.start < now + DAY);
    let sent: u64 = meter.spans.iter().map(|span| span.recipients).sum();
    let first: u64 = meter.spans.iter().map(|span| span.first_time).sum();
    let wanted = sending.recipients.len() as u64;
    let max = limits.max_outgoing_messages_per_day;
    if sent + wanted > max {
        return Err(QueueError::Limit(format!(
            "account may send {max} messages a day and has sent {sent}; try again later, or have its \
             max_outgoing_messages_per_day raised"
        )));
    }
    let max = limits.max_first_time_recipients_per_day;
    if first + new > max {
        return Err(QueueError::Limit(format!(
            "account may write to {max} new recipients a day and has written to {first}; try again later, or have its \
             max_first_time_recipients_per_day raised"
        )));
    }
    let start = now - now.rem_euclid(SPAN);
    match meter.spans.last_mut() {
        Some(last) if last.start >= start => {
            last.recipients += wanted;
            last.first_time += new;
        }
        _ => meter.spans.push(Span {
            start,
            recipients: wanted,
            first_time: new,
        }),
    }
    Ok(meter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_stays_small_and_forgets_what_is_a_day_ago() {
        let mut limits = Account::new("local.example".parse().unwrap());
        limits.max_outgoing_messages_per_day = 1_000_000;
        limits.max_first_time_recipients_per_day = 1_000_000;
        let submitter = Submitter {
            id: mox_types::AccountId::new(),
            name: "me".into(),
            login: String::new(),
        };
        let to: Address = "a@b.example".parse().unwrap();
        let mut value: Option<Value> = None;
        let mut counted = SentMeter::default();
        // Every minute for three days.
        for minute in 0..3 * 24 * 60 {
            let sending = Sending {
                submitter: &submitter,
                limits: Some(&limits),
                recipients: std::slice::from_ref(&to),
                remember: true,
                now: 1_700_000_000_123 + minute * 60_000,
            };
            counted = add(value.as_ref(), &limits, &sending, 0).unwrap();
            value = Some(Value {
                data: counted.encode_to_vec().into(),
                version: 1,
            });
            assert!(counted.spans.len() <= 146 && counted.encoded_len() < 4096);
        }
        let sent: u64 = counted.spans.iter().map(|span| span.recipients).sum();
        assert!((1440..=1460).contains(&sent), "{sent}");
    }
}
