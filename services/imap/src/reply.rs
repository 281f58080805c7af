//! How commands end: with a tagged reply, or with the connection.

use std::borrow::Cow;

use bytes::BufMut;
use tonic::Code;

/// RFC 9051 §7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Ok,
    No,
    Bad,
}

/// A tagged reply without its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub condition: Condition,
    /// Without brackets.
    pub code: Option<Cow<'static, str>>,
    pub text: Cow<'static, str>,
    /// To have the mailbox's HIGHESTMODSEQ as its code, when what changed has been told.
    pub highest_modseq: bool,
}

impl Reply {
    fn new(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            condition,
            code: None,
            text: text.into(),
            highest_modseq: false,
        }
    }

    pub(crate) fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Condition::Ok, text)
    }

    pub(crate) fn no(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Condition::No, text)
    }

    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Condition::Bad, text)
    }

    /// For a command that has been answered already.
    pub(crate) fn silent() -> Self {
        Self {
            condition: Condition::Ok,
            code: None,
            text: Cow::Borrowed(""),
            highest_modseq: false,
        }
    }

    /// With a response code (RFC 5530 and others).
    pub(crate) fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// For a command that removed messages.
    pub(crate) fn with_highest_modseq(mut self) -> Self {
        self.highest_modseq = true;
        self
    }

    pub(crate) fn write(&self, tag: &str, out: &mut impl BufMut) {
        if *self == Self::silent() {
            return;
        }
        out.put_slice(tag.as_bytes());
        out.put_slice(match self.condition {
            Condition::Ok => b" OK ",
            Condition::No => b" NO ",
            Condition::Bad => b" BAD ",
        });
        if let Some(code) = &self.code {
            out.put_u8(b'[');
            out.put_slice(code.as_bytes());
            out.put_slice(b"] ");
        }
        write_text(&self.text, out);
        out.put_slice(b"\r\n");
    }

    pub(crate) fn result(&self) -> &'static str {
        match self.condition {
            Condition::Ok => "ok",
            Condition::No => "no",
            Condition::Bad => "bad",
        }
    }
}

/// Text of a response: one line, not empty, and ASCII for clients that did not enable UTF-8 (RFC 3501 §9, resp-text).
pub(crate) fn write_text(text: &str, out: &mut impl BufMut) {
    if text.is_empty() {
        out.put_u8(b'-');
    }
    for b in text.bytes().take(900) {
        out.put_u8(if matches!(b, b' '..=b'~') { b } else { b'?' });
    }
}

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client is gone, or can't be told anything any more.
    Closed(std::io::Error),
    /// The client is told why.
    Bye(Cow<'static, str>),
    /// LOGOUT; the client has been answered.
    Logout,
}

/// Why a command does not end well.
#[derive(Debug)]
pub(crate) enum Failed {
    /// With this reply.
    Reply(Reply),
    /// With the session.
    Stop(Stop),
}

/// How a command ends.
pub(crate) type Outcome = Result<Reply, Failed>;

impl From<Reply> for Failed {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Closed(error)
    }
}

/// What the store's refusals are in IMAP (RFC 5530, RFC 9051 §7.1).
impl From<tonic::Status> for Failed {
    fn from(status: tonic::Status) -> Self {
        let message = status.message().to_owned();
        let says = |word: &str| status.details() == word.as_bytes() || message.contains(word);
        let reply = match status.code() {
            Code::Unauthenticated => {
                return Self::Stop(Stop::Bye("This session has ended, please log in again".into()));
            }
            Code::NotFound => Reply::no(message).code("NONEXISTENT"),
            Code::AlreadyExists => Reply::no(message).code("ALREADYEXISTS"),
            Code::ResourceExhausted if says("disk") => {
                Reply::no("The server has no room at the moment, try again later").code("UNAVAILABLE")
            }
            Code::ResourceExhausted if says("quota") => {
                Reply::no("The account is over its quota, remove messages first").code("OVERQUOTA")
            }
            Code::ResourceExhausted => Reply::no(message).code("LIMIT"),
            // RFC 9051 §7.1 has a code for it.
            Code::FailedPrecondition if says("haschildren") => {
                Reply::no("There are mailboxes below it, delete them first").code("HASCHILDREN")
            }
            Code::FailedPrecondition if says("limit") => Reply::no(message).code("LIMIT"),
            Code::InvalidArgument if says("useattr") => Reply::no("The mailbox can't have this use").code("USEATTR"),
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Reply::no(message).code("CANNOT"),
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled => {
                tracing::warn!(error = %status, "the store does not answer");
                Reply::no("Not available at the moment, try again later").code("UNAVAILABLE")
            }
            _ => {
                tracing::error!(error = %status, "the store failed");
                Reply::no("Something went wrong in the server, its log says what").code("SERVERBUG")
            }
        };
        Self::Reply(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_lines() {
        let mut out = Vec::new();
        Reply::no("a\r\nb\u{fc}").code("TRYCREATE").write("t1", &mut out);
        assert_eq!(out, b"t1 NO [TRYCREATE] a??b??\r\n");
        out.clear();
        Reply::no("").write("*", &mut out);
        assert_eq!(out, b"* NO -\r\n");
        out.clear();
        Reply::silent().write("a", &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn refusals_have_codes() {
        let code = |status: tonic::Status| match Failed::from(status) {
            Failed::Reply(reply) => reply.code.unwrap().into_owned(),
            Failed::Stop(_) => "stop".into(),
        };
        assert_eq!(code(tonic::Status::unauthenticated("x")), "stop");
        assert_eq!(code(tonic::Status::not_found("x")), "NONEXISTENT");
        assert_eq!(code(tonic::Status::resource_exhausted("overquota")), "OVERQUOTA");
        assert_eq!(
            code(tonic::Status::with_details(
                Code::ResourceExhausted,
                "full",
                "disk".into()
            )),
            "UNAVAILABLE"
        );
        assert_eq!(code(tonic::Status::internal("x")), "SERVERBUG");
    }
}
