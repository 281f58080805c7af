//! Parameters of MAIL and RCPT.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ParseError;
use crate::{limits, xtext};

/// BODY (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Lines of ASCII.
    SevenBit,
    /// Lines of any octets.
    EightBitMime,
}

/// RET (RFC 3461 §4.3): how much of the message a failure notification has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its headers.
    Headers,
}

impl Ret {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// FUTURERELEASE (RFC 4865).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: seconds.
    For(u32),
    /// HOLDUNTIL: seconds since 1970.
    Until(i64),
}

impl Hold {
    /// What EHLO says of FUTURERELEASE at a time (seconds since 1970): how many seconds ahead a message can be held, and
    /// until when (RFC 4865 §4).
    #[must_use]
    pub fn announcement(now: i64, longest: u32) -> String {
        let until = OffsetDateTime::from_unix_timestamp(now.saturating_add(longest.into())).ok();
        let until = until.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default();
        format!("FUTURERELEASE {longest} {until}")
    }

    /// When a message is to be released, as seconds since 1970.
    ///
    /// # Errors
    /// If that is further ahead than was announced, or has passed, which is a mistake.
    pub fn release_at(self, now: i64, longest: u32) -> Result<i64, &'static str> {
        let at = match self {
            Self::For(seconds) => now.saturating_add(seconds.into()),
            Self::Until(at) if at < now => return Err("the time to hold the message until has passed"),
            Self::Until(at) => at,
        };
        if at > now.saturating_add(longest.into()) {
            return Err("a message can't be held for so long: see FUTURERELEASE in the reply to EHLO");
        }
        Ok(at)
    }
}

/// AUTH of MAIL (RFC 4954 §5): who submitted the message first, as the client says. Not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthIdentity {
    /// `<>`: unknown.
    Unknown,
    /// An address, not checked further.
    Address(String),
}

/// Parameters of MAIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParams {
    /// SIZE (RFC 1870), octets, an estimate.
    pub size: Option<u64>,
    /// BODY.
    pub body: Option<Body>,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 §4.4), as xtext still, checked.
    pub envid: Option<String>,
    /// AUTH.
    pub auth: Option<AuthIdentity>,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// HOLDFOR or HOLDUNTIL.
    pub hold: Option<Hold>,
}

/// NOTIFY (RFC 3461 §4.1): when the sender wants to be told. All false is NEVER.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notify {
    /// Of delivery.
    pub success: bool,
    /// Of failure.
    pub failure: bool,
    /// Of delay.
    pub delay: bool,
}

/// ORCPT (RFC 3461 §4.2), as it was written, checked: type, ";", xtext or utf-8-addr-xtext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orcpt(String);

/// Parameters of RCPT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub orcpt: Option<Orcpt>,
}

impl Notify {
    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(Self::default());
        }
        let mut notify = Self::default();
        for word in value.split(',') {
            let which = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return None,
            };
            if std::mem::replace(which, true) {
                return None;
            }
        }
        Some(notify)
    }
}

impl std::fmt::Display for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let words: Vec<&str> = words.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
        if words.is_empty() {
            f.write_str("NEVER")
        } else {
            f.write_str(&words.join(","))
        }
    }
}

