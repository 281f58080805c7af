//! To version 2: whom accounts have sent to is recorded, from the messages in their mailboxes for sent mail.

use std::collections::BTreeMap;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_types::MessageId;
use prost::Message as _;

use super::SchemaError;
use crate::account::{Mailbox, State, count_recipients, is_sent};
use crate::engine::{Commit, Db, Limit, Order, Snapshot};
use crate::keys;

/// Messages that are looked at at once.
const STEP: usize = 500;
/// Recipients that are written at once.
const WRITE: usize = 5000;

/// Records the recipients of all accounts, in place of what was recorded.
pub(super) async fn record(db: Db) -> Result<(), SchemaError> {
    let snapshot = db.snapshot().await?;
    for (name, id) in super::accounts(&*snapshot).await? {
        let state = State::load(&*snapshot, id)
            .await
            .map_err(|e| SchemaError::Damaged(format!("account {name:?}: {e}")))?;
        of_account(&db, &*snapshot, &state).await?;
    }
    Ok(())
}

async fn of_account(db: &Db, snapshot: &dyn Snapshot, state: &State) -> Result<(), SchemaError> {
    let mut recipients: BTreeMap<Bytes, record::Recipient> = BTreeMap::new();
    for mailbox in state.mailboxes.values().filter(|m| is_sent(m)) {
        of_mailbox(snapshot, state, mailbox, &mut recipients).await?;
    }
    let mut commit = Commit::new();
    commit.delete_range(keys::account_table(state.account, keys::TABLE_RECIPIENTS));
    db.commit(std::mem::take(&mut commit)).await?;
    for (key, recipient) in recipients {
        commit.put(key, recipient.encode_to_vec());
        if commit.operations.len() >= WRITE {
            db.commit(std::mem::take(&mut commit)).await?;
        }
    }
    if !commit.operations.is_empty() {
        db.commit(commit).await?;
    }
    Ok(())
}

async fn of_mailbox(
    snapshot: &dyn Snapshot,
    state: &State,
    mailbox: &Mailbox,
    recipients: &mut BTreeMap<Bytes, record::Recipient>,
) -> Result<(), SchemaError> {
    let mut left = Some(keys::rows(state.account, mailbox.id, 0, u32::MAX));
    while let Some(range) = left.take() {
        let page = snapshot
            .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
            .await?;
        left = page.rest(&range);
        let mut wanted = Vec::new();
        let mut times = Vec::new();
        for (_, value) in page.rows {
            // What is damaged is left to mox verifydata: mail must not be out of reach for it.
            let Ok(row) = record::Row::decode(value.data) else {
                continue;
            };
            let Ok(id) = MessageId::try_from(&row.message_id) else {
                continue;
            };
            wanted.push(keys::computed(state.account, id));
            times.push(row.received);
        }
        for (computed, at) in snapshot.get_many(wanted).await?.into_iter().zip(times) {
            if let Some(computed) = computed {
                let _ = count_recipients(state.account, &computed.data, at, recipients);
            }
        }
    }
    Ok(())
}
