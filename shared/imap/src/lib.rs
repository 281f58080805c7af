//! mox-imap-proto.
