//! The PROXY header, versions 1 and 2, by which a proxy says who its client is: a parser without I/O.
//!
//! Source: "The PROXY protocol", versions 1 and 2, of haproxy.
//!
//! What follows the header is the client's, so nothing of it may be read: [`step`] says how many octets are to be read
//! next, until the header is there.
//!
//! ```
//! use mox_proxy_header::{Step, step};
//!
//! let mut stream = &b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25\r\nEHLO x\r\n"[..];
//! let mut header = Vec::new();
//! let addresses = loop {
//!     match step(&header).unwrap() {
//!         Step::Read(more) => {
//!             let (read, rest) = stream.split_at(more);
//!             header.extend_from_slice(read);
//!             stream = rest;
//!         }
//!         Step::Done(addresses) => break addresses,
//!     }
//! };
//! assert_eq!(addresses.unwrap().client, "192.0.2.1:4711".parse().unwrap());
//! assert_eq!(stream, b"EHLO x\r\n");
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Version 1: "107 bytes including the CRLF".
pub const V1_MAX: usize = 107;

/// Version 2: what starts each header.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, after the signature: version and command, family, length.
const V2_HEAD: usize = 4;

/// Version 2: addresses, and additions (TLV) of which none is of use here; so bounded though the field could say 64 KiB.
pub const V2_MAX: usize = 4096;

/// Who connected to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub client: SocketAddr,
    /// Where it connected to: an address of the proxy.
    pub server: SocketAddr,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read so many more octets, and not one more.
    Read(usize),
    /// The header is complete. It names no addresses if the proxy connects for itself, as for health checks, or does not
    /// know them; then those of the connection count.
    Done(Option<Addresses>),
}

/// It is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There is something else.
    #[error("it is missing, though this address is in proxy_networks")]
    Missing,
    /// Version 1 is one short line.
    #[error("its line is longer than {V1_MAX} octets")]
    LineTooLong,
    /// Version 2 says that it is longer than what is read.
    #[error("it is longer than {V2_MAX} octets")]
    TooLong,
    /// The line does not say what it should.
    #[error("its line is malformed")]
    Malformed,
    /// A version or command that there is none of.
    #[error("it has an unknown version or command")]
    Unknown,
    /// Addresses of something else than TCP.
    #[error("it is not about TCP")]
    NotTcp,
    /// Not all of the addresses are there.
    #[error("it is too short for its addresses")]
    TooShort,
}

/// Looks at what was read so far: nothing at first, then what the steps asked for.
///
/// # Errors
/// If it is no header. The connection is of no use then: nothing tells where the client's octets begin.
pub fn step(header: &[u8]) -> Result<Step, HeaderError> {
    if let Some(rest) = header.strip_prefix(&V2_SIGNATURE) {
        return v2(rest);
    }
    if header.len() < V2_SIGNATURE.len() {
        // The shortest line of version 1, "PROXY UNKNOWN", is longer than the signature.
        return Ok(Step::Read(V2_SIGNATURE.len() - header.len()));
    }
    if !header.starts_with(b"PROXY ") {
        return Err(HeaderError::Missing);
    }
    match header.strip_suffix(b"\r\n") {
        Some(line) if header.len() <= V1_MAX => v1(line).map(Step::Done),
        // A byte at a time, as what follows the line is not ours.
        None if header.len() < V1_MAX => Ok(Step::Read(1)),
        _ => Err(HeaderError::LineTooLong),
    }
}

fn v1(line: &[u8]) -> Result<Option<Addresses>, HeaderError> {
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows is to be ignored.
        return Ok(None);
    }
    let mut ip = || -> Option<IpAddr> {
        let ip: IpAddr = words.next()?.parse().ok()?;
        (ip.is_ipv4() == (family == Some("TCP4"))).then_some(ip)
    };
    let (client, server) = (ip(), ip());
    let mut port = || words.next()?.parse::<u16>().ok();
    let (client_port, server_port) = (port(), port());
    match (family, client, server, client_port, server_port, words.next()) {
        (Some("TCP4" | "TCP6"), Some(client), Some(server), Some(client_port), Some(server_port), None) => {
            Ok(Some(Addresses {
                client: SocketAddr::new(client, client_port),
                server: SocketAddr::new(server, server_port),
            }))
        }
        _ => Err(HeaderError::Malformed),
    }
}

