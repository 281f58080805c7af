//! `mox config …`

pub mod alias;
pub mod change;
pub mod describe;
pub mod dnsrecords;
pub mod printservice;
pub mod test;
pub mod tlspubkey;
