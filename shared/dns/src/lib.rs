//! mox-dns.
