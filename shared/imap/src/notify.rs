//! NOTIFY (RFC 5465), and the mailbox filters that it shares with ESEARCH (RFC 7377).

use crate::cursor::{Cursor, Names};
use crate::error::ParseError;
use crate::fetch::FetchItem;
use crate::{limits, mailbox};

/// Which mailboxes are meant (RFC 5465 §6, RFC 7377 §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The one that is selected.
    Selected,
    /// The one that is selected; expunges wait for a command that allows them.
    SelectedDelayed,
    /// Those that mail is delivered to.
    Inboxes,
    /// All of the user's own.
    Personal,
    /// Those that are subscribed.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<String>),
    /// These and those one level below them; of ESEARCH only.
    SubtreeOne(Vec<String>),
    /// These.
    Mailboxes(Vec<String>),
}

/// What clients can be told of (RFC 5465 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message came; of those in the selected mailbox these items are told.
    MessageNew(Vec<FetchItem>),
    /// A message went.
    MessageExpunge,
    /// Flags changed.
    FlagChange,
    /// Annotations of a message changed.
    AnnotationChange,
    /// A mailbox was created, deleted or renamed.
    MailboxName,
    /// A name was subscribed, or no longer.
    SubscriptionChange,
    /// Metadata of a mailbox changed.
    MailboxMetadataChange,
    /// Metadata of the server changed.
    ServerMetadataChange,
    /// One that we don't know, in capitals.
    Other(String),
}

/// Events, and where. No events: `NONE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Where.
    pub filter: Filter,
    /// Which.
    pub events: Vec<Event>,
}

/// A NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// Of nothing any more.
    None,
    /// Of these, and of nothing else any more.
    Set {
        /// Tell how the mailboxes are now.
        status: bool,
        /// At least one.
        groups: Vec<Group>,
    },
}

/// The names of the events, as they are written.
pub const EVENT_NAMES: [&str; 8] = [
    "MessageNew",
    "MessageExpunge",
    "FlagChange",
    "AnnotationChange",
    "MailboxName",
    "SubscriptionChange",
    "MailboxMetadataChange",
    "ServerMetadataChange",
];

impl Notify {
    /// Parses what follows the command's name and a space.
    ///
    /// # Errors
    /// If it is not that.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        if c.take_word("NONE") {
            return Ok(Self::None);
        }
        if !c.take_word("SET ") {
            return Err(c.expected("SET or NONE"));
        }
        let status = c.take_word("STATUS ");
        let mut groups = vec![Group::parse(c)?];
        while c.take(b' ') {
            if groups.len() >= limits::NOTIFY_GROUPS {
                return Err(c.limit("NOTIFY has too many groups of events"));
            }
            groups.push(Group::parse(c)?);
        }
        Ok(Self::Set { status, groups })
    }

    /// Serializes what follows the command's name and a space.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        let Self::Set { status, groups } = self else {
            out.extend_from_slice(b"NONE");
            return;
        };
        out.extend_from_slice(if *status { b"SET STATUS" } else { b"SET" });
        for group in groups {
            out.extend_from_slice(b" (");
            group.filter.write(names, out);
            out.push(b' ');
            if group.events.is_empty() {
                out.extend_from_slice(b"NONE");
            } else {
                out.push(b'(');
                for (i, event) in group.events.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    event.write(out);
                }
                out.push(b')');
            }
            out.push(b')');
        }
    }
}

impl Group {
    fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        c.need(b'(', "an opening parenthesis before a group of events")?;
        let filter = Filter::parse(c)?;
        c.sp()?;
        let mut ahead = c.clone();
        let events = if ahead.take_word("NONE") && ahead.peek() == Some(b')') {
            *c = ahead;
            Vec::new()
        } else {
            c.list(limits::NOTIFY_EVENTS, false, Event::parse)?
        };
        c.need(b')', "a closing parenthesis behind a group of events")?;
        Ok(Self { filter, events })
    }
}

