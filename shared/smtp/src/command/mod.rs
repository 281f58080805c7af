//! Commands of a client (RFC 5321 §4.1, RFC 3207, RFC 4954), parsed from one line.

mod params;
mod path;

use mox_types::Domain;

use crate::limits;
use crate::reply::Reply;

pub use params::{AuthIdentity, Body, Hold, MailParams, Notify, Orcpt, RcptParams, Ret};
pub use path::{HostName, Path, PathHost, Recipient};

/// A command. Names are read in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Who the client is, without extensions.
    Helo(HostName),
    /// Who the client is, and that it wants to know the extensions.
    Ehlo(HostName),
    /// A transaction begins. No path is the null reverse-path, of bounces.
    Mail(Option<Path>, MailParams),
    /// One recipient.
    Rcpt(Recipient, RcptParams),
    /// The message follows.
    Data,
    /// So many octets of the message follow; whether they are its last (RFC 3030).
    Bdat(u64, bool),
    /// The transaction is given up.
    Rset,
    /// Nothing.
    Noop,
    /// The end.
    Quit,
    /// Whether there is such a mailbox.
    Vrfy(String),
    /// Who is on a list.
    Expn(String),
    /// What can be done.
    Help,
    /// TLS from here on (RFC 3207).
    StartTls,
    /// Who the client acts for (RFC 4954): mechanism, and initial response still in base64 (`=` is an empty one).
    Auth(String, Option<String>),
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No command of ours.
    #[error("unknown command")]
    Unknown,
    /// Not text.
    #[error("command is not UTF-8")]
    NotUtf8,
    /// A control character, which has no place in any command.
    #[error("command has a control character")]
    Control,
    /// Something is missing, too much, or in the wrong form.
    #[error("syntax is {0}")]
    Syntax(&'static str),
    /// BDAT without its size: what follows can be message or commands, and nobody can tell.
    #[error("syntax is BDAT size [LAST]")]
    Chunk,
    /// The address of MAIL FROM.
    #[error("sender address is not valid: {0}")]
    Sender(String),
    /// The address of RCPT TO.
    #[error("recipient address is not valid: {0}")]
    Recipient(String),
    /// A parameter that is not known.
    #[error("parameter {0} is not known")]
    UnknownParameter(String),
    /// What is understood, and tolerated unless one is pedantic.
    #[error("{0}")]
    Lax(&'static str),
    /// A known parameter with a value that is not one, or twice.
    #[error("parameter {0}: {1}")]
    Parameter(&'static str, &'static str),
}

impl ParseError {
    /// Whether the connection is of no more use after the reply: what comes next can't be taken for a command.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Chunk)
    }

    /// The reply to it.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let text = self.to_string();
        match self {
            Self::Unknown | Self::NotUtf8 | Self::Control => Reply::new(500, (5, 2), text),
            Self::Syntax(_) | Self::Chunk | Self::Lax(_) => Reply::new(501, (5, 2), text),
            Self::Sender(_) => Reply::new(501, (1, 7), text),
            Self::Recipient(_) => Reply::new(501, (1, 3), text),
            // RFC 5321 §4.1.1.11.
            Self::UnknownParameter(_) => Reply::new(555, (5, 4), text),
            Self::Parameter(..) => Reply::new(501, (5, 4), text),
        }
    }
}