fn v2(rest: &[u8]) -> Result<Step, HeaderError> {
    let Some((&[command, family, high, low], body)) = rest.split_first_chunk::<V2_HEAD>() else {
        return Ok(Step::Read(V2_HEAD - rest.len()));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(HeaderError::TooLong);
    }
    if body.len() < length {
        return Ok(Step::Read(length - body.len()));
    }
    match command {
        // LOCAL: the proxy's own connection.
        0x20 => return Ok(Step::Done(None)),
        0x21 => {}
        _ => return Err(HeaderError::Unknown),
    }
    let port = |at: usize| {
        body.get(at..at + 2)
            .and_then(|b| Some(u16::from_be_bytes(b.try_into().ok()?)))
    };
    let v4 = |at: usize| {
        body.get(at..at + 4)
            .and_then(|b| Some(Ipv4Addr::from(<[u8; 4]>::try_from(b).ok()?).into()))
    };
    let v6 = |at: usize| {
        body.get(at..at + 16)
            .and_then(|b| Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?).into()))
    };
    let (client, server, client_port, server_port): (Option<IpAddr>, Option<IpAddr>, _, _) = match family {
        0x11 => (v4(0), v4(4), port(8), port(10)),
        0x21 => (v6(0), v6(16), port(32), port(34)),
        // Unspecified, and a socket of the proxy's own host: to be accepted, without addresses.
        0x00 | 0x31 => return Ok(Step::Done(None)),
        _ => return Err(HeaderError::NotTcp),
    };
    match (client, server, client_port, server_port) {
        (Some(client), Some(server), Some(client_port), Some(server_port)) => Ok(Step::Done(Some(Addresses {
            client: SocketAddr::new(client, client_port),
            server: SocketAddr::new(server, server_port),
        }))),
        _ => Err(HeaderError::TooShort),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Said = Result<Option<Addresses>, HeaderError>;

    /// What the header says, and what follows it. Too little is no error: more would be waited for.
    fn run(mut input: &[u8]) -> Option<(Said, &[u8])> {
        let mut header = Vec::new();
        loop {
            match step(&header) {
                Ok(Step::Read(more)) => {
                    assert!(more > 0 && header.len() + more <= 16 + V2_MAX);
                    let (read, rest) = input.split_at_checked(more)?;
                    header.extend_from_slice(read);
                    input = rest;
                }
                Ok(Step::Done(addresses)) => return Some((Ok(addresses), input)),
                Err(error) => return Some((Err(error), input)),
            }
        }
    }

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0, 25];

    #[test]
    fn both_versions_name_the_client_and_leave_the_rest() {
        let expected = Some(Addresses {
            client: "192.0.2.1:4711".parse().unwrap(),
            server: "198.51.100.1:25".parse().unwrap(),
        });
        let rest = &b"EHLO x\r\n"[..];
        assert_eq!(
            run(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25\r\nEHLO x\r\n"),
            Some((Ok(expected), rest))
        );
        let plain = [&v2_header(0x21, 0x11, &IPV4)[..], rest].concat();
        assert_eq!(run(&plain), Some((Ok(expected), rest)));
        // With a TLV, as haproxy sends for send-proxy-v2-ssl.
        let body = [&IPV4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
        let with_tlv = [&v2_header(0x21, 0x11, &body)[..], rest].concat();
        assert_eq!(run(&with_tlv), Some((Ok(expected), rest)));

        let client = |input: &[u8]| run(input).unwrap().0.unwrap().unwrap().client;
        assert_eq!(
            client(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
            "[2001:db8::1]:1".parse().unwrap()
        );
        let mut body = [0; 36];
        (body[15], body[33]) = (1, 7);
        assert_eq!(client(&v2_header(0x21, 0x21, &body)), "[::1]:7".parse().unwrap());
    }

    #[test]
    fn a_proxy_can_speak_for_itself() {
        for input in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
            v2_header(0x20, 0x00, &[]),
            v2_header(0x20, 0x11, &IPV4),
            v2_header(0x21, 0x00, &[1, 2, 3]),
            v2_header(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(run(&input), Some((Ok(None), &b""[..])), "{input:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [&b"PROXY "[..], &[b'x'; 200]].concat();
        let longest = [&b"PROXY UNKNOWN "[..], &[b'x'; 91], b"\r\n"].concat();
        assert_eq!(longest.len(), V1_MAX);
        assert!(run(&longest).unwrap().0.is_ok());
        let mut huge = v2_header(0x21, 0x11, &IPV4);
        huge[14] = 0xff;
        for (input, error) in [
            (&b"EHLO example.org\r\n"[..], HeaderError::Missing),
            (b"PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 70000\r\n", HeaderError::Malformed),
            (b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n", HeaderError::Malformed),
            (&long, HeaderError::LineTooLong),
            (&huge, HeaderError::TooLong),
            (&v2_header(0x11, 0x11, &IPV4), HeaderError::Unknown),
            (&v2_header(0x22, 0x11, &IPV4), HeaderError::Unknown),
            (&v2_header(0x21, 0x12, &IPV4), HeaderError::NotTcp),
            (&v2_header(0x21, 0x11, &IPV4[..11]), HeaderError::TooShort),
        ] {
            assert_eq!(run(input).map(|(got, _)| got), Some(Err(error)), "{input:?}");
        }
        assert_eq!(run(b"short"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..3) {
            let start = [&b""[..], b"PROXY ", &V2_SIGNATURE][start as usize];
            let _ = run(&[start, &bytes].concat());
        }
    }
}
