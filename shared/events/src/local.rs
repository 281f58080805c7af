//! Delivery within the process: a ring of recent events for each subject.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::{Event, Notice, Subject};

/// Events a subscriber may be behind before it is told to read again; a busy second of deliveries fits.
const RING: usize = 4096;

/// The rings.
#[derive(Clone, Debug)]
pub(crate) struct Local(Arc<[broadcast::Sender<Notice>; Subject::ALL.len()]>);

impl Local {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Subject::ALL.map(|_| broadcast::channel(RING).0)))
    }

    fn ring(&self, subject: Subject) -> &broadcast::Sender<Notice> {
        &self.0[match subject {
            Subject::Accounts => 0,
            Subject::Queue => 1,
            Subject::Config => 2,
            Subject::Certificates => 3,
            Subject::Hooks => 4,
        }]
    }

    pub(crate) fn deliver(&self, event: &Event) {
        let ring = self.ring(event.subject());
        if ring.receiver_count() > 0 {
            // Fails only when the last receiver went away this moment.
            let _ = ring.send(Notice::Event(event.clone()));
        }
    }

    /// Tells every subscriber that events may have been missed.
    pub(crate) fn resubscribed(&self) {
        for subject in Subject::ALL {
            let _ = self.ring(subject).send(Notice::Resubscribed);
        }
    }

    pub(crate) fn subscribe(&self, subject: Subject) -> Events {
        Events(BroadcastStream::new(self.ring(subject).subscribe()))
    }
}

/// One subscriber's place in a ring.
pub(crate) struct Events(BroadcastStream<Notice>);

impl Stream for Events {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        // The only error is to be too far behind.
        Pin::new(&mut self.0)
            .poll_next(cx)
            .map(|next| next.map(|got| got.unwrap_or(Notice::Resubscribed)))
    }
}
