//! The dynamic configuration as committed to the store, kept current.

use std::sync::Arc;
use std::time::Duration;

use mox_config::Dynamic;
use mox_events::{Bus, Subject, Subscription};
use mox_proto::config::v1::GetConfigRequest;
use mox_proto::config::v1::config_service_client::ConfigServiceClient;
use mox_rpc::Channel;
use tokio::sync::watch;

use crate::cid::CidKey;

/// Between looks at the store, besides those that events ask for.
const POLL: Duration = Duration::from_secs(30);

/// Between looks at a store that does not answer, or has no configuration yet: control commits one soon after it starts.
const RETRY: Duration = Duration::from_secs(1);

/// The configuration of now. Clones follow it independently.
#[derive(Clone, Debug)]
pub struct ConfigWatch {
    receiver: watch::Receiver<Snapshot>,
}

#[derive(Clone, Debug, Default)]
struct Snapshot {
    version: u64,
    dynamic: Arc<Dynamic>,
    cid_key: CidKey,
}

impl ConfigWatch {
    /// Follows the store in a task, which ends with the last clone. Empty until the first answer; see
    /// [`ConfigWatch::received`].
    #[must_use]
    pub fn follow(store: Channel, bus: &Bus) -> Self {
        let (sender, receiver) = watch::channel(Snapshot::default());
        let events = bus.subscribe(Subject::Config);
        tokio::spawn(follow(ConfigServiceClient::new(store), events, sender));
        Self { receiver }
    }

    /// One that stays as it is, for tests.
    #[must_use]
    pub fn fixed(dynamic: Dynamic) -> Self {
        let (_, receiver) = watch::channel(Snapshot {
            version: 1,
            dynamic: Arc::new(dynamic),
            cid_key: CidKey::default(),
        });
        Self { receiver }
    }

    /// An empty one for processes that have the configuration by other means.
    #[must_use]
    pub fn none() -> Self {
        let (_, receiver) = watch::channel(Snapshot::default());
        Self { receiver }
    }

    /// The configuration. Held for as long as one decision takes, it stays whole.
    #[must_use]
    pub fn current(&self) -> Arc<Dynamic> {
        Arc::clone(&self.receiver.borrow().dynamic)
    }

    /// Its version; 0 if there is none yet.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.receiver.borrow().version
    }

    /// What hides ids of connections in Received fields; of use only to services that write such fields, as others don't
    /// get it.
    #[must_use]
    pub fn cid_key(&self) -> CidKey {
        self.receiver.borrow().cid_key
    }

    /// Completes when the configuration is another than at the last call, or at the clone's making.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Completes when there is a configuration.
    pub async fn received(&self) {
        let mut receiver = self.receiver.clone();
        if receiver.wait_for(|snapshot| snapshot.version > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn follow(mut store: ConfigServiceClient<Channel>, mut events: Subscription, sender: watch::Sender<Snapshot>) {
    let mut complained = false;
    let mut bus_lives = true;
    loop {
        let known = sender.borrow().version;
        let wait = match fetch(&mut store, known).await {
            Ok(newer) => {
                complained = false;
                if let Some(newer) = newer {
                    tracing::info!(version = newer.version, "configuration received");
                    sender.send_replace(newer);
                }
                if sender.borrow().version > 0 { POLL } else { RETRY }
            }
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "ask the store for the configuration; trying again");
                    complained = true;
                }
                RETRY
            }
        };
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(wait) => {}
            notice = events.next(), if bus_lives => bus_lives = notice.is_some(),
        }
    }
}

/// What the store has, if it is another version than `known`.
async fn fetch(store: &mut ConfigServiceClient<Channel>, known: u64) -> Result<Option<Snapshot>, String> {
    let request = GetConfigRequest { known_version: known };
    let answer = store
        .get(request)
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    if answer.version == known || answer.version == 0 {
        return Ok(None);
    }
    let dynamic: Dynamic = serde_json::from_slice(&answer.snapshot).map_err(|e| {
        format!(
            "version {} is not understood: {e}; is this process older than control?",
            answer.version
        )
    })?;
    Ok(Some(Snapshot {
        version: answer.version,
        dynamic: Arc::new(dynamic),
        cid_key: CidKey::from_bytes(&answer.cid_key).unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use mox_proto::config::v1::GetConfigResponse;
    use mox_proto::config::v1::config_service_server::{ConfigService, ConfigServiceServer};
    use mox_rpc::Identity;
    use parking_lot::Mutex;
    use tonic::service::Routes;
    use tonic::{Request, Response, Status};

    use super::*;

    /// A version and its snapshot.
    type Committed = (u64, Vec<u8>);

    /// A store that has what it is told.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<Option<Committed>>>);

    #[tonic::async_trait]
    impl ConfigService for Store {
        async fn get(&self, request: Request<GetConfigRequest>) -> Result<Response<GetConfigResponse>, Status> {
            let Some((version, snapshot)) = self.0.lock().clone() else {
                return Err(Status::unavailable("away"));
            };
            let known = request.into_inner().known_version == version;
            let snapshot = if known { Vec::new() } else { snapshot };
            Ok(Response::new(GetConfigResponse {
                version,
                snapshot: snapshot.into(),
                ..GetConfigResponse::default()
            }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn follows_events_and_survives_an_absent_store() {
        let store = Store::default();
        let routes = Routes::new(ConfigServiceServer::new(store.clone()));
        let bus = Bus::in_process();
        let mut config = ConfigWatch::follow(Channel::in_process(routes, Identity::new("imap")), &bus);
        assert_eq!(config.version(), 0);
        let json =
            |account: &str| format!(r#"{{"accounts": {{"{account}": {{"domain": "example.org"}}}}}}"#).into_bytes();
        *store.0.lock() = Some((4, json("first")));
        config.received().await;
        config.changed().await;
        assert_eq!(
            (config.version(), config.current().accounts.contains_key("first")),
            (4, true)
        );
        *store.0.lock() = Some((5, b"not json".to_vec()));
        bus.publish(&mox_events::Event::ConfigChanged { version: 5 });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(config.version(), 4, "what can't be read is not taken");
        *store.0.lock() = Some((6, json("second")));
        bus.publish(&mox_events::Event::ConfigChanged { version: 6 });
        config.changed().await;
        assert!(config.current().accounts.contains_key("second"));
    }
}
