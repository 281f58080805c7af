//! mox-acme.
