//! The contracts between the processes, as generated from `mox/<area>/v1/*.proto`.
//!
//! The `.proto` files are the documentation: each call, message and field is described there.
#![allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]

/// Mailboxes and messages of one account.
pub mod mail {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.mail.v1");
    }
}
/// SASL exchanges and session tokens.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.auth.v1");
    }
}
/// Incoming mail.
pub mod delivery {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.delivery.v1");
    }
}
/// Submission and the outgoing queue.
pub mod queue {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.queue.v1");
    }
}
/// Webhooks.
pub mod hook {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.hook.v1");
    }
}
/// The committed configuration and the registry of accounts.
pub mod config {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.config.v1");
    }
}
/// Administration of the whole.
pub mod control {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.control.v1");
    }
}
/// Administration of what the store keeps.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.admin.v1");
    }
}
/// Administration of one process.
pub mod node {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.node.v1");
    }
}
/// What is remembered of how far TLS with others can be trusted.
pub mod policy {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.policy.v1");
    }
}
/// Reports of DMARC and TLS.
pub mod report {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.report.v1");
    }
}
/// What the store keeps.
pub mod record {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mox.record.v1");
    }
}
