//! What every way of sending shares, whoever the message came from: completing its header, signing it, and putting it
//! into the queue durably.
//!
//! - [`prepare`] looks at a message as its author gave it, refuses what may not be sent, removes Bcc, and adds the
//!   fields that are missing. What fields ask of the delivery goes with it: `TLS-Required`, and `X-Mox-Extra-…`, which are
//!   not sent but kept for webhooks.
//! - [`Signing`] signs it with the keys of its domain.
//! - [`Sender`] asks the store whether an account may use an address, and enqueues: safe to repeat, and durable once it
//!   answers. Ownership and the limits of a day are checked in the store's commit, which also remembers the recipients
//!   and gives each a sender of its own where the login asks for that.

mod prepare;
mod sender;
mod signing;

pub use prepare::{Prepared, Refused, prepare};
pub use sender::{Enqueued, FUTURE_RELEASE, SendError, Sender, Submission};
pub use signing::{Signing, SigningError};
