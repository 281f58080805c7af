//! mox-smtp-in.
