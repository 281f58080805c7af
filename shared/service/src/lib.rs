//! The one way to build a service.
//!
//! A service crate has a `Service` with `build(deps)` and `serve(shutdown)`, knows its world only through [`Deps`], and
//! has a `main.rs` of a few lines over [`main`]. The launcher of the single-host shape builds the same services with
//! channels and a bus within its process.
//!
//! What every service shares is here: sockets with their TLS ([`bind`], [`accept`], [`starttls`]), limits on
//! connections, logging in ([`Exchange`]), stopping in two phases ([`Shutdown`]), the current configuration ([`ConfigWatch`]), time ([`Clock`]),
//! and the part of a process that control talks to ([`node`]).

mod accept;
mod cid;
mod clock;
mod config_watch;
mod deps;
mod exchange;
mod limits;
mod node;
mod process;
mod proxy;
mod rates;
mod shutdown;
mod sockets;
mod stream;
mod tls;

pub use accept::{Refusals, accept, accept_all};
pub use cid::CidKey;
pub use clock::{Clock, ManualClock};
pub use config_watch::ConfigWatch;
pub use deps::{Deps, Peers};
pub use exchange::{Attempt, Ended, Exchange, Response, Turn};
pub use limits::{ConnectionLimits, Refused};
pub use node::{Node, node};
pub use process::{Running, Spec, main, on_signals, settings};
pub use rates::{MessageRates, Over};
pub use shutdown::{GRACE, Shutdown, ShutdownTrigger};
pub use sockets::{BindError, Bound, Kind, bind, bind_inherited};
pub use stream::{AsyncReadWrite, BoxStream, ConnInfo, TlsInfo};
pub use tls::{CERTIFICATE_MAX, PublicKeyDigest, TlsAcceptorConfig, TlsError, TlsOptions, public_key_digest, starttls};

/// Of every process, RocksDB's part included: what is freed on one thread and was taken on another is given back to the
/// system, where the C library's keeps it. How it behaves is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
