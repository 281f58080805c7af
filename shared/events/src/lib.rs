//! mox-events.
