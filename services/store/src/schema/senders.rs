//! To version 3: the messages that are flagged junk or not junk are found by who sent them, as those that are flagged
//! since are.

use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::MessageId;
use prost::Message as _;

use super::SchemaError;
use crate::account::{history, lesson};
use crate::engine::{Commit, Db, Limit, Order};
use crate::keys;

/// Rows that are looked at at once. Each has about a dozen entries.
const STEP: usize = 500;

/// Enters all flagged messages. Those that are entered stay so.
pub(crate) async fn enter(db: Db) -> Result<(), SchemaError> {
    let snapshot = db.snapshot().await?;
    for (_, account) in super::accounts(&*snapshot).await? {
        let mut left = Some(keys::account_table(account, keys::TABLE_ROWS));
        while let Some(range) = left.take() {
            let page = snapshot
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut judged = Vec::new();
            for (_, value) in page.rows {
                // What is damaged is left to mox verifydata: mail must not be out of reach for it.
                let Ok(row) = record::Row::decode(value.data) else {
                    continue;
                };
                let lesson = lesson(row.flags);
                if let Ok(id) = MessageId::try_from(&row.message_id)
                    && lesson != Training::None
                {
                    judged.push((id, lesson));
                }
            }
            let wanted = judged.iter().map(|(id, _)| keys::message(account, *id)).collect();
            let mut commit = Commit::new();
            for ((_, lesson), message) in judged.into_iter().zip(snapshot.get_many(wanted).await?) {
                let Some(Ok(message)) = message.map(|m| record::Message::decode(m.data)) else {
                    continue;
                };
                for (key, value) in history::entries(account, &message, lesson) {
                    commit.put(key, value);
                }
            }
            if !commit.operations.is_empty() {
                db.commit(commit).await?;
            }
        }
    }
    Ok(())
}
