//! Accounts and the committed configuration.
