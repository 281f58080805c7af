//! mox-integration-tests.
