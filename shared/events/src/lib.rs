//! Hints from one service to others that something changed.
//!
//! An event never carries state, and losing one only delays work: the state is in the store. A subscriber reads the
//! state again whenever it gets [`Notice::Resubscribed`], which comes first on every subscription, after each
//! (re)connection of the bus, and when the subscriber was too slow to be given every event. Besides that it looks every
//! 30 s at the versions it watches, as the bus may be away without knowing.
//!
//! [`Bus::in_process`] joins the services of one process. [`Bus::nats`] joins processes through a NATS server, which may
//! be absent when it is made and go away at any time; publishing never waits for it. Within one process events arrive
//! directly also then.

mod event;
mod local;
mod nats;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use event::{Event, Subject};
use futures::Stream;
use local::Local;
use nats::Nats;
pub use nats::NatsError;

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// Events may have been missed: read the state again.
    Resubscribed,
}

/// Where events are published and subscribed to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    local: Local,
    nats: Option<Arc<Nats>>,
}

impl Bus {
    /// For the services of one process.
    #[must_use]
    pub fn in_process() -> Self {
        Self {
            local: Local::new(),
            nats: None,
        }
    }

    /// For processes that share a NATS server, such as `nats://nats:4222`. Returns at once; connects in the background,
    /// again and again. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the URL can't be understood.
    pub fn nats(url: &str) -> Result<Self, NatsError> {
        let local = Local::new();
        let nats = Nats::start(url, local.clone())?;
        Ok(Self {
            local,
            nats: Some(Arc::new(nats)),
        })
    }

    /// Publishes, without waiting and without failing. Events of one account that follow each other quickly may arrive
    /// as the last of them.
    pub fn publish(&self, event: &Event) {
        self.local.deliver(event);
        if let Some(nats) = &self.nats {
            nats.publish(event);
        }
    }

    /// Events of one subject from now on; the first notice is [`Notice::Resubscribed`].
    #[must_use]
    pub fn subscribe(&self, subject: Subject) -> Subscription {
        Subscription {
            events: self.local.subscribe(subject),
            begun: false,
        }
    }

    /// Whether the bus reaches other processes now, for readiness and metrics. The in-process bus always does.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.nats.as_ref().is_none_or(|nats| nats.is_connected())
    }
}

/// A stream of notices. It ends only when the bus is gone.
pub struct Subscription {
    events: local::Events,
    begun: bool,
}

impl Stream for Subscription {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(Notice::Resubscribed));
        }
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Subscription {
    /// The next notice, for those that don't use the stream's combinators. `None` when the bus is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        futures::StreamExt::next(self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(account: &str, modseq: u64) -> Event {
        Event::AccountChanged {
            account: account.into(),
            modseq,
        }
    }

    #[tokio::test]
    async fn subscribers_get_their_subject_after_the_first_notice() {
        let bus = Bus::in_process();
        let mut accounts = bus.subscribe(Subject::Accounts);
        let mut queue = bus.subscribe(Subject::Queue);
        bus.publish(&changed("a", 1));
        bus.publish(&Event::QueueDue);
        assert_eq!(accounts.next().await, Some(Notice::Resubscribed));
        assert_eq!(accounts.next().await, Some(Notice::Event(changed("a", 1))));
        assert_eq!(queue.next().await, Some(Notice::Resubscribed));
        assert_eq!(queue.next().await, Some(Notice::Event(Event::QueueDue)));
    }

    #[tokio::test]
    async fn slow_subscriber_is_told_to_read_again() {
        let bus = Bus::in_process();
        let mut accounts = bus.subscribe(Subject::Accounts);
        assert_eq!(accounts.next().await, Some(Notice::Resubscribed));
        for modseq in 0..100_000 {
            bus.publish(&changed("a", modseq));
        }
        assert_eq!(accounts.next().await, Some(Notice::Resubscribed));
        let mut last = None;
        while last != Some(99_999) {
            match accounts.next().await {
                Some(Notice::Event(Event::AccountChanged { modseq, .. })) => last = Some(modseq),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn dropping_the_bus_ends_subscriptions() {
        let bus = Bus::in_process();
        let mut queue = bus.subscribe(Subject::Queue);
        drop(bus);
        assert_eq!(queue.next().await, Some(Notice::Resubscribed));
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test]
    async fn an_absent_server_keeps_the_process_working() {
        let bus = Bus::nats("nats://127.0.0.1:1").unwrap();
        let mut queue = bus.subscribe(Subject::Queue);
        bus.publish(&Event::QueueDue);
        assert_eq!(queue.next().await, Some(Notice::Resubscribed));
        assert_eq!(queue.next().await, Some(Notice::Event(Event::QueueDue)));
        assert!(!bus.is_connected());
    }
}
