//! mox-sasl.
