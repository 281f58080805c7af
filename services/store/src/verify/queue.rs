//! The outgoing queue: entries with their states and contents.

use mox_proto::queue::v1::Entry;
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId};
use prost::Message as _;

use super::{About, Verifier, VerifyError};
use crate::content::{self, Owner};
use crate::engine::Commit;
use crate::keys;

impl Verifier<'_> {
    pub(super) async fn queue(&self) -> Result<(), VerifyError> {
        let mut left = Some(keys::queue_entries());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                match Entry::decode(value.data) {
                    Ok(entry) if keys::queue_entry(entry.id) == key => self.entry(&entry).await?,
                    _ => self.wrong(
                        About::default(),
                        format!("an entry of the queue cannot be read: {key:02x?}"),
                    ),
                }
            }
        }
        let mut left = Some(keys::queue_states());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            let mut commit = Commit::new();
            for (key, _) in rows {
                let id = key
                    .get(2..)
                    .and_then(|id| Some(u64::from_be_bytes(id.try_into().ok()?)));
                let entry = match id {
                    Some(id) => self.parts.db.get(keys::queue_entry(id)).await?,
                    None => None,
                };
                if entry.is_none()
                    && self.fixable(About::default(), format!("state of queue entry {id:?}, which is gone"))
                {
                    commit.delete(key);
                }
            }
            self.commit(commit).await?;
        }
        Ok(())
    }

    async fn entry(&self, entry: &Entry) -> Result<(), VerifyError> {
        let about = About::account(&entry.account);
        let which = format!("queue entry {} to {}", entry.id, entry.recipient);
        let Ok(content) = ContentId::try_from(&entry.content_id) else {
            self.wrong(about, format!("{which} names no content"));
            return Ok(());
        };
        let owner = Owner::queue(entry.id);
        let mut wanted = vec![
            keys::queue_state(entry.id),
            keys::content(content),
            keys::reference(content, owner.as_bytes()),
        ];
        let account = AccountId::try_from(&entry.account_id).ok();
        if let Some(account) = account {
            wanted.push(keys::queue_of_account(account, entry.id));
        }
        let others = wanted.len();
        let lists = crate::queue::lists(entry);
        wanted.extend(lists.iter().cloned());
        let mut found = self.parts.db.get_many(wanted).await?;
        let missing = found.split_off(others);
        match &found[0] {
            None => self.wrong(about, format!("{which} has no state: it is never sent")),
            Some(state) if record::QueueState::decode(state.data.clone()).is_err() => {
                self.wrong(about, format!("the state of {which} cannot be read: it is never sent"));
            }
            Some(_) => {}
        }
        let mut commit = Commit::new();
        if found[1].is_none() {
            self.wrong(about, format!("{which} has no content: its bytes are lost"));
        } else if found[2].is_none()
            && self.fixable(
                about,
                format!("{which} does not count among those that need its content"),
            )
        {
            content::refer(&mut commit, content, &owner);
        }
        if let (Some(account), Some(None)) = (account, found.get(3))
            && self.fixable(about, format!("{which} is not among those of its account"))
        {
            commit.put(keys::queue_of_account(account, entry.id), bytes::Bytes::new());
        }
        if missing.contains(&None) && self.fixable(about, format!("{which} is missing in lists")) {
            for key in lists {
                commit.put(key, bytes::Bytes::new());
            }
        }
        Ok(self.commit(commit).await?)
    }
}
