//! The commands (RFC 9051 §6), except APPEND, which is streamed: [`crate::append`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::acl::Acl;
use crate::cursor::{Cursor, Names};
use crate::error::{ErrorKind, ParseError};
use crate::fetch::Fetch;
use crate::list::List;
use crate::metadata::{GetMetadata, SetMetadata};
use crate::multisearch::MultiSearch;
use crate::notify::Notify;
use crate::quota::Quota;
use crate::search::Search;
use crate::sequence::SequenceSet;
use crate::sort::{Sort, Thread};
use crate::status::{self, SelectParameter, StatusItem};
use crate::store::Store;
use crate::write::{put_astring, put_nstring, put_string};
use crate::{limits, mailbox};

/// Something with the tag of its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The tag.
    pub tag: String,
    /// What it tags.
    pub value: T,
}

/// A command that could not be parsed. Without a tag, there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// To answer with.
    pub tag: Option<String>,
    /// The command's name, if there is such a command.
    pub name: Option<&'static str>,
    /// Why.
    pub error: ParseError,
}

/// Messages to copy or move, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Which messages.
    pub set: SequenceSet,
    /// The mailbox.
    pub mailbox: String,
}

/// A command. `uid` says that it came with `UID` before it, so that numbers are UIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `CAPABILITY`
    Capability,
    /// `NOOP`
    Noop,
    /// `LOGOUT`
    Logout,
    /// `STARTTLS`
    StartTls,
    /// `LOGIN`
    Login {
        /// As given.
        username: String,
        /// As given.
        password: String,
    },
    /// `AUTHENTICATE`
    Authenticate {
        /// In upper case.
        mechanism: String,
        /// RFC 4959, decoded.
        initial_response: Option<Vec<u8>>,
    },
    /// `ID` (RFC 2971)
    Id(Vec<(String, Option<String>)>),
    /// `ENABLE` (RFC 5161), in upper case.
    Enable(Vec<String>),
    /// `SELECT` and `EXAMINE`
    Select {
        /// Which.
        mailbox: String,
        /// In parentheses.
        parameters: Vec<SelectParameter>,
        /// EXAMINE.
        read_only: bool,
    },
    /// `CREATE`
    Create {
        /// Its name; a separator at the end, which says that children will follow, is left out.
        mailbox: String,
        /// `(USE (…))` (RFC 6154), with their backslashes.
        special_use: Vec<String>,
    },
    /// `DELETE`
    Delete(String),
    /// `RENAME`
    Rename {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// `SUBSCRIBE`
    Subscribe(String),
    /// `UNSUBSCRIBE`
    Unsubscribe(String),
    /// `LIST`
    List(List),
    /// `LSUB`
    Lsub {
        /// Where the pattern starts.
        reference: String,
        /// A name with wildcards.
        pattern: String,
    },
    /// `NAMESPACE`
    Namespace,
    /// `GETMETADATA`
    GetMetadata(GetMetadata),
    /// `SETMETADATA`
    SetMetadata(SetMetadata),
    /// `SETACL`, `DELETEACL`, `GETACL`, `LISTRIGHTS`, `MYRIGHTS`
    Acl(Acl),
    /// `GETQUOTA`, `GETQUOTAROOT`, `SETQUOTA`
    Quota(Quota),
    /// `COMPRESS`, with an algorithm in upper case (RFC 4978)
    Compress(String),
    /// `UNAUTHENTICATE` (RFC 8437)
    Unauthenticate,
    /// `STATUS`
    Status {
        /// Which.
        mailbox: String,
        /// What about it.
        items: Vec<StatusItem>,
    },
    /// `IDLE`
    Idle,
    /// `CHECK`
    Check,
    /// `CLOSE`
    Close,
    /// `UNSELECT`
    Unselect,
    /// `EXPUNGE`, and with UIDs `UID EXPUNGE`
    Expunge(Option<SequenceSet>),
    /// `SEARCH`
    Search(Search, bool),
    /// `FETCH`
    Fetch(Fetch, bool),
    /// `STORE`
    Store(Store, bool),
    /// `COPY`
    Copy(Copy, bool),
    /// `MOVE`
    Move(Copy, bool),
    /// `SORT`
    Sort(Sort, bool),
    /// `THREAD`
    Thread(Thread, bool),
    /// `ESEARCH` (RFC 7377)
    MultiSearch(MultiSearch),
    /// `CANCELUPDATE` (RFC 5267 §4.3.5), with tags.
    CancelUpdate(Vec<String>),
    /// `NOTIFY`
    Notify(Notify),
}

