//! NOTIFY (RFC 5465): what a client asked to be told of, also while it waits, and telling it.
//!
//! The selected mailbox is told of as ever, but only of the events that were asked for ([`Selected::events`]); this module
//! decides which and when. Of the other mailboxes a session keeps what it last knew ([`known`]), asks the store at a hint
//! which changed, and tells the difference ([`tell`]).
//!
//! [`Selected::events`]: crate::selected::Selected::events

mod known;
mod tell;

use mox_imap_proto::fetch::FetchItem;
use mox_imap_proto::notify::{Event, Filter, Group};

use crate::filters;
use crate::selected::Events;

pub(crate) use self::known::Known;
pub(crate) use self::tell::{Telling, others};

/// Events of mailboxes other than the selected one, as bits.
pub(crate) mod event {
    pub(crate) const NEW: u8 = 1;
    pub(crate) const EXPUNGE: u8 = 2;
    pub(crate) const FLAGS: u8 = 4;
    pub(crate) const NAME: u8 = 8;
    pub(crate) const SUBSCRIPTION: u8 = 16;
    pub(crate) const METADATA: u8 = 32;
    pub(crate) const SERVER_METADATA: u8 = 64;
    /// Of messages.
    pub(crate) const MESSAGES: u8 = NEW | EXPUNGE | FLAGS;
}

/// What a client asked for. Nothing at all is NOTIFY NONE.
pub(crate) struct Notify {
    /// In the selected mailbox.
    pub selected: Events,
    /// Expunges in it are told at once, rather than when a command allows them.
    pub immediate: bool,
    /// What is told of new messages in it.
    pub items: Vec<FetchItem>,
    groups: Vec<(Filter, u8)>,
    /// Of all mailboxes, if any events of others than the selected one are asked for.
    pub known: Option<Known>,
    /// Names that the command that is ending changed: their owner knows.
    pub own: Vec<String>,
}

/// Why a NOTIFY can't be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It contradicts itself.
    Bad(&'static str),
    /// There are events that we don't know.
    Events,
}

impl Notify {
    /// Nothing is told.
    pub(crate) fn none() -> Self {
        Self {
            selected: Events::NONE,
            immediate: false,
            items: Vec::new(),
            groups: Vec::new(),
            known: None,
            own: Vec::new(),
        }
    }

    /// What the groups of a command ask for.
    pub(crate) fn new(groups: &[Group]) -> Result<Self, Refused> {
        let mut notify = Self::none();
        if groups
            .iter()
            .flat_map(|g| &g.events)
            .any(|e| matches!(e, Event::Other(_)))
        {
            return Err(Refused::Events);
        }
        let mut selected = false;
        for group in groups {
            let bits = bits(&group.events)?;
            let items = group.events.iter().find_map(|e| match e {
                Event::MessageNew(items) if !items.is_empty() => Some(items),
                _ => None,
            });
            match &group.filter {
                Filter::Selected | Filter::SelectedDelayed => {
                    if std::mem::replace(&mut selected, true) {
                        // RFC 5465 §6.1.
                        return Err(Refused::Bad("SELECTED and SELECTED-DELAYED may be there once in all"));
                    }
                    if bits & !event::MESSAGES != 0 {
                        return Err(Refused::Bad("The selected mailbox has events of messages only"));
                    }
                    notify.selected = Events {
                        new: bits & event::NEW != 0,
                        expunge: bits & event::EXPUNGE != 0,
                        flags: bits & event::FLAGS != 0,
                    };
                    notify.immediate = group.filter == Filter::Selected;
                    notify.items = items.cloned().unwrap_or_default();
                }
                Filter::SubtreeOne(_) => return Err(Refused::Bad("SUBTREE-ONE is for ESEARCH")),
                // RFC 5465 §8.
                _ if items.is_some() => {
                    return Err(Refused::Bad(
                        "Items of new messages are told of the selected mailbox only",
                    ));
                }
                filter => notify.groups.push((filter.clone(), bits)),
            }
        }
        Ok(notify)
    }

