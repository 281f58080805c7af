//! PROXY headers: none panics, asks for nothing or for too much, or changes its meaning by what follows.

use mox_proxy_header::{Step, V2_MAX, step};

/// See the top.
pub fn run(input: &[u8]) {
    let (mut header, mut rest) = (Vec::new(), input);
    while let Ok(Step::Read(more)) = step(&header) {
        assert!(more > 0 && header.len() + more <= 16 + V2_MAX);
        let Some((read, left)) = rest.split_at_checked(more) else {
            return;
        };
        header.extend_from_slice(read);
        rest = left;
    }
    if let Ok(Step::Done(Some(addresses))) = step(&header) {
        // Both are of one family, but for IPv4 addresses that are written as IPv6.
        assert_eq!(addresses.client.is_ipv4(), addresses.server.is_ipv4());
    }
}