/// The names of all commands, for errors and figures.
pub const NAMES: &[&str] = &[
    "REPLACE",
    "UID REPLACE",
    "GETMETADATA",
    "SETMETADATA",
    "SETACL",
    "DELETEACL",
    "GETACL",
    "LISTRIGHTS",
    "MYRIGHTS",
    "GETQUOTA",
    "GETQUOTAROOT",
    "SETQUOTA",
    "COMPRESS",
    "UNAUTHENTICATE",
    "CAPABILITY",
    "NOOP",
    "LOGOUT",
    "STARTTLS",
    "LOGIN",
    "AUTHENTICATE",
    "ID",
    "ENABLE",
    "SELECT",
    "EXAMINE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST",
    "LSUB",
    "NAMESPACE",
    "STATUS",
    "IDLE",
    "CHECK",
    "CLOSE",
    "UNSELECT",
    "EXPUNGE",
    "SEARCH",
    "FETCH",
    "STORE",
    "COPY",
    "MOVE",
    "APPEND",
    "SORT",
    "THREAD",
    "ESEARCH",
    "CANCELUPDATE",
    "NOTIFY",
    "UID",
    "UID EXPUNGE",
    "UID FETCH",
    "UID STORE",
];

/// Parses a whole command, literals included, without its line end.
///
/// # Errors
/// If it is not a command. APPEND is not, as it is [streamed](crate::append): what gets here of it is misformed.
pub fn parse_command(data: &[u8], names: Names) -> Result<Tagged<Command>, Failure> {
    let mut c = Cursor::new(data, names);
    let tag = c
        .tag()
        .map_err(|error| Failure {
            tag: None,
            name: None,
            error,
        })?
        .to_owned();
    let mut name = None;
    match parse_body(&mut c, &mut name) {
        Ok(value) => Ok(Tagged { tag, value }),
        Err(error) => Err(Failure {
            tag: Some(tag),
            name,
            error,
        }),
    }
}

fn parse_body(c: &mut Cursor<'_>, name: &mut Option<&'static str>) -> Result<Command, ParseError> {
    c.sp()?;
    let start = c.clone();
    let word = c.word("a command")?;
    *name = NAMES.iter().copied().find(|n| *n == word);
    let command = match word.as_str() {
        "CAPABILITY" => Command::Capability,
        "NOOP" => Command::Noop,
        "LOGOUT" => Command::Logout,
        "STARTTLS" => Command::StartTls,
        "NAMESPACE" => Command::Namespace,
        "IDLE" => Command::Idle,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "UNSELECT" => Command::Unselect,
        "UNAUTHENTICATE" => Command::Unauthenticate,
        "EXPUNGE" => Command::Expunge(None),
        "UID" => {
            c.sp()?;
            let start = c.clone();
            match c.word("a command after UID")?.as_str() {
                "EXPUNGE" => {
                    c.sp()?;
                    Command::Expunge(Some(SequenceSet::parse(c)?))
                }
                word => parse_numbered(c, word, true)?
                    .ok_or_else(|| start.error(ErrorKind::UnknownCommand, "no such command after UID"))?,
            }
        }
        "APPEND" | "REPLACE" => {
            return Err(c.expected("a mailbox, flags and date if any, and the message as a literal"));
        }
        word => match parse_numbered(c, word, false)? {
            Some(command) => command,
            None => {
                parse_arguments(c, word)?.ok_or_else(|| start.error(ErrorKind::UnknownCommand, "no such command"))?
            }
        },
    };
    c.end()?;
    Ok(command)
}

