//! LSUB (RFC 3501 §6.3.9): subscribed names.

use std::collections::BTreeSet;

use bytes::BufMut;
use mox_imap_proto::mailbox::{Pattern, SEPARATOR};

use crate::names;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, reference: &str, pattern: &str) -> Outcome {
    let token = session.token()?;
    let all = session.shared.mailboxes(&token).await?;
    let pattern = Pattern::new(reference, pattern);
    let mut parents = BTreeSet::new();
    let subscribed = all
        .iter()
        .filter(|m| m.subscribed)
        .map(|m| (names::shown(&m.name), m.exists));
    let mut lines = Vec::new();
    for (name, exists) in subscribed {
        if pattern.matches(&name) {
            lines.push((name, if exists { "" } else { "\\Noselect" }));
        } else if pattern.ends_in_level() {
            // A pattern that ends in % also names parents of what is subscribed, with \Noselect.
            let ends = name.match_indices(SEPARATOR).map(|(i, _)| &name[..i]);
            parents.extend(ends.filter(|parent| pattern.matches(parent)).map(str::to_owned));
        }
    }
    for parent in parents {
        if !lines.iter().any(|(name, _)| *name == parent) {
            lines.push((parent, "\\Noselect"));
        }
    }
    for (name, attributes) in lines {
        let out = &mut session.connection.out;
        out.put_slice(format!("* LSUB ({attributes}) \"{SEPARATOR}\" ").as_bytes());
        mox_imap_proto::mailbox::write(&name, session.names, out);
        out.put_slice(b"\r\n");
        session.connection.flush_if_large().await?;
    }
    Ok(Reply::ok("Done"))
}
