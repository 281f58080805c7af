//! Telling of mailboxes other than the selected one.

use bytes::{BufMut, Bytes, BytesMut};
use mox_imap_proto::acl::Right;
use mox_imap_proto::cursor::Names;
use mox_imap_proto::mailbox::{self, SEPARATOR};
use mox_imap_proto::write::{put_astring, put_number};
use mox_proto::mail::v1::list_account_changes_response::ChangedMailbox;
use mox_proto::mail::v1::{ListAccountChangesRequest, ListAccountChangesResponse, Mailbox};

use super::known::{Known, One, is_visible};
use super::{Notify, event};
use crate::enabled::Enabled;
use crate::reply::Failed;
use crate::rights;
use crate::session::Session;

/// Asks what changed in the account since it was last looked at, and tells it.
///
/// A hint of the client's own changes may be late, and they must be recognized.
pub(crate) async fn others(session: &mut Session, hint: u64) -> Result<(), Failed> {
    let mut must_ask = session.notify.as_ref().is_some_and(|n| !n.own.is_empty());
    loop {
        let Some(since) = session.notify.as_ref().and_then(|n| n.known.as_ref()).map(|k| k.modseq) else {
            return Ok(());
        };
        if hint <= since && !std::mem::take(&mut must_ask) {
            break;
        }
        let request = ListAccountChangesRequest {
            session: session.token()?,
            since_modseq: since,
        };
        let answer = session.shared.mail().list_account_changes(request).await?.into_inner();
        if answer.resync {
            overflow(session);
            return Ok(());
        }
        let Session {
            notify: Some(notify),
            connection,
            selected,
            ..
        } = session
        else {
            return Ok(());
        };
        let telling = Telling {
            names: session.names,
            enabled: session.enabled,
            selected: selected.as_ref().map(|s| &s.id),
        };
        telling.page(notify, &answer, &mut connection.out);
        connection.flush_if_large().await?;
        if !answer.more {
            break;
        }
    }
    if let Some(notify) = &mut session.notify {
        notify.own.clear();
    }
    Ok(())
}

/// RFC 5465 §5.8: what happened can't be told any more, so that the client must look for itself.
fn overflow(session: &mut Session) {
    session.notify = Some(Box::new(Notify::none()));
    session
        .connection
        .out
        .put_slice(b"* OK [NOTIFICATIONOVERFLOW] Too much happened, ask again with NOTIFY\r\n");
}

/// How a session is told.
pub(crate) struct Telling<'s> {
    pub names: Names,
    pub enabled: Enabled,
    /// The mailbox that is told of otherwise.
    pub selected: Option<&'s Bytes>,
}

