//! Bounds on what a client may do, besides those of the protocol in `mox_smtp::limits`.

use std::time::Duration;

/// Recipients of one transaction. RFC 5321 §4.5.3.1.8 asks for at least 100. Announced (RFC 9422).
pub(crate) const RECIPIENTS: usize = 1000;
/// Commands that are not understood or out of order, until the connection is closed.
pub(crate) const ERRORS: u32 = 10;
/// Recipients that don't exist, in one session, until the connection is closed: somebody is trying names.
pub(crate) const UNKNOWN_RECIPIENTS: u32 = 50;
/// Received fields, from which on a message is taken to go in circles (RFC 5321 §6.3 asks for at least 100).
pub(crate) const HOPS: usize = 100;
/// For all messages being received, in memory and in files.
pub(crate) const SPOOL_BYTES: u64 = 4 << 30;
/// For one message from 354 to its end, whatever its size: slower than 30 kB/s with the largest is no mail server.
pub(crate) const DATA_TIME: Duration = Duration::from_secs(60 * 60);
/// What is read of a message that is too large, beyond its limit, in order to say so. More closes the connection.
pub(crate) const OVERSIZE_BYTES: u64 = 100 << 20;
/// How long a delivery is repeated when the store is away. RFC 5321 §4.5.3.2.6: clients wait 10 minutes.
pub(crate) const STORE_AWAY: Duration = Duration::from_secs(20);
/// Between two tries, at first and at most.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Bytes of one piece of an upload.
pub(crate) const UPLOAD_PIECE: usize = 256 << 10;
/// The longest that a verdict may ask to wait before it is told.
pub(crate) const DELAY: Duration = Duration::from_secs(60);
/// How long "timeout" of localserve's special addresses is.
pub(crate) const LOCALSERVE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// For all questions about the sender of one message. A client waits 10 minutes for the reply (RFC 5321 §4.5.3.2.6), and
/// other mail does not wait for it.
pub(crate) const AUTHENTICATION: Duration = Duration::from_secs(60);