/// Commands on messages by their numbers.
fn parse_numbered(c: &mut Cursor<'_>, word: &str, uid: bool) -> Result<Option<Command>, ParseError> {
    if !matches!(word, "SEARCH" | "FETCH" | "STORE" | "COPY" | "MOVE" | "SORT" | "THREAD") {
        return Ok(None);
    }
    c.sp()?;
    Ok(Some(match word {
        "SEARCH" => Command::Search(Search::parse(c)?, uid),
        "FETCH" => Command::Fetch(Fetch::parse(c)?, uid),
        "STORE" => Command::Store(Store::parse(c)?, uid),
        "SORT" => Command::Sort(Sort::parse(c)?, uid),
        "THREAD" => Command::Thread(Thread::parse(c)?, uid),
        _ => {
            let set = SequenceSet::parse(c)?;
            c.sp()?;
            let copy = Copy {
                set,
                mailbox: mailbox::parse(c)?,
            };
            if word == "COPY" {
                Command::Copy(copy, uid)
            } else {
                Command::Move(copy, uid)
            }
        }
    }))
}

/// Commands with other arguments.
fn parse_arguments(c: &mut Cursor<'_>, word: &str) -> Result<Option<Command>, ParseError> {
    let known = NAMES.contains(&word);
    if !known {
        return Ok(None);
    }
    c.sp()?;
    Ok(Some(match word {
        "LOGIN" => {
            let username = c.astring_utf8()?;
            c.sp()?;
            Command::Login {
                username,
                password: c.astring_utf8()?,
            }
        }
        "AUTHENTICATE" => parse_authenticate(c)?,
        "ID" => Command::Id(parse_id(c)?),
        "ENABLE" => {
            let mut names = vec![c.word("a capability")?];
            while c.take(b' ') {
                names.push(c.word("a capability")?);
            }
            Command::Enable(names)
        }
        "SELECT" | "EXAMINE" => {
            let mailbox = mailbox::parse(c)?;
            let parameters = if c.take(b' ') {
                SelectParameter::parse_list(c)?
            } else {
                Vec::new()
            };
            Command::Select {
                mailbox,
                parameters,
                read_only: word == "EXAMINE",
            }
        }
        "CREATE" => parse_create(c)?,
        "DELETE" => Command::Delete(mailbox::parse(c)?),
        "RENAME" => {
            let from = mailbox::parse(c)?;
            c.sp()?;
            Command::Rename {
                from,
                to: mailbox::parse(c)?,
            }
        }
        "SUBSCRIBE" => Command::Subscribe(mailbox::parse(c)?),
        "UNSUBSCRIBE" => Command::Unsubscribe(mailbox::parse(c)?),
        "LIST" => Command::List(List::parse(c)?),
        "ESEARCH" => Command::MultiSearch(MultiSearch::parse(c)?),
        "CANCELUPDATE" => parse_cancel(c)?,
        "NOTIFY" => Command::Notify(Notify::parse(c)?),
        "LSUB" => {
            let reference = mailbox::parse(c)?;
            c.sp()?;
            Command::Lsub {
                reference,
                pattern: mailbox::parse_pattern(c)?,
            }
        }
        "GETMETADATA" => Command::GetMetadata(GetMetadata::parse(c)?),
        "SETMETADATA" => Command::SetMetadata(SetMetadata::parse(c)?),
        "SETACL" | "DELETEACL" | "GETACL" | "LISTRIGHTS" | "MYRIGHTS" => Command::Acl(Acl::parse(c, word)?),
        "GETQUOTA" | "GETQUOTAROOT" | "SETQUOTA" => Command::Quota(Quota::parse(c, word)?),
        "COMPRESS" => Command::Compress(c.word("an algorithm")?),
        "STATUS" => {
            let mailbox = mailbox::parse(c)?;
            c.sp()?;
            Command::Status {
                mailbox,
                items: status::parse_items(c)?,
            }
        }
        _ => return Ok(None),
    }))
}

