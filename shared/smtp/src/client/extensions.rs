//! What a server offers, by its answer to EHLO (RFC 5321 §4.1.1.1).

use crate::reply::Reply;

/// Most mechanisms of AUTH that are remembered; a bound of ours.
const MECHANISMS_MAX: usize = 64;

/// The extensions that matter to a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// EHLO was understood: the server has extensions at all.
    pub esmtp: bool,
    /// Largest message in octets (RFC 1870). `Some(0)` is no fixed limit.
    pub size: Option<u64>,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 8689.
    pub requiretls: bool,
    /// Names of mechanisms, in upper case (RFC 4954).
    pub auth: Vec<String>,
    /// Most recipients of one transaction (RFC 9422).
    pub recipients_max: Option<usize>,
    /// Most transactions of one session (RFC 9422).
    pub transactions_max: Option<usize>,
}

impl Extensions {
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut all = Self {
            esmtp: true,
            ..Self::default()
        };
        // The first line is the greeting.
        for line in reply.lines().skip(1) {
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_str() {
                "SIZE" => all.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "PIPELINING" => all.pipelining = true,
                "8BITMIME" => all.eight_bit_mime = true,
                "SMTPUTF8" => all.smtputf8 = true,
                "STARTTLS" => all.starttls = true,
                "DSN" => all.dsn = true,
                "ENHANCEDSTATUSCODES" => all.enhanced_status_codes = true,
                "REQUIRETLS" => all.requiretls = true,
                "AUTH" => all.mechanisms(words),
                "LIMITS" => {
                    for word in words {
                        match word.split_once('=') {
                            Some(("RCPTMAX", n)) => all.recipients_max = n.parse().ok().filter(|&n| n > 0),
                            Some(("MAILMAX", n)) => all.transactions_max = n.parse().ok().filter(|&n| n > 0),
                            _ => {}
                        }
                    }
                }
                // Before RFC 2554 was settled, servers wrote "AUTH=LOGIN".
                other => {
                    if let Some(first) = other.strip_prefix("AUTH=") {
                        all.mechanisms(std::iter::once(first).chain(words));
                    }
                }
            }
        }
        all
    }

    fn mechanisms<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words.map(str::to_ascii_uppercase) {
            if self.auth.len() < MECHANISMS_MAX && !self.auth.contains(&word) {
                self.auth.push(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_understood() {
        let text = "mail.example.org\nSIZE 1000\npipelining\n8BITMIME\nAUTH PLAIN LOGIN\nAUTH=LOGIN XOAUTH2\nLIMITS RCPTMAX=20 MAILMAX=0\nX";
        let all = Extensions::parse(&Reply::plain(250, text));
        assert_eq!(all.size, Some(1000));
        assert!(all.pipelining && all.eight_bit_mime && !all.smtputf8);
        assert_eq!(all.auth, ["PLAIN", "LOGIN", "XOAUTH2"]);
        assert_eq!((all.recipients_max, all.transactions_max), (Some(20), None));
        // A host that is called like an extension has none.
        assert!(!Extensions::parse(&Reply::plain(250, "STARTTLS")).starttls);
    }
}
