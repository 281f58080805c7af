//! The text of a policy (RFC 8461 §3.2).

use std::fmt;
use std::time::Duration;

/// Seconds that a policy is kept at most (RFC 8461 §3.2: about a year).
const MAX_AGE: u64 = 31_557_600;
/// Patterns of hosts in a policy.
const PATTERNS_MAX: usize = 1000;

/// What is to be done about hosts that are not as the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They get no mail.
    Enforce,
    /// They are reported.
    Testing,
    /// Nothing: there is no policy any more.
    None,
}

impl Mode {
    /// As in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What is to be done.
    pub mode: Mode,
    /// How long it is good for, from when it was fetched.
    pub max_age: Duration,
    /// Hosts that take the domain's mail, in lower case, as A-labels: names, or "*." and the end of names.
    pub mx: Vec<String>,
}

/// Text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is not UTF-8.
    #[error("it is not text in UTF-8")]
    Text,
    /// A line without a name and a value.
    #[error("{0:?} is not a name and a value")]
    Line(String),
    /// It has no version, or another one.
    #[error("it does not say \"version: STSv1\"")]
    Version,
    /// It has no mode, or another one.
    #[error("its mode is not enforce, testing or none")]
    Mode,
    /// It has no age, or none that is a number.
    #[error("its max_age is not a number of seconds, of 10 digits at most")]
    MaxAge,
    /// It has no host, or one that is none.
    #[error("it names no hosts that take mail, or {0:?}, which is none")]
    Mx(String),
}

impl Policy {
    /// From a text.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::Text)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim_matches([' ', '\t']).is_empty() {
                continue;
            }
            let shown = || line.chars().take(64).collect::<String>();
            let (name, value) = line.split_once(':').ok_or_else(|| PolicyError::Line(shown()))?;
            let (name, value) = (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
            // RFC 8461 §3.2: of fields that are not to be repeated, the first counts; unknown ones are passed over.
            match name {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" if mx.len() < PATTERNS_MAX => {
                    mx.push(pattern(value).ok_or_else(|| PolicyError::Mx(value.chars().take(64).collect()))?);
                }
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError::Mode),
        };
        let digits = max_age.filter(|a| (1..=10).contains(&a.len()) && a.bytes().all(|b| b.is_ascii_digit()));
        let seconds: u64 = digits.and_then(|a| a.parse().ok()).ok_or(PolicyError::MaxAge)?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::Mx(String::new()));
        }
        Ok(Self {
            mode,
            max_age: Duration::from_secs(seconds.min(MAX_AGE)),
            mx,
        })
    }

    /// Whether a host may take the domain's mail (RFC 8461 §4.1).
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            // One label, as in certificates (RFC 6125 §6.4.3).
            Some(end) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == end),
            None => host == *pattern,
        })
    }

    /// Its lines, as reports quote them (RFC 8460 §4.4).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode)];
        lines.extend(self.mx.iter().map(|mx| format!("mx: {mx}")));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| write!(f, "{line}\r\n"))
    }
}

/// A name, or "*." and the end of names. RFC 8461 §3.2 has A-labels; a final dot occurs, and means nothing.
fn pattern(value: &str) -> Option<String> {
    let value = value.trim_end_matches('.').to_ascii_lowercase();
    let name = value.strip_prefix("*.").unwrap_or(&value);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net.\r\nmax_age: 604800\r\n";

    #[test]
    fn policies_are_read() {
        let policy = Policy::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.max_age.as_secs(), 604_800);
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net"]);
        // Line ends of the system, no last one, fields that nobody knows, fields twice.
        let loose =
            "version:STSv1\nmode:\ttesting \nmode: none\nx-new: a:b\n\nmx:a.example\nmax_age: 9999999999\nversion: 2";
        let policy = Policy::parse(loose.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Testing, MAX_AGE));
        assert!(
            Policy::parse(b"version: STSv1\nmode: none\nmax_age: 1")
                .unwrap()
                .mx
                .is_empty()
        );
    }

    #[test]
    fn what_is_none_is_told_apart() {
        for (text, want) in [
            (&b"\xff"[..], PolicyError::Text),
            (b"", PolicyError::Version),
            (b"<html>\n", PolicyError::Line("<html>".into())),
            (b"version: STSv2\nmode: none\nmax_age: 1", PolicyError::Version),
            (b"version: STSv1\nmode: strict\nmax_age: 1", PolicyError::Mode),
            (b"version: STSv1\nmode: none", PolicyError::MaxAge),
            (b"version: STSv1\nmode: none\nmax_age: 12345678901", PolicyError::MaxAge),
            (b"version: STSv1\nmode: none\nmax_age: -1", PolicyError::MaxAge),
            (
                b"version: STSv1\nmode: enforce\nmax_age: 1",
                PolicyError::Mx(String::new()),
            ),
            (
                b"version: STSv1\nmode: enforce\nmx: a..b\nmax_age: 1",
                PolicyError::Mx("a..b".into()),
            ),
            (
                b"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1",
                PolicyError::Mx("*".into()),
            ),
        ] {
            assert_eq!(Policy::parse(text), Err(want));
        }
    }

    #[test]
    fn a_star_is_one_label() {
        let policy = Policy::parse(GOOD.as_bytes()).unwrap();
        for host in [
            "mail.example.com",
            "MAIL.example.com.",
            "a.example.net",
            "x-1.EXAMPLE.net",
        ] {
            assert!(policy.matches(host), "{host}");
        }
        for host in [
            "example.com",
            "a.mail.example.com",
            "example.net",
            "a.b.example.net",
            ".example.net",
            "",
        ] {
            assert!(!policy.matches(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in "((version|mode|mx|max_age|x): ?[a-zA-Z0-9.*]{0,12}\r?\n){0,6}",
        ) {
            let _ = Policy::parse(&bytes);
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
            }
        }

        #[test]
        fn what_is_written_is_read(
            mode in prop_oneof![Just(Mode::Enforce), Just(Mode::Testing), Just(Mode::None)],
            age in 0..=MAX_AGE,
            mx in proptest::collection::vec("(\\*\\.)?[a-z0-9]{1,5}(\\.[a-z]{2,4}){1,2}", 1..5),
        ) {
            let policy = Policy { mode, max_age: Duration::from_secs(age), mx };
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy.clone()));
            for mx in &policy.mx {
                prop_assert!(policy.matches(&mx.replace('*', "label")));
            }
        }
    }
}