    /// Whether any event of another mailbox than the selected one is asked for.
    pub(crate) fn has_others(&self) -> bool {
        self.groups.iter().any(|g| g.1 != 0)
    }

    /// The events that are asked for of a mailbox of this name.
    pub(crate) fn events(&self, name: &str, subscribed: bool) -> u8 {
        let of = |group: &&(Filter, u8)| filters::covers(&group.0, name, subscribed);
        self.groups.iter().filter(of).fold(0, |bits, group| bits | group.1)
    }

    /// Whether changes of the server's metadata are asked for, wherever.
    pub(crate) fn wants_server_metadata(&self) -> bool {
        self.groups.iter().any(|g| g.1 & event::SERVER_METADATA != 0)
    }
}

/// The events of a group. RFC 5465 §5: some need others.
fn bits(events: &[Event]) -> Result<u8, Refused> {
    let mut annotations = false;
    let bits = events.iter().fold(0, |bits, e| {
        bits | match e {
            Event::MessageNew(_) => event::NEW,
            Event::MessageExpunge => event::EXPUNGE,
            Event::FlagChange => event::FLAGS,
            // There are no annotations (RFC 5257), so that none ever changes.
            Event::AnnotationChange => {
                annotations = true;
                0
            }
            Event::MailboxName => event::NAME,
            Event::SubscriptionChange => event::SUBSCRIPTION,
            Event::MailboxMetadataChange => event::METADATA,
            Event::ServerMetadataChange => event::SERVER_METADATA,
            Event::Other(_) => 0,
        }
    });
    let both = bits & (event::NEW | event::EXPUNGE);
    if both != 0 && both != event::NEW | event::EXPUNGE {
        return Err(Refused::Bad("MessageNew and MessageExpunge are asked for together"));
    }
    if (bits & event::FLAGS != 0 || annotations) && both == 0 {
        return Err(Refused::Bad(
            "FlagChange and AnnotationChange are asked for with MessageNew and MessageExpunge",
        ));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use mox_imap_proto::cursor::{Cursor, Names};
    use mox_imap_proto::notify;

    use super::*;

    fn parse(s: &str) -> Result<Notify, Refused> {
        let command = format!("SET {s}");
        let mut c = Cursor::new(command.as_bytes(), Names::Utf7);
        match notify::Notify::parse(&mut c).unwrap() {
            notify::Notify::Set { groups, .. } => Notify::new(&groups),
            notify::Notify::None => panic!("none"),
        }
    }

    #[test]
    fn events_are_asked_for_as_the_standard_wants() {
        for bad in [
            "(selected (MessageNew))",
            "(personal (FlagChange))",
            "(personal (AnnotationChange))",
            "(personal (MessageExpunge FlagChange))",
            "(selected (MailboxName))",
            "(selected-delayed (ServerMetadataChange))",
            "(selected NONE) (selected-delayed NONE)",
            "(personal (MessageNew (UID) MessageExpunge))",
            "(subtree-one a (MailboxName))",
        ] {
            assert!(matches!(parse(bad), Err(Refused::Bad(_))), "{bad}");
        }
        assert_eq!(parse("(personal (X-NEW))").err(), Some(Refused::Events));
    }

    #[test]
    fn groups_add_up() {
        let n = parse(
            "(selected-delayed (MessageNew (UID) MessageExpunge)) (mailboxes INBOX (MessageNew MessageExpunge)) \
             (personal (SubscriptionChange)) (subtree a (MailboxName ServerMetadataChange))",
        )
        .unwrap();
        assert!(n.selected.new && n.selected.expunge && !n.selected.flags && !n.immediate);
        assert_eq!(n.items, [FetchItem::Uid]);
        assert_eq!(
            n.events("INBOX", false),
            event::NEW | event::EXPUNGE | event::SUBSCRIPTION
        );
        assert_eq!(
            n.events("a/b", true),
            event::SUBSCRIPTION | event::NAME | event::SERVER_METADATA
        );
        assert!(n.has_others() && n.wants_server_metadata());
        let n = parse("(personal NONE)").unwrap();
        assert!(!n.has_others() && n.selected == Events::NONE);
    }
}