fn parse_authenticate(c: &mut Cursor<'_>) -> Result<Command, ParseError> {
    let mechanism = c.word("a SASL mechanism")?;
    let mut initial_response = None;
    if c.take(b' ') {
        let start = c.clone();
        let text = c.span(|b| b.is_ascii_graphic());
        // RFC 4959 §3: "=" is an empty response.
        let bytes = if text == b"=" {
            Ok(Vec::new())
        } else {
            STANDARD.decode(text)
        };
        let bytes = bytes
            .ok()
            .filter(|_| !text.is_empty())
            .ok_or_else(|| start.expected("base64"))?;
        initial_response = Some(bytes);
    }
    Ok(Command::Authenticate {
        mechanism,
        initial_response,
    })
}

fn parse_id(c: &mut Cursor<'_>) -> Result<Vec<(String, Option<String>)>, ParseError> {
    if c.take_word("NIL") {
        return Ok(Vec::new());
    }
    c.list(limits::ID_PAIRS, true, |c| {
        let name = c.string()?;
        c.sp()?;
        let value = c.nstring()?;
        if name.len() > limits::ID_VALUE || value.as_ref().is_some_and(|v| v.len() > limits::ID_VALUE) {
            return Err(c.limit("a value of ID is too long"));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&name), value.map(|v| text(&v))))
    })
}

/// RFC 5267 §5: tags in quotes; we take them without, too.
fn parse_cancel(c: &mut Cursor<'_>) -> Result<Command, ParseError> {
    let mut tags = Vec::new();
    loop {
        if tags.len() >= limits::CANCEL_TAGS {
            return Err(c.limit("too many tags"));
        }
        let tag = c.astring_utf8()?;
        if tag.is_empty() || tag.len() > limits::TAG {
            return Err(c.expected("the tag of a command"));
        }
        tags.push(tag);
        if !c.take(b' ') {
            return Ok(Command::CancelUpdate(tags));
        }
    }
}

fn parse_create(c: &mut Cursor<'_>) -> Result<Command, ParseError> {
    let start = c.clone();
    let name = mailbox::parse(c)?;
    // RFC 9051 §6.3.4: the separator at the end only declares that names below it will be created.
    // Several of them make no name: it stays as it is, to be refused.
    let name = match name.strip_suffix(mailbox::SEPARATOR) {
        Some(rest) if !rest.ends_with(mailbox::SEPARATOR) => rest.to_owned(),
        _ => name,
    };
    if name.is_empty() {
        return Err(start.expected("a mailbox name"));
    }
    let mut special_use = Vec::new();
    if c.take(b' ') {
        c.need(b'(', "an opening parenthesis")?;
        if !c.take_word("USE ") {
            return Err(c.expected("the parameter USE"));
        }
        special_use = c.list(16, true, |c| {
            c.need(b'\\', "a backslash before the special use")?;
            Ok(format!("\\{}", c.atom("a special use")?))
        })?;
        c.need(b')', "a closing parenthesis")?;
    }
    Ok(Command::Create {
        mailbox: name,
        special_use,
    })
}

