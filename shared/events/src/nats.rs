//! Delivery between processes, over NATS. Publishing never waits: what can't be sent yet is kept, the last of each kind.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Event;
use crate::event::NATS_WILDCARD;
use crate::local::Local;

/// Accounts with an unpublished change that are remembered while the server is away. Changes beyond are left to
/// the subscribers' polling.
const MAX_PENDING_ACCOUNTS: usize = 65_536;

/// Between attempts to reach the server: at first, and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));

/// A server that does not answer pings at this interval is taken for gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// For one exchange with the server that shows that it knows our subscription.
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// A subject that nobody answers on: the server says so at once, and has handled all we sent before by then.
const ROUND_TRIP_SUBJECT: &str = "mox.roundtrip";

/// Why a NATS server can't be used at all. That it can't be reached is not an error.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The URL is not one. It is not shown, as it may have a password in it.
    #[error(
        "the URL of the event bus is not understood: write nats://host:4222 or tls://host:4222 in [events] nats_url"
    )]
    Url,
}

/// The connection and its tasks.
#[derive(Debug)]
pub(crate) struct Nats {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
    connected: AtomicBool,
    /// Set at each (re)connection, until subscribers were told.
    reconnected: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    accounts: HashMap<String, u64>,
    queue_due: bool,
    hook_due: bool,
    config: Option<u64>,
    certificates: bool,
}

impl Pending {
    fn add(&mut self, event: &Event) {
        match event {
            Event::AccountChanged { account, modseq } => {
                if let Some(known) = self.accounts.get_mut(account) {
                    *known = (*known).max(*modseq);
                } else if self.accounts.len() < MAX_PENDING_ACCOUNTS {
                    self.accounts.insert(account.clone(), *modseq);
                }
            }
            Event::QueueDue => self.queue_due = true,
            Event::HookDue => self.hook_due = true,
            Event::ConfigChanged { version } => self.config = self.config.max(Some(*version)),
            Event::CertificatesChanged => self.certificates = true,
        }
    }

    fn take(&mut self) -> Vec<Event> {
        let taken = std::mem::take(self);
        let mut events = Vec::new();
        events.extend(taken.config.map(|version| Event::ConfigChanged { version }));
        events.extend(taken.certificates.then_some(Event::CertificatesChanged));
        events.extend(
            taken
                .accounts
                .into_iter()
                .map(|(account, modseq)| Event::AccountChanged { account, modseq }),
        );
        events.extend(taken.queue_due.then_some(Event::QueueDue));
        events.extend(taken.hook_due.then_some(Event::HookDue));
        events
    }
}

impl Nats {
    pub(crate) fn start(url: &str, local: Local) -> Result<Self, NatsError> {
        let server: ServerAddr = url.parse().map_err(|_| NatsError::Url)?;
        let shared = Arc::new(Shared::default());
        let callback = Arc::clone(&shared);
        let options = ConnectOptions::new()
            .name("mox")
            // What this process publishes, it has delivered to its own subscribers already.
            .no_echo()
            .retry_on_initial_connect()
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(|attempts| {
                let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(10);
                (RECONNECT.0 * 2_u32.saturating_pow(doublings)).min(RECONNECT.1)
            })
            .event_callback(move |event| {
                let shared = Arc::clone(&callback);
                async move { shared.on(&event) }
            });
        let task = tokio::spawn(run(options, server, Arc::clone(&shared), local));
        Ok(Self { shared, task })
    }

    pub(crate) fn publish(&self, event: &Event) {
        self.shared.pending.lock().add(event);
        self.shared.wake.notify_one();
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn on(&self, event: &async_nats::Event) {
        match event {
            async_nats::Event::Connected => {
                tracing::info!("connected to the event bus");
                self.connected.store(true, Ordering::Relaxed);
                self.reconnected.notify_one();
            }
            async_nats::Event::Disconnected => {
                tracing::warn!("connection to the event bus lost; services poll until it is back");
                self.connected.store(false, Ordering::Relaxed);
            }
            async_nats::Event::SlowConsumer(_) => self.reconnected.notify_one(),
            other => tracing::debug!(event = %other, "event bus"),
        }
    }
}

async fn run(options: ConnectOptions, server: ServerAddr, shared: Arc<Shared>, local: Local) {
    // With retries on the first connection this returns at once; it fails for options that can't work.
    let client = match options.connect(server).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the event bus can't be used; services poll instead");
            return;
        }
    };
    let subscription = match client.subscribe(NATS_WILDCARD).await {
        Ok(subscription) => subscription,
        Err(error) => {
            tracing::error!(%error, "subscribe to the event bus; services poll instead");
            return;
        }
    };
    tokio::join!(
        receive(subscription, &local),
        announce(&client, &shared, &local),
        send(&client, &shared),
    );
}

async fn receive(mut subscription: async_nats::Subscriber, local: &Local) {
    while let Some(message) = subscription.next().await {
        if let Some(event) = Event::decode(&message.payload) {
            local.deliver(&event);
        }
    }
}

/// Tells subscribers to read again, once the server is sure to know our subscription: what happens later arrives.
async fn announce(client: &Client, shared: &Shared, local: &Local) {
    loop {
        shared.reconnected.notified().await;
        let round_trip = client.request(ROUND_TRIP_SUBJECT, bytes::Bytes::new());
        let _ = tokio::time::timeout(ROUND_TRIP, round_trip).await;
        local.resubscribed();
    }
}

async fn send(client: &Client, shared: &Shared) {
    loop {
        shared.wake.notified().await;
        let events = shared.pending.lock().take();
        for event in events {
            // Waits while the server is away; meanwhile further events are coalesced.
            if let Err(error) = client.publish(event.nats_subject(), event.encode().into()).await {
                tracing::warn!(%error, "publish to the event bus; subscribers find out by polling");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_events_are_coalesced_to_the_last() {
        let mut pending = Pending::default();
        for modseq in [3, 9, 5] {
            pending.add(&Event::AccountChanged {
                account: "a".into(),
                modseq,
            });
            pending.add(&Event::ConfigChanged { version: modseq });
            pending.add(&Event::QueueDue);
            pending.add(&Event::HookDue);
        }
        let events = pending.take();
        assert_eq!(
            events,
            [
                Event::ConfigChanged { version: 9 },
                Event::AccountChanged {
                    account: "a".into(),
                    modseq: 9
                },
                Event::QueueDue,
                Event::HookDue
            ]
        );
        assert!(pending.take().is_empty());
    }

    #[test]
    fn accounts_are_bounded() {
        let mut pending = Pending::default();
        for n in 0..=MAX_PENDING_ACCOUNTS {
            pending.add(&Event::AccountChanged {
                account: n.to_string(),
                modseq: 1,
            });
        }
        assert_eq!(pending.accounts.len(), MAX_PENDING_ACCOUNTS);
    }
}
