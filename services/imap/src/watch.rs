//! Being told that accounts changed: one stream to the store for all sessions of the process, and the renewal of their
//! tokens.
//!
//! A session subscribes with its token, and reads the highest modification sequence of its account from a watch
//! channel. The store says which mailboxes changed, if they are few: a session that is only interested in another one is
//! not woken. When the stream breaks, it is opened again with growing pauses and every session subscribed again; the
//! store's first answer to each carries the modification sequence of then, so nothing is missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc as stream;
use mox_proto::auth::v1::RenewSessionsRequest;
use mox_proto::auth::v1::auth_service_client::AuthServiceClient;
use mox_proto::mail::v1::mail_service_client::MailServiceClient;
use mox_proto::mail::v1::{WatchRequest, WatchResponse, watch_request};
use mox_rpc::Channel;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use crate::limits;

/// What is known about a session's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hint {
    /// There may be changes up to here.
    pub modseq: u64,
    /// The session has ended.
    pub revoked: bool,
}

struct Entry {
    token: Bytes,
    hint: watch::Sender<Hint>,
    /// The highest modification sequence that was heard of, whatever it was of.
    heard: u64,
    interest: Interested,
}

/// What a session wants to be woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest<'i> {
    /// Its end.
    Nothing,
    /// Changes of a mailbox, by id.
    Mailbox(&'i Bytes),
    /// All changes.
    Account,
}

/// [`Interest`], to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Interested {
    Nothing,
    Mailbox(Bytes),
    Account,
}

impl Interested {
    fn is(&self, interest: Interest<'_>) -> bool {
        match (self, interest) {
            (Self::Nothing, Interest::Nothing) | (Self::Account, Interest::Account) => true,
            (Self::Mailbox(ours), Interest::Mailbox(id)) => ours == id,
            _ => false,
        }
    }

    fn of(interest: Interest<'_>) -> Self {
        match interest {
            Interest::Nothing => Self::Nothing,
            Interest::Mailbox(id) => Self::Mailbox(id.clone()),
            Interest::Account => Self::Account,
        }
    }
}

struct Table {
    next: AtomicU64,
    sessions: Mutex<HashMap<u64, Entry>>,
    changes: mpsc::UnboundedSender<Change>,
}

enum Change {
    Subscribe(u64),
    Unsubscribe(u64),
}

/// Where sessions subscribe.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Table>);

/// A session's place in the hub, until it is dropped.
pub(crate) struct Subscription {
    id: u64,
    hub: Hub,
    hint: watch::Receiver<Hint>,
    interest: Interested,
}

impl Subscription {
    /// The latest.
    pub(crate) fn hint(&self) -> Hint {
        *self.hint.borrow()
    }

    /// Says what the session wants to be woken for. When that changes, what was heard before may be of it, and is hinted
    /// at again.
    pub(crate) fn interest(&mut self, interest: Interest<'_>) {
        if self.interest.is(interest) {
            return;
        }
        self.interest = Interested::of(interest);
        if let Some(entry) = self.hub.0.sessions.lock().get_mut(&self.id) {
            entry.interest = self.interest.clone();
            let heard = entry.heard;
            raise(&entry.hint, heard, false);
        }
    }

    /// Waits for a hint of changes behind `modseq`, or of the end of the session. Cancelling loses nothing.
    pub(crate) async fn changed(&mut self, modseq: u64) -> Hint {
        let hint = self
            .hint
            .wait_for(|h| h.revoked || h.modseq > modseq)
            .await
            .map(|hint| *hint);
        match hint {
            Ok(hint) => hint,
            // The sender lives in the hub's table as long as we do.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.0.sessions.lock().remove(&self.id);
        let _ = self.hub.0.changes.send(Change::Unsubscribe(self.id));
    }
}

impl Hub {
    /// Starts watching; ends when the last session and every clone are gone.
    pub(crate) fn start(store: Channel) -> Self {
        let (changes, receiver) = mpsc::unbounded_channel();
        let table = Table {
            next: AtomicU64::new(1),
            sessions: Mutex::default(),
            changes,
        };
        let hub = Self(Arc::new(table));
        tokio::spawn(renew(Arc::downgrade(&hub.0), store.clone()));
        tokio::spawn(run(Arc::downgrade(&hub.0), store, receiver));
        hub
    }

