//! Calls between the services: one [`Channel`] type over everything that carries them.
//!
//! A service is written once against the generated clients. Whether the other side runs in the same process
//! ([`Channel::in_process`]), or behind a unix socket or TCP ([`Channel::connect`]), is decided by who builds the
//! channel. In both shapes:
//!
//! - **The caller's identity** is set by the transport and never taken from the request: handlers ask [`caller`]. In the
//!   same process the channel's builder names it. On a unix socket it is [`Identity::CLI`] for processes of the same
//!   user and of root, others are turned away. Over TCP with mutual TLS it is the name of a service among the DNS names
//!   of the certificate. On plaintext TCP, which is refused on anything but loopback, it is a header (`mox-caller`) that
//!   the channel sets: whoever can connect to a loopback port can claim any identity, so this is for tests and for
//!   machines without other users. Listeners of every other kind ignore the header.
//! - **What an identity may call** is one readable table, `methods.rs`, held by one layer in front of every service.
//!   What is not in it is refused.
//! - **Deadlines.** A unary call, with its answer, ends within 30 s, or what [`with_deadline`] says. In a stream the
//!   same figure bounds the time without a message in either direction; watches are unbounded unless told.
//! - **Dropping** a call's future or its answer drops its handler. What must complete runs in a task of its own.
//! - **Traces** continue across the call (W3C `traceparent`).
//!
//! A channel over the network connects when it is first used, and again with growing pauses when the connection was
//! lost. A call waits for a connection up to [`CONNECT_WAIT`], within its deadline, then fails as UNAVAILABLE and says
//! what it tried to reach. Calls that were certainly not sent are sent again once; anything else is for the caller, whose
//! changes carry a [`key`] that makes repeating them safe.

mod channel;
mod connection;
mod deadline;
mod endpoint;
mod error;
mod gate;
mod health;
mod identity;
mod methods;
mod server;
mod tls;
mod trace;

pub use channel::Channel;
pub use connection::CONNECT_WAIT;
pub use deadline::{DEFAULT_DEADLINE, with_deadline};
pub use endpoint::Endpoint;
pub use error::Error;
pub use health::{Health, health};
pub use identity::{Identity, caller};
pub use server::{Listener, ServerAuth, check, serve};
pub use tls::{ClientTls, ServerTls, Tls, TlsFiles};

use bytes::Bytes;

/// The most bytes of rows or contents in one answer; lists that are longer come in pages.
pub const PAGE_BYTES: usize = 1 << 20;

/// Contents up to this many bytes ride inside the request; larger ones are uploaded first.
pub const INLINE_CONTENT_BYTES: usize = 256 << 10;

/// Octets of an idempotency key: as many as make a collision among all keys ever made unlikely.
const KEY_BYTES: usize = 16;

/// A new random idempotency key, one for each transaction: repeating a change with its key answers what the first
/// attempt answered.
#[must_use]
pub fn key() -> Bytes {
    Bytes::copy_from_slice(&rand::random::<[u8; KEY_BYTES]>())
}
