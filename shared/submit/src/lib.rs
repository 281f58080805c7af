//! mox-submit.
