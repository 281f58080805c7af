//! APPEND (RFC 9051 §6.3.12, RFC 4315, RFC 7889) of one or several messages (RFC 3502), made of parts (RFC 4469), with
//! binary data (RFC 3516) or UTF-8 in the header (RFC 6855); and REPLACE (RFC 8508). Messages go to the store as they
//! arrive, and are added in one commit at the end.
//!
//! Their octets are kept as they are, bare CR or LF included; binary parts are converted where they could not be fetched
//! otherwise ([`binary`]). UTF-8 in a header is also taken without UTF8, as messages that have it are around.

mod binary;
mod catenate;
mod intake;
mod reading;

use bytes::BufMut;
use mox_imap_proto::LiteralHeader;
use mox_imap_proto::NumberSet;
use mox_imap_proto::acl::Right;
use mox_imap_proto::append::{Append, Data, Next, Options, Place, Segment, Step, Verb};
use mox_imap_proto::sequence::{Bound, write_in_order};
use mox_proto::mail::v1::{AppendMessage, AppendRequest, AppendResponse, Content};
use tonic::Code;

use crate::commands::offered;
use crate::limits;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

use intake::Intake;
use reading::{Reading, Unread};

/// Runs the command, of which what comes before the first streamed literal was read; `header` is that literal's.
pub(crate) async fn run(session: &mut Session, append: Append, header: Option<LiteralHeader>) -> Outcome {
    let name = append.verb.name();
    let mut reading = Reading {
        name,
        unread: header.map_or(Unread::Nothing, Unread::Literal),
    };
    match perform(session, append, &mut reading).await {
        Err(Failed::Reply(reply)) => {
            // What the client sends without asking is read, so that the next command is found behind it.
            reading.drain(session).await?;
            Err(reply.into())
        }
        other => other,
    }
}

async fn perform(session: &mut Session, append: Append, reading: &mut Reading) -> Outcome {
    let mut request = AppendRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox: names::kept(&append.mailbox),
        ..Default::default()
    };
    if let Verb::Replace { number, uid } = append.verb {
        request.replaces_mailbox_id = session.writable()?.id.clone();
        request.replaces_uid = replaced(session, number, uid)?;
    }
    rights::insert_into(session, &request.mailbox).await?;
    request.messages = messages(session, append.verb, append.segment, reading).await?;
    let replaces = request.replaces_uid != 0;
    let answer = session
        .shared
        .mail()
        .append(request)
        .await
        .map_err(refused)?
        .into_inner();
    Ok(finish(session, &answer, replaces))
}

/// What is told at the end.
fn finish(session: &mut Session, answer: &AppendResponse, replaces: bool) -> Reply {
    let mut code = format!("APPENDUID {} ", answer.uid_validity).into_bytes();
    write_in_order(&answer.uids, &mut code);
    let code = String::from_utf8_lossy(&code).into_owned();
    if replaces {
        // RFC 8508 §3.3: it comes before the EXPUNGE response.
        let line = format!("* OK [{code}] The new message is there\r\n");
        session.connection.out.put_slice(line.as_bytes());
        return Reply::ok("Replaced");
    }
    Reply::ok("Appended").code(code)
}

/// The UID of the message that is to be replaced.
fn replaced(session: &Session, number: Bound, uid: bool) -> Result<u32, Failed> {
    if !offered::offered(session, "REPLACE") {
        return Err(Reply::bad("REPLACE is not offered").into());
    }
    if session.enabled.uidonly && !uid {
        // RFC 9586 §3.
        return Err(Reply::bad("Use UID REPLACE").code("UIDREQUIRED").into());
    }
    let selected = session.selected()?;
    for right in [Right::DeleteMessages, Right::Expunge] {
        rights::of_selected(selected, right)?;
    }
    let view = &selected.view;
    let none = || Failed::from(Reply::no("There is no such message").code("NONEXISTENT"));
    match number {
        Bound::Number(n) if uid => {
            let known = view.known(&NumberSet::from_ranges([(n, n)]));
            known.iter().next().ok_or_else(none)
        }
        Bound::Largest => Some(view.last_uid()).filter(|u| *u != 0).ok_or_else(none),
        Bound::Number(n) => {
            let uids = view.uids_of(&NumberSet::from_ranges([(n, n)]));
            uids.iter()
                .next()
                .ok_or_else(|| Reply::bad("There is no message with such a number").into())
        }
    }
}

