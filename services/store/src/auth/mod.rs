//! Who may be whom: exchanges, sessions, failed-login limits.
