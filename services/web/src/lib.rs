//! mox-web.
