//! To version 2: messages are found by their base subject, as those that arrive since are.

use bytes::Bytes;
use mox_proto::record::v1 as record;
use prost::Message as _;

use super::SchemaError;
use crate::account::thread_entries;
use crate::engine::{Commit, Db, Limit, Order};
use crate::keys;

/// Messages that are entered at once.
const STEP: usize = 1000;

/// Enters all messages. Those that are entered stay so.
pub(super) async fn enter(db: Db) -> Result<(), SchemaError> {
    let snapshot = db.snapshot().await?;
    for (_, id) in super::accounts(&*snapshot).await? {
        let mut left = Some(keys::messages(id));
        while let Some(range) = left.take() {
            let page = snapshot
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut commit = Commit::new();
            for (_, value) in page.rows {
                // What is damaged is left to mox verifydata: mail must not be out of reach for it.
                let Ok(message) = record::Message::decode(value.data) else {
                    continue;
                };
                for entry in thread_entries(id, &message) {
                    commit.put(entry, Bytes::new());
                }
            }
            if !commit.operations.is_empty() {
                db.commit(commit).await?;
            }
        }
    }
    Ok(())
}