impl Telling<'_> {
    fn page(&self, notify: &mut Notify, changes: &ListAccountChangesResponse, out: &mut BytesMut) {
        let Some(mut known) = notify.known.take() else { return };
        known.modseq = known.modseq.max(changes.modseq);
        // First all as they are now, as what is told of one depends on the others.
        let mut before: Vec<Option<One>> = Vec::with_capacity(changes.mailboxes.len());
        for change in &changes.mailboxes {
            before.push(match visible(change) {
                Some(mailbox) => known.put(change.mailbox_id.clone(), One::of(mailbox)),
                None => known.remove(&change.mailbox_id),
            });
        }
        let mut told: Vec<Box<str>> = Vec::new();
        self.names(notify, &known, changes, &before, &mut told, out);
        self.subscriptions(notify, &known, changes, &told, out);
        for (change, before) in changes.mailboxes.iter().zip(&before) {
            self.mailbox(notify, change, before.as_ref(), out);
        }
        if notify.wants_server_metadata() && !notify.own.iter().any(String::is_empty) {
            self.metadata("", &changes.server_metadata, out);
        }
        notify.known = Some(known);
    }

    /// MailboxName (RFC 5465 §5.4). Adds the names that were told.
    fn names(
        &self,
        notify: &Notify,
        known: &Known,
        changes: &ListAccountChangesResponse,
        before: &[Option<One>],
        told: &mut Vec<Box<str>>,
        out: &mut BytesMut,
    ) {
        let mut parents: Vec<&str> = Vec::new();
        let now: Vec<Option<One>> = changes.mailboxes.iter().map(|c| visible(c).map(One::of)).collect();
        let pairs = before.iter().zip(&now);
        let renamed: Vec<(&str, &str)> = pairs
            .filter_map(|(old, new)| Some((&*old.as_ref()?.name, &*new.as_ref()?.name)))
            .filter(|(old, new)| old != new)
            .collect();
        for (old, new) in before.iter().zip(&now) {
            let name = match (old, new) {
                (Some(old), Some(new)) if old.name != new.name => {
                    // Children are renamed along, which is not told of each.
                    let with_parent = renamed.iter().any(|(from, to)| {
                        let rest = |name: &str, top: &str| {
                            name.strip_prefix(top)
                                .filter(|r| r.starts_with(SEPARATOR))
                                .map(str::to_owned)
                        };
                        let rest_of_old = rest(&old.name, from);
                        rest_of_old.is_some() && rest_of_old == rest(&new.name, to)
                    });
                    let wanted = notify.events(&new.name, new.subscribed) | notify.events(&old.name, old.subscribed);
                    if with_parent || wanted & event::NAME == 0 || notify.is_own(&new.name) {
                        continue;
                    }
                    self.list(known, &new.name, new, Some(&old.name), out);
                    told.push(new.name.clone());
                    continue;
                }
                (None, Some(new)) => {
                    // RFC 5465 §5.4: a new INBOX is there since the old one was renamed, which is told.
                    if mailbox::is_inbox(&new.name) {
                        continue;
                    }
                    if notify.events(&new.name, new.subscribed) & event::NAME != 0 && !notify.is_own(&new.name) {
                        self.list(known, &new.name, new, None, out);
                        told.push(new.name.clone());
                    }
                    &new.name
                }
                (Some(old), None) => {
                    let wanted = notify.events(&old.name, old.subscribed) & event::NAME != 0;
                    // Another may have been created under the name meanwhile, which is told then.
                    if wanted && known.named(&old.name).is_none() && !notify.is_own(&old.name) {
                        self.list_missing(known, &old.name, old.subscribed, out);
                        told.push(old.name.clone());
                    }
                    &old.name
                }
                _ => continue,
            };
            if notify.is_own(name) {
                continue;
            }
            if let Some((parent, _)) = name.rsplit_once(SEPARATOR) {
                parents.push(parent);
            }
        }
        // The direct parents of what came and went are affected too.
        for parent in parents {
            let one = known.named(parent);
            let subscribed = one.is_some_and(|o| o.subscribed);
            if told.iter().any(|t| **t == *parent) || notify.events(parent, subscribed) & event::NAME == 0 {
                continue;
            }
            if let Some(one) = one {
                self.list(known, parent, one, None, out);
                told.push(parent.into());
            }
        }
    }

    /// SubscriptionChange (RFC 5465 §5.5).
    fn subscriptions(
        &self,
        notify: &Notify,
        known: &Known,
        changes: &ListAccountChangesResponse,
        told: &[Box<str>],
        out: &mut BytesMut,
    ) {
        for (name, subscribed) in changes.subscriptions.iter().zip(&changes.subscribed) {
            let name = crate::names::shown(name);
            // Subscribing and unsubscribing are events of a mailbox that is subscribed before or after.
            if notify.events(&name, true) & event::SUBSCRIPTION == 0
                || told.iter().any(|t| **t == *name)
                || notify.is_own(&name)
            {
                continue;
            }
            match known.named(&name) {
                Some(one) => self.list(known, &name, one, None, out),
                None => self.list_missing(known, &name, *subscribed, out),
            }
        }
    }

    /// Events of messages and metadata in a mailbox.
    fn mailbox(&self, notify: &Notify, change: &ChangedMailbox, before: Option<&One>, out: &mut BytesMut) {
        let Some(mailbox) = visible(change) else { return };
        let now = One::of(mailbox);
        let wanted = notify.events(&now.name, now.subscribed);
        if wanted & event::METADATA != 0 && !notify.is_own(&now.name) {
            self.metadata(&now.name, &change.metadata, out);
        }
        let readable = rights::of(mailbox).has(Right::Read);
        if self.selected == Some(&change.mailbox_id) || wanted & event::MESSAGES == 0 || !readable {
            return;
        }
        let uid_next = before.map_or(0, |b| b.uid_next);
        let new = wanted & event::NEW != 0 && now.uid_next > uid_next.max(1);
        let gone = wanted & event::EXPUNGE != 0 && change.vanished.iter().any(|r| r.first < uid_next);
        let is_inbox_anew = before.is_none() && mailbox::is_inbox(&now.name);
        let flags = wanted & event::FLAGS != 0 && (is_inbox_anew || change.changed.iter().any(|r| r.first < uid_next));
        let unseen = wanted & event::FLAGS != 0 && before.is_some_and(|b| b.unseen != now.unseen);
        let mut items: Vec<Status> = Vec::new();
        if new || gone {
            items.extend([Status::Messages, Status::UidNext, Status::UidValidity]);
        } else if (flags && self.enabled.condstore) || unseen || is_inbox_anew && flags {
            items.push(Status::UidValidity);
        }
        if items.is_empty() {
            return;
        }
        if unseen {
            items.push(Status::Unseen);
        }
        // RFC 5465 §5.1 to §5.3.
        if self.enabled.condstore {
            items.push(Status::HighestModSeq);
        }
        self.status(mailbox, &items, out);
    }

    /// How a mailbox is now, at the time of NOTIFY SET STATUS (RFC 5465 §3.1).
    pub(crate) fn initial_status(&self, mailbox: &Mailbox, wanted: u8, out: &mut BytesMut) {
        let mut items = vec![Status::Messages, Status::UidNext, Status::UidValidity];
        if wanted & event::FLAGS != 0 {
            items.extend([Status::Unseen, Status::HighestModSeq]);
        }
        self.status(mailbox, &items, out);
    }

    fn status(&self, mailbox: &Mailbox, items: &[Status], out: &mut BytesMut) {
        out.put_slice(b"* STATUS ");
        crate::names::write(&mailbox.name, self.names, out);
        let mut before: &[u8] = b" (";
        for item in items {
            let (name, value): (&[u8], u64) = match item {
                Status::Messages => (b"MESSAGES ", mailbox.messages.into()),
                Status::UidNext => (b"UIDNEXT ", mailbox.uid_next.into()),
                Status::UidValidity => (b"UIDVALIDITY ", mailbox.uid_validity.into()),
                Status::Unseen => (b"UNSEEN ", mailbox.unseen.into()),
                Status::HighestModSeq => (b"HIGHESTMODSEQ ", mailbox.highest_modseq),
            };
            out.put_slice(before);
            out.put_slice(name);
            put_number(out, value);
            before = b" ";
        }
        out.put_slice(b")\r\n");
    }

    fn list(&self, known: &Known, name: &str, one: &One, old: Option<&str>, out: &mut BytesMut) {
        let mut attributes: Vec<&str> = Vec::new();
        if one.subscribed {
            attributes.push("\\Subscribed");
        }
        attributes.push(children(known, name));
        attributes.extend(one.special_use.iter().map(String::as_str));
        self.write_list(&attributes, name, old, out);
    }

    fn list_missing(&self, known: &Known, name: &str, subscribed: bool, out: &mut BytesMut) {
        let mut attributes = vec!["\\NonExistent"];
        if subscribed {
            attributes.push("\\Subscribed");
        }
        attributes.push(children(known, name));
        self.write_list(&attributes, name, None, out);
    }

    fn write_list(&self, attributes: &[&str], name: &str, old: Option<&str>, out: &mut BytesMut) {
        out.put_slice(format!("* LIST ({}) \"{SEPARATOR}\" ", attributes.join(" ")).as_bytes());
        mailbox::write(name, self.names, out);
        if let Some(old) = old {
            out.put_slice(b" (\"OLDNAME\" (");
            mailbox::write(old, self.names, out);
            out.put_slice(b"))");
        }
        out.put_slice(b"\r\n");
    }

    /// RFC 5464 §4.4.2: only the names.
    fn metadata(&self, name: &str, entries: &[String], out: &mut BytesMut) {
        if entries.is_empty() {
            return;
        }
        out.put_slice(b"* METADATA ");
        if name.is_empty() {
            out.put_slice(b"\"\"");
        } else {
            mailbox::write(name, self.names, out);
        }
        for entry in entries {
            out.put_u8(b' ');
            put_astring(out, entry.as_bytes(), self.enabled.utf8_strings());
        }
        out.put_slice(b"\r\n");
    }
}

