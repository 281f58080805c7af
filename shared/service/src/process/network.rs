//! How a process reaches others, and they it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use mox_config::Static;
use mox_rpc::{Channel, Endpoint, Identity, Listener, ServerAuth, Tls, TlsFiles};
use tonic::service::Routes;

use crate::Peers;

/// How this process reaches others, and they it.
pub(super) struct Network {
    tls: Option<Arc<Tls>>,
    pub(super) store: Channel,
    pub(super) peers: Peers,
}

impl Network {
    /// From the section rpc. Nothing is connected yet.
    pub(super) fn new(service: &'static str, config: &Static, config_dir: &Path) -> Result<Self> {
        let rpc = &config.rpc;
        let tls = rpc.tls.as_ref().map(|files| {
            Tls::load(TlsFiles {
                cert: config_dir.join(&files.cert_file),
                key: config_dir.join(&files.key_file),
                ca: config_dir.join(&files.ca_file),
            })
        });
        let tls = tls
            .transpose()
            .context("certificates for calls between services (rpc.tls)")?;
        let identity = Identity::new(service);
        let mut channels = Vec::new();
        for (name, address) in &rpc.services {
            let endpoint = address.parse().with_context(|| format!("rpc.services.{name}"))?;
            channels.push((name.clone(), Channel::connect(endpoint, identity.clone(), tls.clone())));
        }
        let peers = Peers::new(channels);
        let store = match peers.get("store") {
            Some(store) => store,
            // The store does not call itself.
            None if service == "store" => Channel::in_process(Routes::default(), identity),
            None => anyhow::bail!("rpc.services.store is missing in mox.toml: write where the store answers"),
        };
        Ok(Self { tls, store, peers })
    }

    fn auth(&self) -> ServerAuth {
        match &self.tls {
            Some(tls) => ServerAuth::MutualTls(Arc::clone(tls)),
            None => ServerAuth::Loopback,
        }
    }

    /// Where others call this process, if they may.
    pub(super) async fn listener(&self, config: &Static) -> Result<Option<Listener>> {
        let Some(address) = &config.rpc.listen else {
            return Ok(None);
        };
        let endpoint: Endpoint = address.parse().context("rpc.listen")?;
        let listener = Listener::bind(&endpoint).await.context("rpc.listen")?;
        mox_rpc::check(&listener, &self.auth_for(&listener)).context("rpc.listen")?;
        Ok(Some(listener))
    }

    /// How callers prove who they are.
    pub(super) fn auth_for(&self, listener: &Listener) -> ServerAuth {
        match listener {
            Listener::Unix(..) => ServerAuth::UnixPeer,
            Listener::Tcp(_) => self.auth(),
        }
    }
}