impl Command {
    /// From a line without its line end.
    ///
    /// # Errors
    /// If it is no command, or one with wrong arguments.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let line = std::str::from_utf8(line).map_err(|_| ParseError::NotUtf8)?;
        if line.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err(ParseError::Control);
        }
        // RFC 5321 §4.1.1: trailing white space should be tolerated.
        let line = line.trim_end_matches([' ', '\t']);
        let (verb, rest) = line.split_once(' ').map_or((line, None), |(v, r)| (v, Some(r)));
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        let argument = || rest.map(|r| r.trim_start_matches(' ')).filter(|r| !r.is_empty());
        let alone = |command, usage| {
            if argument().is_none() {
                Ok(command)
            } else {
                Err(ParseError::Syntax(usage))
            }
        };
        if is("MAIL") {
            let rest = prefix(rest, "FROM:").ok_or(ParseError::Syntax("MAIL FROM:<address> [parameters]"))?;
            let (path, params) = path::reverse(rest).map_err(ParseError::Sender)?;
            Ok(Self::Mail(path, MailParams::parse(params)?))
        } else if is("RCPT") {
            let rest = prefix(rest, "TO:").ok_or(ParseError::Syntax("RCPT TO:<address> [parameters]"))?;
            let (path, params) = path::forward(rest).map_err(ParseError::Recipient)?;
            Ok(Self::Rcpt(path, RcptParams::parse(params)?))
        } else if is("DATA") {
            alone(Self::Data, "DATA")
        } else if is("BDAT") {
            chunk(argument().unwrap_or_default()).ok_or(ParseError::Chunk)
        } else if is("EHLO") {
            HostName::parse(argument())
                .map(Self::Ehlo)
                .ok_or(ParseError::Syntax("EHLO host-name"))
        } else if is("HELO") {
            HostName::parse(argument())
                .map(Self::Helo)
                .ok_or(ParseError::Syntax("HELO host-name"))
        } else if is("RSET") {
            alone(Self::Rset, "RSET")
        } else if is("NOOP") {
            Ok(Self::Noop)
        } else if is("QUIT") {
            alone(Self::Quit, "QUIT")
        } else if is("STARTTLS") {
            // RFC 3207 §4: "no parameters".
            alone(Self::StartTls, "STARTTLS")
        } else if is("AUTH") {
            let mut words = argument().unwrap_or_default().split(' ').filter(|w| !w.is_empty());
            match (words.next(), words.next(), words.next()) {
                (Some(mechanism), initial, None) if mechanism.len() <= limits::HOST_NAME => {
                    Ok(Self::Auth(mechanism.to_ascii_uppercase(), initial.map(str::to_owned)))
                }
                _ => Err(ParseError::Syntax("AUTH mechanism [initial-response]")),
            }
        } else if is("VRFY") {
            argument()
                .map(|a| Self::Vrfy(a.to_owned()))
                .ok_or(ParseError::Syntax("VRFY address"))
        } else if is("EXPN") {
            argument()
                .map(|a| Self::Expn(a.to_owned()))
                .ok_or(ParseError::Syntax("EXPN list"))
        } else if is("HELP") {
            Ok(Self::Help)
        } else {
            Err(ParseError::Unknown)
        }
    }

    /// As [`Command::parse`], without its tolerance for what clients get wrong and mean well.
    ///
    /// # Errors
    /// If it is no command, one with wrong arguments, or written in a way that the grammar does not have.
    pub fn parse_strict(line: &[u8]) -> Result<Self, ParseError> {
        let command = Self::parse(line)?;
        // RFC 5321 §4.1.1: tolerated there too, but not in the grammar.
        if line.ends_with(b" ") || line.ends_with(b"\t") {
            if matches!(command, Self::Bdat(..)) {
                // The chunk comes whatever is said to it.
                return Err(ParseError::Chunk);
            }
            return Err(ParseError::Lax("white space at the end of the line"));
        }
        let begins = |with: &[u8]| {
            line.get(..with.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        match &command {
            // RFC 5321 §4.1.1.2 and §4.1.1.3: no space on either side of the colon.
            Self::Mail(..) if !begins(b"MAIL FROM:<") => Err(ParseError::Lax("the form is MAIL FROM:<address>")),
            Self::Rcpt(..) if !begins(b"RCPT TO:<") => Err(ParseError::Lax("the form is RCPT TO:<address>")),
            // RFC 5321 §4.1.1.1.
            Self::Ehlo(HostName::Other(_)) | Self::Helo(HostName::Other(_)) => Err(ParseError::Lax(
                "the host name is neither a domain name nor an address literal",
            )),
            Self::Ehlo(HostName::Domain(domain)) | Self::Helo(HostName::Domain(domain)) if has_underscore(domain) => {
                Err(ParseError::Lax("host names have no underscores"))
            }
            Self::Mail(Some(path), _) | Self::Rcpt(Recipient::Path(path), _) if is_underscored(path) => {
                Err(ParseError::Lax("host names have no underscores"))
            }
            Self::Ehlo(_) | Self::Helo(_) if line.iter().filter(|b| **b == b' ').count() != 1 => {
                Err(ParseError::Lax("there is one host name after one space"))
            }
            _ => Ok(command),
        }
    }

    /// Its name, for metrics and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Helo(_) => "helo",
            Self::Ehlo(_) => "ehlo",
            Self::Mail(..) => "mail",
            Self::Rcpt(..) => "rcpt",
            Self::Data => "data",
            Self::Bdat(..) => "bdat",
            Self::Rset => "rset",
            Self::Noop => "noop",
            Self::Quit => "quit",
            Self::Vrfy(_) => "vrfy",
            Self::Expn(_) => "expn",
            Self::Help => "help",
            Self::StartTls => "starttls",
            Self::Auth(..) => "auth",
        }
    }
}

/// RFC 5321 §4.1.2: labels are of letters, digits and hyphens. DNS has others, and some hosts are called so.
fn has_underscore(domain: &Domain) -> bool {
    domain.ascii().contains('_')
}

fn is_underscored(path: &Path) -> bool {
    matches!(&path.host, PathHost::Domain(domain) if has_underscore(domain))
}

/// Digits of the size of a chunk: `1*DIGIT` without a bound in RFC 3030 §2; as many as SIZE has (RFC 1870 §6.1).
const CHUNK_DIGITS: usize = 20;

/// The arguments of BDAT.
fn chunk(arguments: &str) -> Option<Command> {
    let mut words = arguments.split(' ').filter(|w| !w.is_empty());
    let size = words.next()?;
    let last = match (words.next(), words.next()) {
        (None, _) => false,
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => true,
        _ => return None,
    };
    let valid = size.len() <= CHUNK_DIGITS && size.bytes().all(|b| b.is_ascii_digit());
    // More than fits is more than any limit, but nothing that could be read to its end.
    let size = size.parse().ok().filter(|_| valid)?;
    Some(Command::Bdat(size, last))
}

/// What follows `name`, and spaces after it: RFC 5321 §4.1.1.2 has none, and some clients send one.
fn prefix<'a>(rest: Option<&'a str>, name: &str) -> Option<&'a str> {
    let rest = rest?.trim_start_matches(' ');
    let (head, tail) = rest.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then(|| tail.trim_start_matches(' '))
}

#[cfg(test)]
mod tests;
