//! What webhooks are sent: the JSON objects about messages that were sent and messages that arrived.
//!
//! Their fields are an interface to programs of others: those of version 0. Fields may be added, and receivers ignore
//! what they do not know; none is ever left out, so that they need not look whether it is there.
//!
//! - [`Outgoing`] tells what became of a message that was sent: an [`Event`] and the message it is about.
//! - [`Incoming`] tells of a message that arrived, with its text. It is made of the message by [`Incoming::of`], in time
//!   linear in its length; what it says of it is bounded by the constants here and those of [`mox_message::limits`].

mod automated;
mod event;
mod incoming;
mod moment;
mod structure;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use event::{Event, UnknownEvent};
pub use incoming::{Incoming, Meta, NameAddress, TEXT_MAX, message_id};
pub use moment::moment;
pub use structure::Structure;

/// The version of these objects.
pub const VERSION: u32 = 0;

/// What became of a message that was sent, for one recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outgoing {
    /// [`VERSION`].
    pub version: u32,
    /// What happened, the name of an [`Event`].
    pub event: String,
    /// It is known from a delivery status notification that arrived.
    #[serde(rename = "DSN")]
    pub dsn: bool,
    /// Because of it, the recipient is now on the account's suppression list.
    pub suppressing: bool,
    /// The message's number in the queue: one for each recipient.
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// What its MAIL FROM was made unique with; empty if it was not.
    #[serde(rename = "FromID")]
    pub from_id: String,
    /// Its Message-ID, with the brackets.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// When this event was queued, in RFC 3339.
    pub webhook_queued: String,
    /// For failures: the SMTP code, such as 550; 0 if none is known.
    #[serde(rename = "SMTPCode")]
    pub smtp_code: u32,
    /// For failures: the enhanced code, such as 5.1.1; empty if none is known.
    #[serde(rename = "SMTPEnhancedCode")]
    pub smtp_enhanced_code: String,
    /// For failures: what went wrong.
    pub error: String,
    /// What the sender wanted to be told along with it.
    pub extra: BTreeMap<String, String>,
}
