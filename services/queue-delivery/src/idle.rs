//! Sessions that ended a transaction well, and wait a little for the next message to the same destination, or to another
//! domain of the same host.
//!
//! What follows within moments saves connecting, greeting and TLS; whoever has nothing more to send should not keep
//! others' connections open for long.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mox_proto::queue::v1::RequireTls;
use mox_smtp::client::Client;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::places::Place;
use crate::route::Destination;

/// How long a session waits for a next message.
const WAIT: Duration = Duration::from_secs(2);
/// How often those whose time is over are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long a session is used: hosts of a destination should be chosen anew now and then.
const USE: Duration = Duration::from_secs(300);
/// Messages in one session. Many hosts have a limit, 100 is common, and close the connection on reaching it.
const MESSAGES: u32 = 100;
/// Sessions that wait at the same time.
const WAITING_MAX: usize = 200;

/// What sessions can be exchanged for one another: the same hosts, reached as securely.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Use {
    /// Where to.
    pub destination: Destination,
    /// How its hosts were verified follows from what messages require.
    pub requiretls: RequireTls,
}

/// A session that can take a message.
pub struct Session {
    /// At the start of a transaction.
    pub client: Client,
    /// With whom.
    pub host: String,
    /// Its address.
    pub address: SocketAddr,
    /// Nothing was demanded of the host that is not demanded for every domain.
    shared: bool,
    place: Place,
    opened: Instant,
    messages: u32,
}

impl Session {
    /// One that was just opened.
    pub fn new(client: Client, host: String, address: SocketAddr, place: Place, shared: bool) -> Self {
        Self {
            client,
            host,
            address,
            shared,
            place,
            opened: Instant::now(),
            messages: 0,
        }
    }

    /// Ends it, without anybody waiting for that.
    pub fn end(self) {
        tokio::spawn(async move {
            self.client.quit().await;
            drop(self.place);
        });
    }
}

#[derive(Default)]
struct State {
    waiting: HashMap<Use, Vec<(Instant, Session)>>,
    count: usize,
    looking: bool,
}

/// All sessions that wait. Cheap to clone.
#[derive(Clone, Default)]
pub struct Idle(Arc<Mutex<State>>);

impl Idle {
    /// The session that waited least, if there is one.
    pub fn take(&self, what: &Use) -> Option<Session> {
        let mut state = self.0.lock();
        let waiting = state.waiting.get_mut(what)?;
        let found = waiting.pop();
        if waiting.is_empty() {
            state.waiting.remove(what);
        }
        let (since, session) = found?;
        state.count -= 1;
        drop(state);
        if since.elapsed() >= WAIT {
            session.end();
            return None;
        }
        Some(session)
    }

    /// A session with an address of a host that other domains have as well, if nothing was demanded of it but what is
    /// demanded for all of them.
    pub fn take_shared(&self, host: &str, address: SocketAddr, requiretls: RequireTls) -> Option<Session> {
        let mut state = self.0.lock();
        let fits = |(since, session): &(Instant, Session)| {
            session.shared && session.address == address && session.host == host && since.elapsed() < WAIT
        };
        let mut all = state.waiting.iter_mut();
        let session = all.find_map(|(what, waiting)| {
            let place = (what.requiretls == requiretls).then(|| waiting.iter().rposition(fits))?;
            Some(waiting.remove(place?).1)
        })?;
        state.count -= 1;
        Some(session)
    }

    /// Ends the session with an address that waited longest, so that its place is free for another domain.
    pub fn end_one(&self, address: SocketAddr) {
        let mut state = self.0.lock();
        // They are in the order in which they came.
        let first = |waiting: &[(Instant, Session)]| waiting.iter().position(|(_, session)| session.address == address);
        let oldest = state
            .waiting
            .iter_mut()
            .filter_map(|(_, waiting)| first(waiting).map(|at| (waiting[at].0, waiting, at)))
            .min_by_key(|(since, ..)| *since);
        if let Some((_, waiting, at)) = oldest {
            let (_, session) = waiting.remove(at);
            state.count -= 1;
            drop(state);
            session.end();
        }
    }

    /// Keeps a session after a message, or ends it.
    pub fn put(&self, what: &Use, mut session: Session) {
        session.messages += 1;
        let spent = session.messages >= MESSAGES || session.opened.elapsed() >= USE;
        let mut state = self.0.lock();
        if !session.client.is_usable() || spent || state.count >= WAITING_MAX {
            drop(state);
            return session.end();
        }
        let now = Instant::now();
        state.count += 1;
        session.place.offer();
        state.waiting.entry(what.clone()).or_default().push((now, session));
        if !std::mem::replace(&mut state.looking, true) {
            tokio::spawn(self.clone().look());
        }
    }

    /// Ends those whose time is over, as long as there are any.
    async fn look(self) {
        let mut left = true;
        while left {
            sleep(LOOK).await;
            let mut over = Vec::new();
            let mut state = self.0.lock();
            for waiting in state.waiting.values_mut() {
                // They are in the order in which they came.
                let fresh = waiting.partition_point(|(since, _)| since.elapsed() >= WAIT);
                over.extend(waiting.drain(..fresh).map(|(_, session)| session));
            }
            state.waiting.retain(|_, waiting| !waiting.is_empty());
            state.count -= over.len();
            left = state.count > 0;
            state.looking = left;
            drop(state);
            over.into_iter().for_each(Session::end);
        }
    }

    /// Ends all of them.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        let all = std::mem::take(&mut state.waiting);
        state.count = 0;
        drop(state);
        for (_, session) in all.into_values().flatten() {
            session.end();
        }
    }
}
