//! The Authentication-Results header field (RFC 8601): what was found out, for who reads the message.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use mox_dns::Status;

use crate::message::Verdicts;
use crate::{arc, dkim, dmarc, iprev, spf};

/// What was found out about a message and its host.
#[derive(Debug, Clone)]
pub struct Results<'a> {
    /// Who says so: our host name (RFC 8601 §2.5).
    pub authserv_id: &'a str,
    /// The host.
    pub ip: IpAddr,
    /// About its address, if that was looked up.
    pub iprev: Option<&'a iprev::Verdict>,
    /// About the name in EHLO, which is beside it.
    pub helo: Option<(&'a spf::Verdict, &'a str)>,
    /// About MAIL FROM, which is beside it.
    pub mail_from: Option<(&'a spf::Verdict, &'a str)>,
    /// About the message.
    pub message: &'a Verdicts,
}

/// Most octets of a reason or a value: a line has 998 (RFC 5322 §2.1.1).
const VALUE_BYTES: usize = 300;

impl fmt::Display for Results<'_> {
    /// The field, folded, with its line ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authentication-Results: {}", value(self.authserv_id))?;
        let mut any = false;
        let mut begin = |f: &mut fmt::Formatter<'_>, method: &str, outcome: &str| {
            any = true;
            write!(f, ";\r\n\t{method}={outcome}")
        };
        if let Some(verdict) = self.iprev {
            begin(f, "iprev", verdict.outcome.as_str())?;
            dnssec(f, verdict.status)?;
            write!(f, " policy.iprev={}", value(&self.ip.to_canonical().to_string()))?;
            if let Some(name) = verdict.names.first() {
                write!(f, " ({})", comment(name))?;
            }
        }
        for verdict in &self.message.dkim {
            begin(f, "dkim", verdict.outcome.as_str())?;
            write_dkim(f, verdict)?;
        }
        if self.message.dkim.is_empty() {
            begin(f, "dkim", dkim::Outcome::None.as_str())?;
        }
        if let Some((verdict, name)) = self.helo {
            begin(f, "spf", verdict.outcome.as_str())?;
            write_spf(f, verdict)?;
            write!(f, " smtp.helo={}", value(name))?;
        }
        if let Some((verdict, address)) = self.mail_from {
            begin(f, "spf", verdict.outcome.as_str())?;
            write_spf(f, verdict)?;
            write!(f, " smtp.mailfrom={}", value(address))?;
        }
        let dmarc = &self.message.dmarc;
        begin(f, "dmarc", dmarc.outcome.as_str())?;
        write_dmarc(f, dmarc)?;
        if self.message.arc.outcome != dkim::Outcome::None {
            begin(f, "arc", self.message.arc.outcome.as_str())?;
            write_arc(f, &self.message.arc)?;
        }
        if !any {
            f.write_str("; none")?;
        }
        f.write_str("\r\n")
    }
}

fn dnssec(f: &mut fmt::Formatter<'_>, status: Status) -> fmt::Result {
    let with = if status == Status::Secure { "with" } else { "without" };
    write!(f, " ({with} dnssec)")
}

fn reason(f: &mut fmt::Formatter<'_>, problem: Option<&String>) -> fmt::Result {
    match problem {
        Some(problem) => write!(f, "\r\n\t reason={}", quoted(problem)),
        None => Ok(()),
    }
}

fn write_dkim(f: &mut fmt::Formatter<'_>, verdict: &dkim::Verdict) -> fmt::Result {
    if verdict.domain.is_empty() {
        return reason(f, verdict.problem.as_ref());
    }
    dnssec(f, verdict.status)?;
    reason(f, verdict.problem.as_ref())?;
    write!(
        f,
        "\r\n\t header.d={} header.s={} header.a={}",
        value(&verdict.domain),
        value(&verdict.selector),
        verdict.algorithm
    )?;
    // RFC 6008.
    write!(f, " header.b={}", value(&verdict.signature))
}

fn write_spf(f: &mut fmt::Formatter<'_>, verdict: &spf::Verdict) -> fmt::Result {
    dnssec(f, verdict.status)?;
    if let Some(mechanism) = &verdict.mechanism {
        write!(f, " ({})", comment(mechanism))?;
    }
    reason(f, verdict.problem.as_ref())?;
    f.write_str("\r\n\t")
}

fn write_dmarc(f: &mut fmt::Formatter<'_>, verdict: &dmarc::Verdict) -> fmt::Result {
    if verdict.domain.is_empty() {
        return Ok(());
    }
    dnssec(f, verdict.status)?;
    write!(f, "\r\n\t header.from={}", value(&verdict.domain))?;
    if verdict.record.is_some() {
        // RFC 9989 has the policy as a property of its own.
        write!(f, " policy.dmarc={}", verdict.policy.as_str())?;
    }
    Ok(())
}

