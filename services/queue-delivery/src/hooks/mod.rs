//! Webhooks: what accounts want to be told, posted to their receivers.
//!
//! As messages, webhooks are claimed under leases from the store, wait in a lane of their receiver, and the store is told
//! of what became of each attempt. A receiver is known by its host and port: one that hangs or answers slowly holds few
//! of the sessions, and none of the webhooks for others. Its answer is 200 or a failure, whatever else it says; little of
//! it is read, and redirects are not followed, so that nobody but the administrator says where messages go.
//!
//! A receiver may be told the same twice, when its answer was lost or this process ended before the store heard of it:
//! the number of the webhook, which it gets too, says so.

mod caller;
mod client;
mod metrics;
mod outcome;
mod schedule;
mod target;

pub(crate) use caller::{Caller, Inner};
pub(crate) use client::Client;
pub(crate) use metrics::HookMetrics;
pub(crate) use target::Target;
