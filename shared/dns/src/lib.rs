//! Asking DNS: one [`Resolver`] trait whose answers and errors carry their DNSSEC status.
//!
//! [`SystemResolver`] asks real servers: it validates DNSSEC itself, or believes the AD bit of a trusted local resolver.
//! [`ZoneResolver`] answers from a zone in memory, for tests. [`mail_hosts`] finds the hosts that take mail for a domain
//! (RFC 5321 §5.1, RFC 7505).
//!
//! Names are absolute, as A-labels, with or without the trailing dot: there is no search list.

mod error;
mod mail;
mod record;
mod resolver;
mod system;
mod zone;

pub use error::{Error, Reason};
pub use mail::{MailHost, MailHosts, MailHostsError, host_addresses, mail_hosts};
pub use record::{Answer, Mx, Record, RecordType, Srv, Status, Tlsa};
pub use resolver::{Resolver, reverse_name};
pub use system::{Settings, SettingsError, SystemResolver};
pub use zone::{ZoneError, ZoneResolver};
