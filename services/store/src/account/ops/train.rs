//! What the junk filter of an account learns and forgets.

use std::collections::BTreeMap;

use bytes::Bytes;
use mox_junk::{Counts, Token, Tokens};
use mox_proto::record::v1 as record;
use mox_proto::record::v1::message::Training;
use mox_types::{ContentId, MessageId};
use prost::Message as _;

use crate::account::{AccountError, AccountTx, Op, Reader, lesson};
use crate::content::{self, Owner};
use crate::keys;

/// Most words that an account's filter knows: about 200 MB. At the limit, it learns no more messages.
pub const WORDS_MAX: u64 = 5_000_000;
/// About the bytes that a word takes in a commit.
const WORD_BYTES: usize = 48;

/// One message to learn from, or to unlearn.
pub struct Lesson {
    /// Which.
    pub id: MessageId,
    /// What the queue has about it: that it is gone, or nothing.
    pub noted: Bytes,
    /// Its tokens; empty if it could not be read.
    pub tokens: Tokens,
}

impl Lesson {
    /// That the message is gone, and what was learned from it.
    fn gone(&self) -> Result<Option<record::Unlearn>, AccountError> {
        if self.noted.is_empty() {
            return Ok(None);
        }
        let gone = record::Unlearn::decode(self.noted.clone());
        gone.map(Some)
            .map_err(|_| AccountError::Damaged("the queue of a junk filter"))
    }
}

/// Learns from messages, each as its flags are now, and takes them out of the queue.
pub struct Train {
    /// What the tokens are for: nothing is done if it is not that of the filter any more.
    pub generation: u32,
    /// Which runs of words, if the filter is new.
    pub grams: u32,
    /// At most a few.
    pub lessons: Vec<Lesson>,
}

/// The state of the filter.
pub(crate) async fn state(
    reader: &impl Reader,
    account: mox_types::AccountId,
) -> Result<Option<record::JunkFilter>, AccountError> {
    decode_state(reader.get_many(vec![keys::junk_filter(account)]).await?.pop().flatten())
}

/// As the state is kept.
pub(crate) fn decode_state(value: Option<Bytes>) -> Result<Option<record::JunkFilter>, AccountError> {
    let decode = |v: Bytes| record::JunkFilter::decode(v).map_err(|_| AccountError::Damaged("a junk filter"));
    value.map(decode).transpose()
}

/// As counts are kept.
pub(crate) fn decode_counts(value: &[u8]) -> Option<Counts> {
    let (junk, ham) = value.split_at_checked(4)?;
    Some(Counts {
        junk: u32::from_be_bytes(junk.try_into().ok()?),
        ham: u32::from_be_bytes(ham.try_into().ok()?),
    })
}

fn encode_counts(counts: Counts) -> Bytes {
    let mut value = Vec::with_capacity(8);
    value.extend_from_slice(&counts.junk.to_be_bytes());
    value.extend_from_slice(&counts.ham.to_be_bytes());
    value.into()
}

/// Words with their counts, before and now.
struct Words(BTreeMap<Token, (Counts, Counts)>);

impl Words {
    async fn read(tx: &AccountTx, generation: u32, lessons: &[Lesson]) -> Result<Self, AccountError> {
        let account = tx.account();
        let tokens: Tokens = lessons
            .iter()
            .flat_map(|lesson| lesson.tokens.as_slice().iter().copied())
            .collect();
        let wanted = tokens.as_slice().iter();
        let keys = wanted.map(|t| keys::junk_word(account, generation, t)).collect();
        let values = tx.get_many(keys).await?;
        let mut words = BTreeMap::new();
        for (token, value) in tokens.as_slice().iter().zip(values) {
            let counts = match value {
                None => Counts::default(),
                Some(value) => decode_counts(&value).ok_or(AccountError::Damaged("a word of a junk filter"))?,
            };
            words.insert(*token, (counts, counts));
        }
        Ok(Self(words))
    }

    fn change(&mut self, tokens: &Tokens, change: impl Fn(Counts) -> Counts) {
        for token in tokens.as_slice() {
            if let Some((_, now)) = self.0.get_mut(token) {
                *now = change(*now);
            }
        }
    }

    /// How many more there would be than are kept.
    fn added(&self) -> i64 {
        let count = |counts: &Counts| i64::from(!counts.is_zero());
        self.0.values().map(|(before, now)| count(now) - count(before)).sum()
    }
}

fn counts_of(filter: &record::JunkFilter) -> Counts {
    Counts {
        junk: filter.junk,
        ham: filter.notjunk,
    }
}

impl Train {
    /// What a message is learned as by now, and is to be; None if it is gone.
    async fn look(tx: &AccountTx, id: MessageId) -> Result<Option<(record::Message, Training)>, AccountError> {
        let Some(message) = tx.messages(&[id]).await?.pop().flatten() else {
            return Ok(None);
        };
        let mailbox = (&message.mailbox_id)
            .try_into()
            .map_err(|_| AccountError::Damaged("a message"))?;
        let row = tx
            .get_many(vec![keys::row(tx.account(), mailbox, message.uid)])
            .await?
            .pop()
            .flatten();
        // Without one, its mailbox was deleted, and it will be.
        let wanted = match row {
            None => message.trained(),
            Some(row) => lesson(
                record::Row::decode(row)
                    .map_err(|_| AccountError::Damaged("a row"))?
                    .flags,
            ),
        };
        Ok(Some((message, wanted)))
    }
}