impl Filter {
    /// Parses one filter.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let start = c.clone();
        Ok(match c.word("which mailboxes")?.as_str() {
            "SELECTED" => Self::Selected,
            "SELECTED-DELAYED" => Self::SelectedDelayed,
            "INBOXES" => Self::Inboxes,
            "PERSONAL" => Self::Personal,
            "SUBSCRIBED" => Self::Subscribed,
            "SUBTREE" => Self::Subtree(parse_mailboxes(c)?),
            "SUBTREE-ONE" => Self::SubtreeOne(parse_mailboxes(c)?),
            "MAILBOXES" => Self::Mailboxes(parse_mailboxes(c)?),
            _ => {
                return Err(start.expected(
                    "which mailboxes: SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES",
                ));
            }
        })
    }

    /// Serializes the filter.
    pub fn write(&self, names: Names, out: &mut Vec<u8>) {
        let (word, mailboxes) = match self {
            Self::Selected => ("SELECTED", None),
            Self::SelectedDelayed => ("SELECTED-DELAYED", None),
            Self::Inboxes => ("INBOXES", None),
            Self::Personal => ("PERSONAL", None),
            Self::Subscribed => ("SUBSCRIBED", None),
            Self::Subtree(list) => ("SUBTREE", Some(list)),
            Self::SubtreeOne(list) => ("SUBTREE-ONE", Some(list)),
            Self::Mailboxes(list) => ("MAILBOXES", Some(list)),
        };
        out.extend_from_slice(word.as_bytes());
        if let Some(list) = mailboxes {
            out.extend_from_slice(b" (");
            for (i, name) in list.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                mailbox::write(name, names, out);
            }
            out.push(b')');
        }
    }
}

/// RFC 5465 §8, one-or-more-mailbox.
fn parse_mailboxes(c: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    c.sp()?;
    if c.peek() == Some(b'(') {
        c.list(limits::FILTER_MAILBOXES, false, mailbox::parse)
    } else {
        mailbox::parse(c).map(|name| vec![name])
    }
}

impl Event {
    fn parse(c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let name = c.atom("an event")?;
        let index = EVENT_NAMES.iter().position(|n| n.eq_ignore_ascii_case(name));
        Ok(match index {
            Some(0) => {
                let mut ahead = c.clone();
                if ahead.take(b' ') && ahead.peek() == Some(b'(') {
                    c.sp()?;
                    Self::MessageNew(c.list(limits::FETCH_ITEMS, false, FetchItem::parse)?)
                } else {
                    Self::MessageNew(Vec::new())
                }
            }
            Some(1) => Self::MessageExpunge,
            Some(2) => Self::FlagChange,
            Some(3) => Self::AnnotationChange,
            Some(4) => Self::MailboxName,
            Some(5) => Self::SubscriptionChange,
            Some(6) => Self::MailboxMetadataChange,
            Some(7) => Self::ServerMetadataChange,
            _ => Self::Other(name.to_ascii_uppercase()),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let name = match self {
            Self::MessageNew(_) => EVENT_NAMES[0],
            Self::MessageExpunge => EVENT_NAMES[1],
            Self::FlagChange => EVENT_NAMES[2],
            Self::AnnotationChange => EVENT_NAMES[3],
            Self::MailboxName => EVENT_NAMES[4],
            Self::SubscriptionChange => EVENT_NAMES[5],
            Self::MailboxMetadataChange => EVENT_NAMES[6],
            Self::ServerMetadataChange => EVENT_NAMES[7],
            Self::Other(name) => name,
        };
        out.extend_from_slice(name.as_bytes());
        if let Self::MessageNew(items) = self
            && !items.is_empty()
        {
            out.extend_from_slice(b" (");
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                item.write(out);
            }
            out.push(b')');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<Notify, ParseError> {
        let mut c = Cursor::new(s.as_bytes(), Names::Utf7);
        let notify = Notify::parse(&mut c)?;
        c.end()?;
        Ok(notify)
    }

    #[test]
    fn notifications_are_read() {
        assert_eq!(parse("none").unwrap(), Notify::None);
        let got = parse(
            "set status (selected-delayed (messagenew (uid flags) MessageExpunge)) (subtree Lists (MailboxName)) \
             (mailboxes (a \"b c\") (FUTURE)) (personal NONE)",
        );
        let Notify::Set { status: true, groups } = got.unwrap() else {
            panic!("not set")
        };
        let new = Event::MessageNew(vec![FetchItem::Uid, FetchItem::Flags]);
        let want = [
            (Filter::SelectedDelayed, vec![new, Event::MessageExpunge]),
            (Filter::Subtree(vec!["Lists".into()]), vec![Event::MailboxName]),
            (
                Filter::Mailboxes(vec!["a".into(), "b c".into()]),
                vec![Event::Other("FUTURE".into())],
            ),
            (Filter::Personal, vec![]),
        ];
        assert_eq!(groups, want.map(|(filter, events)| Group { filter, events }));
        for bad in [
            "",
            "SET",
            "SET STATUS",
            "SET (selected)",
            "SET (selected ())",
            "SET (selected MessageNew)",
            "SET (nobody (MessageNew))",
            "SET (mailboxes (MessageNew))",
            "SET (selected (MessageNew ()))",
            "NONE x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
