//! CAPABILITY (RFC 9051 §6.1.1).

use bytes::BufMut;

use crate::commands::offered::is_off;
use crate::reply::Reply;
use crate::session::Session;

/// What holds in every state. Only what works is here.
const ALWAYS: &[&str] = &[
    "IMAP4rev2",
    "IMAP4rev1",
    "LITERAL+",
    "SASL-IR",
    "ID",
    "ENABLE",
    "IDLE",
    "NAMESPACE",
    "CHILDREN",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "ESEARCH",
    "WITHIN",
    "STATUS=SIZE",
    "SORT",
    "SORT=DISPLAY",
    "ESORT",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "I18NLEVEL=1",
    "PARTIAL",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "MULTISEARCH",
    "NOTIFY",
    "LIST-METADATA",
    "LIST-MYRIGHTS",
    "METADATA",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "ACL",
    "RIGHTS=kxte",
    "MULTIAPPEND",
    "CATENATE",
    "REPLACE",
    "CONDSTORE",
    "QRESYNC",
    "SEARCHRES",
    "PREVIEW",
    "SAVEDATE",
    "UIDONLY",
    "INPROGRESS",
    "BINARY",
    "OBJECTID",
    "UTF8=ACCEPT",
];

/// The capabilities of now, apart by spaces.
pub(crate) fn list(session: &Session) -> String {
    let mut out: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    out.push(format!("APPENDLIMIT={}", crate::limits::APPEND));
    out.push(format!("MESSAGELIMIT={}", crate::limits::MESSAGES));
    match &session.login {
        Some(login) => {
            out.push("UNAUTHENTICATE".to_owned());
            // RFC 4978 §2: what is on can't be asked for.
            if !session.compressed {
                out.push("COMPRESS=DEFLATE".to_owned());
            }
            // An account's clients may use some extension wrongly.
            let config = session.shared.config.current();
            if let Some(account) = config.accounts.get(&login.account) {
                let off = &account.imap_capabilities_disabled;
                out.retain(|name| !is_off(off, name));
            }
        }
        None => {
            if session.info.tls.is_none() && session.tls.is_some() {
                out.push("STARTTLS".to_owned());
            }
            if session.may_log_in() {
                out.extend(mechanisms(session).into_iter().map(|name| format!("AUTH={name}")));
            } else {
                out.push("LOGINDISABLED".to_owned());
            }
        }
    }
    out.join(" ")
}

/// The SASL mechanisms of now, best first.
pub(super) fn mechanisms(session: &Session) -> Vec<&'static str> {
    let bound = session.info.binds_channel();
    let all = [
        // With a certificate whose key may be registered.
        ("EXTERNAL", session.info.has_public_key()),
        ("SCRAM-SHA-256-PLUS", bound),
        ("SCRAM-SHA-256", true),
        ("SCRAM-SHA-1-PLUS", bound),
        ("SCRAM-SHA-1", true),
        ("CRAM-MD5", true),
        ("PLAIN", true),
    ];
    all.into_iter().filter(|m| m.1).map(|m| m.0).collect()
}

pub(super) fn run(session: &mut Session) -> Reply {
    let line = format!("* CAPABILITY {}\r\n", list(session));
    session.connection.out.put_slice(line.as_bytes());
    Reply::ok("Done")
}
