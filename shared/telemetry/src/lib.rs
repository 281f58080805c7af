//! mox-telemetry.
