//! The record of logins: who came from where, how, and with what result.
//!
//! Logins of one day that are alike share a record, which counts them. They are gathered in memory and written behind
//! ([`super::journal`]), a quarter of a second after the first: what of them is lost when the process is killed just
//! then is the price for a guesser not costing a synced write each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_service::PublicKeyDigest;
use mox_types::AccountId;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use crate::engine::{Commit, Db, EngineError, Limit, Order};
use crate::keys;

/// How long records are kept.
const KEPT_SECONDS: i64 = 30 * DAY;
/// Most records of an account, and of all names that are no account's.
pub(super) const RECORDS_MAX: usize = 10_000;
/// Records beyond [`RECORDS_MAX`] before the oldest are removed.
const SLACK: usize = 1000;
/// Most that wait to be written. More are counted, and not recorded.
const WAITING_MAX: usize = 10_000;
/// Octets of what a client says it is, and of names, that are kept.
const TEXT_MAX: usize = 256;
/// Records that are looked at in one step.
const PAGE: usize = 1000;
const DAY: i64 = 24 * 60 * 60;

/// One login, but for its time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    /// None if the name is nobody's, or was not told.
    pub account: Option<AccountId>,
    pub login_address: String,
    pub remote_ip: IpAddr,
    pub local_ip: String,
    pub protocol: String,
    pub client_id: String,
    pub mechanism: &'static str,
    pub tls: String,
    pub public_key: Option<PublicKeyDigest>,
    pub result: &'static str,
}

/// What a client chose, in a form that can be kept and shown.
pub(super) fn text(given: &str) -> String {
    let mut kept = String::new();
    for c in given.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + c.len_utf8() > TEXT_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}

impl Attempt {
    fn key(&self, day: i64) -> Bytes {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(&day.to_be_bytes());
        part(self.remote_ip.to_string().as_bytes());
        part(self.public_key.as_ref().map_or(&[], |key| &key[..]));
        for field in [
            self.login_address.as_str(),
            &self.local_ip,
            &self.protocol,
            &self.client_id,
            self.mechanism,
            &self.tls,
            self.result,
        ] {
            part(field.as_bytes());
        }
        let mut digest = [0; keys::LOGIN_DIGEST];
        digest.copy_from_slice(&context.finish().as_ref()[..keys::LOGIN_DIGEST]);
        keys::login(self.account.unwrap_or_else(keys::no_account), &digest)
    }

    fn record(&self, count: &Count) -> record::Login {
        record::Login {
            first: count.first,
            last: count.last,
            count: 0,
            login_address: self.login_address.clone(),
            remote_ip: self.remote_ip.to_string(),
            local_ip: self.local_ip.clone(),
            protocol: self.protocol.clone(),
            client_id: self.client_id.clone(),
            mechanism: self.mechanism.to_owned(),
            tls: self.tls.clone(),
            public_key: self
                .public_key
                .map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key)),
            result: self.result.to_owned(),
        }
    }
}

/// How often, and when. Negative when a login turned out to be one of another kind.
#[derive(Debug, Clone, Copy)]
struct Count {
    first: i64,
    last: i64,
    count: i64,
}

impl Count {
    fn join(&mut self, other: &Count) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count += other.count;
    }
}

/// What is gathered. Cheap to clone.
#[derive(Clone, Default)]
pub struct Logins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    counts: HashMap<(i64, Attempt), Count>,
    lost: u64,
    /// New records since the account was last cleaned.
    added: HashMap<AccountId, usize>,
}

impl Waiting {
    fn add(&mut self, attempt: Attempt, count: Count, day: i64) {
        let room = self.counts.len() < WAITING_MAX;
        match self.counts.entry((day, attempt)) {
            std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().join(&count),
            std::collections::hash_map::Entry::Vacant(place) if room => {
                place.insert(count);
            }
            std::collections::hash_map::Entry::Vacant(_) => self.lost += 1,
        }
    }
}

impl Logins {
    /// Takes note of a login, at `now` in seconds since 1970.
    pub(super) fn add(&self, attempt: Attempt, now: i64) {
        self.count(attempt, now, 1);
    }

    /// A login that was noted at `at` is known to be of another client id now.
    pub(super) fn amend(&self, attempt: Attempt, at: i64, client_id: String) {
        let known = Attempt {
            client_id,
            ..attempt.clone()
        };
        if known != attempt {
            self.count(attempt, at, -1);
            self.count(known, at, 1);
        }
    }

