//! mox-service.
