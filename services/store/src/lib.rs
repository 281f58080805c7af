//! mox-store.
