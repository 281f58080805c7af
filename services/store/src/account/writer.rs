//! The writer of an account: a task that lives while operations wait for it.
//!
//! It takes what waits, within bounds, and makes one commit of it. An operation that fails is answered and leaves
//! nothing behind; the others go on. When the commit fails because the account changed under it, or it is not known
//! whether it took place, the account is read again, and the results that are kept by key tell which operations were
//! done. Operations on several accounts hold all of them, in ascending order, and are committed alone.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use mox_types::AccountId;
use prost::Message;
use tokio::sync::oneshot;

use super::transaction::{AccountTx, Finished};
use super::{Account, AccountError, Accounts, News};
use crate::engine::{Commit, EngineError};
use crate::idempotency;
use crate::keys;

/// Most operations of a batch: what waits longer than a commit takes is better spread over several.
const BATCH_JOBS: usize = 256;
/// About the most bytes of a batch: they are in memory twice, and hold up the others.
const BATCH_BYTES: usize = 8 << 20;
/// Times that a batch is planned again before its callers are told to try again.
const ATTEMPTS: usize = 8;

/// A change of one account, or of several.
///
/// It may be planned several times, and must not change anything but through the transactions.
pub trait Op: Send + Sync + 'static {
    /// What its caller learns.
    type Output: Message + Default;

    /// Collects the changes in the transactions of its accounts, which are in ascending order of their ids.
    fn plan(&self, accounts: &mut [AccountTx]) -> impl Future<Output = Result<Self::Output, AccountError>> + Send;

    /// About the bytes that it writes.
    fn size(&self) -> usize {
        1024
    }

    /// Whether it leads to less space being used, and may be done when there is little left.
    fn frees(&self) -> bool {
        false
    }

    /// What it means that a condition that it added does not hold.
    fn conflict(&self) -> AccountError {
        AccountError::Contended
    }
}

/// Makes an operation safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of the store: who makes keys.
    pub scope: Bytes,
    /// Of the caller.
    pub key: Bytes,
    /// SHA-256 of the request.
    pub digest: Bytes,
}

trait DynOp: Send + Sync {
    fn plan<'a>(
        &'a self,
        accounts: &'a mut [AccountTx],
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, AccountError>> + Send + 'a>>;
    fn size(&self) -> usize;
    fn frees(&self) -> bool;
    fn conflict(&self) -> AccountError;
}

impl<O: Op> DynOp for O {
    fn plan<'a>(
        &'a self,
        accounts: &'a mut [AccountTx],
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, AccountError>> + Send + 'a>> {
        Box::pin(async move { Ok(Op::plan(self, accounts).await?.encode_to_vec().into()) })
    }

    fn size(&self) -> usize {
        Op::size(self)
    }

    fn frees(&self) -> bool {
        Op::frees(self)
    }

    fn conflict(&self) -> AccountError {
        Op::conflict(self)
    }
}

/// An operation that waits.
pub(super) struct Job {
    op: Box<dyn DynOp>,
    key: Option<Key>,
    reply: oneshot::Sender<Result<Bytes, AccountError>>,
}

impl Job {
    fn reply(self, result: Result<Bytes, AccountError>) {
        // The caller may have given up; what was committed stays.
        let _ = self.reply.send(result);
    }
}

/// What waits for an account's writer.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: VecDeque<Job>,
    running: bool,
}

