//! LIST (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154).

use std::collections::HashSet;

use bytes::BufMut;
use mox_imap_proto::list::List;
use mox_imap_proto::mailbox::{self, Pattern, SEPARATOR};
use mox_proto::mail::v1::Mailbox;

use crate::commands::status;
use crate::names;
use crate::reply::{Outcome, Reply};
use crate::session::Session;

pub(super) async fn run(session: &mut Session, list: &List) -> Outcome {
    let token = session.token()?;
    if list.returns.my_rights {
        return Err(Reply::bad("MYRIGHTS is not offered").into());
    }
    if let Some(items) = &list.returns.status {
        status::check(items)?;
    }
    // RFC 9051 §6.3.9: an empty pattern asks for the separator.
    if !list.extended && list.patterns.iter().all(String::is_empty) {
        session
            .connection
            .out
            .put_slice(format!("* LIST (\\Noselect) \"{SEPARATOR}\" \"\"\r\n").as_bytes());
        return Ok(Reply::ok("Done"));
    }
    let all = session.shared.mailboxes(&token).await?;
    let patterns: Vec<Pattern> = list.patterns.iter().map(|p| Pattern::new(&list.reference, p)).collect();
    let names: Vec<String> = all.iter().map(|m| names::shown(&m.name)).collect();
    let facts = Facts::of(list, &all, &names);
    for (mailbox, name) in all.iter().zip(&names) {
        if !patterns.iter().any(|p| p.matches(name)) {
            continue;
        }
        let Some(attributes) = facts.attributes(list, mailbox, name) else {
            continue;
        };
        let out = &mut session.connection.out;
        out.put_slice(format!("* LIST ({}) \"{SEPARATOR}\" ", attributes.join(" ")).as_bytes());
        mailbox::write(name, session.names, out);
        if list.select.recursive_match && facts.has_subscribed_child(name) {
            // RFC 5258 §3.5.
            out.put_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
        }
        out.put_slice(b"\r\n");
        if let (Some(items), true) = (&list.returns.status, mailbox.exists) {
            status::write(mailbox, items, session.names, out);
        }
        session.connection.flush_if_large().await?;
    }
    Ok(Reply::ok("Done"))
}

/// What is to be known of all mailboxes for telling of one.
struct Facts {
    /// Names that have existing mailboxes below them.
    parents: HashSet<String>,
    /// Names that have subscribed names below them.
    subscribed_parents: HashSet<String>,
}

impl Facts {
    fn of(list: &List, all: &[Mailbox], names: &[String]) -> Self {
        let above = |name: &str| -> Vec<String> {
            name.match_indices(SEPARATOR)
                .map(|(i, _)| name[..i].to_owned())
                .collect()
        };
        let named = || all.iter().zip(names);
        let recursive = list.select.recursive_match;
        Self {
            parents: named()
                .filter(|(m, _)| m.exists)
                .flat_map(|(_, name)| above(name))
                .collect(),
            subscribed_parents: named()
                .filter(|(m, _)| recursive && list.select.subscribed && m.subscribed)
                .flat_map(|(_, name)| above(name))
                .collect(),
        }
    }

    fn has_subscribed_child(&self, name: &str) -> bool {
        self.subscribed_parents.contains(name)
    }

    /// What is told of a mailbox; nothing, if it is not to be listed.
    fn attributes(&self, list: &List, mailbox: &Mailbox, name: &str) -> Option<Vec<String>> {
        let select = &list.select;
        let has_children = self.parents.contains(name);
        let wanted = (!select.subscribed || mailbox.subscribed || self.has_subscribed_child(name))
            && (!select.special_use || !mailbox.special_use.is_empty());
        // A name that is only subscribed is listed for who asks for those.
        if !wanted || (!mailbox.exists && !has_children && !select.subscribed) {
            return None;
        }
        let mut out = Vec::new();
        if !mailbox.exists {
            // RFC 5258 §3: to clients that don't know it, \Noselect says the same.
            out.push(if list.extended { "\\NonExistent" } else { "\\Noselect" }.to_owned());
        }
        if mailbox.subscribed && (select.subscribed || list.returns.subscribed) {
            out.push("\\Subscribed".to_owned());
        }
        // RFC 3348: for everybody, as it costs nothing.
        out.push(
            if has_children {
                "\\HasChildren"
            } else {
                "\\HasNoChildren"
            }
            .to_owned(),
        );
        // RFC 6154 §2 lets a plain LIST have them; clients look for them there.
        out.extend(mailbox.special_use.iter().cloned());
        Some(out)
    }
}
