//! Bounds on what a client may take of us.

use std::time::Duration;

/// RFC 9051 §5.4: an inactive session is closed after no less than 30 minutes.
pub(crate) const INACTIVE: Duration = Duration::from_secs(30 * 60);
/// Before login there is nothing to wait for but a person typing a password.
pub(crate) const INACTIVE_BEFORE_LOGIN: Duration = Duration::from_secs(3 * 60);
/// How long a client may take until it has sent more of a command, a literal, or an answer to a continuation.
pub(crate) const INPUT: Duration = Duration::from_secs(5 * 60);
/// How long a client may take until it has read more of our output.
pub(crate) const OUTPUT: Duration = Duration::from_secs(3 * 60);
/// How long a last line may take.
pub(crate) const BYE: Duration = Duration::from_millis(200);
/// Commands that are none, in a row, after which this is no IMAP client.
pub(crate) const BAD_COMMANDS: u32 = 10;
/// Failed logins after which the connection ends.
pub(crate) const FAILED_LOGINS: u32 = 5;
/// Pause after a failed login, for each one so far. The limits across connections are the store's.
pub(crate) const FAILED_LOGIN_PAUSE: Duration = Duration::from_millis(500);
/// Octets of output that are gathered before they are written to the socket.
pub(crate) const OUTPUT_BYTES: usize = 64 << 10;
/// Octets from which on a piece of a message is written to the socket itself, rather than gathered.
pub(crate) const DIRECT_BYTES: usize = 16 << 10;
/// Octets of room for reading while nothing is expected but a command.
pub(crate) const COMMAND_ROOM: usize = 1 << 10;
/// Octets of room for reading a literal.
pub(crate) const LITERAL_ROOM: usize = 64 << 10;
/// The largest message that can be appended: what the store takes.
pub(crate) const APPEND: u64 = 100 << 20;
/// Messages of one APPEND (RFC 3502): what the store takes.
pub(crate) const APPEND_MESSAGES: usize = 1000;
/// Octets of all messages of one APPEND that ride with the request; the others are uploaded.
pub(crate) const APPEND_INLINE: usize = 768 << 10;
/// Octets of a message that may have binary data, up to which it is held in memory to be converted. A larger one must not
/// have NUL.
pub(crate) const BINARY_APPEND: u64 = 32 << 20;
/// Such messages that are converted at a time, in the whole process.
pub(crate) const CONVERSIONS: usize = 4;
/// Octets of an annotation: what the store takes.
pub(crate) const ANNOTATION: usize = 64 << 10;
/// Octets of a literal that is refused and can't be declined (RFC 7888), up to which they are read and thrown away; from
/// there on the connection ends.
pub(crate) const DISCARD: u64 = 1 << 30;
/// Octets of a header that is looked at for HEADER.FIELDS: it is held in memory. Fields behind are not found.
pub(crate) const HEADER: u64 = 1 << 20;
/// Octets of an encoded part up to which it is decoded in memory; a larger one is read twice.
pub(crate) const DECODED_IN_MEMORY: u64 = 256 << 10;
/// Messages whose contents are asked for in one stream.
pub(crate) const CONTENT_BATCH: usize = 256;
/// Ranges of contents that are asked for in one stream: what the store takes.
pub(crate) const CONTENT_RANGES: usize = 10_000;
/// Expunged messages that are told before the output is sent.
pub(crate) const EXPUNGED: u64 = 10_000;
/// Messages that one command works on (RFC 9738): what the largest mailboxes that we are made for have.
pub(crate) const MESSAGES: u64 = 1_000_000;
/// Ranges of a search result that is kept for `$` (RFC 5182): it is held in memory while the mailbox is selected.
pub(crate) const SAVED_RANGES: usize = 100_000;
/// Mailboxes in the answer of a LIST, as a bound on what pages of the store add up to.
pub(crate) const MAILBOXES: usize = 100_000;
/// How often the sessions' tokens are renewed: the store keeps them for longer than the 10 minutes that it asks for.
pub(crate) const RENEW: Duration = Duration::from_secs(5 * 60);
/// Pauses between attempts to watch the store.
pub(crate) const WATCH_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Octets of what a client says it is that are kept: the store keeps no more.
pub(crate) const CLIENT_ID: usize = 256;
/// Mailboxes that one ESEARCH searches (RFC 7377 §2.4): all that an account may have in the store.
pub(crate) const SEARCHED_MAILBOXES: usize = 10_000;
