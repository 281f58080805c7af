//! A message that arrived, as JSON has it.

use mox_message::{NamedAddress, decode_part_start, headers};
use mox_proto::mail::v1::{Computed, Part};
use serde::{Deserialize, Serialize};

use crate::automated::automated;
use crate::moment::moment;
use crate::structure::{Structure, text};

/// Octets of each text: enough to read, and no more than what a receiver can be expected to take at once.
pub const TEXT_MAX: usize = 1 << 20;
/// Ids of References that are told: as many as threads are made by.
const REFERENCES_MAX: usize = mox_message::limits::REFERENCES;

/// A message that arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Incoming {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Usually one.
    pub from: Vec<NameAddress>,
    /// Of the To field.
    pub to: Vec<NameAddress>,
    /// Of the Cc field.
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    /// Of the Bcc field, which seldom arrives.
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    /// Of the Reply-To field, which most messages do not have.
    pub reply_to: Vec<NameAddress>,
    /// Decoded.
    pub subject: String,
    /// With its brackets.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// With its brackets; empty if there is none.
    pub in_reply_to: String,
    /// With their brackets, the message that it answers last.
    pub references: Vec<String>,
    /// Of the Date field, in RFC 3339; `null` if it has none that can be read.
    pub date: Option<String>,
    /// The first text/plain part that is no attachment, at most [`TEXT_MAX`] octets, lines ending in `\n`.
    pub text: String,
    /// The first text/html part that is no attachment, likewise.
    #[serde(rename = "HTML")]
    pub html: String,
    /// What it consists of.
    pub structure: Structure,
    /// How it arrived, and where it is.
    pub meta: Meta,
}

/// How a message arrived, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// Its number in the account.
    #[serde(rename = "MsgID")]
    pub msg_id: u64,
    /// Of the SMTP transaction; empty for notifications.
    pub mail_from: String,
    /// SPF passed for it.
    pub mail_from_validated: bool,
    /// The address of the From field is that of a domain that SPF or DKIM verified.
    pub msg_from_validated: bool,
    /// Of the SMTP transaction.
    pub rcpt_to: String,
    /// Domains of valid DKIM signatures.
    #[serde(rename = "DKIMVerifiedDomains")]
    pub dkim_verified_domains: Vec<String>,
    /// Who delivered it.
    #[serde(rename = "RemoteIP")]
    pub remote_ip: String,
    /// In RFC 3339.
    pub received: String,
    /// The mailbox that it was delivered to.
    pub mailbox_name: String,
    /// Written by a program: nothing should answer it by itself.
    pub automated: bool,
}

/// Somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NameAddress {
    /// Empty if there is none.
    pub name: String,
    /// localpart@domain.
    pub address: String,
}

impl Incoming {
    /// Of a message. Of `meta`, all but `automated` is to be given.
    #[must_use]
    pub fn of(message: &[u8], meta: Meta) -> Self {
        let summary = mox_message::HeaderSummary::of(message);
        let Computed {
            envelope,
            structure,
            references,
            ..
        } = mox_message::computed(message);
        let (envelope, structure) = (envelope.unwrap_or_default(), structure.unwrap_or_default());
        let automated = automated(message, &structure, &meta.mail_from);
        Self {
            version: crate::VERSION,
            from: named(&summary.from),
            to: named(&summary.to),
            cc: named(&summary.cc),
            bcc: named(&summary.bcc),
            reply_to: named(&summary.reply_to),
            message_id: text(envelope.message_id.as_deref()),
            in_reply_to: text(envelope.in_reply_to.as_deref()),
            references: ids(&references.unwrap_or_default()),
            date: summary.date.map(|seconds| moment(seconds.saturating_mul(1000))),
            text: body(message, &structure, "plain"),
            html: body(message, &structure, "html"),
            structure: Structure::of(message, &structure),
            meta: Meta { automated, ..meta },
            subject: summary.subject,
        }
    }
}

/// The Message-ID of a message, with its brackets; empty if it has none.
#[must_use]
pub fn message_id(message: &[u8]) -> String {
    let field = headers(message).find(|field| field.is("message-id"));
    field.map(|f| text(Some(&f.value()))).unwrap_or_default()
}

fn named(addresses: &[NamedAddress]) -> Vec<NameAddress> {
    let each = addresses.iter().map(|a| NameAddress {
        name: a.name.clone(),
        address: a.address.as_ref().map_or_else(|| a.text.clone(), ToString::to_string),
    });
    each.collect()
}

/// The ids of a References field, the latest if there are many.
fn ids(field: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(field);
    let all = text.split('<').skip(1).filter_map(|piece| {
        let (id, _) = piece.split_once('>')?;
        let id: String = id.chars().filter(|c| !c.is_whitespace()).collect();
        (!id.is_empty()).then(|| format!("<{id}>"))
    });
    let mut ids: Vec<String> = all.collect();
    ids.drain(..ids.len().saturating_sub(REFERENCES_MAX));
    ids
}

