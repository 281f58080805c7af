//! What a FETCH needs to know about messages, and what it writes of each.

use mox_imap_proto::fetch::{FetchItem, Rfc822};
use mox_imap_proto::section::{Partial, Section, SectionText};
use mox_proto::mail::v1::{Column, MessagePart};

use crate::enabled::Enabled;

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
    ModSeq,
    Preview,
    SaveDate,
    EmailId,
    ThreadId,
    Section(SectionItem),
    Binary(BinaryItem),
}

/// A section of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionItem {
    /// What the answer calls it, with the space after it.
    pub label: Vec<u8>,
    pub section: Section,
    pub partial: Option<Partial>,
}

/// A part of the message without its transfer encoding (RFC 3516).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BinaryItem {
    /// What the answer calls it, with the space after it.
    pub label: Vec<u8>,
    /// Its number; of the whole message, none.
    pub section: Section,
    pub partial: Option<Partial>,
    /// Only how many octets it has.
    pub size: bool,
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
    pub(crate) fn new(items: &[FetchItem], uid: bool, enabled: Enabled) -> Self {
        let mut plan = Self {
            items: Vec::with_capacity(items.len() + 1),
            sets_seen: false,
        };
        // RFC 9051 §6.4.9: UID FETCH tells UIDs in any case; RFC 9586 §3.3: where they are not what the response begins
        // with.
        if uid && !enabled.uidonly && !items.contains(&FetchItem::Uid) {
            plan.items.push(Item::Uid);
        }
        for item in items {
            let item = plan.item(item);
            // Asking twice is answered once.
            if !plan.items.contains(&item) {
                plan.items.push(item);
            }
        }
        plan
    }

    fn item(&mut self, item: &FetchItem) -> Item {
        match item {
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
            FetchItem::Binary { peek, part, partial } => {
                self.sets_seen |= !peek;
                binary(part, *partial, false)
            }
            FetchItem::BinarySize(part) => binary(part, None, true),
            FetchItem::ModSeq => Item::ModSeq,
            // RFC 8970 §3.1: it is there since delivery, so that LAZY makes no difference.
            FetchItem::Preview { .. } => Item::Preview,
            FetchItem::SaveDate => Item::SaveDate,
            FetchItem::EmailId => Item::EmailId,
            FetchItem::ThreadId => Item::ThreadId,
        }
    }

    /// Whether contents must be read.
    pub(crate) fn has_sections(&self) -> bool {
        self.items
            .iter()
            .any(|i| matches!(i, Item::Section(_) | Item::Binary(_)))
    }

    /// The columns that rows need.
    pub(crate) fn columns(&self) -> u32 {
        let mut columns = Column::Uid as u32;
        for item in &self.items {
            columns |= match item {
                Item::Flags => Column::Flags as u32,
                Item::InternalDate => Column::Received as u32,
                Item::Size | Item::Section(_) | Item::Binary(_) => Column::Size as u32,
                Item::ModSeq => Column::Modseq as u32,
                _ => 0,
            };
        }
        if self.sets_seen {
            columns | Column::Flags as u32 | Column::Modseq as u32
        } else {
            columns
        }
    }

    /// Whether rows say enough, if they come with what was computed: nothing is needed but what is written once.
    pub(crate) fn is_summary(&self) -> bool {
        self.items.iter().all(|item| {
            matches!(
                item,
                Item::Uid
                    | Item::Flags
                    | Item::InternalDate
                    | Item::Size
                    | Item::Envelope
                    | Item::Body
                    | Item::BodyStructure
                    | Item::ModSeq
            )
        })
    }

    /// What is computed of messages that is needed; none, if rows do.
    pub(crate) fn parts(&self) -> u32 {
        let has = |f: fn(&Item) -> bool| self.items.iter().any(f);
        let envelope = has(|i| matches!(i, Item::Envelope));
        let structure = has(|i| match i {
            Item::Body | Item::BodyStructure => true,
            // A whole message is where it is; of anything else the structure says where.
            Item::Section(item) => item.section != Section::default(),
            Item::Binary(_) => true,
            _ => false,
        });
        let mut parts = 0;
        for item in &self.items {
            parts |= match item {
                Item::Preview => MessagePart::Preview as u32,
                Item::EmailId => MessagePart::EmailId as u32,
                Item::SaveDate | Item::ThreadId => MessagePart::Record as u32,
                _ => 0,
            };
        }
        parts
            | match (envelope, structure) {
                (true, true) => MessagePart::Computed as u32,
                (true, false) => MessagePart::Envelope as u32,
                (false, true) => MessagePart::Structure as u32,
                (false, false) => 0,
            }
    }
}

fn binary(part: &[u32], partial: Option<Partial>, size: bool) -> Item {
    let section = Section {
        part: part.to_vec(),
        text: None,
    };
    let mut label = if size {
        b"BINARY.SIZE".to_vec()
    } else {
        b"BINARY".to_vec()
    };
    section.write(&mut label);
    if let Some(partial) = partial {
        label.extend_from_slice(format!("<{}>", partial.offset).as_bytes());
    }
    label.push(b' ');
    Item::Binary(BinaryItem {
        label,
        section,
        partial,
        size,
    })
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
        let plan = Plan::new(&[FetchItem::Flags], true, Enabled::default());
        assert_eq!(plan.items, [Item::Uid, Item::Flags]);
        assert_eq!(
            (plan.columns(), plan.parts(), plan.has_sections()),
            (Column::Flags as u32, 0, false)
        );

        let plan = Plan::new(&[section(&[], true), FetchItem::Uid], true, Enabled::default());
        assert_eq!(
            (plan.columns(), plan.parts(), plan.sets_seen),
            (Column::Size as u32, 0, false)
        );

        let plan = Plan::new(&[section(&[1], false), FetchItem::Envelope], false, Enabled::default());
        assert_eq!(
            plan.columns(),
            Column::Size as u32 | Column::Flags as u32 | Column::Modseq as u32
        );
        assert_eq!((plan.parts(), plan.sets_seen), (MessagePart::Computed as u32, true));

        let plan = Plan::new(&[FetchItem::ModSeq, FetchItem::ThreadId], false, Enabled::default());
        assert_eq!(
            (plan.columns(), plan.parts()),
            (Column::Modseq as u32, MessagePart::Record as u32)
        );
        let uidonly = Enabled {
            uidonly: true,
            ..Enabled::default()
        };
        assert_eq!(Plan::new(&[FetchItem::Flags], true, uidonly).items, [Item::Flags]);
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
        let plan = Plan::new(&[item], false, Enabled::default());
        let Item::Section(item) = &plan.items[0] else { panic!() };
        assert_eq!(item.label, b"BODY[1.2.HEADER.FIELDS (From)]<5> ");
    }
}
