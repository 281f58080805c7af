//! Accounts, and the configuration that is in force: as control committed it, with an id for every account.
//!
//! A name that was an account's once keeps its registration, disabled, until the command that removes its data; an
//! account that is made again afterwards gets another id, and shares nothing with its predecessor.

mod commit;
mod filter;
mod remove;
mod service;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mox_config::{Account, Dynamic, Lookup};
use mox_events::{Bus, Event, Notice, Subject};
use mox_proto::record::v1 as record;
use mox_rpc::Identity;
use mox_types::{AccountId, Address};
use parking_lot::Mutex;
use prost::Message;
use tonic::Status;

pub use service::{ConfigAdminApi, ConfigApi};

use crate::account::Accounts;
use crate::auth::Sessions;
use crate::content::NowMillis;
use crate::engine::{Db, EngineError, Limit, Order, Snapshot, Value};
use crate::keys;
use crate::queue::Queue;

/// How often the committed configuration is looked at without having been told of a change.
const POLL: Duration = Duration::from_secs(30);

/// Why something of the registry was not done.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such account.
    #[error("there is no account {0:?}: domains.toml has those there are")]
    NoAccount(String),
    /// The account's data is being removed.
    #[error("the data of account {0:?} is being removed: try again when that is done")]
    Removing(String),
    /// The account is in the configuration.
    #[error("account {0:?} is in the configuration: remove it from there first")]
    Configured(String),
    /// The request is not valid.
    #[error("{0}")]
    Invalid(String),
    /// Others changed the same at the same time, too often.
    #[error("the configuration is being changed by others, try again")]
    Contended,
    /// A record cannot be read.
    #[error("record of {0} is damaged")]
    Damaged(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another part of the store failed.
    #[error("{1}")]
    Other(tonic::Code, String),
}

impl From<Status> for RegistryError {
    fn from(status: Status) -> Self {
        Self::Other(status.code(), status.message().to_owned())
    }
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::NoAccount(_) => Self::not_found(text),
            RegistryError::Removing(_) | RegistryError::Configured(_) => Self::failed_precondition(text),
            RegistryError::Invalid(_) => Self::invalid_argument(text),
            RegistryError::Contended => Self::unavailable(text),
            RegistryError::Damaged(_) => Self::data_loss(text),
            RegistryError::Engine(error) => error.into(),
            RegistryError::Other(code, text) => Self::new(code, text),
        }
    }
}

/// The configuration in force.
#[derive(Default)]
pub struct Committed {
    /// 0 as long as none was committed.
    pub version: u64,
    /// As committed.
    pub dynamic: Arc<Dynamic>,
    /// With all domains in service: users of a domain that is out of service can log in nevertheless.
    logins: Arc<Dynamic>,
    default_quota: u64,
    ids: HashMap<String, AccountId>,
    names: HashMap<AccountId, String>,
}

impl Committed {
    /// The id of a configured account.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<AccountId> {
        self.ids.get(name).copied()
    }

    /// The name of a configured account.
    #[must_use]
    pub fn name(&self, id: AccountId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The name of a configured account, and its settings.
    #[must_use]
    pub fn named(&self, id: AccountId) -> Option<(&str, &Account)> {
        let name = self.name(id)?;
        Some((name, self.dynamic.accounts.get(name)?))
    }

    /// How many bytes the messages of an account may have; 0 is no limit.
    #[must_use]
    pub fn quota(&self, name: &str) -> u64 {
        let own = self
            .dynamic
            .accounts
            .get(name)
            .map_or(0, |account| account.quota_message_size);
        match own {
            0 => self.default_quota,
            own => u64::try_from(own).unwrap_or(0),
        }
    }

    /// The account that an address logs in to: one of its own addresses, in any of the forms that mail would reach it
    /// by. Names of accounts are no addresses; lists, reports and the postmaster of the host are nobody's login.
    #[must_use]
    pub fn login(&self, address: &Address) -> Option<(AccountId, &str)> {
        match self.logins.configured(address) {
            Lookup::Account(recipient) if recipient.destination.is_some() => {
                let (name, id) = self.ids.get_key_value(recipient.account)?;
                Some((*id, name))
            }
            _ => None,
        }
    }
}

/// The accounts and the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    db: Db,
    bus: Bus,
    now: NowMillis,
    sessions: Sessions,
    current: ArcSwap<Committed>,
    /// What each kind of caller is sent, with the version it is of.
    parts: Mutex<HashMap<Identity, (u64, Bytes)>>,
}

