//! What a FETCH needs to know about messages, and what it writes of each.

use mox_imap_proto::fetch::{FetchItem, Rfc822};
use mox_imap_proto::section::{Partial, Section, SectionText};
use mox_proto::mail::v1::{Column, MessagePart};

use crate::reply::Reply;

/// An item of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Envelope,
    Body,
    BodyStructure,
    Section(SectionItem),
}

/// A section of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionItem {
    /// What the answer calls it, with the space after it.
    pub label: Vec<u8>,
    pub section: Section,
    pub partial: Option<Partial>,
}

/// What is asked of the store, and told of each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub items: Vec<Item>,
    /// Messages that are told are then seen.
    pub sets_seen: bool,
}

impl Plan {
    /// The plan for what a client asks.
    pub(crate) fn new(items: &[FetchItem], uid: bool) -> Result<Self, Reply> {
        let mut plan = Self {
            items: Vec::with_capacity(items.len() + 1),
            sets_seen: false,
        };
        // RFC 9051 §6.4.9: UID FETCH tells UIDs in any case.
        if uid && !items.contains(&FetchItem::Uid) {
            plan.items.push(Item::Uid);
        }
        for item in items {
            let item = plan.item(item)?;
            // Asking twice is answered once.
            if !plan.items.contains(&item) {
                plan.items.push(item);
            }
        }
        Ok(plan)
    }

    fn item(&mut self, item: &FetchItem) -> Result<Item, Reply> {
        Ok(match item {
            FetchItem::Uid => Item::Uid,
            FetchItem::Flags => Item::Flags,
            FetchItem::InternalDate => Item::InternalDate,
            FetchItem::Size => Item::Size,
            FetchItem::Envelope => Item::Envelope,
            FetchItem::Body => Item::Body,
            FetchItem::BodyStructure => Item::BodyStructure,
            FetchItem::Rfc822(which) => {
                // RFC 3501 §6.4.5: RFC822.HEADER alone leaves \Seen as it is.
                let (label, text, peek) = match which {
                    Rfc822::All => ("RFC822 ", None, false),
                    Rfc822::Header => ("RFC822.HEADER ", Some(SectionText::Header), true),
                    Rfc822::Text => ("RFC822.TEXT ", Some(SectionText::Text), false),
                };
                self.sets_seen |= !peek;
                let section = Section { part: Vec::new(), text };
                Item::Section(SectionItem {
                    label: label.into(),
                    section,
                    partial: None,
                })
            }
            FetchItem::Section { peek, section, partial } => {
                self.sets_seen |= !peek;
                let mut label = b"BODY".to_vec();
                section.write(&mut label);
                if let Some(partial) = partial {
                    // RFC 9051 §7.5.2: only where it starts.
                    label.extend_from_slice(format!("<{}>", partial.offset).as_bytes());
                }
                label.push(b' ');
                Item::Section(SectionItem {
                    label,
                    section: section.clone(),
                    partial: *partial,
                })
            }
            FetchItem::Binary { .. } | FetchItem::BinarySize(_) => return Err(not_offered("BINARY")),
            FetchItem::ModSeq => return Err(not_offered("CONDSTORE")),
            FetchItem::Preview { .. } => return Err(not_offered("PREVIEW")),
            FetchItem::SaveDate => return Err(not_offered("SAVEDATE")),
            FetchItem::EmailId | FetchItem::ThreadId => return Err(not_offered("OBJECTID")),
        })
    }

    /// Whether contents must be read.
    pub(crate) fn has_sections(&self) -> bool {
        self.items.iter().any(|i| matches!(i, Item::Section(_)))
    }

    /// The columns that rows need.
    pub(crate) fn columns(&self) -> u32 {
        let mut columns = Column::Uid as u32;
        for item in &self.items {
            columns |= match item {
                Item::Flags => Column::Flags as u32,
                Item::InternalDate => Column::Received as u32,
                Item::Size | Item::Section(_) => Column::Size as u32,
                _ => 0,
            };
        }
        if self.sets_seen {
            columns | Column::Flags as u32
        } else {
            columns
        }
    }

    /// What is computed of messages that is needed; none, if rows do.
    pub(crate) fn parts(&self) -> u32 {
        let has = |f: fn(&Item) -> bool| self.items.iter().any(f);
        let envelope = has(|i| matches!(i, Item::Envelope));
        let structure = has(|i| match i {
            Item::Body | Item::BodyStructure => true,
            // A whole message is where it is; of anything else the structure says where.
            Item::Section(item) => item.section != Section::default(),
            _ => false,
        });
        match (envelope, structure) {
            (true, true) => MessagePart::Computed as u32,
            (true, false) => MessagePart::Envelope as u32,
            (false, true) => MessagePart::Structure as u32,
            (false, false) => 0,
        }
    }
}

fn not_offered(what: &str) -> Reply {
    Reply::bad(format!("{what} is not offered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(part: &[u32], peek: bool) -> FetchItem {
        FetchItem::Section {
            peek,
            section: Section {
                part: part.to_vec(),
                text: None,
            },
            partial: None,
        }
    }

    #[test]
    fn a_plan_asks_for_what_it_needs() {
        let plan = Plan::new(&[FetchItem::Flags], true).unwrap();
        assert_eq!(plan.items, [Item::Uid, Item::Flags]);
        assert_eq!(
            (plan.columns(), plan.parts(), plan.has_sections()),
            (Column::Flags as u32, 0, false)
        );

        let plan = Plan::new(&[section(&[], true), FetchItem::Uid], true).unwrap();
        assert_eq!(
            (plan.columns(), plan.parts(), plan.sets_seen),
            (Column::Size as u32, 0, false)
        );

        let plan = Plan::new(&[section(&[1], false), FetchItem::Envelope], false).unwrap();
        assert_eq!(plan.columns(), Column::Size as u32 | Column::Flags as u32);
        assert_eq!((plan.parts(), plan.sets_seen), (MessagePart::Computed as u32, true));
        assert!(Plan::new(&[FetchItem::ModSeq], false).is_err());
    }

    #[test]
    fn sections_are_labelled_as_asked() {
        let item = FetchItem::Section {
            peek: true,
            section: Section {
                part: vec![1, 2],
                text: Some(SectionText::HeaderFields(vec!["From".into()])),
            },
            partial: Some(Partial { offset: 5, length: 10 }),
        };
        let plan = Plan::new(&[item], false).unwrap();
        let Item::Section(item) = &plan.items[0] else { panic!() };
        assert_eq!(item.label, b"BODY[1.2.HEADER.FIELDS (From)]<5> ");
    }
}
