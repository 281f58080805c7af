//! Takes webhooks that are due from the store, and calls their receivers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mox_events::{Bus, Subject};
use mox_proto::hook::v1::complete_hook_request::Outcome;
use mox_proto::hook::v1::hook_service_client::HookServiceClient;
use mox_proto::hook::v1::{
    ClaimHooksRequest, ClaimHooksResponse, ClaimedHook, CompleteHookRequest, Hook, HookSource, ReadPayloadRequest,
};
use mox_proto::queue::v1::Lease;
use mox_rpc::Channel;
use mox_service::{Clock, ConfigWatch, Shutdown};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tonic::{Code, Status};

use super::client::{Answer, Client, Post};
use super::metrics::HookMetrics;
use super::outcome::{self, Made, SETTLE_DELAY, Where};
use super::target::{Receiver, Target};
use crate::claims::{Claims, PAUSE, POLL, finished, look_again};
use crate::lanes::{Lanes, Waiting};
use crate::lease::{Leases, RENEW_TIMEOUT, lease_seconds};
use crate::session::Random;

/// Calls of this process at once.
const SESSIONS_MAX: usize = 1000;
/// Webhooks that this process has in hand at most.
const HAND_MAX: usize = 2000;
/// Webhooks that are asked for at once.
const CLAIM_MAX: usize = 100;
/// What finds its lane full goes back to the queue for so long.
const FULL_DELAY: Duration = Duration::from_secs(2);
/// How often receivers are looked for that do not answer.
const STUCK_LOOK: Duration = Duration::from_secs(5);
/// What waits for them goes back to the queue for so long.
const STUCK_DELAY: Duration = Duration::from_secs(15);
/// How long an outcome is told to a store that does not answer: afterwards the lease is gone.
const TELL: Duration = Duration::from_secs(25);
/// What is posted, and in memory, at once: so many units, each of [`UNIT`] octets.
const PAYLOADS: u32 = 4096;
const UNIT: usize = 32 << 10;
/// Octets of one: two texts of 1 MiB, each octet of which may be written as six, and the structure.
const PAYLOAD_MAX: usize = 16 << 20;
/// What large messages make of it, other than those made to be large.
const PAYLOAD_USUAL: usize = 4 << 20;

pub(crate) struct Inner {
    /// Names its leases; unlike that of any other process.
    pub name: String,
    pub store: HookServiceClient<Channel>,
    pub bus: Bus,
    pub clock: Clock,
    pub config: ConfigWatch,
    pub client: Client,
    pub metrics: HookMetrics,
    pub random: Random,
}

/// Takes webhooks that are due from the store, and calls their receivers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Shared>);

struct Shared {
    inner: Inner,
    leases: Leases,
    payloads: Semaphore,
}

/// A webhook under a lease of ours.
struct Call {
    hook: Hook,
    lease: Lease,
    payload: Bytes,
}

impl Call {
    fn new(claimed: ClaimedHook) -> Option<Self> {
        let hook = claimed.hook?;
        let lease = Lease {
            id: hook.id,
            attempt: claimed.attempt,
        };
        Some(Self {
            hook,
            lease,
            payload: claimed.payload,
        })
    }
}

impl Waiting for Call {
    type Destination = Receiver;
    /// Account, and whether it is about messages that arrive.
    type Source = (Bytes, bool);
    const SESSIONS: usize = SESSIONS_MAX;

    fn source(&self) -> Self::Source {
        (self.hook.account_id.clone(), self.hook.arrival.is_some())
    }
}

/// What the loop has at hand.
struct State {
    lanes: Lanes<Call>,
    running: JoinSet<Option<(Receiver, bool)>>,
    /// Something may be due.
    wanted: bool,
    /// Something is due, and could not be taken.
    more: bool,
    /// When something is due, in milliseconds since 1970.
    next_due: Option<i64>,
}