fn visible(change: &ChangedMailbox) -> Option<&Mailbox> {
    change.mailbox.as_ref().filter(|m| is_visible(m))
}

fn children(known: &Known, name: &str) -> &'static str {
    if known.has_children(name) {
        "\\HasChildren"
    } else {
        "\\HasNoChildren"
    }
}

#[derive(Clone, Copy)]
enum Status {
    Messages,
    UidNext,
    UidValidity,
    Unseen,
    HighestModSeq,
}

impl Notify {
    /// RFC 5465 §5: what the client did itself it need not be told.
    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::cursor::Cursor;
    use mox_imap_proto::notify;
    use mox_proto::mail::v1::UidRange;

    use super::*;

    fn mailbox(id: u8, name: &str, uid_next: u32, unseen: u32) -> Mailbox {
        Mailbox {
            id: vec![id].into(),
            name: name.to_owned(),
            exists: true,
            rights: "lrswipkxtea".to_owned(),
            uid_validity: 7,
            uid_next,
            unseen,
            messages: uid_next - 1,
            highest_modseq: 99,
            ..Default::default()
        }
    }

    fn changed(id: u8, mailbox: Option<Mailbox>) -> ChangedMailbox {
        ChangedMailbox {
            mailbox_id: vec![id].into(),
            mailbox,
            ..Default::default()
        }
    }

