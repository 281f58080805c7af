//! The commands, one file each.

pub mod backup;
pub mod cid;
pub mod config;
pub mod dane;
pub mod dkim;
pub mod dmarc;
pub mod dns;
pub mod dnsbl;
pub mod export;
pub mod help;
pub mod import;
pub mod localserve;
pub mod logins;
pub mod loglevels;
pub mod message;
pub mod mtasts;
pub mod passwords;
pub mod queue;
pub mod quickstart;
pub mod repair;
pub mod sendmail;
pub mod serve;
pub mod spf;
pub mod stop;
pub mod verifydata;
pub mod version;
