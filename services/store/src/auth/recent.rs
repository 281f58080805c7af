//! Passwords that were right a short while ago, so that a client that logs in often is not hashed each time.

use std::collections::HashMap;
use std::time::Duration;

use mox_types::AccountId;
use parking_lot::Mutex;
use ring::hmac;
use tokio::time::Instant;

/// How long a password need not be hashed again after it was.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// Most that are kept.
const MAX: usize = 10_000;

/// What a client sent, under a key that only the memory of this process has.
pub(super) type Sent = [u8; 32];

/// Successes of the last minutes.
///
/// An entry stands for what a client sent with success, and for the version of the credentials that it fits: after a
/// change of password no entry does.
pub struct Recent {
    key: hmac::Key,
    entries: Mutex<HashMap<Sent, Entry>>,
}

struct Entry {
    account: AccountId,
    version: u64,
    until: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        let key: [u8; 32] = rand::random();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            entries: Mutex::default(),
        }
    }
}

impl Recent {
    /// What stands for the messages of a client in an exchange.
    pub(super) fn sent<'a>(&self, mechanism: &str, messages: impl Iterator<Item = &'a [u8]>) -> Sent {
        let mut context = hmac::Context::with_key(&self.key);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(mechanism.as_bytes());
        messages.for_each(&mut part);
        let mut sent = [0; 32];
        sent.copy_from_slice(context.sign().as_ref());
        sent
    }

    /// Whether it was right for the account, with credentials of this version.
    pub(super) fn knows(&self, sent: &Sent, account: AccountId, version: u64) -> bool {
        let entries = self.entries.lock();
        entries
            .get(sent)
            .is_some_and(|entry| entry.account == account && entry.version == version && entry.until > Instant::now())
    }

    /// Takes note that it was.
    pub(super) fn add(&self, sent: Sent, account: AccountId, version: u64) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= MAX {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= MAX {
            entries.clear();
        }
        entries.insert(
            sent,
            Entry {
                account,
                version,
                until: now + LIFE,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_same_messages_for_the_same_credentials_are_known_and_not_for_long() {
        let recent = Recent::default();
        let account = AccountId::new();
        let sent = |mechanism: &str, messages: &[&[u8]]| recent.sent(mechanism, messages.iter().copied());
        let first = sent("LOGIN", &[b"ab", b"c"]);
        recent.add(first, account, 7);
        assert!(recent.knows(&sent("LOGIN", &[b"ab", b"c"]), account, 7));
        assert!(!recent.knows(&sent("LOGIN", &[b"a", b"bc"]), account, 7));
        assert!(!recent.knows(&sent("PLAIN", &[b"ab", b"c"]), account, 7));
        assert!(!recent.knows(&first, account, 8), "the password was changed");
        assert!(
            !recent.knows(&first, AccountId::new(), 7),
            "the address is another account's now"
        );
        assert!(!Recent::default().knows(&first, account, 7));
        tokio::time::advance(LIFE).await;
        assert!(!recent.knows(&first, account, 7));
    }
}
