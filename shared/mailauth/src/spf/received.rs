//! The Received-SPF header field (RFC 7208 §9.1).

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::{Outcome, Verdict};

/// Which name was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The domain of MAIL FROM.
    MailFrom,
    /// The name in HELO or EHLO.
    Helo,
}

/// What the field says. `Display` writes it as one field, folded, with its line ends.
#[derive(Debug, Clone)]
pub struct ReceivedSpf<'a> {
    /// What was found out.
    pub verdict: &'a Verdict,
    /// About which name.
    pub identity: Identity,
    /// The host that connected.
    pub ip: IpAddr,
    /// MAIL FROM, or "" for the null reverse-path.
    pub envelope_from: &'a str,
    /// What the host said in EHLO.
    pub helo: &'a str,
    /// Our host name.
    pub receiver: &'a str,
}

impl fmt::Display for ReceivedSpf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.verdict.outcome {
            Outcome::None => "None",
            Outcome::Neutral => "Neutral",
            Outcome::Pass => "Pass",
            Outcome::Fail => "Fail",
            Outcome::SoftFail => "SoftFail",
            Outcome::TempError => "TempError",
            Outcome::PermError => "PermError",
        };
        write!(f, "Received-SPF: {outcome} (")?;
        let dnssec = self.verdict.status == mox_dns::Status::Secure;
        write!(f, "{}", if dnssec { "with" } else { "without" })?;
        write!(f, " dnssec)\r\n\tclient-ip={};", self.ip)?;
        let identity = match self.identity {
            Identity::MailFrom => "mailfrom",
            Identity::Helo => "helo",
        };
        write!(f, "\r\n\tidentity={identity}; receiver={};", value(self.receiver))?;
        write!(f, "\r\n\thelo={};", value(self.helo))?;
        if self.identity == Identity::MailFrom {
            write!(f, "\r\n\tenvelope-from={};", value(self.envelope_from))?;
        }
        if let Some(mechanism) = &self.verdict.mechanism {
            write!(f, "\r\n\tmechanism={};", value(mechanism))?;
        }
        if let Some(problem) = &self.verdict.problem {
            write!(f, "\r\n\tproblem={};", value(problem))?;
        }
        f.write_str("\r\n")
    }
}

/// Most octets of a value: a line has 998 (RFC 5322 §2.1.1).
const VALUE_BYTES: usize = 400;

/// A dot-atom or a quoted string. What neither can hold becomes "?".
fn value(text: &str) -> String {
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let atom = !text.is_empty() && text.bytes().all(atext) && !text.starts_with('.') && !text.ends_with('.');
    if atom && text.len() <= VALUE_BYTES {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                let _ = write!(out, "\\{c}");
            }
            ' '..='~' => out.push(c),
            // RFC 6532 §3.2 for internationalized addresses.
            c if !c.is_control() => out.push(c),
            _ => out.push('?'),
        }
        if out.len() >= VALUE_BYTES {
            break;
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_written() {
        let verdict = Verdict {
            outcome: Outcome::Fail,
            mechanism: Some("-ip4:192.0.2.0/24".into()),
            problem: Some("a \"quoted\"\r\nthing".into()),
            ..Verdict::default()
        };
        let field = ReceivedSpf {
            verdict: &verdict,
            identity: Identity::MailFrom,
            ip: "192.0.2.7".parse().unwrap(),
            envelope_from: "a@example.org",
            helo: "mx.example.org",
            receiver: "mail.example.net",
        };
        assert_eq!(
            field.to_string(),
            "Received-SPF: Fail (without dnssec)\r\n\tclient-ip=192.0.2.7;\r\n\tidentity=mailfrom; \
             receiver=mail.example.net;\r\n\thelo=mx.example.org;\r\n\tenvelope-from=\"a@example.org\";\
             \r\n\tmechanism=\"-ip4:192.0.2.0/24\";\r\n\tproblem=\"a \\\"quoted\\\"??thing\";\r\n"
        );
    }
}