/// RFC 9051 §6.3.12: a mailbox that could be created is told as such.
fn try_create() -> Reply {
    Reply::no("There is no such mailbox, create it first").code("TRYCREATE")
}

fn refused(status: tonic::Status) -> Failed {
    match status.code() {
        Code::NotFound => try_create().into(),
        // RFC 8508 §3.4: nothing was added.
        Code::OutOfRange => Reply::no("The message to replace is gone").code("EXPUNGEISSUED").into(),
        _ => status.into(),
    }
}

/// Takes all messages in.
async fn messages(
    session: &mut Session,
    verb: Verb,
    mut segment: Segment,
    reading: &mut Reading,
) -> Result<Vec<AppendMessage>, Failed> {
    let mut all = Vec::new();
    let mut inline = 0;
    let mut current: Option<(Options, Intake)> = None;
    loop {
        let last = segment.steps.len();
        for (n, step) in segment.steps.into_iter().enumerate() {
            match step {
                Step::Message(options) => {
                    if let Some(done) = current.take() {
                        all.push(complete(done, &mut inline).await?);
                    }
                    check_count(session, verb, all.len())?;
                    let catenates = n + 1 < last || matches!(segment.next, Next::Literal(Data::Text | Data::Utf8Text));
                    if catenates && !offered::offered(session, "CATENATE") {
                        return Err(Reply::bad("CATENATE is not offered").into());
                    }
                    let token = session.token()?;
                    current = Some((options, Intake::new(token, session.shared.mail(), inline)));
                }
                Step::Url(url) => match &mut current {
                    Some((_, intake)) => catenate::add(session, &url, intake).await?,
                    None => return Err(Reply::bad("A URL without a message").into()),
                },
            }
        }
        let Next::Literal(data) = segment.next else { break };
        let (Unread::Literal(header), Some((_, intake))) = (reading.unread, &mut current) else {
            return Err(Reply::bad("A literal without a message").into());
        };
        check_literal(header, data, intake.size())?;
        intake.literal(session, reading, header, data).await?;
        segment = reading.segment(session, Place::from(data)).await?;
    }
    if let Some(done) = current.take() {
        all.push(complete(done, &mut inline).await?);
    }
    Ok(all)
}

fn check_count(session: &Session, verb: Verb, before: usize) -> Result<(), Failed> {
    if before == 0 {
        return Ok(());
    }
    if verb != Verb::Append {
        return Err(Reply::bad("REPLACE takes one message").into());
    }
    if !offered::offered(session, "MULTIAPPEND") {
        return Err(Reply::bad("MULTIAPPEND is not offered").into());
    }
    if before >= limits::APPEND_MESSAGES {
        let text = format!("At most {} messages can be appended at once", limits::APPEND_MESSAGES);
        return Err(Reply::no(text).code("LIMIT").into());
    }
    Ok(())
}

/// Whether the literal may come, of a message that has so many octets already.
fn check_literal(header: LiteralHeader, data: Data, before: u64) -> Result<(), Failed> {
    if before.saturating_add(header.size) > limits::APPEND {
        return Err(too_big().into());
    }
    if header.size == 0 && !is_part(data) {
        // RFC 3502 §6.3.11: that is how a client takes back its APPEND.
        return Err(Reply::no("There is no message").into());
    }
    // RFC 6855 §4.
    if matches!(data, Data::Utf8 | Data::Utf8Text) && !header.binary {
        return Err(Reply::bad("The message of UTF8 is a literal8: ~{…}").into());
    }
    Ok(())
}

/// Whether it is a part of CATENATE.
fn is_part(data: Data) -> bool {
    matches!(data, Data::Text | Data::Utf8Text)
}

fn too_big() -> Reply {
    let text = format!("Messages can have at most {} octets", limits::APPEND);
    Reply::no(text).code("TOOBIG")
}

async fn complete((options, intake): (Options, Intake), inline: &mut usize) -> Result<AppendMessage, Failed> {
    if intake.size() == 0 {
        return Err(Reply::no("There is no message").into());
    }
    let content = intake.finish(inline).await?;
    Ok(AppendMessage {
        content: Some(Content { r#where: Some(content) }),
        flags: Some(names::flags(&options.flags)),
        received: options.received.map(|t| t.0),
    })
}
