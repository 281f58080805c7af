//! Takes what is due from the store, and sends it on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mox_config::Static;
use mox_events::{Bus, Subject};
use mox_proto::queue::v1::complete_request::Outcome;
use mox_proto::queue::v1::queue_service_client::QueueServiceClient;
use mox_proto::queue::v1::{ClaimRequest, ClaimResponse, CompleteRequest};
use mox_rpc::Channel;
use mox_service::{Clock, ConfigWatch, Shutdown};
use mox_spool::Budget;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};

use crate::claims::{Claims, PAUSE, POLL, finished, look_again};
use crate::deliver::Attempted;
use crate::group::{Claim, Group, groups};
use crate::lanes::Lanes;
use crate::lease::{Leases, RENEW_TIMEOUT, lease_seconds};
use crate::metrics::Metrics;
use crate::route::{self, Destination, RouteError};
use crate::session::{Outside, Random};
use crate::verdict::{Failure, Verdict};

/// Entries that this process has in hand at most.
const HAND_MAX: usize = 2000;
/// Entries that are asked for at once.
const CLAIM_MAX: usize = 256;
/// Entries of one recipient domain that are asked for at once: if its hosts hang, as many are held up by them.
const DOMAIN_MAX: u32 = 64;
/// What waits for hosts that hang goes back to the queue for so long.
const STUCK_DELAY_MILLIS: i64 = 30_000;
/// How often such hosts are looked for.
const STUCK_LOOK: Duration = Duration::from_secs(2);
/// What finds its lane full goes back to the queue for so long.
const FULL_DELAY_MILLIS: i64 = 2000;
/// After a lane was found full, so long nothing is taken, unless it empties sooner. A relay that many domains share is
/// known only when its entries are here, so that the store can't be told to leave them where they are.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Takes what is due from the store, and sends it on its way. Cheap to clone.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

pub(crate) struct Inner {
    /// Names its leases; unlike that of any other process.
    pub name: String,
    pub store: QueueServiceClient<Channel>,
    pub bus: Bus,
    pub clock: Clock,
    pub fixed: Arc<Static>,
    pub config: ConfigWatch,
    pub outside: Outside,
    pub leases: Leases,
    pub budget: Budget,
    pub metrics: Metrics,
    pub random: Random,
    /// When the first of what was given back since it was looked at is due again; `i64::MAX` for none.
    pub given_back: AtomicI64,
}

/// A group is no longer on its way to its destination.
struct Ended {
    destination: Destination,
    reached: bool,
    attempted: Option<Attempted>,
}

/// What the loop has at hand.
struct State {
    lanes: Lanes<Group>,
    running: JoinSet<Option<Ended>>,
    /// Something may be due.
    wanted: bool,
    /// Something is due, and could not be taken.
    more: bool,
    /// When something is due, in milliseconds since 1970.
    next_due: Option<i64>,
    /// Nothing is taken before.
    paused: Option<Instant>,
}