impl Orcpt {
    /// Checks and keeps.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (kind, address) = value.split_once(';')?;
        let atom = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        if value.len() > limits::ORCPT || kind.is_empty() || !kind.bytes().all(atom) || address.is_empty() {
            return None;
        }
        // RFC 6533 §3: for type utf-8, non-ASCII as it is, or as \x{HEX} in 7 bits.
        let valid = if kind.eq_ignore_ascii_case("utf-8") {
            address.chars().all(|c| c.is_ascii_graphic() || !c.is_ascii())
        } else {
            xtext::decode(address).is_some()
        };
        valid.then(|| Self(value.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Keyword and value of each parameter.
fn parameters(s: &str) -> Result<Vec<(String, Option<&str>)>, ParseError> {
    let mut out: Vec<(String, Option<&str>)> = Vec::new();
    for word in s.split([' ', '\t']).filter(|w| !w.is_empty()) {
        if out.len() == limits::PARAMETERS {
            return Err(ParseError::Syntax("fewer parameters"));
        }
        let (keyword, value) = word.split_once('=').map_or((word, None), |(k, v)| (k, Some(v)));
        out.push((keyword.to_ascii_uppercase(), value));
    }
    Ok(out)
}

/// Puts a value where there is none yet.
fn once<T>(slot: &mut Option<T>, value: Option<T>, name: &'static str) -> Result<(), ParseError> {
    let value = value.ok_or(ParseError::Parameter(name, "the value is not valid"))?;
    if slot.replace(value).is_some() {
        return Err(ParseError::Parameter(name, "it may be given once only"));
    }
    Ok(())
}

fn flag(slot: &mut bool, value: Option<&str>, name: &'static str) -> Result<(), ParseError> {
    match (value, std::mem::replace(slot, true)) {
        (None, false) => Ok(()),
        (Some(_), _) => Err(ParseError::Parameter(name, "it takes no value")),
        (None, true) => Err(ParseError::Parameter(name, "it may be given once only")),
    }
}

impl MailParams {
    pub(super) fn parse(s: &str) -> Result<Self, ParseError> {
        let mut all = Self::default();
        for (keyword, value) in parameters(s)? {
            let text = value.unwrap_or_default();
            match keyword.as_str() {
                "SIZE" => once(&mut all.size, number(text, 20), "SIZE")?,
                "BODY" => {
                    let body = match text.to_ascii_uppercase().as_str() {
                        "7BIT" => Some(Body::SevenBit),
                        "8BITMIME" => Some(Body::EightBitMime),
                        _ => None,
                    };
                    once(&mut all.body, body, "BODY")?;
                }
                "SMTPUTF8" => flag(&mut all.smtputf8, value, "SMTPUTF8")?,
                "REQUIRETLS" => flag(&mut all.requiretls, value, "REQUIRETLS")?,
                "RET" => {
                    let ret = match text.to_ascii_uppercase().as_str() {
                        "FULL" => Some(Ret::Full),
                        "HDRS" => Some(Ret::Headers),
                        _ => None,
                    };
                    once(&mut all.ret, ret, "RET")?;
                }
                "ENVID" => {
                    let valid = !text.is_empty() && text.len() <= limits::ENVID && xtext::decode(text).is_some();
                    once(&mut all.envid, valid.then(|| text.to_owned()), "ENVID")?;
                }
                "AUTH" => {
                    let identity = xtext::decode(text).and_then(|x| String::from_utf8(x).ok());
                    let identity = match identity.filter(|i| !i.is_empty()) {
                        Some(text) if text == "<>" => Some(AuthIdentity::Unknown),
                        Some(text) => Some(AuthIdentity::Address(text)),
                        None => None,
                    };
                    once(&mut all.auth, identity, "AUTH")?;
                }
                // RFC 4865 §4: 9 digits at most, and only one of the two.
                "HOLDFOR" => {
                    let seconds = number(text, 9).and_then(|n| u32::try_from(n).ok());
                    once(&mut all.hold, seconds.map(Hold::For), "HOLDFOR")?;
                }
                "HOLDUNTIL" => {
                    let until = OffsetDateTime::parse(text, &Rfc3339).ok();
                    once(
                        &mut all.hold,
                        until.map(|t| Hold::Until(t.unix_timestamp())),
                        "HOLDUNTIL",
                    )?;
                }
                _ => return Err(ParseError::UnknownParameter(keyword)),
            }
        }
        Ok(all)
    }
}

impl RcptParams {
    pub(super) fn parse(s: &str) -> Result<Self, ParseError> {
        let mut all = Self::default();
        for (keyword, value) in parameters(s)? {
            let text = value.unwrap_or_default();
            match keyword.as_str() {
                "NOTIFY" => once(&mut all.notify, Notify::parse(text), "NOTIFY")?,
                "ORCPT" => once(&mut all.orcpt, Orcpt::parse(text), "ORCPT")?,
                _ => return Err(ParseError::UnknownParameter(keyword)),
            }
        }
        Ok(all)
    }
}

fn number(s: &str, digits: usize) -> Option<u64> {
    let valid = (1..=digits).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    // 20 digits can be more than fits: more than any limit, whatever it is.
    valid.then(|| s.parse().unwrap_or(u64::MAX))
}
