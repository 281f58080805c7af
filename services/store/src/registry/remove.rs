//! Removing the data of an account that the configuration no longer has.
//!
//! The first commit marks the registration and takes the account's record away, so that no writer can add anything. The
//! rest goes in steps of bounded size, each safe to repeat, and is gone on with at the next start if it was cut short.
//! The name is free when all is gone.

use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MessageId};
use prost::Message;

use super::{Registry, RegistryError, account_id};
use crate::account::Accounts;
use crate::content::{self, Owner};
use crate::engine::{Commit, EngineError, Limit, Order};
use crate::keys;
use crate::queue::Queue;

/// Messages removed in one commit.
const STEP: usize = 500;

impl Registry {
    /// Removes all data of an account.
    ///
    /// # Errors
    /// If there is no such account, it is configured still, or the engine fails: then it is gone on with at the next
    /// call, or the next start.
    pub async fn remove(&self, name: &str, accounts: &Accounts, queue: &Queue) -> Result<(), RegistryError> {
        // One that was begun before is gone on with.
        let (key, value, registration) = self.registration(name).await?;
        if !registration.disabled {
            return Err(RegistryError::Configured(name.to_owned()));
        }
        let id = account_id(name, &registration)?;
        self.0.sessions.revoke(id);
        if !registration.removing {
            let mut commit = Commit::new();
            commit.require_at(key.clone(), value.version);
            commit.put(
                key,
                record::Registration {
                    removing: true,
                    ..registration
                }
                .encode_to_vec(),
            );
            commit
                .delete(keys::account(id))
                .delete(keys::credentials(id))
                .set_frees();
            match self.0.db.commit(commit).await {
                Ok(_) => {}
                Err(EngineError::Conflict { .. }) => return Err(RegistryError::Contended),
                Err(error) => return Err(error.into()),
            }
            accounts.forget(id);
        }
        self.remove_data(name, accounts, queue).await
    }

    /// All but the first commit.
    pub(super) async fn remove_data(
        &self,
        name: &str,
        accounts: &Accounts,
        queue: &Queue,
    ) -> Result<(), RegistryError> {
        let (key, value, registration) = match self.registration(name).await {
            Err(RegistryError::NoAccount(_)) => return Ok(()),
            other => other?,
        };
        if !registration.removing {
            return Ok(());
        }
        let id = account_id(name, &registration)?;
        queue.remove_account(id).await.map_err(tonic::Status::from)?;
        queue.hooks().remove_account(id).await.map_err(tonic::Status::from)?;
        self.release_messages(id).await?;
        self.release_lessons(id).await?;
        let public_keys = crate::auth::public_keys_of_account(&self.0.db, id).await?;
        let mut commit = Commit::new();
        commit.require_at(key.clone(), value.version);
        commit
            .delete_range(keys::account_all(id))
            .delete_range(keys::search_all(id))
            .delete_range(keys::logins(id));
        for key in public_keys {
            commit.delete(key);
        }
        commit.delete(key).set_frees();
        match self.0.db.commit(commit).await {
            // Another replica was faster.
            Ok(_) | Err(EngineError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        accounts.forget(id);
        tracing::info!(account = name, id = %id, "data of account removed");
        Ok(())
    }

    /// Lets go of the contents that the junk filter would have unlearned.
    async fn release_lessons(&self, id: AccountId) -> Result<(), RegistryError> {
        let mut left = Some(keys::trainings(id));
        while let Some(range) = left {
            let page = self
                .0
                .db
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut commit = Commit::new();
            for (key, value) in page.rows {
                let noted = record::Unlearn::decode(value.data).unwrap_or_default();
                if let (Some((_, message)), Ok(content)) =
                    (keys::parse_training(&key), ContentId::try_from(&noted.content_id))
                {
                    content::release(&mut commit, content, &Owner::message(id, message), (self.0.now)());
                }
                commit.delete(key);
            }
            if !commit.operations.is_empty() {
                commit.set_frees();
                self.0.db.commit(commit).await?;
            }
        }
        Ok(())
    }

    /// Lets go of the contents of all messages.
    async fn release_messages(&self, id: AccountId) -> Result<(), RegistryError> {
        let mut left = Some(keys::account_table(id, keys::TABLE_MESSAGES));
        while let Some(range) = left {
            let page = self
                .0
                .db
                .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
                .await?;
            left = page.rest(&range);
            let mut commit = Commit::new();
            for (key, value) in page.rows {
                let message = record::Message::decode(value.data);
                let ids = message.ok().and_then(|m| {
                    Some((
                        ContentId::try_from(&m.content_id).ok()?,
                        MessageId::try_from(&m.id).ok()?,
                    ))
                });
                match ids {
                    Some((content, message)) => {
                        content::release(&mut commit, content, &Owner::message(id, message), (self.0.now)());
                    }
                    None => {
                        tracing::error!(account = %id, key = ?key, "a message record is damaged, its content stays");
                    }
                }
                commit.delete(key);
            }
            if !commit.operations.is_empty() {
                self.0.db.commit(commit).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn registration(
        &self,
        name: &str,
    ) -> Result<(bytes::Bytes, crate::engine::Value, record::Registration), RegistryError> {
        let key = keys::name(name);
        let value = self
            .0
            .db
            .get(key.clone())
            .await?
            .ok_or_else(|| RegistryError::NoAccount(name.to_owned()))?;
        let registration = record::Registration::decode(value.data.clone())
            .map_err(|_| RegistryError::Damaged(format!("the registration of account {name:?}")))?;
        Ok((key, value, registration))
    }
}
