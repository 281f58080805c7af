//! mox-message.
