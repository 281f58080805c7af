//! mox-control.
