//! GETMETADATA and SETMETADATA (RFC 5464): annotations of mailboxes, and of the account as a whole where clients say the
//! server.

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::acl::Right;
use mox_imap_proto::cursor::Names;
use mox_imap_proto::metadata::{self, Depth, GetMetadata, Options, SetMetadata};
use mox_imap_proto::write::put_astring;
use mox_proto::mail::v1::get_metadata_request::Depth as Levels;
use mox_proto::mail::v1::{Annotation, GetMetadataRequest, ListMetadataChangesRequest, Mailbox, SetMetadataRequest};

use crate::limits;
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn get(session: &mut Session, get: &GetMetadata) -> Outcome {
    let mailbox = mailbox(session, &get.mailbox, None).await?;
    let found = read(session, &mailbox, &get.entries, get.options).await?;
    write(
        &mailbox_name(&mailbox),
        &found.annotations,
        session.names,
        &mut session.connection.out,
    );
    let reply = Reply::ok("Done");
    Ok(match found.longest {
        0 => reply,
        // RFC 5464 §4.2.1.
        longest => reply.code(format!("METADATA LONGENTRIES {longest}")),
    })
}

pub(super) async fn set(session: &mut Session, set: SetMetadata) -> Outcome {
    let shared = set.values.iter().any(|(name, _)| name.starts_with("/shared"));
    let needed = if shared { Right::Write } else { Right::Read };
    let mailbox = mailbox(session, &set.mailbox, Some(needed)).await?;
    if set
        .values
        .iter()
        .flat_map(|(_, v)| v)
        .any(|v| v.len() > limits::ANNOTATION)
    {
        // RFC 5464 §4.3.
        let text = format!("A value can have at most {} octets", limits::ANNOTATION);
        return Err(Reply::no(text)
            .code(format!("METADATA MAXSIZE {}", limits::ANNOTATION))
            .into());
    }
    let annotation = |(name, value): (String, Option<Vec<u8>>)| Annotation {
        name,
        value: value.map(Bytes::from),
    };
    let request = SetMetadataRequest {
        session: session.token()?,
        key: mox_rpc::key(),
        mailbox_id: mailbox.map(|m| m.id).unwrap_or_default(),
        annotations: set.values.into_iter().map(annotation).collect(),
    };
    match session.shared.mail().set_metadata(request).await {
        Ok(answer) => {
            // Who changed it need not be told.
            if session.enabled.metadata {
                session.own_metadata.push(answer.into_inner().modseq);
            }
            Ok(Reply::ok("Done"))
        }
        Err(status) if status.message().contains("toomany") => {
            Err(Reply::no("There are too many annotations, remove some first")
                .code("METADATA TOOMANY")
                .into())
        }
        Err(status) => Err(status.into()),
    }
}

/// The mailbox of a command; none is the account as a whole.
async fn mailbox(session: &mut Session, name: &str, right: Option<Right>) -> Result<Option<Mailbox>, Failed> {
    let token = session.token()?;
    if name.is_empty() {
        return Ok(None);
    }
    let mailbox = session.shared.mailbox(&token, &names::kept(name)).await?;
    // RFC 5464 §3.3: reading takes the right to look it up or to read it.
    rights::allow(&mailbox, right.unwrap_or(Right::Lookup))?;
    Ok(Some(mailbox))
}

fn mailbox_name(mailbox: &Option<Mailbox>) -> String {
    mailbox.as_ref().map(|m| m.name.clone()).unwrap_or_default()
}

/// What was found.
pub(super) struct Found {
    /// Those named that don't exist have no value.
    pub annotations: Vec<Annotation>,
    /// Octets of the longest value that was left out.
    longest: u64,
}

