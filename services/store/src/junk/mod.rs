//! The junk filters of accounts: learning from what users say is junk, and scoring messages.
//!
//! Words are kept beside the account's mail, as digests with two counts. What there is to learn is in a queue, put there
//! by the commits that flag, move and remove messages ([`crate::account::Lessons`]); it is worked off here, a few
//! messages a commit. An account has a filter from the first message on that it learns from, and keeps the runs of words
//! that it began with until it is made anew ([`Junk::relearn`]): so what is unlearned is always what was learned.

mod message;
mod remembered;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mox_config::JunkFilter as Settings;
use mox_junk::{Counts, Grams, Params, Score, Token, Tokens};
use mox_proto::record::v1 as record;
use mox_types::{AccountId, ContentId, MessageId};
use prost::Message as _;

pub use message::tokens;
use remembered::Remembered;

use crate::account::ops::{Lesson, QueueLessons, Relearn, Train, decode_counts, decode_filter, filter_state};
use crate::account::{AccountError, Accounts, FromSnapshot, JUDGEMENT};
use crate::content::{ContentError, Contents};
use crate::engine::{Db, EngineError, Limit, Order, Value};
use crate::keys;
use crate::registry::Registry;

/// Bytes of a message that are looked at: its text is at the beginning.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// Messages learned from in one commit.
const BATCH: usize = 16;
/// Rows looked at in one step.
const PAGE: usize = 2000;
/// What comes within this time is learned from together.
const GATHER: Duration = Duration::from_millis(250);
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// How far learning is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages learned from, or unlearned.
    pub done: u64,
}

/// What a filter says about a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// How it looks.
    pub score: Score,
    /// The probability from which on the account takes a message for junk.
    pub threshold: f64,
    /// How many messages it learned from.
    pub learned: mox_junk::Totals,
}

/// A message that filters look at: its tokens are made once for all accounts that count the same runs of words.
#[derive(Default)]
pub struct Looked {
    start: Bytes,
    tokens: tokio::sync::Mutex<BTreeMap<u32, Arc<Tokens>>>,
}

impl Looked {
    /// Of a message, of which the first MiB is looked at. The fields above the content may be left out: they have no
    /// tokens.
    #[must_use]
    pub fn new(message: &Bytes) -> Self {
        Self {
            start: message.slice(..message.len().min(MESSAGE_BYTES)),
            tokens: tokio::sync::Mutex::default(),
        }
    }

    /// What is looked at.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    async fn tokens(&self, grams: u32) -> Result<Arc<Tokens>, AccountError> {
        let mut made = self.tokens.lock().await;
        if let Some(tokens) = made.get(&grams) {
            return Ok(Arc::clone(tokens));
        }
        let tokens = Arc::new(tokens_of(self.start.clone(), Grams::from_bits(grams)).await?);
        made.insert(grams, Arc::clone(&tokens));
        Ok(tokens)
    }
}

/// The filters. Cheap to clone.
#[derive(Clone)]
pub struct Junk {
    db: Db,
    accounts: Accounts,
    contents: Contents,
    registry: Registry,
    remembered: Arc<Remembered>,
    /// Held while an account learns: what was read for a commit is to be good for it.
    learning: Arc<tokio::sync::Mutex<()>>,
}

impl Junk {
    /// Over accounts and the contents of their messages.
    #[must_use]
    pub fn new(accounts: Accounts, contents: Contents, registry: Registry) -> Self {
        Self {
            db: accounts.db().clone(),
            accounts,
            contents,
            registry,
            remembered: Arc::default(),
            learning: Arc::default(),
        }
    }

    /// The settings of an account's filter; None if it has none.
    fn settings(&self, account: AccountId) -> Option<Settings> {
        let committed = self.registry.current();
        let name = committed.name(account)?;
        committed.dynamic.accounts.get(name)?.junk_filter.clone()
    }

