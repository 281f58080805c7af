//! mox-spool.
