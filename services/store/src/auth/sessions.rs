//! Sessions: what a token stands for, for whom, and until when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mox_rpc::Identity;
use mox_types::AccountId;
use parking_lot::Mutex;
use rand::RngCore;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tonic::Status;

/// How long a session lives unless it is renewed.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 60);
/// Bytes of a token: not to be guessed.
const TOKEN_BYTES: usize = 32;
/// Most sessions at once: each takes about 300 bytes.
const SESSIONS_MAX: usize = 200_000;
/// Revocations that a watcher may be behind before it looks at all its sessions again.
const REVOCATIONS: usize = 256;
/// Sessions begun between two looks for expired ones.
const PURGE_EVERY: usize = 1024;

/// Whom a session stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The account: of every call that carries the token.
    pub account: AccountId,
    /// Its name when the session began.
    pub name: Arc<str>,
    /// The address that was logged in with.
    pub login_address: Arc<str>,
}

struct Session {
    info: SessionInfo,
    caller: Identity,
    expires: Instant,
}

/// A token as it is kept: whoever reads the memory of this process cannot use it.
type Hashed = [u8; 32];

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    sessions: Mutex<State>,
    revoked: broadcast::Sender<AccountId>,
}

#[derive(Default)]
struct State {
    by_token: HashMap<Hashed, Session>,
    begun: usize,
}

impl Default for Sessions {
    fn default() -> Self {
        let (revoked, _) = broadcast::channel(REVOCATIONS);
        Self(Arc::new(Inner {
            sessions: Mutex::default(),
            revoked,
        }))
    }
}

fn hash(token: &[u8]) -> Hashed {
    let mut hashed = [0; 32];
    hashed.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    hashed
}

fn refused() -> Status {
    Status::unauthenticated("the session is unknown or has ended, log in again")
}

impl Sessions {
    /// Begins a session, for calls of `caller`, and answers with its token.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many.
    pub fn begin(&self, info: SessionInfo, caller: Identity) -> Result<Bytes, Status> {
        let mut token = [0; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut token);
        let now = Instant::now();
        let mut state = self.0.sessions.lock();
        state.begun += 1;
        if state.begun.is_multiple_of(PURGE_EVERY) || state.by_token.len() >= SESSIONS_MAX {
            state.by_token.retain(|_, session| session.expires > now);
        }
        if state.by_token.len() >= SESSIONS_MAX {
            return Err(Status::resource_exhausted("too many sessions, try again later"));
        }
        state.by_token.insert(
            hash(&token),
            Session {
                info,
                caller,
                expires: now + SESSION_LIFE,
            },
        );
        Ok(Bytes::copy_from_slice(&token))
    }

    /// Whom a token stands for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if it is unknown, has expired or was revoked, or is another caller's.
    #[allow(clippy::unused_async)] // Sessions that several replicas share are looked up.
    pub async fn check(&self, token: &[u8], caller: &Identity) -> Result<SessionInfo, Status> {
        let state = self.0.sessions.lock();
        let session = state.by_token.get(&hash(token)).ok_or_else(refused)?;
        if session.caller != *caller || session.expires <= Instant::now() {
            return Err(refused());
        }
        Ok(session.info.clone())
    }

    /// Lets a session live on. False if it has ended.
    pub fn renew(&self, token: &[u8], caller: &Identity) -> bool {
        let now = Instant::now();
        let mut state = self.0.sessions.lock();
        match state.by_token.get_mut(&hash(token)) {
            Some(session) if session.caller == *caller && session.expires > now => {
                session.expires = now + SESSION_LIFE;
                true
            }
            _ => false,
        }
    }

    /// Ends a session.
    pub fn end(&self, token: &[u8], caller: &Identity) {
        let mut state = self.0.sessions.lock();
        let key = hash(token);
        if state
            .by_token
            .get(&key)
            .is_some_and(|session| session.caller == *caller)
        {
            state.by_token.remove(&key);
        }
    }

    /// Ends all sessions of an account, and tells those who watch.
    pub fn revoke(&self, account: AccountId) {
        let before = {
            let mut state = self.0.sessions.lock();
            let before = state.by_token.len();
            state.by_token.retain(|_, session| session.info.account != account);
            before - state.by_token.len()
        };
        if before > 0 {
            tracing::info!(account = %account, sessions = before, "sessions ended");
            // Nobody watching is no error.
            let _ = self.0.revoked.send(account);
        }
    }

    /// Tells of accounts whose sessions were ended. Who lags behind checks all sessions that it knows.
    #[must_use]
    pub fn revocations(&self) -> broadcast::Receiver<AccountId> {
        self.0.revoked.subscribe()
    }

    /// How many there are, expired ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.sessions.lock().by_token.len()
    }
}
