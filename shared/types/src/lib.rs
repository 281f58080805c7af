//! Identifiers and addresses: the words that every part of the system uses.
//!
//! Identifiers are UUIDs of version 7 and never reused, also not after a backup was restored. Addresses keep their
//! localpart as given (NFC), and their domain in lower case as U-labels.

mod address;
mod id;

pub use address::{Address, AddressError, Domain, Localpart};
pub use id::{AccountId, ContentId, IdError, MailboxId, MessageId, ModSeq, Uid, UidValidity};
