//! The PROXY header, versions 1 and 2, by which a proxy says who its client is.
//!
//! Source: "The PROXY protocol", versions 1 and 2, of haproxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A proxy sends its header at once.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Version 1: "107 bytes including the CRLF".
const V1_MAX: usize = 107;

/// Version 2: what starts each header.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2: addresses, and additions of which none is of use here; so bounded though the field could say 64 KiB.
const V2_MAX: usize = 4096;

/// Who connected to whom, as far as the proxy says: its own health checks come without.
pub(crate) type Addresses = Option<(SocketAddr, SocketAddr)>;

/// Reads the header, and nothing past it.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Addresses> {
    let mut start = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *V2_SIGNATURE {
        return read_v2(stream).await;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= V1_MAX {
            return Err(bad("line too long"));
        }
        // A byte at a time, as what follows is not ours; there are few, and they are in the socket's buffer.
        line.push(stream.read_u8().await?);
    }
    parse_v1(&line)
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PROXY header: {why}"))
}

fn parse_v1(line: &[u8]) -> io::Result<Addresses> {
    let line = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_suffix("\r\n"))
        .ok_or_else(|| bad("not text"))?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(bad("missing, though this address is in proxy_networks"));
    }
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut ip = || -> Option<IpAddr> {
        let ip: IpAddr = words.next()?.parse().ok()?;
        (ip.is_ipv4() == (family == Some("TCP4"))).then_some(ip)
    };
    let (source, destination) = (ip(), ip());
    let mut port = || words.next()?.parse::<u16>().ok();
    let (source_port, destination_port) = (port(), port());
    match (family, source, destination, source_port, destination_port, words.next()) {
        (Some("TCP4" | "TCP6"), Some(from), Some(to), Some(from_port), Some(to_port), None) => {
            Ok(Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
        }
        _ => Err(bad("malformed")),
    }
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Addresses> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version_command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(bad("too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_v2(version_command, family, &rest)
}

fn parse_v2(version_command: u8, family: u8, rest: &[u8]) -> io::Result<Addresses> {
    match version_command {
        // LOCAL: the proxy's own connection.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(bad("unknown version or command")),
    }
    let port = |at: usize| {
        rest.get(at..at + 2)
            .and_then(|b| Some(u16::from_be_bytes(b.try_into().ok()?)))
    };
    let v4 = |at: usize| {
        rest.get(at..at + 4)
            .and_then(|b| Some(Ipv4Addr::from(<[u8; 4]>::try_from(b).ok()?).into()))
    };
    let v6 = |at: usize| {
        rest.get(at..at + 16)
            .and_then(|b| Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?).into()))
    };
    let (from, to, from_port, to_port): (Option<IpAddr>, Option<IpAddr>, _, _) = match family {
        0x11 => (v4(0), v4(4), port(8), port(10)),
        0x21 => (v6(0), v6(16), port(32), port(34)),
        // Unspecified.
        0x00 => return Ok(None),
        _ => return Err(bad("not TCP")),
    };
    match (from, to, from_port, to_port) {
        (Some(from), Some(to), Some(from_port), Some(to_port)) => {
            Ok(Some((SocketAddr::new(from, from_port), SocketAddr::new(to, to_port))))
        }
        _ => Err(bad("too short")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(bytes: &[u8]) -> (io::Result<Addresses>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut input = bytes;
        let result = runtime.block_on(read(&mut input));
        (result, input.to_vec())
    }

    #[test]
    fn both_versions_name_the_client_and_leave_the_rest() {
        let expected = Some(("192.0.2.1:4711".parse().unwrap(), "198.51.100.1:25".parse().unwrap()));
        let (got, rest) = run(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25\r\nEHLO x\r\n");
        assert_eq!((got.unwrap(), &rest[..]), (expected, &b"EHLO x\r\n"[..]));

        let mut v2 = V2_SIGNATURE.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1]);
        v2.extend(4711_u16.to_be_bytes());
        v2.extend(25_u16.to_be_bytes());
        v2.extend(b"EHLO x\r\n");
        let (got, rest) = run(&v2);
        assert_eq!((got.unwrap(), &rest[..]), (expected, &b"EHLO x\r\n"[..]));

        let (got, _) = run(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n");
        assert_eq!(got.unwrap().unwrap().0, "[2001:db8::1]:1".parse().unwrap());
        assert!(run(b"PROXY UNKNOWN\r\n").0.unwrap().is_none());
    }

    #[test]
    fn anything_else_is_refused() {
        let too_long = [b'x'; 200];
        for text in [
            &b"EHLO example.org\r\n"[..],
            b"PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 70000\r\n",
            &too_long,
            b"short",
        ] {
            assert!(run(text).0.is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), v2 in any::<bool>()) {
            let mut input = if v2 { V2_SIGNATURE.to_vec() } else { b"PROXY ".to_vec() };
            input.extend(bytes);
            let _ = run(&input);
        }
    }
}
