//! `mox verifydata`: checks all that a stopped store keeps, and puts right what can be.
//!
//! Every record is read, and every reference between records is followed both ways: registrations and accounts;
//! mailboxes, rows, messages, what was computed from them, Message-IDs; the history of senders; counters; contents with
//! their chunks, checksums and references; the outgoing queue; webhooks. Tables that are derived and rebuilt by their
//! owners (the search index, sessions, logins) are left to them.
//!
//! With `fix`, what can be derived from what is whole is derived again. What is lost is told and left as it is.

mod account;
mod contents;
mod files;
mod hooks;
mod queue;
mod rows;
mod senders;

use std::ops::Range;

use bytes::Bytes;
use mox_proto::admin::v1::{Finding, Level, Progress, Report};
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use prost::Message as _;

use crate::Parts;
use crate::account::AccountError;
use crate::content::ContentError;
use crate::engine::{Commit, EngineError, Limit, Order, Value};
use crate::keys;

/// Rows that are looked at at once.
const STEP: usize = 500;

/// What is checked, and what is done about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// Put right what can be.
    pub fix: bool,
    /// Do not read contents to check their sizes and checksums.
    pub skip_sizes: bool,
}

/// Why checking ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The engine failed: the database itself is damaged, or the disk.
    #[error("reading the database: {0}")]
    Engine(#[from] EngineError),
    /// An account cannot be changed.
    #[error("changing an account: {0}")]
    Account(#[from] AccountError),
    /// A content cannot be changed.
    #[error("changing contents: {0}")]
    Content(#[from] ContentError),
}

/// Checks the data of a store that serves nobody, and tells what it finds as it goes.
///
/// # Errors
/// If it cannot go on.
pub async fn verify(parts: &Parts, checks: Checks, tell: &(dyn Fn(Report) + Sync)) -> Result<(), VerifyError> {
    let verifier = Verifier {
        parts,
        fix: checks.fix,
        skip_sizes: checks.skip_sizes,
        tell,
    };
    verifier.files();
    let accounts = verifier.registrations().await?;
    for (name, id) in &accounts {
        verifier.account(name, *id).await?;
    }
    verifier.queue().await?;
    verifier.hooks().await?;
    verifier.contents().await
}

/// A run.
struct Verifier<'a> {
    parts: &'a Parts,
    fix: bool,
    skip_sizes: bool,
    tell: &'a (dyn Fn(Report) + Sync),
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, Default)]
struct About<'a> {
    account: &'a str,
    mailbox: &'a str,
}

impl<'a> About<'a> {
    fn account(account: &'a str) -> Self {
        Self { account, mailbox: "" }
    }
}

/// Rows of a page, and what is left of its range.
type Paged = (Vec<(Bytes, Value)>, Option<Range<Bytes>>);

impl Verifier<'_> {
    fn say(&self, level: Level, about: About<'_>, text: String) {
        let finding = Finding {
            level: level.into(),
            account: about.account.to_owned(),
            mailbox: about.mailbox.to_owned(),
            text,
            ..Finding::default()
        };
        (self.tell)(Report {
            report: Some(mox_proto::admin::v1::report::Report::Finding(finding)),
        });
    }

    /// Something is wrong that stays wrong.
    fn wrong(&self, about: About<'_>, text: impl Into<String>) {
        self.say(Level::Error, about, text.into());
    }

    /// Something is wrong that is put right if that is wanted. Answers whether it is.
    fn fixable(&self, about: About<'_>, text: impl Into<String>) -> bool {
        let level = if self.fix { Level::Fixed } else { Level::Error };
        self.say(level, about, text.into());
        self.fix
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        let progress = Progress {
            what: what.to_owned(),
            done,
            total,
        };
        (self.tell)(Report {
            report: Some(mox_proto::admin::v1::report::Report::Progress(progress)),
        });
    }

    async fn page(&self, range: Range<Bytes>) -> Result<Paged, EngineError> {
        let page = self
            .parts
            .db
            .scan(range.clone(), Limit::rows(STEP), Order::Ascending)
            .await?;
        let rest = page.rest(&range);
        Ok((page.rows, rest))
    }

    async fn commit(&self, commit: Commit) -> Result<(), EngineError> {
        if !commit.operations.is_empty() {
            self.parts.db.commit(commit).await?;
        }
        Ok(())
    }

    fn now_millis(&self) -> i64 {
        self.parts.accounts.now().saturating_mul(1000)
    }

    /// Names and ids of accounts.
    async fn registrations(&self) -> Result<Vec<(String, AccountId)>, VerifyError> {
        let mut found = Vec::new();
        let mut removing = Vec::new();
        let mut left = Some(keys::names());
        while let Some(range) = left.take() {
            let (rows, rest) = self.page(range).await?;
            left = rest;
            for (key, value) in rows {
                let Some(name) = keys::parse_name(&key) else {
                    self.wrong(About::default(), format!("the name of an account is no text: {key:?}"));
                    continue;
                };
                let registration = record::Registration::decode(value.data).ok();
                let id = registration
                    .as_ref()
                    .and_then(|r| AccountId::try_from(&r.account_id).ok());
                match (registration, id) {
                    (Some(registration), Some(id)) if registration.removing => removing.push(id),
                    (Some(_), Some(id)) => found.push((name, id)),
                    _ => self.wrong(About::account(&name), "its registration cannot be read"),
                }
            }
        }
        if let Some(config) = self.parts.db.get(keys::configuration()).await? {
            let readable = record::CommittedConfig::decode(config.data)
                .is_ok_and(|c| c.version == 0 || serde_json::from_slice::<mox_config::Dynamic>(&c.snapshot).is_ok());
            if !readable {
                self.wrong(About::default(), "the committed configuration cannot be read");
            }
        }
        self.unregistered(&found, &removing).await?;
        Ok(found)
    }

    /// Data of accounts that have no registration.
    async fn unregistered(&self, known: &[(String, AccountId)], removing: &[AccountId]) -> Result<(), VerifyError> {
        let mut range = keys::prefix(&[keys::ACCOUNT]);
        loop {
            let page = self
                .parts
                .db
                .scan(range.clone(), Limit::rows(1), Order::Ascending)
                .await?;
            let Some((key, _)) = page.rows.first() else {
                return Ok(());
            };
            let Some(id) = key.get(1..17).and_then(|id| AccountId::try_from(id).ok()) else {
                self.wrong(About::default(), format!("a key of no account: {key:?}"));
                range.start = crate::engine::after(key);
                continue;
            };
            if !known.iter().any(|(_, known)| *known == id) && !removing.contains(&id) {
                self.wrong(
                    About::default(),
                    format!("there is data of an account {id} that has no name: it is out of reach"),
                );
            }
            range.start = keys::account_all(id).end;
        }
    }
}
