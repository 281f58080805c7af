//! Connecting through a SOCKS5 proxy (RFC 1928), without authentication.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN_NAME: u8 = 3;
const IPV6: u8 = 4;

/// Asks the proxy at the other end of `stream` to connect to `target`. What follows on the stream is the target's.
///
/// # Errors
/// If the proxy refuses, or is none.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, target: SocketAddr) -> io::Result<()> {
    stream.write_all(&[VERSION, 1, NO_AUTHENTICATION]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen[0] != VERSION {
        return Err(io::Error::other("what answers is not a SOCKS5 proxy"));
    }
    if chosen[1] != NO_AUTHENTICATION {
        return Err(io::Error::other(
            "SOCKS proxy wants authentication, which is not supported",
        ));
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match target.ip() {
        IpAddr::V4(ip) => {
            request.push(IPV4);
            request.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(IPV6);
            request.extend_from_slice(&ip.octets());
        }
    }
    request.extend_from_slice(&target.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[0] != VERSION {
        return Err(io::Error::other("what answers is not a SOCKS5 proxy"));
    }
    if head[1] != 0 {
        return Err(refusal(head[1]));
    }
    // The address that the proxy uses, and its port: nobody needs them, but they are in the way.
    let rest = match head[3] {
        IPV4 => 4,
        IPV6 => 16,
        DOMAIN_NAME => usize::from(stream.read_u8().await?),
        _ => return Err(io::Error::other("SOCKS proxy answered with an unknown kind of address")),
    };
    let mut address = [0; 255 + 2];
    stream.read_exact(&mut address[..rest + 2]).await?;
    Ok(())
}

/// RFC 1928 §6.
fn refusal(code: u8) -> io::Error {
    let (kind, what) = match code {
        1 => (io::ErrorKind::Other, "general failure"),
        2 => (io::ErrorKind::PermissionDenied, "connection not allowed by its rules"),
        3 => (io::ErrorKind::NetworkUnreachable, "network unreachable"),
        4 => (io::ErrorKind::HostUnreachable, "host unreachable"),
        5 => (io::ErrorKind::ConnectionRefused, "connection refused"),
        6 => (io::ErrorKind::TimedOut, "time to live expired"),
        8 => (io::ErrorKind::Unsupported, "kind of address not supported"),
        _ => (io::ErrorKind::Other, "unknown error"),
    };
    io::Error::new(kind, format!("SOCKS proxy: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn against(answer: &[u8], target: &str) -> (io::Result<()>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(answer).await.unwrap();
        let result = connect(&mut ours, target.parse().unwrap()).await;
        drop(ours);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        (result, sent)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect() {
        let (result, sent) = against(&[5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80], "192.0.2.1:25").await;
        result.unwrap();
        assert_eq!(sent, [5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 25]);
        let (result, sent) = against(&[5, 0, 5, 0, 0, 3, 1, b'x', 0, 80], "[2001:db8::1]:25").await;
        result.unwrap();
        assert_eq!(sent[6], IPV6);
    }

    #[tokio::test]
    async fn refusals_and_others_are_errors() {
        let (result, _) = against(&[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0], "192.0.2.1:25").await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        for bad in [&b"HTTP/1.1"[..], &[5, 2], &[5, 0, 5, 0, 0, 9, 0, 0]] {
            assert!(against(bad, "192.0.2.1:25").await.0.is_err());
        }
    }
}
