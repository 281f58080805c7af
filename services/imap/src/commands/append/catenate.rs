//! Parts of messages that are here already (RFC 4469): named by URLs (RFC 5092) of the account's own mailboxes.

use bytes::Bytes;
use mox_imap_proto::acl::Right;
use mox_imap_proto::section::Section;
use mox_imap_proto::url::MessageUrl;
use mox_proto::mail::v1::{
    ContentRange, GetMessagesRequest, Mailbox, Message, MessagePart, ReadContentsRequest, UidRange,
    get_mailbox_request::Which,
};

use super::intake::Intake;
use crate::fetch::{Found, filter_header, find_section};
use crate::limits;
use crate::names;
use crate::reply::{Failed, Reply};
use crate::rights;
use crate::session::Session;

/// Octets of a URL that are repeated in a refusal.
const SHOWN: usize = 300;

/// Adds what the URL names to the message.
pub(super) async fn add(session: &mut Session, text: &str, intake: &mut Intake) -> Result<(), Failed> {
    let bad = |why: &str| Failed::from(bad_url(text, why));
    let url = MessageUrl::parse(text).ok_or_else(|| bad("The URL is not one of a message"))?;
    if !is_own(session, &url) {
        return Err(bad("The URL is not one of this server and account"));
    }
    let mailbox = mailbox(session, &url)
        .await?
        .ok_or_else(|| bad("The mailbox of the URL does not exist"))?;
    rights::allow(&mailbox, Right::Read).map_err(|_| bad("The mailbox of the URL can't be read"))?;
    if url.uid_validity.is_some_and(|v| v != mailbox.uid_validity) {
        return Err(bad("The mailbox of the URL has another UIDVALIDITY"));
    }
    let message = message(session, &mailbox, &url)
        .await?
        .ok_or_else(|| bad("The message of the URL is gone"))?;
    let root = message.computed.as_ref().and_then(|c| c.structure.as_ref());
    match find_section(&url.section, root, message.size) {
        Found::Absent => Err(bad("The message of the URL has no such section")),
        Found::Range { offset, length } => {
            let (skip, most) = partial(&url, length);
            if most == 0 {
                return Ok(());
            }
            if intake.size().saturating_add(most) > limits::APPEND {
                return Err(super::too_big().into());
            }
            let range = ContentRange {
                uid: url.uid,
                offset: offset + skip,
                length: most,
            };
            let whole = copy(session, &mailbox, range, &mut Target::Message(intake)).await?;
            if whole {
                Ok(())
            } else {
                Err(bad("The message of the URL is gone"))
            }
        }
        Found::Fields {
            offset,
            length,
            names,
            without,
        } => {
            if length > limits::HEADER {
                return Err(bad("The header of the message is too large"));
            }
            let mut header = Vec::new();
            let range = ContentRange {
                uid: url.uid,
                offset,
                length,
            };
            if length > 0 && !copy(session, &mailbox, range, &mut Target::Memory(&mut header)).await? {
                return Err(bad("The message of the URL is gone"));
            }
            let fields = filter_header(&header, names, without);
            let (skip, most) = partial(&url, fields.len() as u64);
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(fields.len());
            intake.write(&fields[at(skip)..at(skip + most)]).await
        }
    }
}

fn bad_url(url: &str, why: &str) -> Reply {
    // RFC 4469 §5, url-resp-text: without what would end the code.
    let shown: String = url
        .chars()
        .take(SHOWN)
        .map(|c| {
            if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | ']') {
                c
            } else {
                '?'
            }
        })
        .collect();
    Reply::no(why.to_owned()).code(format!("BADURL \"{shown}\""))
}

/// Whether an absolute URL is one of this server, and of nobody else's mail.
fn is_own(session: &Session, url: &MessageUrl) -> bool {
    let (Some(server), Some(login)) = (&url.server, &session.login) else {
        return url.server.is_none();
    };
    let host = server.host.trim_matches(['[', ']']);
    let here = host.eq_ignore_ascii_case(&session.shared.hostname)
        || host.eq_ignore_ascii_case("localhost")
        || host == session.info.local.ip().to_string();
    let mine = |user: &String| user.eq_ignore_ascii_case(&login.address) || *user == login.account;
    here && server.user.as_ref().is_none_or(mine)
}

async fn mailbox(session: &mut Session, url: &MessageUrl) -> Result<Option<Mailbox>, Failed> {
    let which = match (&url.mailbox, &session.selected) {
        (Some(name), _) => Which::Name(names::kept(name)),
        (None, Some(selected)) => Which::Id(selected.id.clone()),
        (None, None) => return Ok(None),
    };
    match session.shared.mailbox_by(&session.token()?, which).await {
        Ok(mailbox) => Ok(Some(mailbox)),
        Err(Failed::Reply(reply)) if matches!(reply.code.as_deref(), Some("NONEXISTENT" | "CANNOT")) => Ok(None),
        Err(other) => Err(other),
    }
}

async fn message(session: &mut Session, mailbox: &Mailbox, url: &MessageUrl) -> Result<Option<Message>, Failed> {
    let whole = url.section == Section::default();
    let request = GetMessagesRequest {
        session: session.token()?,
        mailbox_id: mailbox.id.clone(),
        uids: vec![UidRange {
            first: url.uid,
            last: url.uid,
        }],
        parts: if whole { 0 } else { MessagePart::Structure as u32 },
    };
    let answer = session.shared.mail().get_messages(request).await?.into_inner();
    // A UID above all there are would be taken for the highest.
    Ok(answer.messages.into_iter().find(|m| m.uid == url.uid))
}

/// Where the wanted octets start, and how many there are, of a section of so many.
fn partial(url: &MessageUrl, length: u64) -> (u64, u64) {
    match &url.partial {
        Some(partial) => {
            let skip = partial.offset.min(length);
            (skip, partial.length.min(length - skip))
        }
        None => (0, length),
    }
}

enum Target<'t> {
    Message(&'t mut Intake),
    Memory(&'t mut Vec<u8>),
}

impl Target<'_> {
    async fn write(&mut self, data: &Bytes) -> Result<(), Failed> {
        match self {
            Self::Message(intake) => intake.write(data).await,
            Self::Memory(out) => {
                out.extend_from_slice(data);
                Ok(())
            }
        }
    }
}

/// Copies octets of a message; answers whether they were there.
async fn copy(
    session: &mut Session,
    mailbox: &Mailbox,
    range: ContentRange,
    target: &mut Target<'_>,
) -> Result<bool, Failed> {
    let request = ReadContentsRequest {
        session: session.token()?,
        mailbox_id: mailbox.id.clone(),
        ranges: vec![range],
        batched: false,
    };
    let mut pieces = session.shared.mail().read_contents(request).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        if piece.missing {
            return Ok(false);
        }
        target.write(&piece.data).await?;
        if piece.end {
            return Ok(true);
        }
    }
    Ok(false)
}
