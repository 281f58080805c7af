//! Starts the real binaries on loopback, in both shapes, for scenarios that drive them with real clients.
//!
//! - [`Mox`] is one running system: [`Shape::Single`] is `mox localserve`, [`Shape::Pieces`] is all eight services as
//!   processes of their own, with a NATS server. Everything of it listens on a loopback address that no other has, at
//!   the usual ports, and lives in a temporary folder.
//! - [`abuse`] sends what nobody should.
//! - [`client`] has a line-wise SMTP and IMAP client, for what real clients would not do, and runs the real ones.
//! - [`wait`] waits for conditions, with deadlines; nothing sleeps for a fixed time to be lucky.
//! - [`lock`] keeps heavy scenarios apart.
//!
//! With `MOX_KEEP` set, the temporary folders stay, with the logs of all processes.
//!
//! Processes die with the test that started them: they are killed by their id when dropped, and by the kernel when
//! the test's thread ends in any other way.

pub mod abuse;
pub mod client;
mod dns;
pub mod lock;
mod mox;
mod network;
mod options;
mod pieces;
mod postfix;
mod process;
mod sink;
mod submitting;
pub mod wait;

pub use dns::Dns;
pub use mox::{Mox, PASSWORD, Shape, USER};
pub use network::{free_ip, port_accepts};
pub use options::Options;
pub use postfix::{Postfix, PostfixSettings};
pub use process::{Process, binary, run};
pub use sink::{Sink, Taken};
pub use submitting::Messages;