fn write_arc(f: &mut fmt::Formatter<'_>, verdict: &arc::Verdict) -> fmt::Result {
    reason(f, verdict.problem.as_ref())?;
    if let Some(last) = verdict.sealed.first() {
        write!(f, "\r\n\t header.oldest-pass=0 (sealed by {})", comment(&last.sealer))?;
    }
    Ok(())
}

/// RFC 8601 §2.2: a value is a token (RFC 2045 §5.1), an address or a quoted string.
fn value(text: &str) -> String {
    let token = |b: u8| matches!(b, b'!'..=b'~') && !b"()<>,;:\\\"/[]?=".contains(&b);
    if !text.is_empty() && text.len() <= VALUE_BYTES && text.bytes().all(token) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                let _ = write!(out, "\\{c}");
            }
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
        if out.len() >= VALUE_BYTES {
            break;
        }
    }
    out.push('"');
    out
}

/// Text within parentheses (RFC 5322 §3.2.2).
fn comment(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(VALUE_BYTES) {
        match c {
            '(' | ')' | '\\' => {
                let _ = write!(out, "\\{c}");
            }
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// Whether a header field is Authentication-Results of `authserv_id`: one that came with the message is a forgery, and
/// has to be removed (RFC 8601 §5). `value` is what follows the colon.
#[must_use]
pub fn is_from(value: &str, authserv_id: &str) -> bool {
    let mut rest = value.trim_start();
    // CFWS before the identifier.
    while let Some(after) = rest.strip_prefix('(') {
        let mut depth = 1usize;
        let mut escaped = false;
        let end = after.char_indices().find(|&(_, c)| {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        match end {
            Some((i, _)) => rest = after[i + 1..].trim_start(),
            // What can't be read might be read by others as ours.
            None => return true,
        }
    }
    let id: String = match rest.strip_prefix('"') {
        Some(rest) => {
            let mut escaped = false;
            let body = rest.chars().take_while(|&c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                !end
            });
            body.filter(|c| *c != '\\').collect()
        }
        None => rest
            .chars()
            .take_while(|c| !c.is_whitespace() && !matches!(c, ';' | '('))
            .collect(),
    };
    // RFC 8601 §2.5: with internationalized mail, it may be written with U-labels.
    id.eq_ignore_ascii_case(authserv_id)
        || id
            .parse::<mox_types::Domain>()
            .is_ok_and(|domain| domain.ascii().eq_ignore_ascii_case(authserv_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_fields_are_recognized() {
        for value in [
            " mail.example.net; spf=pass",
            "\tMAIL.example.net;\r\n\tspf=pass",
            " mail.example.net 1; none",
            " (a (b) \\) c) mail.example.net; spf=pass",
            " \"mail.example.net\"; spf=pass",
            " (not closed",
        ] {
            assert!(is_from(value, "mail.example.net"), "{value:?}");
        }
        for value in [
            " other.example; spf=pass mail.example.net",
            " b\u{fc}cher.example; spf=pass",
            "",
            " xmail.example.net; none",
        ] {
            assert!(!is_from(value, "mail.example.net"), "{value:?}");
        }
    }

    #[test]
    fn a_name_is_ours_with_either_kind_of_labels() {
        for value in [" b\u{fc}cher.example; spf=pass", " XN--bcher-kva.example"] {
            assert!(is_from(value, "xn--bcher-kva.example"), "{value:?}");
        }
    }

    #[test]
    fn a_field_has_all_methods() {
        let verdicts = Verdicts {
            dkim: vec![dkim::Verdict {
                outcome: dkim::Outcome::Pass,
                domain: "example.org".into(),
                selector: "s1".into(),
                algorithm: "rsa-sha256",
                signature: "abc+/123".into(),
                status: Status::Secure,
                ..dkim::Verdict::default()
            }],
            ..Verdicts::default()
        };
        let spf = spf::Verdict {
            outcome: spf::Outcome::Pass,
            mechanism: Some("ip4:192.0.2.1".into()),
            ..spf::Verdict::default()
        };
        let field = Results {
            authserv_id: "mail.example.net",
            ip: "192.0.2.1".parse().unwrap(),
            iprev: None,
            helo: None,
            mail_from: Some((&spf, "joe@example.org")),
            message: &verdicts,
        };
        assert_eq!(
            field.to_string(),
            "Authentication-Results: mail.example.net;\r\n\tdkim=pass (with dnssec)\r\n\t header.d=example.org \
             header.s=s1 header.a=rsa-sha256 header.b=\"abc+/123\";\r\n\tspf=pass (without dnssec) (ip4:192.0.2.1)\
             \r\n\t smtp.mailfrom=joe@example.org;\r\n\tdmarc=none\r\n"
        );
    }
}
