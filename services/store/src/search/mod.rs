//! The index of texts: finds the messages that have a text in them, without reading them.
//!
//! An account's index is a list of immutable [segments](segment), each of some messages, made in the background from
//! what the change log says is new ([`indexer`]); delivering and changing messages writes nothing to it. It knows
//! messages by the number of their row, which stays when they are moved, and which copies share. A message whose number
//! is in no segment is simply read when it is searched, so that answers are those of a scan whatever the state of the
//! index: behind, being made anew, or none.
//!
//! A text that consists of letters and digits, or is looked for in a header field that has its values in the index, is
//! decided by the dictionary alone; for others it tells the messages to be read ([`terms`], [`plan`]).

mod block;
mod builder;
mod cache;
pub mod indexer;
mod merge;
mod pass;
mod plan;
mod query;
mod segment;
mod terms;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mox_proto::record::v1 as record;
use mox_types::AccountId;
use parking_lot::Mutex;
use prost::Message as _;
use roaring::RoaringBitmap;

pub use indexer::{Described, Indexer, Progress};
pub use plan::Place;
pub use query::Found;
pub use terms::fold;

use crate::account::AccountError;
use cache::Cache;
use segment::Head;
use waiting::{Figures, Waiting};

/// The format of indices. To be raised when terms, folding (also by a newer Unicode) or segments change: indices of
/// another format are made anew.
const FORMAT: u32 = 1;
/// Most messages whose numbers are kept at hand of all opened indices, four octets each.
const OPENED_MESSAGES: u64 = 8 << 20;

/// The indices of all accounts. Cheap to clone.
#[derive(Clone, Default)]
pub struct TextIndex(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cache: Cache,
    opened: Mutex<HashMap<AccountId, Arc<Opened>>>,
    waiting: Mutex<Waiting>,
    wake: tokio::sync::Notify,
    figures: Figures,
}

/// An index, ready to be searched.
struct Opened {
    /// Of its record.
    version: u64,
    segments: Vec<(u64, Arc<Head>)>,
    /// Numbers of messages whose terms are all in it.
    covered: Arc<RoaringBitmap>,
}

impl TextIndex {
    fn keep_opened(&self, account: AccountId, opened: &Arc<Opened>) {
        let mut all = self.0.opened.lock();
        all.insert(account, opened.clone());
        let messages: u64 = all.values().map(|o| o.covered.len()).sum();
        if messages > OPENED_MESSAGES || all.len() > 1000 {
            all.retain(|id, _| *id == account);
        }
    }

    /// Memory that decoded parts take.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.0.cache.bytes()
    }
}

impl std::fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextIndex").finish_non_exhaustive()
    }
}

fn decode(value: &Bytes) -> Result<record::SearchIndex, AccountError> {
    record::SearchIndex::decode(value.clone()).map_err(|_| block::damaged())
}