impl Jobs {
    fn take(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(job) = self.waiting.front() {
            bytes += job.op.size();
            if !batch.is_empty() && (batch.len() >= BATCH_JOBS || bytes > BATCH_BYTES) {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        self.running = !batch.is_empty();
        batch
    }
}

/// What became of an attempt to commit.
enum Attempt {
    /// All were answered.
    Done,
    /// Plan these again.
    Again(Vec<Job>),
    /// Do these one by one.
    Alone(Vec<Job>),
}

impl Accounts {
    /// Does an operation on one account, together with what else waits for it.
    ///
    /// # Errors
    /// The operation's own, or that it could not be committed.
    pub async fn submit<O: Op>(&self, id: AccountId, key: Option<Key>, op: O) -> Result<O::Output, AccountError> {
        let account = self.open(id);
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut jobs = account.jobs.lock();
            jobs.waiting.push_back(Job {
                op: Box::new(op),
                key,
                reply,
            });
            !std::mem::replace(&mut jobs.running, true)
        };
        if start {
            let accounts = self.clone();
            tokio::spawn(async move {
                let account = [account];
                loop {
                    let batch = account[0].jobs.lock().take();
                    if batch.is_empty() {
                        return;
                    }
                    // An operation that panics must not leave the account without a writer: its batch fails alone.
                    let batch = std::panic::AssertUnwindSafe(accounts.execute(&account, batch));
                    if batch.catch_unwind().await.is_err() {
                        tracing::error!(account = %account[0].id, "changing account panicked");
                    }
                }
            });
        }
        decode::<O>(answer.await)
    }

    /// Does an operation on several accounts in one commit. Each is given once, in any order; the operation gets them
    /// in ascending order.
    ///
    /// # Errors
    /// As [`Accounts::submit`].
    pub async fn submit_many<O: Op>(
        &self,
        ids: &[AccountId],
        key: Option<Key>,
        op: O,
    ) -> Result<O::Output, AccountError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        if let [id] = ids[..] {
            return self.submit(id, key, op).await;
        }
        let accounts: Vec<Arc<Account>> = ids.into_iter().map(|id| self.open(id)).collect();
        let (reply, answer) = oneshot::channel();
        let this = self.clone();
        // In a task of its own: that the caller goes away must not end a commit halfway.
        tokio::spawn(async move {
            this.execute(
                &accounts,
                vec![Job {
                    op: Box::new(op),
                    key,
                    reply,
                }],
            )
            .await;
        });
        decode::<O>(answer.await)
    }

    async fn execute(&self, accounts: &[Arc<Account>], batch: Vec<Job>) {
        let mut held = Vec::with_capacity(accounts.len());
        for account in accounts {
            held.push(account.commit.lock().await);
        }
        let mut batches = VecDeque::from([batch]);
        while let Some(mut batch) = batches.pop_front() {
            for attempt in 1.. {
                match self.attempt(accounts, batch).await {
                    Attempt::Done => break,
                    Attempt::Alone(jobs) => {
                        batches.extend(jobs.into_iter().map(|job| vec![job]));
                        break;
                    }
                    Attempt::Again(jobs) if attempt >= ATTEMPTS => {
                        jobs.into_iter().for_each(|job| job.reply(Err(AccountError::Contended)));
                        break;
                    }
                    Attempt::Again(jobs) => batch = jobs,
                }
            }
        }
    }

