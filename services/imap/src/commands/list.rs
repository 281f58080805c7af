//! LIST (RFC 9051 §6.3.9) with selection and return options (RFC 5258), STATUS (RFC 5819), special uses (RFC 6154), rights
//! (RFC 8440) and annotations (RFC 9590).

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;
use mox_imap_proto::acl::Right;
use mox_imap_proto::list::List;
use mox_imap_proto::mailbox::{self, Pattern, SEPARATOR};
use mox_imap_proto::metadata::Options;
use mox_proto::mail::v1::Mailbox;

use crate::commands::{acl, metadata, status};
use crate::names;
use crate::reply::{Failed, Outcome, Reply};
use crate::rights;
use crate::session::Session;

pub(super) async fn run(session: &mut Session, list: &List) -> Outcome {
    let token = session.token()?;
    // RFC 9051 §6.3.9: an empty pattern asks for the separator.
    if !list.extended && list.patterns.iter().all(String::is_empty) {
        session
            .connection
            .out
            .put_slice(format!("* LIST (\\Noselect) \"{SEPARATOR}\" \"\"\r\n").as_bytes());
        return Ok(Reply::ok("Done"));
    }
    if let Some(items) = &list.returns.status {
        status::asked(session, items);
    }
    let all = session.shared.mailboxes(&token).await?;
    for line in lines(list, &all) {
        write(session, list, &line);
        if let Some(mailbox) = line.mailbox.filter(|m| m.exists) {
            write_more(session, list, mailbox).await?;
        }
        session.connection.flush_if_large().await?;
    }
    Ok(Reply::ok("Done"))
}

fn write(session: &mut Session, list: &List, line: &Line<'_>) {
    let out = &mut session.connection.out;
    out.put_slice(format!("* LIST ({}) \"{SEPARATOR}\" ", line.attributes(list).join(" ")).as_bytes());
    mailbox::write(&line.name, session.names, out);
    if line.child_info {
        // RFC 5258 §3.5: which of the options the children match.
        let options = [
            (list.select.subscribed, "\"SUBSCRIBED\""),
            (list.select.special_use, "\"SPECIAL-USE\""),
        ];
        let options: Vec<&str> = options.iter().filter(|o| o.0).map(|o| o.1).collect();
        out.put_slice(format!(" (\"CHILDINFO\" ({}))", options.join(" ")).as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// What RETURN has beside attributes.
async fn write_more(session: &mut Session, list: &List, mailbox: &Mailbox) -> Result<(), Failed> {
    if list.returns.my_rights {
        acl::write_mine(session, mailbox);
    }
    // RFC 5819 §2: a mailbox that can't be asked is listed without.
    if let Some(items) = &list.returns.status
        && rights::of(mailbox).has(Right::Read)
    {
        status::write(mailbox, items, session.names, &mut session.connection.out);
    }
    if let Some(entries) = &list.returns.metadata {
        let named = Some(mailbox.clone());
        let found = metadata::read(session, &named, entries, Options::default()).await?;
        let out = &mut session.connection.out;
        metadata::write(&mailbox.name, &found.annotations, session.names, out);
    }
    Ok(())
}

/// A name that is listed.
struct Line<'m> {
    name: String,
    /// Unless it is only the parent of others.
    mailbox: Option<&'m Mailbox>,
    has_children: bool,
    /// It has children that match the selection (RFC 5258 §3.5).
    child_info: bool,
}

impl Line<'_> {
    fn attributes(&self, list: &List) -> Vec<&str> {
        let mut out = Vec::new();
        if !self.mailbox.is_some_and(|m| m.exists) {
            // RFC 5258 §3: to clients that don't know it, \Noselect says the same.
            out.push(if list.extended { "\\NonExistent" } else { "\\Noselect" });
        }
        let subscribed = self.mailbox.is_some_and(|m| m.subscribed);
        if subscribed && (list.select.subscribed || list.returns.subscribed) {
            out.push("\\Subscribed");
        }
        // RFC 3348: for everybody, as it costs nothing.
        out.push(if self.has_children {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        });
        // RFC 6154 §2 lets a plain LIST have them; clients look for them there.
        let uses = self.mailbox.iter().flat_map(|m| &m.special_use);
        out.extend(uses.map(String::as_str));
        out
    }
}

/// The names that a LIST answers with, in the order of the mailboxes.
fn lines<'m>(list: &List, all: &'m [Mailbox]) -> Vec<Line<'m>> {
    let patterns: Vec<Pattern> = list.patterns.iter().map(|p| Pattern::new(&list.reference, p)).collect();
    let matches = |name: &str| patterns.iter().any(|p| p.matches(name));
    let selected = |m: &Mailbox| {
        let select = &list.select;
        // REMOTE adds nothing: there is nothing remote. What only is subscribed is listed for who asks for that.
        (if select.subscribed { m.subscribed } else { m.exists })
            && (!select.special_use || !m.special_use.is_empty())
            && (!m.exists || rights::of(m).has(Right::Lookup))
    };
    let shown: Vec<String> = all.iter().map(|m| names::shown(&m.name)).collect();
    let mut parents = BTreeSet::new();
    // Names with others below that are selected; whether any of these is not listed itself.
    let mut hiding: BTreeMap<&str, bool> = BTreeMap::new();
    for (mailbox, name) in all.iter().zip(&shown) {
        if mailbox.exists {
            parents.extend(above(name));
        }
        if list.select.recursive_match && selected(mailbox) {
            let hidden = !matches(name);
            for parent in above(name) {
                *hiding.entry(parent).or_default() |= hidden;
            }
        }
    }
    let line = |name: &str, mailbox: Option<&'m Mailbox>| {
        let own = mailbox.is_some_and(&selected);
        // RFC 5258 §3: a parent that does not match itself is only told when that tells of a child that is not.
        let child_info = match hiding.get(name) {
            Some(hidden) => own || *hidden,
            None => false,
        };
        (matches(name) && (own || child_info)).then(|| Line {
            name: name.to_owned(),
            mailbox,
            has_children: parents.contains(name),
            child_info,
        })
    };
    let mut lines: Vec<Line<'m>> = all
        .iter()
        .zip(&shown)
        .filter_map(|(m, name)| line(name, Some(m)))
        .collect();
    // Parents that are not there at all, of names that are only subscribed.
    let known: BTreeSet<&str> = shown.iter().map(String::as_str).collect();
    let missing = hiding.keys().filter(|name| !known.contains(*name));
    lines.extend(missing.filter_map(|name| line(name, None)));
    lines
}

