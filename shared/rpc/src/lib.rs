//! mox-rpc.