impl Op for Train {
    type Output = record::Trained;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let account = tx.account();
        let mut filter = match state(&*tx, account).await? {
            Some(filter) => filter,
            None => record::JunkFilter {
                generation: self.generation,
                grams: self.grams,
                version: mox_junk::VERSION,
                ..Default::default()
            },
        };
        if filter.generation != self.generation {
            return Ok(record::Trained { stale: true });
        }
        let mut words = Words::read(tx, filter.generation, &self.lessons).await?;
        let queue = self
            .lessons
            .iter()
            .map(|lesson| keys::training(account, lesson.id))
            .collect();
        let queue = tx.get_many(queue).await?;
        for (lesson, noted) in self.lessons.iter().zip(queue) {
            // Something else happened to it since it was read, or it was learned from by another: its turn comes again.
            if noted.as_ref() != Some(&lesson.noted) {
                continue;
            }
            match lesson.gone()? {
                Some(gone) => {
                    if gone.generation == filter.generation {
                        forget(&mut filter, &mut words, &lesson.tokens, gone.trained());
                    }
                    if let Ok(content) = ContentId::try_from(&gone.content_id) {
                        let now = tx.now.saturating_mul(1000);
                        content::release(tx.extra(), content, &Owner::message(account, lesson.id), now);
                    }
                }
                None => {
                    if let Some((mut message, wanted)) = Self::look(tx, lesson.id).await? {
                        let known = match message.trained_generation == filter.generation {
                            true => message.trained(),
                            false => Training::None,
                        };
                        let full = filter.words.saturating_add_signed(words.added()) >= WORDS_MAX;
                        let wanted = if full { Training::None } else { wanted };
                        if known != wanted {
                            forget(&mut filter, &mut words, &lesson.tokens, known);
                            learn(&mut filter, &mut words, &lesson.tokens, wanted);
                        }
                        // Also what was trained in another generation is put right: who looks at a message alone takes
                        // it for trained.
                        if known != wanted || message.trained() != wanted {
                            message.set_trained(wanted);
                            message.trained_generation = filter.generation;
                            tx.put(keys::message(account, lesson.id), message.encode_to_vec());
                        }
                    }
                }
            }
            tx.delete(keys::training(account, lesson.id));
        }
        filter.words = filter.words.saturating_add_signed(words.added());
        for (token, (before, now)) in words.0 {
            let key = keys::junk_word(account, filter.generation, &token);
            if now.is_zero() && !before.is_zero() {
                tx.delete(key);
            } else if now != before {
                tx.put(key, encode_counts(now));
            }
        }
        tx.put(keys::junk_filter(account), filter.encode_to_vec());
        Ok(record::Trained { stale: false })
    }

    fn size(&self) -> usize {
        let words: usize = self.lessons.iter().map(|lesson| lesson.tokens.len()).sum();
        1024 + words * WORD_BYTES
    }
}

fn learn(filter: &mut record::JunkFilter, words: &mut Words, tokens: &Tokens, as_what: Training) {
    if as_what == Training::None {
        return;
    }
    let junk = as_what == Training::Junk;
    words.change(tokens, |counts| counts.trained(junk));
    let totals = counts_of(filter).trained(junk);
    (filter.junk, filter.notjunk) = (totals.junk, totals.ham);
}

fn forget(filter: &mut record::JunkFilter, words: &mut Words, tokens: &Tokens, as_what: Training) {
    if as_what == Training::None {
        return;
    }
    let junk = as_what == Training::Junk;
    words.change(tokens, |counts| counts.untrained(junk));
    let totals = counts_of(filter).untrained(junk);
    (filter.junk, filter.notjunk) = (totals.junk, totals.ham);
}

/// Forgets all words, and notes that all messages are to be learned from.
pub struct Relearn {
    /// Which runs of words are learned from then on.
    pub grams: u32,
}

impl Op for Relearn {
    type Output = record::Trained;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let account = tx.account();
        let before = state(&*tx, account).await?.unwrap_or_default();
        let filter = record::JunkFilter {
            // What a message was trained as is of its generation only: that of all others is void at once.
            generation: before.generation + 1,
            grams: self.grams,
            version: mox_junk::VERSION,
            ..Default::default()
        };
        tx.put(keys::junk_filter(account), filter.encode_to_vec());
        let all = keys::junk_words(account);
        tx.extra().delete_range(all);
        tx.put(keys::training_all(account), Bytes::new());
        Ok(record::Trained { stale: false })
    }
}

/// Puts messages into the queue.
pub struct QueueLessons {
    /// Their ids.
    pub messages: Vec<Bytes>,
    /// Whether they are the last of all.
    pub last: bool,
}

impl Op for QueueLessons {
    type Output = record::Trained;

    async fn plan(&self, accounts: &mut [AccountTx]) -> Result<Self::Output, AccountError> {
        let tx = &mut accounts[0];
        let account = tx.account();
        for id in &self.messages {
            let id = MessageId::try_from(id).map_err(|_| AccountError::Damaged("a row"))?;
            // One that is gone by now is noted already, with what is needed to unlearn it.
            if tx.messages(&[id]).await?.iter().any(Option::is_some) {
                tx.put(keys::training(account, id), Bytes::new());
            }
        }
        if self.last {
            tx.delete(keys::training_all(account));
        }
        Ok(record::Trained { stale: false })
    }

    fn size(&self) -> usize {
        64 * self.messages.len()
    }
}