    /// Subscribes a session.
    pub(crate) fn subscribe(&self, token: Bytes) -> Subscription {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, hint) = watch::channel(Hint::default());
        let entry = Entry {
            token,
            hint: sender,
            heard: 0,
            interest: Interested::Account,
        };
        self.0.sessions.lock().insert(id, entry);
        let _ = self.0.changes.send(Change::Subscribe(id));
        Subscription {
            id,
            hub: self.clone(),
            hint,
            interest: Interested::Account,
        }
    }
}

impl Table {
    fn subscribe_request(&self, id: u64) -> Option<WatchRequest> {
        let session = self.sessions.lock().get(&id)?.token.clone();
        let subscribe = watch_request::Subscribe { id, session };
        Some(WatchRequest {
            request: Some(watch_request::Request::Subscribe(subscribe)),
        })
    }

    fn tell(&self, told: &WatchResponse) {
        if let Some(entry) = self.sessions.lock().get_mut(&told.id) {
            // What is said of mailboxes holds from there on; what was missed before may be of any.
            let known = !told.mailboxes.is_empty() && told.since <= entry.heard;
            let concerned = match &entry.interest {
                Interested::Account => true,
                Interested::Nothing => false,
                Interested::Mailbox(id) => !known || told.mailboxes.contains(id),
            };
            entry.heard = entry.heard.max(told.modseq);
            let modseq = if concerned { told.modseq } else { 0 };
            raise(&entry.hint, modseq, told.revoked);
        }
    }

    fn revoke(&self, id: u64) {
        self.tell(&WatchResponse {
            id,
            revoked: true,
            ..WatchResponse::default()
        });
    }
}

fn raise(hint: &watch::Sender<Hint>, modseq: u64, revoked: bool) {
    hint.send_if_modified(|hint| {
        let before = *hint;
        hint.modseq = hint.modseq.max(modseq);
        hint.revoked |= revoked;
        *hint != before
    });
}

type Weak = std::sync::Weak<Table>;

/// One stream to the store.
struct Line {
    requests: stream::UnboundedSender<WatchRequest>,
    subscribed: HashSet<u64>,
}

impl Line {
    fn pass_on(&mut self, table: &Table, change: &Change) {
        let request = match *change {
            Change::Subscribe(id) if self.subscribed.insert(id) => table.subscribe_request(id),
            Change::Unsubscribe(id) if self.subscribed.remove(&id) => Some(WatchRequest {
                request: Some(watch_request::Request::Unsubscribe(id)),
            }),
            _ => None,
        };
        if let Some(request) = request {
            // If the stream is gone, its other half says so.
            let _ = self.requests.unbounded_send(request);
        }
    }
}

async fn run(table: Weak, store: Channel, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut pause = limits::WATCH_PAUSE.0;
    loop {
        let opened = tokio::time::Instant::now();
        let Err(status) = watch_once(&table, &store, &mut changes).await else {
            return;
        };
        if opened.elapsed() > limits::WATCH_PAUSE.1 {
            pause = limits::WATCH_PAUSE.0;
        }
        tracing::warn!(error = %status, "watching the store was interrupted, trying again");
        tokio::time::sleep(jitter(pause)).await;
        pause = (pause * 2).min(limits::WATCH_PAUSE.1);
    }
}