    fn notify(groups: &str) -> Notify {
        let command = format!("SET {groups}");
        let mut c = Cursor::new(command.as_bytes(), Names::Utf7);
        let notify::Notify::Set { groups, .. } = notify::Notify::parse(&mut c).unwrap() else {
            panic!("not set")
        };
        let mut notify = Notify::new(&groups).unwrap();
        let all = [
            mailbox(1, "Inbox", 5, 1),
            mailbox(2, "a", 3, 0),
            mailbox(3, "a/b", 1, 0),
        ];
        notify.known = Some(Known::new(10, &all));
        notify
    }

    fn told(notify: &mut Notify, condstore: bool, changes: &ListAccountChangesResponse) -> String {
        let selected = Bytes::from(vec![9]);
        let telling = Telling {
            names: Names::Utf7,
            enabled: Enabled {
                condstore,
                ..Enabled::default()
            },
            selected: Some(&selected),
        };
        let mut out = BytesMut::new();
        telling.page(notify, changes, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn page(mailboxes: Vec<ChangedMailbox>) -> ListAccountChangesResponse {
        ListAccountChangesResponse {
            mailboxes,
            modseq: 20,
            ..Default::default()
        }
    }

    #[test]
    fn messages_are_told_by_status() {
        let mut n = notify("(personal (MessageNew MessageExpunge FlagChange))");
        let new = || page(vec![changed(1, Some(mailbox(1, "Inbox", 6, 2)))]);
        assert_eq!(
            told(&mut n, true, &new()),
            "* STATUS INBOX (MESSAGES 5 UIDNEXT 6 UIDVALIDITY 7 UNSEEN 2 HIGHESTMODSEQ 99)\r\n"
        );
        assert_eq!(told(&mut n, true, &new()), "", "not again");
        let range = |first| vec![UidRange { first, last: first }];
        let flags = || {
            let mut change = changed(1, Some(mailbox(1, "Inbox", 6, 2)));
            change.changed = range(2);
            page(vec![change])
        };
        assert_eq!(
            told(&mut n, true, &flags()),
            "* STATUS INBOX (UIDVALIDITY 7 HIGHESTMODSEQ 99)\r\n"
        );
        // RFC 5465 §5.1: without CONDSTORE there would be nothing to tell.
        assert_eq!(told(&mut n, false, &flags()), "");
        let mut change = changed(2, Some(mailbox(2, "a", 3, 0)));
        change.vanished = range(1);
        assert_eq!(
            told(&mut n, false, &page(vec![change])),
            "* STATUS a (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 7)\r\n"
        );
        // The selected mailbox is told of otherwise.
        assert_eq!(
            told(&mut n, false, &page(vec![changed(9, Some(mailbox(9, "s", 9, 9)))])),
            ""
        );
    }

    #[test]
    fn names_are_told_by_list() {
        let mut n = notify("(personal (MailboxName))");
        let created = page(vec![changed(4, Some(mailbox(4, "a/b/c", 1, 0)))]);
        assert_eq!(
            told(&mut n, false, &created),
            "* LIST (\\HasNoChildren) \"/\" a/b/c\r\n* LIST (\\HasChildren) \"/\" a/b\r\n"
        );
        // Children come along with their parent.
        let renamed = page(vec![
            changed(2, Some(mailbox(2, "x", 3, 0))),
            changed(3, Some(mailbox(3, "x/b", 1, 0))),
            changed(4, Some(mailbox(4, "x/b/c", 1, 0))),
        ]);
        assert_eq!(
            told(&mut n, false, &renamed),
            "* LIST (\\HasChildren) \"/\" x (\"OLDNAME\" (a))\r\n"
        );
        assert_eq!(
            told(&mut n, false, &page(vec![changed(4, None)])),
            "* LIST (\\NonExistent \\HasNoChildren) \"/\" x/b/c\r\n* LIST (\\HasNoChildren) \"/\" x/b\r\n"
        );
        // INBOX was renamed: a new one is there, of which nothing is said.
        let renamed = page(vec![
            changed(1, Some(mailbox(1, "old", 5, 1))),
            changed(5, Some(mailbox(5, "Inbox", 1, 0))),
        ]);
        assert_eq!(
            told(&mut n, false, &renamed),
            "* LIST (\\HasNoChildren) \"/\" old (\"OLDNAME\" (INBOX))\r\n"
        );
        // What the client did itself.
        n.own = vec!["mine".into()];
        assert_eq!(
            told(&mut n, false, &page(vec![changed(6, Some(mailbox(6, "mine", 1, 0)))])),
            ""
        );
    }

    #[test]
    fn subscriptions_and_metadata_are_told() {
        let mut n = notify("(mailboxes (a gone) (SubscriptionChange MailboxMetadataChange ServerMetadataChange))");
        let mut a = mailbox(2, "a", 3, 0);
        a.subscribed = true;
        let mut change = changed(2, Some(a));
        change.metadata = vec!["/shared/comment".into(), "/private/x y".into()];
        let changes = ListAccountChangesResponse {
            subscriptions: vec!["a".into(), "gone".into(), "other".into()],
            subscribed: vec![true, true, true],
            server_metadata: vec!["/shared/admin".into()],
            ..page(vec![change])
        };
        assert_eq!(
            told(&mut n, false, &changes),
            "* LIST (\\Subscribed \\HasChildren) \"/\" a\r\n\
             * LIST (\\NonExistent \\Subscribed \\HasNoChildren) \"/\" gone\r\n\
             * METADATA a /shared/comment \"/private/x y\"\r\n* METADATA \"\" /shared/admin\r\n"
        );
    }
}
