//! Sessions: what a token stands for, for whom, and until when.
//!
//! They are answered from memory, and written behind it ([`super::journal`]), so that they survive a restart of the
//! store. A kept session says what it was begun with ([`Basis`]); it is taken up again only if the account has that
//! still, so a revocation that was not written is one nevertheless.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_rpc::Identity;
use mox_service::PublicKeyDigest;
use mox_types::AccountId;
use parking_lot::Mutex;
use rand::RngCore;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tonic::Status;

use super::logins::Attempt;

/// How long a session lives unless it is renewed.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 60);
/// Bytes of a token: not to be guessed.
const TOKEN_BYTES: usize = 32;
/// Most sessions at once: each takes about 500 bytes.
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

/// What a session was begun with. As long as the account has it, the session is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Basis {
    /// Version of the account's credentials; 0 if it had none.
    pub credentials: u64,
    /// The public key that logged in, and the version of its record.
    pub public_key: Option<(PublicKeyDigest, u64)>,
}

/// Why a session was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The store has as many as it takes.
    Store,
    /// The account has as many as it may at this service.
    Account,
}

struct Session {
    info: SessionInfo,
    caller: Identity,
    expires: Instant,
    /// None: it is in memory only.
    basis: Option<Basis>,
    /// The login that began it, until the client said what it is, with the time of it.
    attempt: Option<Box<(Attempt, i64)>>,
}

/// A token as it is kept: whoever reads the memory of this process cannot use it.
pub(super) type Hashed = [u8; 32];

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    sessions: Mutex<State>,
    revoked: broadcast::Sender<AccountId>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    by_token: HashMap<Hashed, Session>,
    /// How many each account has at each service, those that expired and were not purged yet included.
    by_account: HashMap<(AccountId, Identity), u64>,
    /// To be written.
    dirty: HashSet<Hashed>,
    begun: usize,
}

impl State {
    fn insert(&mut self, key: Hashed, session: Session) {
        let owner = (session.info.account, session.caller.clone());
        *self.by_account.entry(owner).or_insert(0) += 1;
        self.by_token.insert(key, session);
    }

    fn remove(&mut self, key: &Hashed) -> Option<Session> {
        let session = self.by_token.remove(key)?;
        let owner = (session.info.account, session.caller.clone());
        if let Some(count) = self.by_account.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.by_account.remove(&owner);
            }
        }
        if session.basis.is_some() {
            self.dirty.insert(*key);
        }
        Some(session)
    }

    /// Removes those that fit, and tells their accounts, each once.
    fn remove_where(&mut self, unwanted: impl Fn(&Session) -> bool) -> HashMap<AccountId, usize> {
        let keys: Vec<Hashed> = self
            .by_token
            .iter()
            .filter(|(_, session)| unwanted(session))
            .map(|(key, _)| *key)
            .collect();
        let mut accounts = HashMap::new();
        for key in keys {
            if let Some(session) = self.remove(&key) {
                *accounts.entry(session.info.account).or_insert(0) += 1;
            }
        }
        accounts
    }

    fn purge(&mut self, now: Instant) {
        self.remove_where(|session| session.expires <= now);
    }

    fn count(&self, account: AccountId, caller: &Identity) -> u64 {
        self.by_account.get(&(account, caller.clone())).copied().unwrap_or(0)
    }
}

