//! Bounds on what a peer may send, and on how long it may take, each with its source.

use std::time::Duration;

/// Octets of a command line with its CRLF. RFC 5321 §4.5.3.1.4 has 512, to which extensions add: SIZE 26 (RFC 1870), ENVID
/// 107 and ORCPT 500 (RFC 3461 §4), AUTH 500 (RFC 4954), SMTPUTF8 (RFC 6531). 2048 holds all of them together.
pub const COMMAND_LINE: usize = 2048;
/// Octets of a line of an AUTH exchange with its CRLF, and of the AUTH command (RFC 4954 §4).
pub const AUTH_LINE: usize = 12 * 1024;
/// Octets of an overlong line that are read, and thrown away, for its end to be found; a bound of ours.
pub const OVERLONG_LINE: usize = 64 * 1024;
/// Octets of a reply line that are accepted. RFC 5321 §4.5.3.1.5 has 512; some servers pass on texts of others.
pub const REPLY_LINE: usize = 4096;
/// Octets of a reply line that are written, with code and CRLF (RFC 5321 §4.5.3.1.5).
pub const REPLY_LINE_SENT: usize = 512;
/// Lines of one reply; a bound of ours. The longest real ones are answers to EHLO.
pub const REPLY_LINES: usize = 128;
/// Octets of a path with its brackets (RFC 5321 §4.5.3.1.3), and as many more for characters of several octets.
pub const PATH: usize = 512;
/// Octets of a host name in EHLO and HELO (RFC 5321 §4.5.3.1.2).
pub const HOST_NAME: usize = 255;
/// Characters of ENVID (RFC 3461 §4.4).
pub const ENVID: usize = 100;
/// Characters of ORCPT (RFC 3461 §4.2).
pub const ORCPT: usize = 500;
/// Parameters of one command; a bound of ours. There are not as many different ones.
pub const PARAMETERS: usize = 32;
/// Octets that are read from a connection at once.
pub const READ: usize = 32 * 1024;

/// A server's wait for the next command (RFC 5321 §4.5.3.2.7).
pub const SERVER_IDLE: Duration = Duration::from_secs(5 * 60);
/// A server's wait until a reply is taken by the client; a bound of ours.
pub const SERVER_WRITE: Duration = Duration::from_secs(60);
