//! The operations on accounts' mail.

mod add;
mod copy;
mod expunge;
mod flags;
mod mailboxes;
mod mend;
mod metadata;
mod number;
mod rejects;
mod renumber;
mod repair;
mod reparse;
mod threads;
mod train;

pub use add::{Append, Deliver, Delivery, NewMessage};
pub use copy::Copy;
pub use expunge::{Expunge, Purge};
pub use flags::StoreFlags;
pub use mailboxes::{CreateMailbox, DeleteMailbox, RenameMailbox, SetSubscribed};
pub use mend::{Mend, MendRows};
pub use metadata::{ANNOTATION_BYTES_MAX, ANNOTATION_NAME_MAX, SetMetadata};
pub use number::NumberRows;
pub use rejects::TidyRejects;
pub use renumber::{BumpUidValidity, RaiseUids, Renumber};
pub use repair::{CorrectCounts, Off};
pub use reparse::{Reparse, Reparsed};
pub use threads::{ResetThreads, SetThreads, ThreadNames};
pub use train::{Lesson, QueueLessons, Relearn, Train, WORDS_MAX};
pub(crate) use train::{decode_counts, decode_state as decode_filter, state as filter_state};

/// Most messages that one commit changes or copies. What is asked for more is done in several, so that other operations
/// of the account need not wait long, and no commit is very large.
pub const STEP_MESSAGES: usize = 2000;
