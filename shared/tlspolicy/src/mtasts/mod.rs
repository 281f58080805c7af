//! MTA-STS: a domain says over HTTPS that, and where, its mail is to be delivered with verified TLS (RFC 8461).
//!
//! A TXT record says that there is a policy, and which ([`Record`]); the policy itself ([`Policy`]) is fetched from a
//! host whose certificate must be valid ([`Fetcher`]), and is good for as long as it says, whatever the record says
//! meanwhile. [`find_record`] and [`Fetcher`] reach outside; keeping policies is the caller's part.

mod fetch;
mod policy;
mod record;

pub use fetch::{Connect, FetchError, Fetched, Fetcher, Stream, host_of};
pub use policy::{Mode, Policy, PolicyError};
pub use record::{LookupError, Record, RecordError, find_record};

/// Octets of a policy. RFC 8461 §3.3 suggests 64 kilobytes.
pub const POLICY_MAX: usize = 64 << 10;