/// The text of the first part of a kind that is to be read, not kept as a file.
fn body(message: &[u8], structure: &Part, subtype: &str) -> String {
    let Some(part) = find(structure, subtype) else {
        return String::new();
    };
    // Line ends become shorter, so that a little more is read than is told.
    let mut text = decode_part_start(message, part, 2 * TEXT_MAX).replace("\r\n", "\n");
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

/// Not in messages within: those are not what its author wrote.
fn find<'a>(part: &'a Part, subtype: &str) -> Option<&'a Part> {
    let attached = part
        .disposition
        .as_deref()
        .is_some_and(|d| d.eq_ignore_ascii_case("attachment"));
    if part.media_type == "text" && part.media_subtype == subtype && !attached {
        return Some(part);
    }
    part.parts.iter().find_map(|part| find(part, subtype))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &str = "From: =?utf-8?q?J=C3=B6rg?= <j@remote.example>\r\nTo: a@b.example, \"x y\" <c@d.example>\r\n\
        Cc: e@f.example\r\nReply-To: r@remote.example\r\nSubject: =?utf-8?q?Gr=C3=BCn?=\r\n\
        Message-ID: <One@remote.example>\r\nIn-Reply-To: <p@b.example>\r\nReferences: <o@b.example>\r\n <p@b.example>\r\n\
        Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=\"m\"\r\n\r\npreamble\r\n--m\r\n\
        Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\n\
        Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        gr=FCn\r\nund =\r\nblau\r\n--a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>grün</b>\r\n--a--\r\n--m\r\n\
        Content-Type: Application/PDF; name=\"x.pdf\"\r\nContent-ID: <cid@remote.example>\r\n\
        Content-Disposition: Attachment; filename*=utf-8''gr%C3%BCn.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        aGVsbG8=\r\n--m--\r\n";

    #[test]
    fn a_message_is_told() {
        let meta = Meta {
            msg_id: 7,
            mail_from: "j@remote.example".into(),
            received: moment(1_000),
            ..Meta::default()
        };
        let told = serde_json::to_value(Incoming::of(MESSAGE.as_bytes(), meta)).unwrap();
        let leaf = |kind: &str, charset: &str, size: u64| {
            serde_json::json!({
                "ContentType": kind, "ContentTypeParams": { "charset": charset }, "ContentID": "",
                "ContentDisposition": "", "Filename": "", "DecodedSize": size, "Parts": [],
            })
        };
        let multipart = |subtype: &str, boundary: &str, size: &serde_json::Value, parts: Vec<serde_json::Value>| {
            serde_json::json!({
                "ContentType": format!("multipart/{subtype}"), "ContentTypeParams": { "boundary": boundary },
                "ContentID": "", "ContentDisposition": "", "Filename": "", "DecodedSize": size, "Parts": parts,
            })
        };
        let expected = serde_json::json!({
            "Version": 0,
            "From": [{ "Name": "Jörg", "Address": "j@remote.example" }],
            "To": [{ "Name": "", "Address": "a@b.example" }, { "Name": "x y", "Address": "c@d.example" }],
            "CC": [{ "Name": "", "Address": "e@f.example" }],
            "BCC": [],
            "ReplyTo": [{ "Name": "", "Address": "r@remote.example" }],
            "Subject": "Grün",
            "MessageID": "<One@remote.example>",
            "InReplyTo": "<p@b.example>",
            "References": ["<o@b.example>", "<p@b.example>"],
            "Date": "2026-11-23T09:00:00Z",
            "Text": "grün\nund blau",
            "HTML": "<b>grün</b>",
            "Structure": multipart("mixed", "m", &told["Structure"]["DecodedSize"], vec![
                multipart("alternative", "a", &told["Structure"]["Parts"][0]["DecodedSize"], vec![
                    leaf("text/plain", "iso-8859-1", 14),
                    leaf("text/html", "utf-8", 12),
                ]),
                serde_json::json!({
                    "ContentType": "application/pdf", "ContentTypeParams": { "name": "x.pdf" },
                    "ContentID": "<cid@remote.example>", "ContentDisposition": "attachment",
                    "Filename": "grün.pdf", "DecodedSize": 5, "Parts": [],
                }),
            ]),
            "Meta": {
                "MsgID": 7, "MailFrom": "j@remote.example", "MailFromValidated": false, "MsgFromValidated": false,
                "RcptTo": "", "DKIMVerifiedDomains": [], "RemoteIP": "", "Received": "1970-01-01T00:00:01Z",
                "MailboxName": "", "Automated": false,
            },
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_missing_is_empty() {
        let told = Incoming::of(b"\r\nhello\r\n", Meta::default());
        assert_eq!((told.text.as_str(), told.html.as_str()), ("hello\n", ""));
        assert_eq!(told.date, None);
        assert!(told.from.is_empty() && told.references.is_empty() && told.message_id.is_empty());
        assert_eq!(told.structure.content_type, "text/plain");
        let attached = b"Content-Disposition: attachment\r\n\r\nfile";
        assert_eq!(Incoming::of(attached, Meta::default()).text, "");
        assert_eq!(message_id(b"A: b\r\nMessage-Id:\r\n <x@y> \r\n\r\n"), "<x@y>");
    }

    #[test]
    fn long_texts_are_cut() {
        let message = format!("Subject: a\r\n\r\n{}", "grün\r\n".repeat(400_000));
        let told = Incoming::of(message.as_bytes(), Meta::default());
        assert!(told.text.len() <= TEXT_MAX && told.text.len() > TEXT_MAX - 10);
        assert!(told.text.starts_with("grün\ngrün\n"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "([A-Z][a-z-]{0,9}: ?[ -~]{0,30}\r\n){0,9}") {
            let message = [text.as_bytes(), &bytes].concat();
            let told = Incoming::of(&message, Meta::default());
            let json = serde_json::to_string(&told).unwrap();
            prop_assert_eq!(serde_json::from_str::<Incoming>(&json).unwrap(), told);
        }
    }
}
