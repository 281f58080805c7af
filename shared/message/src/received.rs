//! Trace fields (RFC 5321 §4.4).

use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::compose;

/// What a Received field says.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    /// What the peer said in EHLO or HELO.
    pub from: &'a str,
    /// Where it came from.
    pub remote_ip: IpAddr,
    /// Its verified name in the DNS, if known.
    pub remote_name: Option<&'a str>,
    /// This host.
    pub by: &'a str,
    /// The protocol: see [`with`].
    pub with: &'a str,
    /// TLS version and cipher suite.
    pub tls: Option<(&'a str, &'a str)>,
    /// For finding the session in the logs.
    pub id: &'a str,
    /// The recipient, if there is only one.
    pub recipient: Option<&'a str>,
    /// When it was received.
    pub at: SystemTime,
}

/// The protocol's registered name (RFC 3848, RFC 6531 §4.3).
#[must_use]
pub fn with(extended: bool, smtputf8: bool, tls: bool, authenticated: bool) -> &'static str {
    match (extended, smtputf8, tls, authenticated) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, false) => "ESMTPS",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

/// The whole field, folded, with its line end. What a peer gave can't break out of its place.
#[must_use]
pub fn field(r: &Received<'_>) -> String {
    let mut out = format!("Received: from {} (", clean(r.from));
    if let Some(name) = r.remote_name {
        let _ = write!(out, "{} ", clean(name));
    }
    // RFC 5321 §4.1.3: address literals.
    let _ = match r.remote_ip.to_canonical() {
        IpAddr::V4(ip) => write!(out, "[{ip}]"),
        IpAddr::V6(ip) => write!(out, "[IPv6:{ip}]"),
    };
    let _ = write!(out, ")\r\n\tby {} with {}", clean(r.by), clean(r.with));
    if let Some((version, cipher)) = r.tls {
        // RFC 8314 §4.3.
        let _ = write!(out, " tls {} ({})", clean(cipher), clean(version));
    }
    let _ = write!(out, "\r\n\tid {}", clean(r.id));
    if let Some(recipient) = r.recipient {
        let _ = write!(
            out,
            "\r\n\tfor <{}>",
            recipient.replace(|c: char| c.is_control() || "<>".contains(c), "")
        );
    }
    let _ = write!(out, ";\r\n\t{}\r\n", compose::date(r.at));
    out
}

/// One word without what would end it or start a comment.
fn clean(word: &str) -> String {
    let word: String = word
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && !"()<>;\\\"".contains(*c))
        .take(255)
        .collect();
    if word.is_empty() { "unknown".into() } else { word }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_field_is_complete_and_what_peers_say_stays_in_place() {
        let r = Received {
            from: "evil)\r\nX: y",
            remote_ip: "::ffff:10.0.0.1".parse().unwrap(),
            remote_name: Some("host.example"),
            by: "mx.example",
            with: with(true, false, true, false),
            tls: Some(("TLS1.3", "TLS_AES_128_GCM_SHA256")),
            id: "abc",
            recipient: Some("a@b"),
            at: UNIX_EPOCH + Duration::from_secs(1_795_345_200),
        };
        assert_eq!(
            field(&r),
            "Received: from evilX:y (host.example [10.0.0.1])\r\n\tby mx.example with ESMTPS tls TLS_AES_128_GCM_SHA256 \
             (TLS1.3)\r\n\tid abc\r\n\tfor <a@b>;\r\n\tSun, 22 Nov 2026 11:00:00 +0000\r\n"
        );
        assert_eq!(crate::received_count(field(&r).as_bytes()), 1);
        assert_eq!(crate::headers(field(&r).as_bytes()).count(), 1);
    }
}
