//! Committing a configuration: in one commit with the accounts that it brings, and those that it no longer has.

use std::collections::HashSet;

use bytes::Bytes;
use mox_config::Dynamic;
use mox_events::Event;
use mox_proto::config::v1 as api;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message;

use super::{Registry, RegistryError, account_id, load_snapshot};
use crate::account;
use crate::engine::{Commit, EngineError};
use crate::{idempotency, keys};

/// Times that it is tried while others commit too.
const ATTEMPTS: usize = 8;
/// Scope of control's keys.
const SCOPE: &[u8] = b"config";
/// Bytes of an idempotency key.
const KEY_BYTES: usize = 16;

impl Registry {
    /// Makes a configuration the one in force. New accounts get ids and their first mailboxes, and those that are
    /// missing are disabled. Committing what is in force already changes nothing.
    ///
    /// # Errors
    /// If it is not valid, or has an account whose data is being removed.
    pub async fn commit(&self, request: &api::CommitConfigRequest) -> Result<api::CommitConfigResponse, RegistryError> {
        if request.key.len() != KEY_BYTES {
            return Err(RegistryError::Invalid("idempotency key must be 16 bytes".into()));
        }
        let dynamic: Dynamic = serde_json::from_slice(&request.snapshot)
            .map_err(|e| RegistryError::Invalid(format!("the configuration is not valid: {e}")))?;
        let digest = idempotency::digest(request);
        for _ in 0..ATTEMPTS {
            let kept = idempotency::find(&self.0.db, self.now_seconds(), SCOPE, &request.key, &digest).await?;
            if let Some(kept) = kept {
                self.refresh().await?;
                return api::CommitConfigResponse::decode(kept)
                    .map_err(|_| RegistryError::Damaged("a kept result".into()));
            }
            match self.try_commit(request, &dynamic, &digest).await {
                Err(RegistryError::Engine(EngineError::Conflict { .. })) => {}
                other => return other,
            }
        }
        Err(RegistryError::Contended)
    }

    async fn try_commit(
        &self,
        request: &api::CommitConfigRequest,
        dynamic: &Dynamic,
        digest: &Bytes,
    ) -> Result<api::CommitConfigResponse, RegistryError> {
        let loaded = load_snapshot(&self.0.db).await?;
        let before = loaded.config_record()?;
        let mut commit = Commit::new();
        let mut accounts = Vec::new();
        let mut known = HashSet::new();
        for (name, value, registration) in &loaded.names {
            let wanted = dynamic.accounts.contains_key(name);
            known.insert(name.as_str());
            if registration.removing {
                if wanted {
                    return Err(RegistryError::Removing(name.clone()));
                }
                continue;
            }
            if wanted == registration.disabled {
                let changed = record::Registration {
                    disabled: !wanted,
                    ..registration.clone()
                };
                commit.require_at(keys::name(name), value.version);
                commit.put(keys::name(name), changed.encode_to_vec());
            }
            accounts.push((name.clone(), account_id(name, registration)?, !wanted));
        }
        let mailboxes = request.initial_mailboxes.clone().unwrap_or_default();
        for name in dynamic.accounts.keys().filter(|name| !known.contains(name.as_str())) {
            let id = AccountId::new();
            let created = self.now_seconds();
            let registration = record::Registration {
                account_id: id.to_bytes(),
                created,
                ..Default::default()
            };
            commit
                .require_absent(keys::name(name))
                .put(keys::name(name), registration.encode_to_vec());
            account::init(&mut commit, id, name, &mailboxes, created)?;
            accounts.push((name.clone(), id, false));
        }
        let same = before.version > 0
            && before.default_quota == request.default_quota
            && (before.snapshot == request.snapshot
                || serde_json::from_slice::<Dynamic>(&before.snapshot).is_ok_and(|before| before == *dynamic));
        let version = before.version + u64::from(!same || !commit.operations.is_empty());
        let mut response = api::CommitConfigResponse {
            version,
            accounts: Vec::new(),
        };
        for (name, id, disabled) in accounts {
            response.accounts.push(api::Account {
                id: id.to_bytes(),
                name,
                disabled,
                ..Default::default()
            });
        }
        if version == before.version {
            return Ok(response);
        }
        let config = record::CommittedConfig {
            version,
            snapshot: request.snapshot.clone(),
            default_quota: request.default_quota,
            at: self.now_seconds(),
        };
        commit.require_unchanged(keys::configuration(), loaded.config.as_ref());
        commit.put(keys::configuration(), config.encode_to_vec());
        let kept = response.encode_to_vec().into();
        idempotency::record(&mut commit, self.now_seconds(), SCOPE, &request.key, digest, &kept);
        self.0.db.commit(commit).await?;
        self.refresh().await?;
        tracing::info!(version, accounts = response.accounts.len(), "configuration committed");
        self.0.bus.publish(&Event::ConfigChanged { version });
        Ok(response)
    }
}
