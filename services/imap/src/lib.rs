//! mox-imap.
