//! Bounds on what a client may do, besides those of the protocol in `mox_smtp::limits`.

use std::time::Duration;

/// Recipients of one transaction. RFC 5321 §4.5.3.1.8 asks for at least 100. Announced (RFC 9422).
pub(crate) const RECIPIENTS: usize = 1000;
/// Commands that are not understood or out of order, until the connection is closed.
pub(crate) const ERRORS: u32 = 10;
/// Recipients that don't exist, or are not ours, in one session, until the connection is closed: somebody is trying names.
pub(crate) const UNKNOWN_RECIPIENTS: u32 = 50;
/// Commands without a message, recipients and chunks not counted, until the connection is closed.
pub(crate) const IDLE_COMMANDS: u32 = 1000;
/// For a session. A client with that much to say comes back.
pub(crate) const SESSION_TIME: Duration = Duration::from_secs(4 * 60 * 60);
/// Before it is said that none of the recipients exist: trying names takes time.
pub(crate) const UNKNOWN_DELAY: Duration = Duration::from_secs(5);
/// Before each reply to a client that made mistakes, or whose message was not wanted.
pub(crate) const SUSPICIOUS_DELAY: Duration = Duration::from_secs(1);
/// Mistakes from which on a client is suspicious.
pub(crate) const SUSPICIOUS_ERRORS: u32 = 3;
/// Octets of the header of a message, which is looked at as a whole and kept with parts of it: what Exim takes by default.
pub(crate) const HEADER_BYTES: usize = 1 << 20;
/// Octets of a line with its CR, of messages that are held to it (RFC 5321 §4.5.3.1.6).
pub(crate) const LINE: usize = 999;
/// Received fields, from which on a message is taken to go in circles (RFC 5321 §6.3 asks for at least 100).
pub(crate) const HOPS: usize = 100;
/// For all messages being received, in memory and in files.
pub(crate) const SPOOL_BYTES: u64 = 4 << 30;
/// For one message from 354 to its end, whatever its size: slower than 30 kB/s with the largest is no mail server.
pub(crate) const DATA_TIME: Duration = Duration::from_secs(60 * 60);
/// Octets in a second, at least, on average, of a message that took longer than [`SLOW_DATA`]. The slowest links of mail
/// servers are many times faster.
pub(crate) const DATA_RATE: u64 = 100;
/// Until the rate of a message is looked at. RFC 5321 §4.5.3.2.5: a block of data may take 3 minutes.
pub(crate) const SLOW_DATA: Duration = Duration::from_secs(5 * 60);
/// What is read of a message that is too large, beyond its limit, in order to say so. More closes the connection.
pub(crate) const OVERSIZE_BYTES: u64 = 100 << 20;
/// How long a delivery is repeated when the store is away. RFC 5321 §4.5.3.2.6: clients wait 10 minutes.
pub(crate) const STORE_AWAY: Duration = Duration::from_secs(20);
/// Between two tries, at first and at most.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The longest that a verdict may ask to wait before it is told.
pub(crate) const DELAY: Duration = Duration::from_secs(60);
/// For finding out whether mail can be sent back to the domain in MAIL FROM. Clients wait 5 minutes (RFC 5321 §4.5.3.2.2).
pub(crate) const SENDER_LOOKUP: Duration = Duration::from_secs(30);
/// For SPF of MAIL FROM, when a second recipient comes.
pub(crate) const SENDER_SPF: Duration = Duration::from_secs(30);
/// How long "timeout" of localserve's special addresses is.
pub(crate) const LOCALSERVE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// For all questions about the sender of one message. A client waits 10 minutes for the reply (RFC 5321 §4.5.3.2.6), and
/// other mail does not wait for it.
pub(crate) const AUTHENTICATION: Duration = Duration::from_secs(60);
/// Reports that are unpacked and read at the same time: each takes up to 50 MiB meanwhile.
pub(crate) const REPORTS: usize = 2;
/// How long a message with a report waits for others of its kind. After that it is taken for any other message.
pub(crate) const REPORT_WAIT: Duration = Duration::from_secs(20);
/// Evaluations that wait to be recorded. More are left out: reports are statistics.
pub(crate) const EVALUATIONS: usize = 10_000;
/// Evaluations that are recorded at once, and how long one waits for others.
pub(crate) const EVALUATIONS_AT_ONCE: usize = 500;
/// See above.
pub(crate) const EVALUATIONS_WAIT: Duration = Duration::from_millis(500);
/// How long is tried to record what there is.
pub(crate) const RECORD_TIME: Duration = Duration::from_secs(20);
