//! Writing behind: sessions and logins go to the engine shortly after they are in memory, many in one commit; and what
//! is kept of sessions is read at start.

use std::time::Duration;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_rpc::Identity;
use mox_service::Clock;
use mox_types::AccountId;
use prost::Message as _;

use super::sessions::Basis;
use super::{Logins, SessionInfo, Sessions, logins};
use crate::engine::{Commit, Db, EngineError, Limit, Order};
use crate::keys;
use crate::registry::Registry;

/// What comes within this time goes into one commit.
const GATHER: Duration = Duration::from_millis(250);
/// Before it is tried again after the engine failed.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks for old records of logins.
const CLEAN_EVERY: Duration = Duration::from_secs(60 * 60);
/// Sessions written in one commit.
const STEP: usize = 10_000;

/// What is written behind. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    db: Db,
    clock: Clock,
    sessions: Sessions,
    logins: Logins,
}

impl Journal {
    /// Of these.
    #[must_use]
    pub fn new(db: Db, clock: Clock, sessions: Sessions, logins: Logins) -> Self {
        Self {
            db,
            clock,
            sessions,
            logins,
        }
    }

    fn now(&self) -> i64 {
        self.clock.unix_millis().div_euclid(1000)
    }

    /// Writes what there is whenever there is some, and cleans up. Ends never.
    pub async fn keep(&self) {
        let mut clean = tokio::time::interval(CLEAN_EVERY);
        loop {
            tokio::select! {
                () = self.sessions.changed() => {}
                () = self.logins.changed() => {}
                _ = clean.tick() => {
                    if let Err(error) = logins::clean_all(&self.db, self.now()).await {
                        tracing::error!(%error, "removing old records of logins");
                    }
                    continue;
                }
            }
            tokio::time::sleep(GATHER).await;
            if let Err(error) = self.write().await {
                tracing::error!(%error, "writing sessions and logins, to be tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Writes all there is now.
    ///
    /// # Errors
    /// If the engine fails. What was not written is kept for the next time.
    pub async fn write(&self) -> Result<(), EngineError> {
        let written = self.logins.write(&self.db).await;
        for account in self.logins.take_crowded() {
            logins::clean(&self.db, account, self.now()).await?;
        }
        loop {
            let changes = self.sessions.take_changes(STEP, self.now());
            if changes.is_empty() {
                return written;
            }
            let mut commit = Commit::new();
            for (key, kept) in &changes {
                match kept {
                    Some(kept) => commit.put(keys::session(key), kept.encode_to_vec()),
                    None => commit.delete(keys::session(key)),
                };
            }
            if let Err(error) = self.db.commit(commit).await {
                self.sessions.put_back(changes.into_iter().map(|(key, _)| key));
                return Err(error);
            }
        }
    }

    /// Takes up the sessions that are kept and still good, and removes the others.
    ///
    /// # Errors
    /// If the engine fails.
    pub async fn restore(&self, registry: &Registry) -> Result<(), EngineError> {
        let mut left = Some(keys::sessions());
        let (mut taken, mut dropped) = (0, 0);
        while let Some(range) = left {
            let page = self.db.scan(range.clone(), Limit::rows(1000), Order::Ascending).await?;
            left = page.rest(&range);
            let mut commit = Commit::new();
            for (key, value) in page.rows {
                match self.restore_one(registry, &key, value.data).await? {
                    Some(()) => taken += 1,
                    None => {
                        dropped += 1;
                        commit.delete(key);
                    }
                }
            }
            if !commit.operations.is_empty() {
                commit.set_frees();
                self.db.commit(commit).await?;
            }
        }
        if taken + dropped > 0 {
            tracing::info!(sessions = taken, ended = dropped, "sessions of before");
        }
        Ok(())
    }

    async fn restore_one(&self, registry: &Registry, key: &[u8], value: Bytes) -> Result<Option<()>, EngineError> {
        let Some(digest) = keys::parse_session(key) else {
            return Ok(None);
        };
        let Ok(kept) = record::Session::decode(value) else {
            return Ok(None);
        };
        let Ok(account) = AccountId::try_from(&kept.account_id) else {
            return Ok(None);
        };
        let Ok(left) = u64::try_from(kept.expires - self.now()) else {
            return Ok(None);
        };
        let basis = Basis {
            credentials: kept.credentials_version,
            public_key: <[u8; 32]>::try_from(kept.public_key.as_ref())
                .ok()
                .map(|key| (key, kept.public_key_version)),
        };
        if left == 0 || !may_log_in(registry, account) || !is_good(&self.db, account, &basis).await? {
            return Ok(None);
        }
        let info = SessionInfo {
            account,
            name: kept.account.as_str().into(),
            login_address: kept.login_address.as_str().into(),
        };
        let caller = Identity::new(&kept.caller);
        let left = Duration::from_secs(left);
        Ok(self.sessions.restore(digest, info, caller, basis, left).then_some(()))
    }
}

/// Whether the configuration lets an account log in.
fn may_log_in(registry: &Registry, account: AccountId) -> bool {
    let committed = registry.current();
    let name = committed.name(account);
    name.and_then(|name| committed.dynamic.accounts.get(name))
        .is_some_and(|account| account.login_disabled.is_empty())
}

/// Whether an account has still what a session was begun with.
pub(super) async fn is_good(db: &Db, account: AccountId, basis: &Basis) -> Result<bool, EngineError> {
    let mut wanted = vec![keys::credentials(account)];
    wanted.extend(basis.public_key.map(|(key, _)| keys::tls_public_key(&key)));
    let found = db.get_many(wanted).await?;
    let version = |n: usize| found.get(n).and_then(Option::as_ref).map_or(0, |value| value.version);
    Ok(version(0) == basis.credentials && basis.public_key.is_none_or(|(_, known)| version(1) == known))
}