    /// Learns what there is to learn, whenever there is something. Ends never.
    pub async fn run(&self) {
        if let Err(error) = self.note_all().await {
            tracing::error!(%error, "looking for messages that junk filters have to learn from");
        }
        loop {
            let noted = self.accounts.lessons().wait().await;
            tokio::time::sleep(GATHER).await;
            for account in noted {
                match self.learn(account, &|_| {}).await {
                    Ok(()) | Err(AccountError::AccountGone) => {}
                    Err(error) => {
                        tracing::warn!(%account, %error, "teaching the junk filter, to be tried again");
                        let accounts = self.accounts.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(RETRY).await;
                            accounts.lessons().note(account);
                        });
                    }
                }
            }
        }
    }

    /// Notes all accounts that have something in the queue.
    async fn note_all(&self) -> Result<(), EngineError> {
        let mut range = keys::trainings_of_all();
        loop {
            let page = self.db.scan(range.clone(), Limit::rows(1), Order::Ascending).await?;
            let Some((account, _)) = page.rows.first().and_then(|(key, _)| keys::parse_training(key)) else {
                return Ok(());
            };
            self.accounts.lessons().note(account);
            range.start = keys::trainings(account).end;
        }
    }

    /// Learns all that an account's queue has.
    ///
    /// # Errors
    /// If the store fails. What was learned stays.
    pub async fn learn(&self, account: AccountId, report: &(dyn Fn(Progress) + Sync)) -> Result<(), AccountError> {
        let _learning = self.learning.lock().await;
        let mut progress = Progress::default();
        loop {
            let range = keys::trainings(account);
            let page = self.db.scan(range, Limit::rows(BATCH), Order::Ascending).await?;
            if page.rows.is_empty() {
                return Ok(());
            }
            if page.rows[0].0 == keys::training_all(account) {
                self.queue_all(account).await?;
                continue;
            }
            let count = page.rows.len() as u64;
            let snapshot = self.db.snapshot().await?;
            let filter = filter_state(&FromSnapshot(&*snapshot), account).await?;
            drop(snapshot);
            if filter.as_ref().is_some_and(|f| f.version != mox_junk::VERSION) {
                tracing::info!(%account, "the junk filter is of another version, learning anew");
                let grams = self.grams(account);
                self.accounts.submit(account, None, Relearn { grams }).await?;
                continue;
            }
            let grams = filter.as_ref().map_or_else(|| self.grams(account), |f| f.grams);
            let mut lessons = Vec::with_capacity(page.rows.len());
            for (key, value) in page.rows {
                let (_, id) = keys::parse_training(&key).ok_or(AccountError::Damaged("the queue of a junk filter"))?;
                lessons.push(self.lesson(account, id, value.data, Grams::from_bits(grams)).await?);
            }
            let train = Train {
                generation: filter.map_or(1, |f| f.generation),
                grams,
                lessons,
            };
            self.accounts.submit(account, None, train).await?;
            progress.done += count;
            report(progress);
        }
    }

    fn grams(&self, account: AccountId) -> u32 {
        let params = self.settings(account).unwrap_or_default().params;
        let grams = Grams {
            one: params.onegrams,
            two: params.twograms,
            three: params.threegrams,
        };
        grams.or_words().bits()
    }

    async fn lesson(
        &self,
        account: AccountId,
        id: MessageId,
        noted: Bytes,
        grams: Grams,
    ) -> Result<Lesson, AccountError> {
        let place = match noted.is_empty() {
            false => {
                let gone = record::Unlearn::decode(noted.clone());
                let gone = gone.map_err(|_| AccountError::Damaged("the queue of a junk filter"))?;
                Some((gone.content_id, gone.prefix))
            }
            true => {
                let found = self.db.get(keys::message(account, id)).await?;
                let decode = |v: Bytes| record::Message::decode(v).map_err(|_| AccountError::Damaged("a message"));
                let message = found.map(|v| decode(v.data)).transpose()?;
                message.map(|m| (m.content_id, m.prefix))
            }
        };
        let tokens = match place {
            // Gone, without having been learned from.
            None => Tokens::default(),
            Some((content, prefix)) => self.tokens(account, &content, prefix, grams).await?,
        };
        Ok(Lesson { id, noted, tokens })
    }

    /// The tokens of a message that is kept.
    async fn tokens(
        &self,
        account: AccountId,
        content: &Bytes,
        prefix: Bytes,
        grams: Grams,
    ) -> Result<Tokens, AccountError> {
        let content = ContentId::try_from(content).map_err(|_| AccountError::Damaged("a message"))?;
        let mut whole = BytesMut::from(&prefix[..prefix.len().min(MESSAGE_BYTES)]);
        let most = (MESSAGE_BYTES - whole.len()) as u64;
        let mut pieces = self.contents.read(content, 0..most);
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(ContentError::Engine(error)) => return Err(error.into()),
                Err(error) => {
                    // Without a content there is nothing to be learned, and nothing was.
                    tracing::error!(%account, %error, "reading a message for the junk filter");
                    return Ok(Tokens::default());
                }
            }
        }
        tokens_of(whole.freeze(), grams).await
    }

    /// Puts all messages into the queue that have something to teach.
    async fn queue_all(&self, account: AccountId) -> Result<(), AccountError> {
        let mut left = Some(keys::account_table(account, keys::TABLE_ROWS));
        while let Some(range) = left {
            let page = self.db.scan(range.clone(), Limit::rows(PAGE), Order::Ascending).await?;
            left = page.rest(&range);
            let mut messages = Vec::new();
            for (_, value) in page.rows {
                let row = record::Row::decode(value.data).map_err(|_| AccountError::Damaged("a row"))?;
                if row.flags & JUDGEMENT != 0 {
                    messages.push(row.message_id);
                }
            }
            let last = left.is_none();
            if last || !messages.is_empty() {
                self.accounts
                    .submit(account, None, QueueLessons { messages, last })
                    .await?;
            }
        }
        Ok(())
    }

    /// Makes an account's filter anew, with the settings of now, from all messages that have something to teach.
    ///
    /// # Errors
    /// If the account has no filter, or the store fails; what was begun is gone on with in the background.
    pub async fn relearn(
        &self,
        account: AccountId,
        report: &(dyn Fn(Progress) + Sync),
    ) -> Result<record::JunkFilter, AccountError> {
        if self.settings(account).is_none() {
            return Err(AccountError::Invalid(
                "the account has no junk_filter in domains.toml: add one first".to_owned(),
            ));
        }
        let grams = self.grams(account);
        self.accounts.submit(account, None, Relearn { grams }).await?;
        // Whatever becomes of this call.
        self.accounts.lessons().note(account);
        self.learn(account, report).await?;
        let snapshot = self.db.snapshot().await?;
        let filter = filter_state(&FromSnapshot(&*snapshot), account).await?;
        Ok(filter.unwrap_or_default())
    }

    /// What an account's filter says about a message; None if it has none, or it knows too little.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn judge(&self, account: AccountId, message: &Looked) -> Result<Option<Judgement>, AccountError> {
        let Some(settings) = self.settings(account) else {
            return Ok(None);
        };
        let Some((filter, words)) = self.look_up(account, message).await? else {
            return Ok(None);
        };
        let params = Params {
            max_power: settings.params.max_power,
            top_words: settings.params.top_words as usize,
            ignore_words: settings.params.ignore_words,
            rare_words: settings.params.rare_words,
        };
        let totals = mox_junk::Totals {
            junk: filter.junk,
            ham: filter.notjunk,
        };
        Ok(Some(Judgement {
            score: mox_junk::score(&params, totals, words),
            threshold: settings.threshold,
            learned: totals,
        }))
    }

    /// An account's filter, if it has learned enough, and the words of a message that it knows, as of one moment.
    async fn look_up(
        &self,
        account: AccountId,
        message: &Looked,
    ) -> Result<Option<(record::JunkFilter, Vec<(Token, Counts)>)>, AccountError> {
        let state = keys::junk_filter(account);
        let mut found = self.db.get(state.clone()).await?;
        while let Some(was) = found.take() {
            let Some(filter) = usable(&was)? else { break };
            let tokens = message.tokens(filter.grams).await?;
            let tokens = tokens.as_slice();
            let mut counts = self.remembered.look_up(account, was.version, tokens);
            let missing: Vec<usize> = (0..tokens.len()).filter(|n| counts[*n].is_none()).collect();
            let mut now = filter;
            if !missing.is_empty() {
                let words = missing
                    .iter()
                    .map(|n| keys::junk_word(account, now.generation, &tokens[*n]));
                let read = self.db.get_many([state.clone()].into_iter().chain(words).collect());
                let mut read = read.await?.into_iter();
                let Some(value) = read.next().flatten() else { break };
                let Some(read_of) = usable(&value)? else { break };
                // It learned meanwhile: what was remembered is of before, and it may have begun anew.
                let differs = value.version != was.version && missing.len() < tokens.len();
                if differs || (read_of.generation, read_of.grams) != (now.generation, now.grams) {
                    found = Some(value);
                    continue;
                }
                now = read_of;
                for (n, word) in missing.iter().zip(read) {
                    // It does not know those that are not there.
                    counts[*n] = Some(word.and_then(|word| decode_counts(&word.data)).unwrap_or_default());
                }
                let read = missing.iter().filter_map(|n| Some((tokens[*n], counts[*n]?)));
                self.remembered.keep(account, value.version, read);
            }
            let words = tokens.iter().zip(counts);
            let known = words.filter_map(|(token, counts)| Some((*token, counts.filter(|c| !c.is_zero())?)));
            return Ok(Some((now, known.collect())));
        }
        Ok(None)
    }
}

/// The filter, if it knows enough to judge.
fn usable(state: &Value) -> Result<Option<record::JunkFilter>, AccountError> {
    let filter = decode_filter(Some(state.data.clone()))?;
    Ok(filter.filter(|f| f.version == mox_junk::VERSION && f.junk > 0 && f.notjunk > 0))
}

/// Tokens of a message, made where they hold up nobody.
async fn tokens_of(message: Bytes, grams: Grams) -> Result<Tokens, AccountError> {
    tokio::task::spawn_blocking(move || tokens(&message, grams))
        .await
        .map_err(|_| AccountError::Engine(EngineError::Closed))
}