    fn count(&self, attempt: Attempt, at: i64, count: i64) {
        let count = Count {
            first: at,
            last: at,
            count,
        };
        self.0.waiting.lock().add(attempt, count, at.div_euclid(DAY));
        self.0.changed.notify_one();
    }

    /// Waits until there may be something to be written.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// If the engine fails. It is tried again the next time.
    pub(super) async fn write(&self, db: &Db) -> Result<(), EngineError> {
        let (counts, lost) = {
            let mut waiting = self.0.waiting.lock();
            (std::mem::take(&mut waiting.counts), std::mem::take(&mut waiting.lost))
        };
        if lost > 0 {
            tracing::warn!(lost, "too many different logins at once, some were not recorded");
        }
        let mut left: Vec<_> = counts.into_iter().collect();
        while !left.is_empty() {
            let step = left.split_off(left.len().saturating_sub(PAGE));
            if let Err(error) = self.write_some(db, &step).await {
                let mut waiting = self.0.waiting.lock();
                for ((day, attempt), count) in step.into_iter().chain(left) {
                    waiting.add(attempt, count, day);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_some(&self, db: &Db, step: &[((i64, Attempt), Count)]) -> Result<(), EngineError> {
        let keys: Vec<Bytes> = step.iter().map(|((day, attempt), _)| attempt.key(*day)).collect();
        let before = db.get_many(keys.clone()).await?;
        let mut commit = Commit::new();
        let mut new: HashMap<AccountId, usize> = HashMap::new();
        for ((((_, attempt), count), key), before) in step.iter().zip(keys).zip(before) {
            let mut kept = before
                .as_ref()
                .and_then(|value| record::Login::decode(value.data.clone()).ok())
                .unwrap_or_else(|| attempt.record(count));
            let total = i64::try_from(kept.count)
                .unwrap_or(i64::MAX)
                .saturating_add(count.count);
            commit.require_unchanged(key.clone(), before.as_ref());
            if total <= 0 {
                if before.is_some() {
                    commit.delete(key);
                }
                continue;
            }
            if before.is_none() {
                *new.entry(attempt.account.unwrap_or_else(keys::no_account)).or_insert(0) += 1;
            }
            kept.count = total.unsigned_abs();
            kept.first = kept.first.min(count.first);
            kept.last = kept.last.max(count.last);
            commit.put(key, kept.encode_to_vec());
        }
        if !commit.operations.is_empty() {
            db.commit(commit).await?;
        }
        let mut waiting = self.0.waiting.lock();
        for (account, count) in new {
            *waiting.added.entry(account).or_insert(0) += count;
        }
        Ok(())
    }

    /// Accounts that got many records since they were cleaned.
    pub(super) fn take_crowded(&self) -> Vec<AccountId> {
        let mut waiting = self.0.waiting.lock();
        let crowded: Vec<AccountId> = waiting
            .added
            .iter()
            .filter(|(_, count)| **count >= SLACK)
            .map(|(account, _)| *account)
            .collect();
        for account in &crowded {
            waiting.added.remove(account);
        }
        crowded
    }

    /// Whether nothing waits to be written.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.0.waiting.lock().counts.is_empty()
    }
}

/// Removes what is older than 30 days, of all accounts, and the oldest of accounts with too many.
///
/// # Errors
/// If the engine fails.
pub(super) async fn clean_all(db: &Db, now: i64) -> Result<(), EngineError> {
    let mut from = keys::logins_all().start;
    loop {
        let range = from..keys::logins_all().end;
        let page = db.scan(range, Limit::rows(1), Order::Ascending).await?;
        let Some(account) = page.rows.first().and_then(|(key, _)| keys::parse_login(key)) else {
            return Ok(());
        };
        clean(db, account, now).await?;
        from = keys::logins(account).end;
    }
}

/// Removes what is older than 30 days of one account, and the oldest if there are too many.
///
/// # Errors
/// If the engine fails.
pub(super) async fn clean(db: &Db, account: AccountId, now: i64) -> Result<(), EngineError> {
    let mut found: Vec<(i64, Bytes)> = Vec::new();
    let mut left = Some(keys::logins(account));
    while let Some(range) = left {
        let page = db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
        left = page.rest(&range);
        for (key, value) in page.rows {
            // What cannot be read is as good as old.
            let last = record::Login::decode(value.data).map_or(0, |login| login.last);
            found.push((last, key));
        }
    }
    found.sort_unstable();
    let old = found.partition_point(|(last, _)| *last < now - KEPT_SECONDS);
    let surplus = found.len().saturating_sub(RECORDS_MAX);
    found.truncate(old.max(surplus));
    for step in found.chunks(PAGE) {
        let mut commit = Commit::new();
        for (_, key) in step {
            commit.delete(key.clone());
        }
        commit.set_frees();
        db.commit(commit).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Options, RocksEngine};

    fn attempt(name: &str, result: &'static str) -> Attempt {
        Attempt {
            account: None,
            login_address: name.to_owned(),
            remote_ip: "192.0.2.1".parse().unwrap(),
            local_ip: "192.0.2.2".into(),
            protocol: "imap".into(),
            client_id: String::new(),
            mechanism: "PLAIN",
            tls: String::new(),
            public_key: None,
            result,
        }
    }

    async fn all(db: &Db) -> Vec<record::Login> {
        let page = db
            .scan(keys::logins_all(), Limit::default(), Order::Ascending)
            .await
            .unwrap();
        let mut logins: Vec<_> = page
            .rows
            .into_iter()
            .map(|(_, v)| record::Login::decode(v.data).unwrap())
            .collect();
        logins.sort_by(|a, b| (a.first, &a.client_id).cmp(&(b.first, &b.client_id)));
        logins
    }

    fn db(dir: &tempfile::TempDir) -> Db {
        Arc::new(RocksEngine::open(&Options::new(dir.path())).unwrap())
    }

    #[tokio::test]
    async fn logins_that_are_alike_are_counted_by_day() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let logins = Logins::default();
        for at in [10, 20] {
            logins.add(attempt("a", "badcreds"), at);
        }
        logins.write(&db).await.unwrap();
        logins.add(attempt("a", "badcreds"), 30);
        logins.add(attempt("a", "ok"), 40);
        logins.add(attempt("a", "badcreds"), DAY + 1);
        logins.write(&db).await.unwrap();
        assert!(logins.is_empty());
        let found: Vec<_> = all(&db)
            .await
            .into_iter()
            .map(|l| (l.first, l.last, l.count, l.result))
            .collect();
        let expected = [
            (10, 30, 3, "badcreds"),
            (40, 40, 1, "ok"),
            (DAY + 1, DAY + 1, 1, "badcreds"),
        ];
        assert_eq!(found, expected.map(|(f, l, c, r)| (f, l, c, r.to_owned())));
    }

    #[tokio::test]
    async fn a_client_that_tells_its_name_later_is_recorded_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let logins = Logins::default();
        for at in [10, 11] {
            logins.add(attempt("a", "ok"), at);
        }
        logins.write(&db).await.unwrap();
        logins.amend(attempt("a", "ok"), 10, "mutt".into());
        logins.write(&db).await.unwrap();
        let found: Vec<_> = all(&db).await.into_iter().map(|l| (l.count, l.client_id)).collect();
        assert_eq!(
            found,
            [(1, "mutt".to_owned()), (1, String::new())]
                .map(|(c, id)| (c, id))
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
        );
        logins.amend(attempt("a", "ok"), 11, "mutt".into());
        logins.write(&db).await.unwrap();
        let found: Vec<_> = all(&db).await.into_iter().map(|l| (l.count, l.client_id)).collect();
        assert_eq!(found, [(2, "mutt".to_owned())]);
    }

    #[tokio::test]
    async fn there_are_not_more_records_than_allowed_and_none_that_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let logins = Logins::default();
        for n in 0..WAITING_MAX + 5 {
            logins.add(attempt(&n.to_string(), "badcreds"), i64::try_from(n).unwrap());
        }
        logins.write(&db).await.unwrap();
        assert_eq!(logins.take_crowded(), [keys::no_account()]);
        for n in 0..10 {
            logins.add(attempt(&format!("more{n}"), "badcreds"), 1_000_000);
        }
        logins.write(&db).await.unwrap();
        clean_all(&db, 1_000_000).await.unwrap();
        let mut count = 0;
        let mut left = Some(keys::logins_all());
        while let Some(range) = left {
            let page = db
                .scan(range.clone(), Limit::default(), Order::Ascending)
                .await
                .unwrap();
            left = page.rest(&range);
            count += page.rows.len();
        }
        assert_eq!(count, RECORDS_MAX);
        clean_all(&db, 1_000_000 + KEPT_SECONDS).await.unwrap();
        assert_eq!(all(&db).await.len(), 10);
        clean_all(&db, 1_000_001 + KEPT_SECONDS).await.unwrap();
        assert!(all(&db).await.is_empty());
    }

    #[test]
    fn what_clients_say_is_bounded() {
        assert_eq!(text("a\r\nb"), "a  b");
        assert_eq!(text(&"é".repeat(1000)).len(), TEXT_MAX);
    }
}