/// The names above, without the name itself.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(SEPARATOR).map(|(i, _)| &name[..i])
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::cursor::{Cursor, Names};

    use super::*;

    fn mailbox(name: &str, exists: bool, subscribed: bool, uses: &[&str]) -> Mailbox {
        Mailbox {
            name: name.to_owned(),
            exists,
            subscribed,
            special_use: uses.iter().map(|u| (*u).to_owned()).collect(),
            rights: if exists { "lr".into() } else { String::new() },
            ..Default::default()
        }
    }

    /// RFC 5258 §5, about.
    fn fruit() -> Vec<Mailbox> {
        vec![
            mailbox("Inbox", true, true, &[]),
            mailbox("Fruit", true, false, &[]),
            mailbox("Fruit/Apple", true, false, &[]),
            mailbox("Fruit/Banana", true, true, &["\\Archive"]),
            mailbox("Fruit/Peach", false, true, &[]),
            mailbox("Tofu", true, false, &[]),
            mailbox("Vegetable/Corn", false, true, &[]),
        ]
    }

    /// Names with attributes, apart by commas.
    fn list(command: &str) -> String {
        let parsed = List::parse(&mut Cursor::new(command.as_bytes(), Names::Utf7)).unwrap();
        let all = fruit();
        let show = |line: &Line<'_>| {
            let info = if line.child_info { "+" } else { "" };
            format!("{}{info} {}", line.name, line.attributes(&parsed).join(" "))
        };
        lines(&parsed, &all).iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_exists_is_listed() {
        assert_eq!(
            list("\"\" %"),
            "INBOX \\HasNoChildren, Fruit \\HasChildren, Tofu \\HasNoChildren"
        );
        assert_eq!(
            list("(REMOTE) \"\" (T* INB%)"),
            "INBOX \\HasNoChildren, Tofu \\HasNoChildren"
        );
        assert_eq!(list("\"\" * RETURN (SUBSCRIBED)").matches("\\Subscribed").count(), 2);
        assert_eq!(
            list("Fruit/ %"),
            "Fruit/Apple \\HasNoChildren, Fruit/Banana \\HasNoChildren \\Archive"
        );
    }

    #[test]
    fn what_is_subscribed_is_listed_whether_it_exists_or_not() {
        assert_eq!(
            list("(SUBSCRIBED) \"\" *"),
            "INBOX \\Subscribed \\HasNoChildren, Fruit/Banana \\Subscribed \\HasNoChildren \\Archive, \
             Fruit/Peach \\NonExistent \\Subscribed \\HasNoChildren, \
             Vegetable/Corn \\NonExistent \\Subscribed \\HasNoChildren"
        );
        assert_eq!(list("(SPECIAL-USE) \"\" *"), "Fruit/Banana \\HasNoChildren \\Archive");
    }

    #[test]
    fn parents_tell_of_children_that_are_not_listed() {
        assert_eq!(
            list("(SUBSCRIBED RECURSIVEMATCH) \"\" %"),
            "INBOX \\Subscribed \\HasNoChildren, Fruit+ \\HasChildren, Vegetable+ \\NonExistent \\HasNoChildren"
        );
        assert_eq!(
            list("(SPECIAL-USE RECURSIVEMATCH) \"\" (Fruit Fruit/Apple)"),
            "Fruit+ \\HasChildren"
        );
        assert!(
            !list("(SUBSCRIBED RECURSIVEMATCH) \"\" *").contains('+'),
            "all are listed themselves"
        );
    }
}
