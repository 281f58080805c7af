//! Loopback addresses. All of 127.0.0.0/8 is this host's, so that every system gets an address of its own, and keeps
//! the usual ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// An address of 127.0.0.0/8 on which nothing listens.
///
/// # Panics
/// If none is free, which can't be with 4 million of them.
#[must_use]
pub fn free_ip() -> IpAddr {
    for _ in 0..1000 {
        let [a, b, c] = rand::random::<[u8; 3]>();
        let ip = IpAddr::from(Ipv4Addr::new(127, 64 + a % 63, b, 1 + c % 254));
        // The port that all systems use: whoever has it, has the address.
        if TcpListener::bind((ip, 1025)).is_ok() {
            return ip;
        }
    }
    panic!("no loopback address is free");
}

/// Whether something accepts connections there.
#[must_use]
pub fn port_accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
