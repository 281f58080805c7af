//! mox-config.