    async fn attempt(&self, accounts: &[Arc<Account>], jobs: Vec<Job>) -> Attempt {
        let (jobs, versions) = match self.look_up(accounts, jobs).await {
            Ok((jobs, _)) if jobs.is_empty() => return Attempt::Done,
            Ok(found) => found,
            Err(failed) => return failed,
        };
        let mut txs = Vec::with_capacity(accounts.len());
        for (account, version) in accounts.iter().zip(versions) {
            // What fails or changes nothing is not checked by a commit, so the state has to be that of now.
            let known = account
                .shared
                .read()
                .state
                .clone()
                .filter(|s| Some(s.version) == version);
            let state = match known {
                Some(state) => Ok(state),
                None => self.reload(account).await,
            };
            match state {
                Ok(state) => {
                    let quota = self.quota(&state.record.name);
                    let rules = self.junk_rules(&state.record.name);
                    txs.push(AccountTx::new(self.0.db.clone(), state, quota, self.now()).with_junk_rules(rules));
                }
                Err(error) => {
                    jobs.into_iter().for_each(|job| job.reply(Err(error.clone())));
                    return Attempt::Done;
                }
            }
        }
        let (planned, again) = plan(&mut txs, jobs, self.now()).await;
        if planned.is_empty() {
            return if again.is_empty() {
                Attempt::Done
            } else {
                Attempt::Again(again)
            };
        }
        let frees = planned.iter().all(|p| p.job.op.frees());
        let mut commit = Commit::new();
        let mut finished = Vec::with_capacity(txs.len());
        // Which conditions of the commit are those of which transaction.
        let mut starts = Vec::with_capacity(txs.len());
        for tx in txs.into_iter().map(|tx| (!tx.is_empty()).then(|| tx.finish())) {
            starts.push(commit.conditions.len());
            finished.push(tx.map(
                |Finished {
                     commit: part,
                     state,
                     deltas,
                     numbers,
                     training,
                     touched,
                 }| {
                    commit.append(part);
                    (state, deltas, numbers, training, touched)
                },
            ));
        }
        if commit.operations.is_empty() {
            planned.into_iter().for_each(|p| p.job.reply(Ok(p.result)));
            return if again.is_empty() {
                Attempt::Done
            } else {
                Attempt::Again(again)
            };
        }
        // Only all of them together may use the reserve: a delivery must not ride on an expunge.
        commit.frees = frees;
        match self.0.db.commit(commit).await {
            Ok(version) => {
                for (account, finished) in accounts.iter().zip(finished) {
                    let Some((mut state, deltas, numbers, training, (since, mailboxes))) = finished else {
                        continue;
                    };
                    state.version = version;
                    let modseq = state.modseq();
                    if numbers > 0 {
                        self.0.text.note(account.id, numbers);
                    }
                    if training {
                        self.0.lessons.note(account.id);
                    }
                    self.advance(account, state, deltas);
                    let news = News {
                        modseq,
                        since,
                        mailboxes,
                    };
                    self.0.hub.committed(account.id, news);
                }
                planned.into_iter().for_each(|p| p.job.reply(Ok(p.result)));
                if again.is_empty() {
                    Attempt::Done
                } else {
                    Attempt::Again(again)
                }
            }
            Err(EngineError::Conflict { condition }) => {
                self.after_conflict(accounts, &starts, condition, planned, again).await
            }
            Err(EngineError::NoSpace) if planned.len() + again.len() > 1 => {
                Attempt::Alone(planned.into_iter().map(|p| p.job).chain(again).collect())
            }
            Err(EngineError::NoSpace) => {
                planned
                    .into_iter()
                    .for_each(|p| p.job.reply(Err(AccountError::NoSpace)));
                Attempt::Done
            }
            Err(error @ (EngineError::Closed | EngineError::Io(_))) => {
                // Not known whether it took place: what is in memory may be behind, and the kept results decide.
                for account in accounts {
                    if let Err(error) = self.reload(account).await {
                        tracing::error!(account = %account.id, %error, "reading account after failed commit");
                        account.shared.write().state = None;
                    }
                }
                tracing::error!(%error, "committing changes of accounts");
                let (keyed, others): (Vec<Job>, Vec<Job>) =
                    planned.into_iter().map(|p| p.job).partition(|job| job.key.is_some());
                // Without a key it cannot be known, and doing it twice would be worse than a doubt.
                others
                    .into_iter()
                    .for_each(|job| job.reply(Err(AccountError::Engine(error.clone()))));
                Attempt::Again(keyed.into_iter().chain(again).collect())
            }
        }
    }

    async fn after_conflict(
        &self,
        accounts: &[Arc<Account>],
        starts: &[usize],
        condition: usize,
        planned: Vec<Planned>,
        again: Vec<Job>,
    ) -> Attempt {
        let part = starts.partition_point(|start| *start <= condition).saturating_sub(1);
        let own = condition - starts.get(part).copied().unwrap_or(0);
        let mut jobs = Vec::new();
        if own == 0 {
            // The account was changed by another process, or by another part of this one.
            for account in accounts {
                if let Err(error) = self.reload(account).await {
                    planned.into_iter().for_each(|p| p.job.reply(Err(error.clone())));
                    again.into_iter().for_each(|job| job.reply(Err(error.clone())));
                    return Attempt::Done;
                }
            }
            jobs.extend(planned.into_iter().map(|p| p.job));
        } else {
            for p in planned {
                let range = p.conditions.get(part).copied().unwrap_or((0, 0));
                // The first condition of a part is the account's.
                if (range.0..range.1).contains(&(own - 1)) {
                    let error = p.job.op.conflict();
                    p.job.reply(Err(error));
                } else {
                    jobs.push(p.job);
                }
            }
        }
        jobs.extend(again);
        if jobs.is_empty() {
            Attempt::Done
        } else {
            Attempt::Again(jobs)
        }
    }

