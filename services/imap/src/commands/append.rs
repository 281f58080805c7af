//! APPEND (RFC 9051 §6.3.12, RFC 4315, RFC 7889): the message goes to the store as it arrives.
//!
//! Its octets are kept as they are, bare CR or LF included.

use bytes::{Bytes, BytesMut};
use futures::SinkExt as _;
use futures::channel::mpsc;
use mox_imap_proto::append::Append;
use mox_imap_proto::{Event, LiteralHeader};
use mox_proto::mail::v1::content::Where;
use mox_proto::mail::v1::{AppendMessage, AppendRequest, Content, UploadRequest};
use mox_rpc::INLINE_CONTENT_BYTES;
use tonic::Code;

use crate::limits;
use crate::names;
use crate::reply::{Failed, Outcome, Reply, Stop};
use crate::session::Session;

/// Pieces of an upload that wait for the store.
const PIECES: usize = 4;

pub(crate) async fn run(session: &mut Session, append: Append, header: LiteralHeader) -> Outcome {
    if let Err(reply) = admit(session, &append, header).await {
        return decline(session, header, reply).await;
    }
    if header.synchronizing {
        session.connection.out.extend_from_slice(b"+ Ready for the message\r\n");
        session.connection.flush().await?;
    }
    let content = receive(session, header.size).await;
    // A failure to keep the message leaves the rest of the command to be read.
    let content = match content {
        Err(Failed::Stop(stop)) => return Err(stop.into()),
        content => content,
    };
    end(session).await?;
    let message = AppendMessage {
        content: Some(Content {
            r#where: Some(content?),
        }),
        flags: Some(names::flags(&append.flags)),
        received: append.received.map(|t| t.0),
    };
    let request = AppendRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox: names::kept(&append.mailbox),
        messages: vec![message],
    };
    let answer = session
        .shared
        .mail()
        .append(request)
        .await
        .map_err(no_mailbox)?
        .into_inner();
    let reply = Reply::ok("Appended");
    Ok(match answer.uids.first() {
        Some(uid) => reply.code(format!("APPENDUID {} {uid}", answer.uid_validity)),
        None => reply,
    })
}

/// Whether the message may come.
async fn admit(session: &mut Session, append: &Append, header: LiteralHeader) -> Result<(), Failed> {
    if header.binary {
        return Err(Reply::bad("BINARY is not offered").into());
    }
    if header.size > limits::APPEND {
        let text = format!("Messages can have at most {} octets", limits::APPEND);
        return Err(Reply::no(text).code("TOOBIG").into());
    }
    if header.size == 0 {
        // RFC 3502 §6.3.11: that is how a client takes back its APPEND.
        return Err(Reply::no("There is no message").into());
    }
    let token = session.token()?;
    match session.shared.mailbox(&token, &names::kept(&append.mailbox)).await {
        Err(Failed::Reply(reply)) if reply.code.as_deref() == Some("NONEXISTENT") => Err(try_create().into()),
        Err(other) => Err(other),
        Ok(_) => Ok(()),
    }
}

fn try_create() -> Reply {
    Reply::no("There is no such mailbox, create it first").code("TRYCREATE")
}

fn no_mailbox(status: tonic::Status) -> Failed {
    if status.code() == Code::NotFound {
        try_create().into()
    } else {
        status.into()
    }
}

/// Refuses the message: a client that asked first does not send it; what comes without asking is thrown away.
async fn decline(session: &mut Session, header: LiteralHeader, failed: Failed) -> Outcome {
    if matches!(failed, Failed::Stop(_)) || header.synchronizing {
        return Err(failed);
    }
    if header.size > limits::DISCARD {
        return Err(Stop::Bye("The message is too large".into()).into());
    }
    session.connection.discard(header.size).await?;
    end(session).await?;
    Err(failed)
}

/// Takes the message in.
async fn receive(session: &mut Session, size: u64) -> Result<Where, Failed> {
    if size > INLINE_CONTENT_BYTES as u64 {
        return upload(session, size).await.map(Where::UploadId);
    }
    let mut data = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    while (data.len() as u64) < size {
        let piece = session.connection.piece(size - data.len() as u64).await?;
        data.extend_from_slice(&piece);
    }
    Ok(Where::Inline(data.freeze()))
}

/// Streams the message to the store. If the store fails, the rest is read and thrown away.
async fn upload(session: &mut Session, size: u64) -> Result<Bytes, Failed> {
    let token = session.token()?;
    let mut mail = session.shared.mail();
    let (mut pieces, requests) = mpsc::channel(PIECES);
    let connection = &mut session.connection;
    let feed = async move {
        let mut left = size;
        let mut first = token;
        while left > 0 {
            let data = connection.piece(left).await?;
            left -= data.len() as u64;
            let request = UploadRequest {
                session: std::mem::take(&mut first),
                data,
            };
            if pieces.send(request).await.is_err() {
                connection.discard(left).await?;
                break;
            }
        }
        Ok::<(), Stop>(())
    };
    let mut request = tonic::Request::new(requests);
    request.set_timeout(limits::INPUT);
    let (fed, uploaded) = futures::join!(feed, mail.upload(request));
    fed?;
    Ok(uploaded?.into_inner().upload_id)
}

/// The end of the command after the message. MULTIAPPEND (RFC 3502) would go on here.
async fn end(session: &mut Session) -> Result<(), Failed> {
    loop {
        match session.framer.next(&mut session.connection.input) {
            Err(error) => return Err(Stop::Bye(error.to_string().into()).into()),
            Ok(Event::NeedMore) => session.connection.fill_soon(limits::COMMAND_ROOM).await?,
            Ok(Event::Command(rest)) if rest.is_empty() => return Ok(()),
            Ok(Event::Command(_)) => {
                return Err(Reply::bad("The message must be the last of the command, and it was not kept").into());
            }
            Ok(Event::Literal(header)) => {
                session.framer.take_start(&mut session.connection.input);
                if header.synchronizing {
                    return Err(Reply::bad("One message a command, and it was not kept").into());
                }
                return Err(Stop::Bye("One message a command, and it was not kept".into()).into());
            }
        }
    }
}