/// Reads annotations.
pub(super) async fn read(
    session: &mut Session,
    mailbox: &Option<Mailbox>,
    entries: &[String],
    options: Options,
) -> Result<Found, Failed> {
    let depth = match options.depth {
        Depth::Entry => Levels::Entry,
        Depth::Children => Levels::Children,
        Depth::All => Levels::All,
    };
    let mut request = GetMetadataRequest {
        session: session.token()?,
        mailbox_id: mailbox.as_ref().map(|m| m.id.clone()).unwrap_or_default(),
        entries: entries.to_vec(),
        depth: depth as i32,
        max_value_bytes: options.max_size.map(u64::from),
        page_token: String::new(),
    };
    let mut found = Found {
        annotations: Vec::new(),
        longest: 0,
    };
    loop {
        let answer = session.shared.mail().get_metadata(request.clone()).await?.into_inner();
        for annotation in answer.annotations {
            // Entries that are below one another are asked for once.
            if !found.annotations.iter().any(|a| a.name == annotation.name) {
                found.annotations.push(annotation);
            }
        }
        found.longest = found.longest.max(answer.longest_left_out);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Writes the response, if there is anything to tell.
pub(super) fn write(mailbox: &str, annotations: &[Annotation], naming: Names, out: &mut BytesMut) {
    for (i, annotation) in annotations.iter().enumerate() {
        if i == 0 {
            begin(mailbox, naming, out);
            out.put_slice(b" (");
        } else {
            out.put_u8(b' ');
        }
        put_astring(out, annotation.name.as_bytes(), false);
        out.put_u8(b' ');
        metadata::write_value(annotation.value.as_deref(), out);
        if i + 1 == annotations.len() {
            out.put_slice(b")\r\n");
        }
    }
}

fn begin(mailbox: &str, naming: Names, out: &mut BytesMut) {
    out.put_slice(b"* METADATA ");
    if mailbox.is_empty() {
        out.put_slice(b"\"\"");
    } else {
        names::write(mailbox, naming, out);
    }
}

/// Tells which annotations others changed (RFC 5464 §4.4.2): to clients that enabled it.
pub(crate) async fn tell_changes(session: &mut Session, command: &str) -> Result<(), Failed> {
    let Some(login) = &session.login else { return Ok(()) };
    let token = login.token.clone();
    let Some(mut since) = session.metadata_modseq else {
        // From when it was enabled on.
        let request = ListMetadataChangesRequest {
            session: token,
            now: true,
            ..Default::default()
        };
        let now = session.shared.mail().list_metadata_changes(request).await?;
        session.metadata_modseq = Some(now.into_inner().modseq);
        return Ok(());
    };
    // The hint may be late: who asks is told what is true now.
    if !matches!(command, "NOOP" | "CHECK") && login.subscription.hint().modseq <= since {
        return Ok(());
    }
    loop {
        let request = ListMetadataChangesRequest {
            session: token.clone(),
            since_modseq: since,
            ..Default::default()
        };
        let answer = session.shared.mail().list_metadata_changes(request).await?.into_inner();
        for changed in &answer.changed {
            if session.own_metadata.contains(&changed.modseq) {
                continue;
            }
            let out = &mut session.connection.out;
            begin(&changed.mailbox, session.names, out);
            // RFC 5464 §5, entry-list: only the names, without parentheses.
            for entry in &changed.entries {
                out.put_u8(b' ');
                put_astring(out, entry.as_bytes(), false);
            }
            out.put_slice(b"\r\n");
        }
        since = answer.modseq;
        if !answer.more {
            break;
        }
    }
    session.metadata_modseq = Some(since);
    session.own_metadata.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_one_response() {
        let annotation = |name: &str, value: Option<&'static [u8]>| Annotation {
            name: name.into(),
            value: value.map(Bytes::from_static),
        };
        let mut out = BytesMut::new();
        let all = [
            annotation("/shared/a", Some(b"x\"y")),
            annotation("/private/b c", None),
            annotation("/private/d", Some(b"\0")),
        ];
        write("Inbox", &all, Names::Utf7, &mut out);
        assert_eq!(
            &out[..],
            b"* METADATA INBOX (/shared/a \"x\\\"y\" \"/private/b c\" NIL /private/d ~{1}\r\n\0)\r\n"
        );
        out.clear();
        write("", &all[..1], Names::Utf7, &mut out);
        assert_eq!(&out[..], b"* METADATA \"\" (/shared/a \"x\\\"y\")\r\n");
        out.clear();
        write("", &[], Names::Utf7, &mut out);
        assert!(out.is_empty());
    }
}