    /// Answers those that were done before, and keeps the others. Of several with one key, later ones wait. Answers also
    /// with the versions of the accounts' records.
    async fn look_up(
        &self,
        accounts: &[Arc<Account>],
        jobs: Vec<Job>,
    ) -> Result<(Vec<Job>, Vec<Option<u64>>), Attempt> {
        let now = self.now();
        let mut lookups: Vec<Bytes> = accounts.iter().map(|a| keys::account(a.id)).collect();
        for key in jobs.iter().filter_map(|job| job.key.as_ref()) {
            lookups.extend(idempotency::lookup_keys(now, &key.scope, &key.key));
        }
        let mut found = match self.0.db.get_many(lookups).await {
            Ok(found) => found,
            Err(error) => {
                jobs.into_iter().for_each(|job| job.reply(Err(error.clone().into())));
                return Err(Attempt::Done);
            }
        };
        let versions = found
            .drain(..accounts.len())
            .map(|value| value.map(|v| v.version))
            .collect();
        let mut found = found.chunks(idempotency::GENERATIONS);
        let mut left = Vec::with_capacity(jobs.len());
        for job in jobs {
            let kept = job.key.as_ref().and_then(|_| found.next()?.iter().flatten().next());
            match (kept, &job.key) {
                (Some(kept), Some(key)) => {
                    let result = idempotency::answer(&kept.data, &key.digest);
                    job.reply(result);
                }
                _ => left.push(job),
            }
        }
        Ok((left, versions))
    }
}

/// An operation whose changes are in the transactions.
struct Planned {
    job: Job,
    result: Bytes,
    /// Of its conditions in each transaction.
    conditions: Vec<(usize, usize)>,
}

/// Plans operations one after the other. Answers those that fail; those with the key of another of the batch wait.
async fn plan(txs: &mut [AccountTx], jobs: Vec<Job>, now: i64) -> (Vec<Planned>, Vec<Job>) {
    let mut planned = Vec::with_capacity(jobs.len());
    let mut again = Vec::new();
    let mut keys = HashSet::new();
    for job in jobs {
        if let Some(key) = &job.key
            && !keys.insert((key.scope.clone(), key.key.clone()))
        {
            again.push(job);
            continue;
        }
        txs.iter_mut().for_each(AccountTx::begin);
        let starts: Vec<usize> = txs.iter().map(AccountTx::conditions).collect();
        let mut result = job.op.plan(txs).await;
        for tx in txs.iter_mut() {
            if result.is_ok()
                && let Err(error) = tx.settle_history().await
            {
                result = Err(error);
            }
        }
        match result {
            Ok(result) => {
                if let (Some(key), Some(tx)) = (&job.key, txs.first_mut()) {
                    let kept = idempotency::keep(now, &key.digest, &result);
                    tx.extra().put(idempotency::key(now, &key.scope, &key.key), kept);
                }
                txs.iter_mut().for_each(AccountTx::keep);
                let conditions = starts.into_iter().zip(txs.iter().map(AccountTx::conditions)).collect();
                planned.push(Planned {
                    job,
                    result,
                    conditions,
                });
            }
            Err(error) => {
                txs.iter_mut().for_each(AccountTx::undo);
                job.reply(Err(error));
            }
        }
    }
    (planned, again)
}

fn decode<O: Op>(
    answer: Result<Result<Bytes, AccountError>, oneshot::error::RecvError>,
) -> Result<O::Output, AccountError> {
    let answer = answer.map_err(|_| AccountError::Engine(EngineError::Closed))??;
    O::Output::decode(answer).map_err(|_| AccountError::Damaged("a kept result"))
}