impl Default for Sessions {
    fn default() -> Self {
        let (revoked, _) = broadcast::channel(REVOCATIONS);
        Self(Arc::new(Inner {
            sessions: Mutex::default(),
            revoked,
            changed: Notify::new(),
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
    /// Begins a session that is in memory only, for calls of `caller`, and answers with its token.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many.
    pub fn begin(&self, info: SessionInfo, caller: Identity) -> Result<Bytes, Status> {
        self.start(info, caller, None, None, 0)
            .map_err(|_| Status::resource_exhausted("too many sessions, try again later"))
    }

    /// Begins a session that is kept, for calls of `caller`, and answers with its token. `most` is how many the account
    /// may have at this service; 0 is no limit.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn begin_kept(
        &self,
        info: SessionInfo,
        caller: Identity,
        basis: Basis,
        attempt: (Attempt, i64),
        most: u64,
    ) -> Result<Bytes, Full> {
        let token = self.start(info, caller, Some(basis), Some(Box::new(attempt)), most)?;
        self.0.changed.notify_one();
        Ok(token)
    }

    fn start(
        &self,
        info: SessionInfo,
        caller: Identity,
        basis: Option<Basis>,
        attempt: Option<Box<(Attempt, i64)>>,
        most: u64,
    ) -> Result<Bytes, Full> {
        let mut token = [0; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut token);
        let now = Instant::now();
        let mut state = self.0.sessions.lock();
        let reached = |state: &State| most > 0 && state.count(info.account, &caller) >= most;
        state.begun += 1;
        if state.begun.is_multiple_of(PURGE_EVERY) || state.by_token.len() >= SESSIONS_MAX || reached(&state) {
            state.purge(now);
        }
        if state.by_token.len() >= SESSIONS_MAX {
            return Err(Full::Store);
        }
        if reached(&state) {
            return Err(Full::Account);
        }
        let key = hash(&token);
        if basis.is_some() {
            state.dirty.insert(key);
        }
        state.insert(
            key,
            Session {
                info,
                caller,
                expires: now + SESSION_LIFE,
                basis,
                attempt,
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
        let key = hash(token);
        let mut state = self.0.sessions.lock();
        let kept = match state.by_token.get_mut(&key) {
            Some(session) if session.caller == *caller && session.expires > now => {
                session.expires = now + SESSION_LIFE;
                session.basis.is_some()
            }
            _ => return false,
        };
        if kept {
            state.dirty.insert(key);
            drop(state);
            self.0.changed.notify_one();
        }
        true
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
            state.remove(&key);
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// The login that began a session, with its time, for who learns more about it: once.
    pub(super) fn take_attempt(&self, token: &[u8], caller: &Identity) -> Option<(Attempt, i64)> {
        let mut state = self.0.sessions.lock();
        let session = state.by_token.get_mut(&hash(token))?;
        if session.caller != *caller {
            return None;
        }
        session.attempt.take().map(|attempt| *attempt)
    }

    /// Ends all sessions of an account, and tells those who watch.
    pub fn revoke(&self, account: AccountId) {
        self.revoke_where(|session| session.info.account == account);
    }

    /// Ends all sessions that a public key began, and tells those who watch.
    pub fn revoke_public_key(&self, key: &PublicKeyDigest) {
        self.revoke_where(|session| {
            let own = session.basis.and_then(|basis| basis.public_key);
            own.is_some_and(|(own, _)| own == *key)
        });
    }

    fn revoke_where(&self, unwanted: impl Fn(&Session) -> bool) {
        let accounts = self.0.sessions.lock().remove_where(unwanted);
        for (account, sessions) in accounts {
            tracing::info!(account = %account, sessions, "sessions ended");
            // Nobody watching is no error.
            let _ = self.0.revoked.send(account);
            self.0.changed.notify_one();
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

    /// Waits until there may be something to be written.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes at most `most` sessions that changed since they were written: what is to be kept of each, or that nothing
    /// is. `now` is in seconds since 1970.
    pub(super) fn take_changes(&self, most: usize, now: i64) -> Vec<(Hashed, Option<record::Session>)> {
        let at = Instant::now();
        let mut state = self.0.sessions.lock();
        let keys: Vec<Hashed> = state.dirty.iter().take(most).copied().collect();
        for key in &keys {
            state.dirty.remove(key);
        }
        let kept = |key: Hashed| {
            let session = state.by_token.get(&key)?;
            let basis = session.basis?;
            let left = session.expires.saturating_duration_since(at).as_secs();
            Some(record::Session {
                account_id: session.info.account.to_bytes(),
                account: session.info.name.to_string(),
                login_address: session.info.login_address.to_string(),
                caller: session.caller.as_str().to_owned(),
                public_key: basis
                    .public_key
                    .map_or_else(Bytes::new, |(key, _)| Bytes::copy_from_slice(&key)),
                credentials_version: basis.credentials,
                public_key_version: basis.public_key.map_or(0, |(_, version)| version),
                expires: now.saturating_add(i64::try_from(left).unwrap_or(i64::MAX)),
            })
        };
        keys.into_iter().map(|key| (key, kept(key))).collect()
    }

    /// Gives back what could not be written.
    pub(super) fn put_back(&self, keys: impl IntoIterator<Item = Hashed>) {
        self.0.sessions.lock().dirty.extend(keys);
        self.0.changed.notify_one();
    }

    /// Takes up a session that was kept. False if there is no room.
    pub(super) fn restore(
        &self,
        key: Hashed,
        info: SessionInfo,
        caller: Identity,
        basis: Basis,
        left: Duration,
    ) -> bool {
        let mut state = self.0.sessions.lock();
        if state.by_token.len() >= SESSIONS_MAX {
            return false;
        }
        state.insert(
            key,
            Session {
                info,
                caller,
                expires: Instant::now() + left.min(SESSION_LIFE),
                basis: Some(basis),
                attempt: None,
            },
        );
        true
    }
}