impl Registry {
    /// Over an engine, with what is committed now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn open(db: Db, bus: Bus, now: NowMillis, sessions: Sessions) -> Result<Self, RegistryError> {
        let current = load(db.snapshot().await?.as_ref()).await?.committed()?;
        Ok(Self(Arc::new(Inner {
            db,
            bus,
            now,
            sessions,
            current: ArcSwap::from_pointee(current),
            parts: Mutex::default(),
        })))
    }

    /// The configuration in force.
    #[must_use]
    pub fn current(&self) -> Arc<Committed> {
        self.0.current.load_full()
    }

    /// Reads what is committed, if it is newer than what is known.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        let loaded = load(self.0.db.snapshot().await?.as_ref()).await?.committed()?;
        self.adopt(loaded);
        Ok(())
    }

    /// Makes a newer configuration the one in force. Whoever can no longer log in is logged out.
    fn adopt(&self, new: Committed) {
        let new = Arc::new(new);
        let before = self.0.current.rcu(|current| {
            if current.version < new.version {
                new.clone()
            } else {
                current.clone()
            }
        });
        if before.version >= new.version {
            return;
        }
        for (name, id) in &before.ids {
            let account = new.dynamic.accounts.get(name).filter(|_| new.ids.get(name) == Some(id));
            if account.is_none_or(|account| !account.login_disabled.is_empty()) {
                self.0.sessions.revoke(*id);
            }
        }
    }

    /// Keeps up with what other replicas commit, and finishes removals of accounts that were cut short. Ends never.
    pub async fn follow(&self, accounts: Accounts, queue: Queue) {
        match load_snapshot(&self.0.db).await {
            Ok(loaded) => {
                for (name, _, registration) in loaded.names {
                    if registration.removing {
                        tracing::info!(account = name, "going on to remove the data of an account");
                        if let Err(error) = self.remove_data(&name, &accounts, &queue).await {
                            tracing::error!(account = name, %error, "removing the data of an account");
                        }
                    }
                }
            }
            Err(error) => tracing::error!(%error, "reading the registrations of accounts"),
        }
        let mut events = self.0.bus.subscribe(Subject::Config);
        loop {
            tokio::select! {
                notice = events.next() => match notice {
                    Some(Notice::Event(Event::ConfigChanged { version })) if version <= self.current().version => continue,
                    Some(_) => {}
                    None => tokio::time::sleep(POLL).await,
                },
                () = tokio::time::sleep(POLL) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::error!(%error, "reading the committed configuration");
            }
        }
    }

    /// What a caller may see of the configuration, as JSON.
    fn part(&self, committed: &Committed, caller: &Identity) -> Result<Bytes, RegistryError> {
        if let Some((version, part)) = self.0.parts.lock().get(caller)
            && *version == committed.version
        {
            return Ok(part.clone());
        }
        let part = filter::visible(&committed.dynamic, caller);
        let part = serde_json::to_vec(&*part).map_err(|e| RegistryError::Invalid(format!("writing JSON: {e}")))?;
        let part = Bytes::from(part);
        self.0
            .parts
            .lock()
            .insert(caller.clone(), (committed.version, part.clone()));
        Ok(part)
    }

    fn now_seconds(&self) -> i64 {
        (self.0.now)() / 1000
    }
}

/// What is kept of configuration and accounts, as of one moment.
struct Loaded {
    config: Option<Value>,
    /// Ascending by name.
    names: Vec<(String, Value, record::Registration)>,
}

impl Loaded {
    fn config_record(&self) -> Result<record::CommittedConfig, RegistryError> {
        match &self.config {
            None => Ok(record::CommittedConfig::default()),
            Some(value) => record::CommittedConfig::decode(value.data.clone())
                .map_err(|_| RegistryError::Damaged("the committed configuration".into())),
        }
    }

    fn committed(self) -> Result<Committed, RegistryError> {
        let config = self.config_record()?;
        let dynamic: Dynamic = if config.version == 0 {
            Dynamic::default()
        } else {
            serde_json::from_slice(&config.snapshot)
                .map_err(|e| RegistryError::Damaged(format!("the committed configuration: {e}")))?
        };
        let dynamic = Arc::new(dynamic);
        let mut committed = Committed {
            version: config.version,
            logins: in_service(&dynamic),
            dynamic,
            default_quota: config.default_quota,
            ids: HashMap::new(),
            names: HashMap::new(),
        };
        for (name, _, registration) in self.names {
            if !registration.disabled && !registration.removing {
                let id = account_id(&name, &registration)?;
                committed.ids.insert(name.clone(), id);
                committed.names.insert(id, name);
            }
        }
        Ok(committed)
    }
}

fn account_id(name: &str, registration: &record::Registration) -> Result<AccountId, RegistryError> {
    AccountId::try_from(&registration.account_id)
        .map_err(|_| RegistryError::Damaged(format!("the registration of account {name:?}")))
}

fn in_service(dynamic: &Arc<Dynamic>) -> Arc<Dynamic> {
    if !dynamic.domains.values().any(|domain| domain.disabled) {
        return dynamic.clone();
    }
    let mut all = Dynamic::clone(dynamic);
    all.domains.values_mut().for_each(|domain| domain.disabled = false);
    Arc::new(all)
}

async fn load_snapshot(db: &Db) -> Result<Loaded, RegistryError> {
    load(db.snapshot().await?.as_ref()).await
}

async fn load(snapshot: &dyn Snapshot) -> Result<Loaded, RegistryError> {
    let config = snapshot.get(keys::configuration()).await?;
    let mut names = Vec::new();
    let mut left = Some(keys::names());
    while let Some(range) = left {
        let page = snapshot.scan(range.clone(), Limit::default(), Order::Ascending).await?;
        left = page.rest(&range);
        for (key, value) in page.rows {
            let name = keys::parse_name(&key).ok_or_else(|| RegistryError::Damaged("an account's name".into()))?;
            let registration = record::Registration::decode(value.data.clone())
                .map_err(|_| RegistryError::Damaged(format!("the registration of account {name:?}")))?;
            names.push((name, value, registration));
        }
    }
    Ok(Loaded { config, names })
}