/// Between half of the pause and all of it, so that processes don't come back at once.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// Watches until the stream breaks, or (Ok) until nobody is left to watch for.
async fn watch_once(
    table: &Weak,
    store: &Channel,
    changes: &mut mpsc::UnboundedReceiver<Change>,
) -> Result<(), Status> {
    let (requests, requested) = stream::unbounded();
    let mut line = Line {
        requests,
        subscribed: HashSet::new(),
    };
    {
        let Some(table) = table.upgrade() else { return Ok(()) };
        // What is in the queue is in the table already.
        while changes.try_recv().is_ok() {}
        let ids: Vec<u64> = table.sessions.lock().keys().copied().collect();
        for id in ids {
            line.pass_on(&table, &Change::Subscribe(id));
        }
    }
    let mut client = MailServiceClient::new(store.clone());
    let mut opening = std::pin::pin!(client.watch(requested));
    let mut told: Option<Streaming<WatchResponse>> = None;
    loop {
        tokio::select! {
            opened = &mut opening, if told.is_none() => told = Some(opened?.into_inner()),
            message = next(&mut told) => {
                let message = message?.ok_or_else(|| Status::unavailable("the store ended the watch"))?;
                let Some(table) = table.upgrade() else { return Ok(()) };
                table.tell(&message);
            }
            change = changes.recv() => {
                let (Some(change), Some(table)) = (change, table.upgrade()) else { return Ok(()) };
                line.pass_on(&table, &change);
            }
        }
    }
}

async fn next(told: &mut Option<Streaming<WatchResponse>>) -> Result<Option<WatchResponse>, Status> {
    match told {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// Keeps the sessions' tokens alive, and ends the sessions of those that are not.
async fn renew(table: Weak, store: Channel) {
    let mut client = AuthServiceClient::new(store);
    loop {
        tokio::time::sleep(limits::RENEW).await;
        let Some(table) = table.upgrade() else { return };
        let (ids, sessions): (Vec<u64>, Vec<Bytes>) = table
            .sessions
            .lock()
            .iter()
            .map(|(id, entry)| (*id, entry.token.clone()))
            .unzip();
        // A page of tokens a call.
        for (ids, sessions) in ids.chunks(1000).zip(sessions.chunks(1000)) {
            match client
                .renew_sessions(RenewSessionsRequest {
                    sessions: sessions.to_vec(),
                })
                .await
            {
                Ok(answer) => {
                    for (id, valid) in ids.iter().zip(answer.into_inner().valid) {
                        if !valid {
                            table.revoke(*id);
                        }
                    }
                }
                Err(status) => tracing::warn!(error = %status, "renewing sessions failed, trying again later"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> (Hub, mpsc::UnboundedReceiver<Change>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        let table = Table {
            next: AtomicU64::new(1),
            sessions: Mutex::default(),
            changes,
        };
        (Hub(Arc::new(table)), receiver)
    }

    fn told(id: u64, since: u64, modseq: u64, mailboxes: &[&'static [u8]]) -> WatchResponse {
        WatchResponse {
            id,
            modseq,
            since,
            mailboxes: mailboxes.iter().map(|m| Bytes::from_static(m)).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn a_session_hears_of_what_concerns_it() {
        let (hub, _receiver) = hub();
        let mut session = hub.subscribe(Bytes::new());
        let id = session.id;
        let mailbox = Bytes::from_static(b"a");
        hub.0.tell(&told(id, 0, 5, &[]));
        assert_eq!(session.hint().modseq, 5);
        session.interest(Interest::Mailbox(&mailbox));
        hub.0.tell(&told(id, 5, 6, &[b"b"]));
        assert_eq!(session.hint().modseq, 5, "not of ours");
        hub.0.tell(&told(id, 6, 7, &[b"b", b"a"]));
        assert_eq!(session.hint().modseq, 7);
        // Something was missed before.
        hub.0.tell(&told(id, 8, 9, &[b"b"]));
        assert_eq!(session.hint().modseq, 9);
        hub.0.tell(&told(id, 9, 10, &[b"b"]));
        assert_eq!(session.hint().modseq, 9);
        // Another mailbox: what was heard may have been of it.
        session.interest(Interest::Mailbox(&Bytes::from_static(b"b")));
        assert_eq!(session.hint().modseq, 10);
        session.interest(Interest::Nothing);
        hub.0.tell(&told(id, 10, 11, &[]));
        assert_eq!(
            session.hint(),
            Hint {
                modseq: 10,
                revoked: false
            }
        );
        hub.0.revoke(id);
        assert!(session.hint().revoked);
    }
}
