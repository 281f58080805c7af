//! Special localparts of developer's mode: addresses whose mail fails as wished.
//!
//! What the localpart ends in says how: `temperror`, `permerror`, a code such as `452` or `550`, or `timeout`, no answer
//! for an hour. It happens after the message was received; in RCPT TO for recipients that begin with `rcptto`, and in
//! MAIL FROM for senders that begin with `mailfrom`.

use mox_smtp::Reply;

use crate::limits;
use crate::session::{Session, Stop};

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// This reply code.
    Code(u16),
    /// No answer.
    Timeout,
}

impl Special {
    /// By the end of a localpart.
    pub(crate) fn of(localpart: &str) -> Option<Self> {
        if localpart.ends_with("temperror") {
            return Some(Self::Code(451));
        }
        if localpart.ends_with("permerror") {
            return Some(Self::Code(550));
        }
        if localpart.ends_with("timeout") {
            return Some(Self::Timeout);
        }
        let digits = localpart.len().checked_sub(3).and_then(|at| localpart.get(at..))?;
        let valid = digits.starts_with(['4', '5']) && digits.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| digits.parse().ok().map(Self::Code))?
    }

    /// By a localpart that begins with the name of a command.
    pub(crate) fn of_command(localpart: &str, command: &str) -> Option<Self> {
        localpart.starts_with(command).then(|| Self::of(localpart))?
    }

    /// Makes it happen.
    pub(crate) async fn reply(self, session: &mut Session) -> Result<Reply, Stop> {
        match self {
            Self::Code(code) => Ok(Reply::new(code, (0, 0), "as the address asks for")),
            Self::Timeout => {
                session.pause(limits::LOCALSERVE_TIMEOUT).await?;
                Ok(Reply::new(451, (0, 0), "as the address asks for, late"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_localpart_says_what_happens() {
        for (localpart, special) in [
            ("temperror", Some(Special::Code(451))),
            ("x-permerror", Some(Special::Code(550))),
            ("user452", Some(Special::Code(452))),
            ("599", Some(Special::Code(599))),
            ("rcptto-timeout", Some(Special::Timeout)),
            ("user352", None),
            ("user45", None),
            ("4x5", None),
            ("é50", None),
            ("mox", None),
            ("", None),
        ] {
            assert_eq!(Special::of(localpart), special, "{localpart}");
        }
        assert_eq!(Special::of_command("mailfrom550", "mailfrom"), Some(Special::Code(550)));
        assert_eq!(Special::of_command("user550", "mailfrom"), None);
    }
}
