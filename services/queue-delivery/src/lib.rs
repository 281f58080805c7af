//! Queue-delivery: brings messages of the outgoing queue to where they belong.
//!
//! **Does.** Claims entries that are due from the store under leases, finds the hosts of their recipients (MX, or a
//! transport by the routes of the configuration), delivers over SMTP, and tells the store what became of it: delivered,
//! to be tried again at a time, or failed, with the notification to its sender (RFC 3464). In the same manner it calls
//! the webhooks of accounts. Any number of these processes work the same queues.
//! One of them at a time composes the reports about DMARC and TLS that are due (`reports`), and posts those that are
//! asked for by HTTPS.
//!
//! **Owns.** Nothing durable. What it has in hand when it ends goes back to the queue, or is due again when its leases
//! end.
//!
//! **Calls.** The store; DNS; SMTP servers of the world; the URLs of webhooks; HTTPS servers that take TLS reports.
//!
//! **Trust.** None in what servers answer: everything is bounded in size and time, and one that hangs holds few of the
//! sessions and none of the messages for others. Directly reached hosts are verified as they or the recipient's domain
//! demand (DANE, MTA-STS) or the message does (REQUIRETLS), and else encrypted to when they offer it; transports are
//! verified unless configured otherwise.
//!
//! **Failure.** A message is delivered twice only when a host took it and its reply was lost: the end of a message is
//! not sent unless its lease is held for long enough. A store that is away stops claims; what was delivered meanwhile is
//! told until it is heard.

mod attempt;
mod claims;
mod content;
mod deliver;
mod exchange;
mod group;
mod hooks;
mod idle;
mod lanes;
mod lease;
mod metrics;
mod net;
mod outcome;
mod places;
mod reports;
mod route;
mod schedule;
mod secure;
mod service;
mod session;
mod socks;
mod verdict;
mod worker;

pub use net::{Dialer, TcpDialer};
pub use service::{Error, Service, World};
pub use session::Random;
