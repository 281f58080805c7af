//! Accounts that wait to have their index brought up: noted with each commit, taken when it is time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mox_types::AccountId;
use tokio::time::Instant;

use super::TextIndex;

/// Time without new messages after which an account is looked at.
const QUIET: Duration = Duration::from_secs(2);
/// New messages that are worth a commit of their own soon: reading fewer takes a search a few milliseconds.
const FEW: u32 = 64;
/// The same time when they are few.
const QUIET_FEW: Duration = Duration::from_secs(60);
/// Time after which it is looked at although there are new messages all the time.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// New messages after which it is looked at anyway: searching reads them all.
const WAITING_MAX: u32 = 10_000;

/// What was done, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) merges: AtomicU64,
}

/// Accounts with messages that are not in their index yet.
#[derive(Debug, Default)]
pub struct Waiting {
    pub(super) accounts: HashMap<AccountId, Pending>,
    running: HashMap<AccountId, Arc<tokio::sync::Mutex<()>>>,
}

#[derive(Debug)]
pub(super) struct Pending {
    first: Instant,
    last: Instant,
    not_before: Instant,
    messages: u32,
    /// The index cannot be read, and is to be made anew.
    pub(super) anew: bool,
}

impl Pending {
    pub(super) fn due(&self) -> Instant {
        let wait = match self.messages {
            n if n >= WAITING_MAX => self.first,
            n if n < FEW && !self.anew => self.first + QUIET_FEW,
            _ => (self.last + QUIET).min(self.first + WAIT_MAX),
        };
        wait.max(self.not_before)
    }
}

impl TextIndex {
    /// Takes notice that an account has new messages.
    pub fn note(&self, account: AccountId, messages: u32) {
        self.wait_for(account, messages, Duration::ZERO, false);
    }

    /// Takes notice that an account's index cannot be read.
    pub fn note_damaged(&self, account: AccountId) {
        self.wait_for(account, 0, Duration::ZERO, true);
    }

    pub(super) fn wait_for(&self, account: AccountId, messages: u32, delay: Duration, anew: bool) {
        let now = Instant::now();
        let mut waiting = self.0.waiting.lock();
        let pending = waiting.accounts.entry(account).or_insert(Pending {
            first: now,
            last: now,
            not_before: now + delay,
            messages: 0,
            anew: false,
        });
        pending.last = now;
        pending.messages = pending.messages.saturating_add(messages);
        pending.anew |= anew;
        // Whoever waits knows of this account, unless it is new or has just become urgent.
        let reaches = |n| pending.messages >= n && pending.messages - messages < n;
        let urgent = anew || reaches(FEW) || reaches(WAITING_MAX);
        let new = pending.first == now;
        drop(waiting);
        if new || urgent {
            self.0.wake.notify_one();
        }
    }

    /// Messages that are known not to be in their index yet.
    #[must_use]
    pub fn waiting_messages(&self) -> u64 {
        let waiting = self.0.waiting.lock();
        waiting.accounts.values().map(|p| u64::from(p.messages)).sum()
    }

    /// Messages put into indices, segments and bytes written, and merges, since the start.
    #[must_use]
    pub fn written(&self) -> [u64; 4] {
        let figures = &self.0.figures;
        [&figures.messages, &figures.segments, &figures.bytes, &figures.merges].map(|f| f.load(Ordering::Relaxed))
    }

    /// Held while an account's index is changed by this process.
    pub(super) fn lock(&self, account: AccountId) -> Arc<tokio::sync::Mutex<()>> {
        let mut waiting = self.0.waiting.lock();
        waiting.running.retain(|_, lock| Arc::strong_count(lock) > 1);
        waiting.running.entry(account).or_default().clone()
    }
}