impl Command {
    /// The name, with `UID` before it if it came so.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::Noop => "NOOP",
            Self::Logout => "LOGOUT",
            Self::StartTls => "STARTTLS",
            Self::Login { .. } => "LOGIN",
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Id(_) => "ID",
            Self::Enable(_) => "ENABLE",
            Self::Select { read_only: false, .. } => "SELECT",
            Self::Select { read_only: true, .. } => "EXAMINE",
            Self::Create { .. } => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename { .. } => "RENAME",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::List(_) => "LIST",
            Self::Lsub { .. } => "LSUB",
            Self::Namespace => "NAMESPACE",
            Self::GetMetadata(_) => "GETMETADATA",
            Self::SetMetadata(_) => "SETMETADATA",
            Self::Acl(acl) => acl.name(),
            Self::Quota(quota) => quota.name(),
            Self::Compress(_) => "COMPRESS",
            Self::Unauthenticate => "UNAUTHENTICATE",
            Self::Status { .. } => "STATUS",
            Self::Idle => "IDLE",
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Unselect => "UNSELECT",
            Self::Expunge(None) => "EXPUNGE",
            Self::Expunge(Some(_)) => "UID EXPUNGE",
            Self::Search(_, false) => "SEARCH",
            Self::Search(_, true) => "UID SEARCH",
            Self::Fetch(_, false) => "FETCH",
            Self::Fetch(_, true) => "UID FETCH",
            Self::Store(_, false) => "STORE",
            Self::Store(_, true) => "UID STORE",
            Self::Copy(_, false) => "COPY",
            Self::Copy(_, true) => "UID COPY",
            Self::Move(_, false) => "MOVE",
            Self::Move(_, true) => "UID MOVE",
            Self::Sort(_, false) => "SORT",
            Self::Sort(_, true) => "UID SORT",
            Self::Thread(_, false) => "THREAD",
            Self::Thread(_, true) => "UID THREAD",
            Self::MultiSearch(_) => "ESEARCH",
            Self::CancelUpdate(_) => "CANCELUPDATE",
            Self::Notify(_) => "NOTIFY",
        }
    }

    /// Serializes the command after its tag and space, without its line end.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name().as_bytes());
        let name = |name: &str, out: &mut Vec<u8>| {
            out.push(b' ');
            mailbox::write(name, names, out);
        };
        match self {
            Self::Login { username, password } => {
                for text in [username, password] {
                    out.push(b' ');
                    put_astring(out, text.as_bytes(), true);
                }
            }
            Self::Authenticate {
                mechanism,
                initial_response,
            } => {
                out.extend_from_slice(format!(" {mechanism}").as_bytes());
                match initial_response {
                    Some(bytes) if bytes.is_empty() => out.extend_from_slice(b" ="),
                    Some(bytes) => out.extend_from_slice(format!(" {}", STANDARD.encode(bytes)).as_bytes()),
                    None => {}
                }
            }
            Self::Id(pairs) => {
                out.extend_from_slice(b" (");
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    put_nstring(out, Some(key.as_bytes()), true);
                    out.push(b' ');
                    put_nstring(out, value.as_deref().map(str::as_bytes), true);
                }
                out.push(b')');
            }
            Self::Enable(capabilities) => out.extend_from_slice(format!(" {}", capabilities.join(" ")).as_bytes()),
            Self::Select {
                mailbox, parameters, ..
            } => {
                name(mailbox, out);
                if !parameters.is_empty() {
                    out.push(b' ');
                    SelectParameter::write_list(parameters, out);
                }
            }
            Self::Create { mailbox, special_use } => {
                name(mailbox, out);
                if !special_use.is_empty() {
                    out.extend_from_slice(format!(" (USE ({}))", special_use.join(" ")).as_bytes());
                }
            }
            Self::Delete(mailbox) | Self::Subscribe(mailbox) | Self::Unsubscribe(mailbox) => name(mailbox, out),
            Self::Rename { from: a, to: b }
            | Self::Lsub {
                reference: a,
                pattern: b,
            } => {
                name(a, out);
                name(b, out);
            }
            Self::List(list) => {
                out.push(b' ');
                list.write(names, out);
            }
            Self::GetMetadata(get) => {
                out.push(b' ');
                get.write(names, out);
            }
            Self::SetMetadata(set) => {
                out.push(b' ');
                set.write(names, out);
            }
            Self::Acl(acl) => {
                out.push(b' ');
                acl.write(names, out);
            }
            Self::Quota(quota) => {
                out.push(b' ');
                quota.write(names, out);
            }
            Self::Compress(algorithm) => out.extend_from_slice(format!(" {algorithm}").as_bytes()),
            Self::Status { mailbox, items } => {
                name(mailbox, out);
                out.push(b' ');
                status::write_items(items, out);
            }
            Self::Expunge(Some(set)) => {
                out.push(b' ');
                set.write(out);
            }
            Self::Search(search, _) => {
                out.push(b' ');
                search.write(out);
            }
            Self::Sort(sort, _) => {
                out.push(b' ');
                sort.write(out);
            }
            Self::Thread(thread, _) => {
                out.push(b' ');
                thread.write(out);
            }
            Self::MultiSearch(search) => {
                out.push(b' ');
                search.write(names, out);
            }
            Self::CancelUpdate(tags) => {
                for tag in tags {
                    out.push(b' ');
                    put_string(out, tag.as_bytes(), true);
                }
            }
            Self::Notify(notify) => {
                out.push(b' ');
                notify.write(names, out);
            }
            Self::Fetch(fetch, _) => {
                out.push(b' ');
                fetch.write(out);
            }
            Self::Store(store, _) => {
                out.push(b' ');
                store.write(out);
            }
            Self::Copy(copy, _) | Self::Move(copy, _) => {
                out.push(b' ');
                copy.set.write(out);
                name(&copy.mailbox, out);
            }
            Self::Capability
            | Self::Noop
            | Self::Logout
            | Self::StartTls
            | Self::Namespace
            | Self::Idle
            | Self::Check
            | Self::Close
            | Self::Unselect
            | Self::Unauthenticate
            | Self::Expunge(None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<Command, Failure> {
        parse_command(s.as_bytes(), Names::Utf7).map(|t| t.value)
    }

    #[test]
    fn commands_are_read() {
        let login = Command::Login {
            username: "mox@localhost".into(),
            password: "a b".into(),
        };
        assert_eq!(parse("a login mox@localhost \"a b\"").unwrap(), login);
        assert_eq!(
            parse("a authenticate plain AGEAYg==").unwrap(),
            Command::Authenticate {
                mechanism: "PLAIN".into(),
                initial_response: Some(b"\0a\0b".to_vec())
            }
        );
        assert_eq!(parse("a ID NIL").unwrap(), Command::Id(vec![]));
        assert_eq!(parse("a id (\"name\" \"x\" \"os\" NIL)").unwrap().name(), "ID");
        let create = Command::Create {
            mailbox: "x".into(),
            special_use: vec!["\\Sent".into()],
        };
        assert_eq!(parse("a create x/ (USE (\\Sent))").unwrap(), create);
        assert_eq!(parse("a uid expunge 1:3").unwrap().name(), "UID EXPUNGE");
        assert_eq!(parse("a uid move 1 x").unwrap().name(), "UID MOVE");
        assert_eq!(
            parse("a enable condstore UTF8=ACCEPT").unwrap(),
            Command::Enable(vec!["CONDSTORE".into(), "UTF8=ACCEPT".into()])
        );
    }

    #[test]
    fn failures_keep_the_tag_and_the_name() {
        for (given, tag, name, kind) in [
            ("", None, None, ErrorKind::Syntax),
            ("* noop", None, None, ErrorKind::Syntax),
            ("a", Some("a"), None, ErrorKind::Syntax),
            ("a nope", Some("a"), None, ErrorKind::UnknownCommand),
            ("a uid nope", Some("a"), Some("UID"), ErrorKind::UnknownCommand),
            ("a noop x", Some("a"), Some("NOOP"), ErrorKind::Syntax),
            ("a login x", Some("a"), Some("LOGIN"), ErrorKind::Syntax),
            ("a append", Some("a"), Some("APPEND"), ErrorKind::Syntax),
            ("a select", Some("a"), Some("SELECT"), ErrorKind::Syntax),
            (
                "a authenticate plain !",
                Some("a"),
                Some("AUTHENTICATE"),
                ErrorKind::Syntax,
            ),
        ] {
            let failure = parse(given).unwrap_err();
            assert_eq!(
                (failure.tag.as_deref(), failure.name, failure.error.kind),
                (tag, name, kind),
                "{given:?}"
            );
        }
    }
}
