//! To version 3: the entries of the queue are entered into the indices that lists are filtered and sorted by.

use mox_proto::queue::v1::Entry;
use prost::Message as _;

use super::SchemaError;
use crate::engine::{Commit, Db, Limit, Order};
use crate::keys;
use crate::queue::enter_into_lists;

/// Entries that are entered at once.
const STEP: usize = 500;

/// Enters all entries.
pub(super) async fn enter(db: Db) -> Result<(), SchemaError> {
    let mut left = Some(keys::queue_entries());
    while let Some(range) = left.take() {
        let page = db.scan(range.clone(), Limit::rows(STEP), Order::Ascending).await?;
        left = page.rest(&range);
        let mut commit = Commit::new();
        for (_, value) in &page.rows {
            // What is damaged is left to mox verifydata.
            if let Ok(entry) = Entry::decode(value.data.clone()) {
                enter_into_lists(&mut commit, &entry);
            }
        }
        if !commit.operations.is_empty() {
            db.commit(commit).await?;
        }
    }
    Ok(())
}
