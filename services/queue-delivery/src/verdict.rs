//! What became of a message for one recipient.

use mox_dns::MailHostsError;
use mox_smtp::client::ClientError;
use mox_smtp::{Enhanced, Reply};

/// Octets of a diagnosis that are kept and told.
const TEXT_MAX: usize = 1000;

/// What became of a message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The host has taken the responsibility for it.
    Delivered {
        /// Of its reply.
        code: u16,
        /// Of its reply.
        text: String,
        /// It sends notifications itself (RFC 3461).
        dsn: bool,
    },
    /// It has not.
    Failed(Failure),
    /// Nothing was sent, and that says nothing about the message: the lease was lost, or about to be, and somebody else
    /// takes care of it; or the store was away.
    Abandoned,
    /// Nothing was sent, since the host has as many of our sessions as it may.
    Busy,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Trying again will not help.
    pub permanent: bool,
    /// SMTP code of the reply; 0 if there is none.
    pub code: u16,
    /// Enhanced status code, with the class that `permanent` says.
    pub enhanced: Enhanced,
    /// What went wrong, with the reply if there is one.
    pub text: String,
    /// The host's reply, with its code, as it was; empty if what is wrong is not a reply.
    pub reply: String,
}

impl Failure {
    /// One that is not a reply.
    pub fn ours(permanent: bool, (subject, detail): (u16, u16), text: impl Into<String>) -> Self {
        let enhanced = Enhanced(if permanent { 5 } else { 4 }, subject, detail);
        Self {
            permanent,
            code: 0,
            enhanced,
            text: shortened(text.into()),
            reply: String::new(),
        }
    }

    /// What a host answered for a message or a recipient.
    #[must_use]
    pub fn reply(reply: &Reply) -> Self {
        let permanent = reply.is_permanent();
        let text = shortened(reply.to_string());
        Self {
            permanent,
            code: reply.code,
            enhanced: reply.enhanced.unwrap_or(Enhanced(if permanent { 5 } else { 4 }, 0, 0)),
            reply: text.clone(),
            text,
        }
    }

    /// From a session. What went wrong before a message was spoken of concerns the host, not the message: another host,
    /// or the same one later, may take it.
    #[must_use]
    pub fn session(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { reply, .. } => {
                let Enhanced(_, subject, detail) = reply.enhanced.unwrap_or(Enhanced(4, 3, 0));
                Self {
                    code: reply.code,
                    reply: shortened(reply.to_string()),
                    ..Self::ours(false, (subject, detail), error.to_string())
                }
            }
            other => {
                let Enhanced(_, subject, detail) = other.enhanced().unwrap_or(Enhanced(4, 4, 2));
                Self::ours(false, (subject, detail), other.to_string())
            }
        }
    }

    /// From a transaction.
    #[must_use]
    pub fn transaction(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { reply, .. } => Self {
                text: shortened(error.to_string()),
                ..Self::reply(reply)
            },
            other => {
                let Enhanced(_, subject, detail) = other.enhanced().unwrap_or(Enhanced(4, 4, 2));
                Self::ours(other.is_permanent(), (subject, detail), other.to_string())
            }
        }
    }

    /// Without a host to go to.
    #[must_use]
    pub fn no_host(error: &MailHostsError) -> Self {
        match error {
            // RFC 7505 §4.2: 556 and 5.1.10.
            MailHostsError::NullMx(_) => Self {
                code: 556,
                ..Self::ours(true, (1, 10), error.to_string())
            },
            MailHostsError::NoUsable(_) => Self::ours(true, (4, 4), error.to_string()),
            // RFC 3463 §3.2: bad destination system address; §3.5: directory server failure.
            MailHostsError::Dns(e) if e.is_temporary() => Self::ours(false, (4, 3), error.to_string()),
            MailHostsError::Dns(_) => Self::ours(true, (1, 2), error.to_string()),
        }
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_host_is_temporary() {
        let reply = Reply::plain(554, "no mail here");
        let error = ClientError::Refused {
            during: "greeting",
            reply,
        };
        let failure = Failure::session(&error);
        assert!(
            !failure.permanent && failure.code == 554 && failure.enhanced.0 == 4,
            "{failure:?}"
        );
        let failure = Failure::transaction(&error);
        assert!(
            failure.permanent && failure.text.starts_with("greeting: "),
            "{failure:?}"
        );
        assert_eq!(failure.reply, "554 no mail here", "as it was");
    }

    #[test]
    fn replies_keep_their_codes() {
        let failure = Failure::reply(&Reply::new(550, (1, 1), "no such user"));
        assert!(failure.permanent && failure.text.contains("no such user"));
        assert_eq!(failure.enhanced, Enhanced(5, 1, 1));
        assert_eq!(Failure::reply(&Reply::plain(450, "later")).enhanced, Enhanced(4, 0, 0));
        let null = Failure::no_host(&MailHostsError::NullMx("x".into()));
        assert_eq!(
            (null.permanent, null.code, null.enhanced),
            (true, 556, Enhanced(5, 1, 10))
        );
        assert_eq!(null.reply, "", "nobody said so");
    }
}
