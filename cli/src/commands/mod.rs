//! The commands, one file each.

pub mod config;
pub mod help;
pub mod localserve;
pub mod logins;
pub mod loglevels;
pub mod passwords;
pub mod queue;
pub mod quickstart;
pub mod repair;
pub mod serve;
pub mod stop;
pub mod version;
