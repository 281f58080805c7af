//! Store: keeps every durable byte of the system.

pub mod account;
pub mod auth;
pub mod content;
pub mod delivery;
pub mod engine;
pub mod idempotency;
pub mod keys;
pub mod mail;
pub mod queue;
pub mod registry;
