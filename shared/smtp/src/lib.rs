//! mox-smtp.
