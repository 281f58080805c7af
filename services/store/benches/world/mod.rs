//! A store with one account, as benchmarks need it.

use std::sync::Arc;

use mox_config::{Account, Destination, Domain, Dynamic};
use mox_proto::config::v1::CommitConfigRequest;
use mox_store::account::{Accounts, INDEX_BYTES};
use mox_store::auth::Sessions;
use mox_store::content::{Contents, EngineBlobs, NowMillis};
use mox_store::engine::Db;
use mox_store::registry::Registry;
use mox_types::AccountId;

/// The time, which stands, in seconds since 1970.
pub const NOW: i64 = 1_800_000_000;

/// What services are made of.
pub struct World {
    pub registry: Registry,
    pub accounts: Accounts,
    pub contents: Contents,
    /// The account "a", with the address a@example.org.
    pub account: AccountId,
}

impl World {
    /// In an empty database. The configuration ends sessions of accounts that it removes.
    pub async fn open(db: Db, sessions: Sessions) -> anyhow::Result<Self> {
        let millis: NowMillis = Arc::new(|| NOW * 1000);
        let bus = mox_events::Bus::in_process();
        let registry = Registry::open(db.clone(), bus, millis.clone(), sessions).await?;
        let domain: mox_types::Domain = "example.org".parse()?;
        let mut config = Account::new(domain.clone());
        let address = "a@example.org".parse().map_err(|e| anyhow::anyhow!("address: {e}"))?;
        config.destinations.insert(address, Destination::default());
        let mut dynamic = Dynamic::default();
        dynamic.domains.insert(domain, Domain::default());
        dynamic.accounts.insert("a".into(), config);
        let request = CommitConfigRequest {
            key: mox_rpc::key(),
            snapshot: serde_json::to_vec(&dynamic)?.into(),
            ..Default::default()
        };
        let answer = registry.commit(&request).await?;
        let account = AccountId::try_from(&answer.accounts[0].id)?;
        let accounts = Accounts::new(db.clone(), Arc::new(|_: &str| 0), Arc::new(|| NOW), INDEX_BYTES);
        let contents = Contents::new(db.clone(), Arc::new(EngineBlobs::new(db)), millis);
        Ok(Self {
            registry,
            accounts,
            contents,
            account,
        })
    }
}