impl Worker {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// Works until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut state = State {
            lanes: Lanes::default(),
            running: JoinSet::new(),
            wanted: true,
            more: false,
            next_due: None,
            paused: None,
        };
        let mut due = self.0.bus.subscribe(Subject::Queue);
        let renewing = tokio::spawn(self.clone().renew());
        let mut claiming: Option<JoinHandle<Claims<ClaimResponse>>> = None;
        let mut poll = Instant::now() + POLL;
        let mut look = tokio::time::interval(STUCK_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start(&mut state, &shutdown);
            // The store's last answer did not know of it.
            let again = self.0.given_back.swap(i64::MAX, Ordering::Relaxed);
            if again != i64::MAX {
                state.next_due = Some(state.next_due.map_or(again, |due| due.min(again)));
            }
            let room = HAND_MAX.saturating_sub(self.0.leases.len());
            if state.wanted && claiming.is_none() && room > 0 && state.paused.is_none() {
                state.wanted = false;
                poll = Instant::now() + POLL;
                claiming = Some(tokio::spawn(self.clone().claim(state.lanes.busy(), room)));
            }
            let (next_due, paused) = (state.next_due, state.paused);
            tokio::select! {
                () = shutdown.begun() => break,
                _ = due.next() => state.wanted = true,
                () = sleep_until(paused.unwrap_or(poll)), if paused.is_some() => state.paused = None,
                () = sleep_until(poll) => {
                    poll = Instant::now() + POLL;
                    state.wanted = true;
                }
                () = self.0.clock.sleep_until_unix_millis(next_due.unwrap_or(i64::MAX)), if next_due.is_some() => {
                    state.next_due = None;
                    state.wanted = true;
                }
                _ = look.tick(), if state.lanes.waits() => self.shed(&mut state),
                Some(done) = state.running.join_next() => self.done(&mut state, done),
                Some(claims) = finished(&mut claiming) => self.claimed(&mut state, claims, &shutdown).await,
            }
        }
        self.stop(state, claiming, &shutdown).await;
        self.0.outside.idle.clear();
        renewing.abort();
    }

    /// What was taken and has not begun goes back; what runs is waited for.
    async fn stop(&self, mut state: State, claiming: Option<JoinHandle<Claims<ClaimResponse>>>, shutdown: &Shutdown) {
        if let Some(Ok(Ok((response, asked)))) = match claiming {
            Some(claiming) => timeout(RENEW_TIMEOUT, claiming).await.ok(),
            None => None,
        } {
            for claim in response.entries.into_iter().filter_map(Claim::new) {
                self.0.leases.add(claim.lease, asked);
                self.spawn_release(&mut state, vec![claim], 0);
            }
        }
        for group in state.lanes.drain() {
            self.spawn_release(&mut state, group.claims, 0);
        }
        // Each of them heeds the deadline itself, and gets a little longer to say so to the store.
        let all = async {
            while let Some(done) = state.running.join_next().await {
                self.done(&mut state, done);
            }
        };
        tokio::select! {
            () = all => {}
            () = async { shutdown.deadline().await; sleep(RENEW_TIMEOUT).await; } => {}
        }
    }

    fn start(&self, state: &mut State, shutdown: &Shutdown) {
        for (destination, group) in state.lanes.start() {
            let (worker, shutdown) = (self.clone(), shutdown.clone());
            state.running.spawn(async move {
                worker.0.metrics.active.inc();
                let (reached, attempted) = worker.deliver(&destination, group, &shutdown).await;
                worker.0.metrics.active.dec();
                Some(Ended {
                    destination,
                    reached,
                    attempted,
                })
            });
        }
        self.0
            .metrics
            .leased
            .set(i64::try_from(self.0.leases.len()).unwrap_or(i64::MAX));
    }

    fn done(&self, state: &mut State, done: Result<Option<Ended>, tokio::task::JoinError>) {
        match done {
            Ok(Some(ended)) => {
                let was_busy = state.lanes.is_busy(&ended.destination);
                state.lanes.done(&ended.destination, ended.reached);
                // While a destination has enough, asking for more would only bring what cannot begin.
                if state.more || (was_busy && !state.lanes.is_busy(&ended.destination)) {
                    state.wanted = true;
                }
                if let Some(attempted) = ended.attempted {
                    let worker = self.clone();
                    state.running.spawn(async move {
                        worker.tell_of(attempted).await;
                        None
                    });
                }
            }
            // The hand is less full now.
            Ok(None) => state.wanted |= state.more,
            // The lane keeps the place of what failed so: better than to take more of what makes us fail.
            Err(error) => tracing::error!(%error, "delivering failed unexpectedly"),
        }
        if !state.lanes.crowded() {
            state.paused = None;
        }
    }

    async fn claim(self, busy_domains: Vec<String>, room: usize) -> Claims<ClaimResponse> {
        let request = ClaimRequest {
            worker: self.0.name.clone(),
            max: u32::try_from(room.min(CLAIM_MAX)).unwrap_or(u32::MAX),
            lease_seconds: lease_seconds(),
            busy_domains,
            domain_max: DOMAIN_MAX,
        };
        let asked = Instant::now();
        let response = self.0.store.clone().claim(request).await;
        response
            .map(|response| (response.into_inner(), asked))
            .map_err(Box::new)
    }

    async fn claimed(&self, state: &mut State, claims: Claims<ClaimResponse>, shutdown: &Shutdown) {
        let now = self.0.clock.unix_millis();
        let (response, asked) = match claims {
            Ok(claims) => claims,
            Err(status) => {
                tracing::info!(
                    error = status.message(),
                    "store does not give what is due, trying again"
                );
                sleep(PAUSE).await;
                state.wanted = true;
                return;
            }
        };
        let some = !response.entries.is_empty();
        state.more = response.next_due.is_some_and(|due| due <= now);
        state.wanted |= some;
        state.next_due = look_again(response.next_due, now, some);
        let config = self.0.config.current();
        let mut ready = Vec::new();
        for claim in response.entries.into_iter().filter_map(Claim::new) {
            self.0.leases.add(claim.lease, asked);
            if claim.entry.suppressed {
                self.spawn_verdict(state, claim, suppressed(), shutdown);
                continue;
            }
            match route::destination(&claim.entry, &self.0.fixed, &config) {
                Ok(destination) => ready.push((destination, claim)),
                Err(error) => self.spawn_verdict(state, claim, unroutable(&error), shutdown),
            }
        }
        for (destination, group) in groups(ready) {
            if let Err(group) = state.lanes.add(destination, group) {
                state.paused = Some(Instant::now() + FULL_PAUSE);
                self.spawn_release(state, group.claims, FULL_DELAY_MILLIS);
            }
        }
    }

    /// Gives back what waits for hosts that hang.
    fn shed(&self, state: &mut State) {
        let stuck = state.lanes.shed();
        if !stuck.is_empty() {
            tracing::info!(
                messages = stuck.len(),
                "hosts do not answer, what waits for them goes back to the queue"
            );
            let claims = stuck.into_iter().flat_map(|group| group.claims).collect();
            self.spawn_release(state, claims, STUCK_DELAY_MILLIS);
        }
    }

    /// Gives entries back without an attempt, due in so many milliseconds.
    fn spawn_release(&self, state: &mut State, claims: Vec<Claim>, later: i64) {
        let worker = self.clone();
        state.running.spawn(async move {
            for claim in claims {
                worker.release(&claim, later).await;
            }
            None
        });
    }

    pub(crate) async fn release(&self, claim: &Claim, later: i64) {
        let mut request = CompleteRequest {
            key: mox_rpc::key(),
            lease: Some(claim.lease),
            next_attempt: self.0.clock.unix_millis() + later,
            ..CompleteRequest::default()
        };
        request.set_outcome(Outcome::Released);
        // If it is not heard, the lease ends by itself.
        if let Err(status) = self.0.store.clone().complete(request.clone()).await {
            tracing::debug!(
                entry = claim.lease.id,
                error = status.message(),
                "giving an entry back failed"
            );
        }
        self.0.leases.remove(claim.lease);
        if later > 0 {
            self.0.given_back.fetch_min(request.next_attempt, Ordering::Relaxed);
        }
    }

    /// What needs no attempt.
    fn spawn_verdict(&self, state: &mut State, claim: Claim, verdict: Verdict, shutdown: &Shutdown) {
        let (worker, shutdown) = (self.clone(), shutdown.clone());
        state.running.spawn(async move {
            let group = Group {
                domain: claim.domain(),
                claims: vec![claim],
            };
            worker.settle(group, verdict, &shutdown).await;
            None
        });
    }

    /// Renews all leases, again and again.
    async fn renew(self) {
        let renew = |request| {
            let mut store = self.0.store.clone();
            async move { Ok(store.renew(request).await?.into_inner().held) }
        };
        self.0.leases.keep(&self.0.name, renew).await;
    }
}

fn unroutable(error: &RouteError) -> Verdict {
    // RFC 3463 §3.2 and §3.6: bad destination address; system incorrectly configured.
    let code = if error.is_permanent() { (1, 3) } else { (3, 5) };
    Verdict::Failed(Failure::ours(error.is_permanent(), code, error.to_string()))
}

fn suppressed() -> Verdict {
    let text = "recipient is on the suppression list of the account, since earlier messages to it failed or it was added \
                by hand; the message was not sent";
    // RFC 3463 §3.8: delivery not authorized.
    Verdict::Failed(Failure::ours(true, (7, 1), text))
}
