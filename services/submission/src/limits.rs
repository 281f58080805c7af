//! Bounds on what a client can make the service do, beside those of `mox_smtp::limits`.

use std::time::Duration;

/// All messages that are being received together, in bytes.
pub(crate) const SPOOL_BYTES: u64 = 1 << 30;
/// What is read of a chunk that is too large, beyond the limit of messages, in order to say so. More closes the connection.
pub(crate) const OVERSIZE_BYTES: u64 = 100 << 20;
/// Recipients of a transaction; announced by LIMITS (RFC 9422). RFC 5321 §4.5.3.1.8 wants at least 100.
pub(crate) const RECIPIENTS: usize = 1000;
/// Commands that are not understood, or out of order, before the connection ends.
pub(crate) const ERRORS: u32 = 10;
/// Failed logins before the connection ends.
pub(crate) const FAILED_LOGINS: u32 = 3;
/// Before a failed login is answered; multiplied by how many there were.
pub(crate) const FAILED_LOGIN_PAUSE: Duration = Duration::from_secs(1);
/// A session's token is renewed when it was not for this long; the store forgets it after 30 minutes.
pub(crate) const RENEW: Duration = Duration::from_secs(5 * 60);
/// For handing a token back.
pub(crate) const END_SESSION: Duration = Duration::from_secs(5);