impl Caller {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(Shared {
            inner,
            leases: Leases::default(),
            payloads: Semaphore::new(PAYLOADS as usize),
        }))
    }

    fn inner(&self) -> &Inner {
        &self.0.inner
    }

    /// Works until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut state = State {
            lanes: Lanes::default(),
            running: JoinSet::new(),
            wanted: true,
            more: false,
            next_due: None,
        };
        let mut due = self.inner().bus.subscribe(Subject::Hooks);
        let renewing = tokio::spawn(self.clone().renew());
        let mut claiming: Option<JoinHandle<Claims<ClaimHooksResponse>>> = None;
        let mut poll = Instant::now() + POLL;
        let mut look = tokio::time::interval(STUCK_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for (receiver, call) in state.lanes.start() {
                let caller = self.clone();
                state.running.spawn(async move {
                    let reached = caller.call(call).await;
                    Some((receiver, reached))
                });
            }
            let room = HAND_MAX.saturating_sub(self.0.leases.len());
            if state.wanted && claiming.is_none() && room > 0 {
                state.wanted = false;
                poll = Instant::now() + POLL;
                claiming = Some(tokio::spawn(self.clone().claim(state.lanes.busy(), room)));
            }
            let next_due = state.next_due;
            tokio::select! {
                () = shutdown.begun() => break,
                _ = due.next() => state.wanted = true,
                () = sleep_until(poll) => {
                    poll = Instant::now() + POLL;
                    state.wanted = true;
                }
                () = self.inner().clock.sleep_until_unix_millis(next_due.unwrap_or(i64::MAX)), if next_due.is_some() => {
                    state.next_due = None;
                    state.wanted = true;
                }
                _ = look.tick(), if state.lanes.waits() => {
                    let stuck = state.lanes.shed();
                    self.spawn_release(&mut state, stuck, STUCK_DELAY);
                }
                Some(done) = state.running.join_next() => {
                    match done {
                        Ok(Some((receiver, reached))) => state.lanes.done(&receiver, reached),
                        Ok(None) => {}
                        // The lane keeps the place of what failed so: better than to take more of what makes us fail.
                        Err(error) => tracing::error!(%error, "calling a webhook failed unexpectedly"),
                    }
                    state.wanted |= state.more;
                }
                Some(claims) = finished(&mut claiming) => self.claimed(&mut state, claims).await,
            }
        }
        self.stop(state, claiming, &shutdown).await;
        renewing.abort();
    }

    /// What was taken and has not begun goes back; what runs is waited for.
    async fn stop(
        &self,
        mut state: State,
        claiming: Option<JoinHandle<Claims<ClaimHooksResponse>>>,
        shutdown: &Shutdown,
    ) {
        let mut rest: Vec<Call> = state.lanes.drain();
        if let Some(claiming) = claiming
            && let Ok(Ok(Ok((response, _)))) = timeout(RENEW_TIMEOUT, claiming).await
        {
            rest.extend(response.hooks.into_iter().filter_map(Call::new));
        }
        self.spawn_release(&mut state, rest, Duration::ZERO);
        let all = async { while state.running.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            // What is being called then has its lease to its end, and is called again.
            () = shutdown.deadline() => {}
        }
    }

    async fn claim(self, busy: Vec<(Bytes, bool)>, room: usize) -> Claims<ClaimHooksResponse> {
        let request = ClaimHooksRequest {
            worker: self.inner().name.clone(),
            max: u32::try_from(room.min(CLAIM_MAX)).unwrap_or(u32::MAX),
            lease_seconds: lease_seconds(),
            busy: busy
                .into_iter()
                .map(|(account_id, incoming)| HookSource { account_id, incoming })
                .collect(),
        };
        let asked = Instant::now();
        let response = self.inner().store.clone().claim(request).await;
        response
            .map(|response| (response.into_inner(), asked))
            .map_err(Box::new)
    }

    async fn claimed(&self, state: &mut State, claims: Claims<ClaimHooksResponse>) {
        let now = self.inner().clock.unix_millis();
        let (response, asked) = match claims {
            Ok(claims) => claims,
            Err(status) => {
                tracing::info!(
                    error = status.message(),
                    "store does not give webhooks that are due, trying again"
                );
                sleep(PAUSE).await;
                state.wanted = true;
                return;
            }
        };
        let some = !response.hooks.is_empty();
        state.more = response.next_due.is_some_and(|due| due <= now) || !state.lanes.busy().is_empty();
        state.wanted |= some;
        state.next_due = look_again(response.next_due, now, some);
        for call in response.hooks.into_iter().filter_map(Call::new) {
            self.0.leases.add(call.lease, asked);
            let receiver = Receiver::of(&call.hook.url);
            if let Err(call) = state.lanes.add(receiver, call) {
                self.spawn_release(state, vec![call], FULL_DELAY);
            }
        }
    }

    /// Gives webhooks back without an attempt.
    fn spawn_release(&self, state: &mut State, calls: Vec<Call>, later: Duration) {
        if calls.is_empty() {
            return;
        }
        let caller = self.clone();
        state.running.spawn(async move {
            for call in calls {
                caller.release(call.lease, later).await;
            }
            None
        });
    }

    /// Calls the receiver of a webhook, and tells the store. Answers whether it was reached.
    async fn call(&self, call: Call) -> bool {
        let inner = self.inner();
        let Call { hook, lease, payload } = call;
        // It may have waited in its lane for long.
        if !self.0.leases.safe(&[lease]) {
            self.release(lease, Duration::ZERO).await;
            return true;
        }
        let config = inner.config.current();
        let start = inner.clock.unix_millis();
        let (url, authorization) = match outcome::place(&hook, &config, start) {
            Where::Url { url, authorization } => (url, authorization),
            Where::Unsettled => {
                self.release(lease, SETTLE_DELAY).await;
                return true;
            }
            Where::Nowhere => {
                self.tell(outcome::unwanted(&hook, lease, start)).await;
                return true;
            }
        };
        // Held until it was posted, as the payload is.
        let units = u32::try_from(payload_size(&hook).div_ceil(UNIT)).unwrap_or(PAYLOADS);
        let Ok(_room) = self.0.payloads.acquire_many(units.clamp(1, PAYLOADS)).await else {
            return true;
        };
        let payload = match self.payload(&hook, payload).await {
            Ok(payload) => payload,
            Err(status) if status.code() == Code::NotFound => {
                // It left the queue meanwhile.
                self.0.leases.remove(lease);
                return true;
            }
            Err(status) => {
                tracing::warn!(webhook = hook.id, error = status.message(), "webhook cannot be read");
                self.unreadable(&hook, lease, url, start, &status).await;
                return true;
            }
        };
        let start = inner.clock.unix_millis();
        inner.metrics.active.inc();
        let answer = match Target::parse(url) {
            Ok(target) => {
                let post = Post {
                    target: &target,
                    id: hook.id,
                    attempt: hook.attempts + 1,
                    authorization,
                    payload,
                };
                inner.client.post(&post).await
            }
            Err(error) => Answer {
                error,
                ..Answer::default()
            },
        };
        inner.metrics.active.dec();
        let made = Made {
            url,
            authorization: authorization.is_some(),
            start,
            end: inner.clock.unix_millis(),
        };
        inner.metrics.called(answer.code, made.end - made.start);
        tracing::info!(
            webhook = hook.id,
            account = hook.account,
            event = hook.event,
            attempt = hook.attempts + 1,
            code = answer.code,
            error = answer.error,
            trace = hook.trace_id,
            "webhook called"
        );
        let reached = answer.code != 0;
        self.tell(outcome::outcome(&hook, lease, answer, &made, self.random()))
            .await;
        reached
    }

    fn random(&self) -> f64 {
        (self.inner().random)() as f64 / u64::MAX as f64
    }

    /// A content that is lost stays so; a store that is away comes back.
    async fn unreadable(&self, hook: &Hook, lease: Lease, url: &str, start: i64, status: &Status) {
        if matches!(status.code(), Code::DataLoss | Code::Internal) {
            let answer = Answer {
                error: format!("making what is to be told: {}", status.message()),
                ..Answer::default()
            };
            let made = Made {
                url,
                authorization: false,
                start,
                end: start,
            };
            self.tell(outcome::outcome(hook, lease, answer, &made, self.random()))
                .await;
        } else {
            self.release(lease, FULL_DELAY).await;
        }
    }

    async fn payload(&self, hook: &Hook, inline: Bytes) -> Result<Bytes, Status> {
        if !inline.is_empty() {
            return Ok(inline);
        }
        let request = ReadPayloadRequest { id: hook.id };
        let mut pieces = self.inner().store.clone().read_payload(request).await?.into_inner();
        let mut payload = BytesMut::new();
        while let Some(piece) = pieces.message().await? {
            if payload.len() + piece.data.len() > PAYLOAD_MAX {
                return Err(Status::internal(format!("it has more than {PAYLOAD_MAX} bytes")));
            }
            payload.extend_from_slice(&piece.data);
        }
        Ok(payload.freeze())
    }

    /// Gives a webhook back without an attempt, due after a while.
    async fn release(&self, lease: Lease, later: Duration) {
        let later = i64::try_from(later.as_millis()).unwrap_or(i64::MAX);
        let mut request = CompleteHookRequest {
            lease: Some(lease),
            next_attempt: self.inner().clock.unix_millis().saturating_add(later),
            ..CompleteHookRequest::default()
        };
        request.set_outcome(Outcome::Released);
        // If it is not heard, the lease ends by itself.
        if let Err(status) = self.inner().store.clone().complete(request).await {
            tracing::debug!(
                webhook = lease.id,
                error = status.message(),
                "giving a webhook back failed"
            );
        }
        self.0.leases.remove(lease);
    }

    /// Tells the store of an outcome until it has heard it.
    async fn tell(&self, request: CompleteHookRequest) {
        let end = Instant::now() + TELL;
        let id = request.lease.map(|lease| lease.id);
        while let Err(status) = self.inner().store.clone().complete(request.clone()).await {
            let hopeless = matches!(status.code(), Code::InvalidArgument | Code::DataLoss);
            if hopeless || Instant::now() + PAUSE > end {
                tracing::error!(
                    webhook = id,
                    error = status.message(),
                    "store was not told of the outcome of a webhook"
                );
                break;
            }
            sleep(PAUSE).await;
        }
        if let Some(lease) = request.lease {
            self.0.leases.remove(lease);
        }
    }

    /// Renews all leases, again and again.
    async fn renew(self) {
        let inner = self.inner();
        let renew = |request| {
            let mut store = inner.store.clone();
            async move { Ok(store.renew(request).await?.into_inner().held) }
        };
        self.0.leases.keep(&inner.name, renew).await;
    }
}

/// What a payload may take, guessed from what it is about: the texts of a message are rarely longer than it.
fn payload_size(hook: &Hook) -> usize {
    let content = usize::try_from(hook.content_size).unwrap_or(PAYLOAD_MAX);
    content.min(PAYLOAD_USUAL)
}
