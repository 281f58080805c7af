//! Where a section of a message is (RFC 9051 §6.4.5.1): parts are ranges of the message's octets, so reading one reads
//! nothing else.

use mox_imap_proto::section::{Section, SectionText};
use mox_proto::mail::v1::Part;

/// What a section consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// There is no such part.
    Absent,
    /// These octets.
    Range { offset: u64, length: u64 },
    /// Of the header in these octets, the fields with these names, or those without.
    Fields {
        offset: u64,
        length: u64,
        names: &'a [String],
        without: bool,
    },
}

/// A part, or a message: a message's header is its own, a part's belongs to its parent.
#[derive(Clone, Copy)]
enum Node<'a> {
    Message(&'a Part),
    Part(&'a Part),
}

impl<'a> Node<'a> {
    fn part(self) -> &'a Part {
        match self {
            Node::Message(part) | Node::Part(part) => part,
        }
    }

    /// The child with a number.
    fn child(self, number: u32) -> Option<Node<'a>> {
        let part = self.part();
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        if is_multipart(part) {
            return part.parts.get(index).map(Node::Part);
        }
        match self {
            // A message that is not multipart has one part: its body.
            Node::Message(_) => (index == 0).then_some(Node::Part(part)),
            // The parts of a message that is a part are numbered below it.
            Node::Part(_) => self.inner()?.child(number),
        }
    }

    /// The message that a part of type message/rfc822 is.
    fn inner(self) -> Option<Node<'a>> {
        match self {
            Node::Message(_) => None,
            Node::Part(part) => part.message.as_deref().map(Node::Message),
        }
    }
}

fn is_multipart(part: &Part) -> bool {
    part.media_type == "multipart" && !part.parts.is_empty()
}

fn range(from: u64, to: u64) -> Found<'static> {
    Found::Range {
        offset: from,
        length: to.saturating_sub(from),
    }
}

/// The part that a section is of.
pub(super) fn part_of<'a>(section: &Section, root: &'a Part) -> Option<&'a Part> {
    let mut node = Node::Message(root);
    for number in &section.part {
        node = node.child(*number)?;
    }
    Some(node.part())
}

/// Finds a section. Without a structure, only the whole message can be found.
pub(crate) fn find<'a>(section: &'a Section, root: Option<&Part>, size: u64) -> Found<'a> {
    if *section == Section::default() {
        return range(0, size);
    }
    let Some(root) = root else { return Found::Absent };
    let mut node = Node::Message(root);
    for number in &section.part {
        match node.child(*number) {
            Some(child) => node = child,
            None => return Found::Absent,
        }
    }
    let Some(text) = &section.text else {
        let part = node.part();
        return range(part.body_offset, part.end_offset);
    };
    if *text == SectionText::Mime {
        let part = node.part();
        return range(part.header_offset, part.body_offset);
    }
    // HEADER, its fields and TEXT are of messages.
    let message = if section.part.is_empty() {
        Some(node)
    } else {
        node.inner()
    };
    let Some(message) = message.map(Node::part) else {
        return Found::Absent;
    };
    let fields = |names, without| Found::Fields {
        offset: message.header_offset,
        length: message.body_offset.saturating_sub(message.header_offset),
        names,
        without,
    };
    match text {
        SectionText::HeaderFields(names) => fields(names, false),
        SectionText::HeaderFieldsNot(names) => fields(names, true),
        SectionText::Text => range(message.body_offset, message.end_offset),
        SectionText::Header | SectionText::Mime => range(message.header_offset, message.body_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(media: &str, header: u64, body: u64, end: u64) -> Part {
        let (media_type, media_subtype) = media.split_once('/').unwrap();
        Part {
            media_type: media_type.into(),
            media_subtype: media_subtype.into(),
            header_offset: header,
            body_offset: body,
            end_offset: end,
            ..Default::default()
        }
    }

    fn section(part: &[u32], text: Option<SectionText>) -> Section {
        Section {
            part: part.to_vec(),
            text,
        }
    }

    /// multipart/mixed of text (1) and a message (2) that is multipart/alternative (2.1, 2.2).
    fn nested() -> Part {
        let mut inner = part("multipart/alternative", 120, 150, 300);
        inner.parts = vec![part("text/plain", 160, 170, 200), part("text/html", 210, 220, 290)];
        let mut message = part("message/rfc822", 100, 120, 300);
        message.message = Some(Box::new(inner));
        let mut root = part("multipart/mixed", 0, 40, 310);
        root.parts = vec![part("text/plain", 50, 60, 90), message];
        root
    }

    #[test]
    fn parts_are_ranges() {
        use SectionText as T;
        let root = nested();
        let r = |from: u64, to: u64| range(from, to);
        for (path, text, want) in [
            (&[][..], None, r(0, 310)),
            (&[], Some(T::Header), r(0, 40)),
            (&[], Some(T::Text), r(40, 310)),
            (&[1], None, r(60, 90)),
            (&[1], Some(T::Mime), r(50, 60)),
            (&[1], Some(T::Header), Found::Absent),
            (&[1, 1], None, Found::Absent),
            (&[2], None, r(120, 300)),
            (&[2], Some(T::Mime), r(100, 120)),
            (&[2], Some(T::Header), r(120, 150)),
            (&[2], Some(T::Text), r(150, 300)),
            (&[2, 1], None, r(170, 200)),
            (&[2, 2], Some(T::Mime), r(210, 220)),
            (&[2, 3], None, Found::Absent),
            (&[3], None, Found::Absent),
        ] {
            let section = section(path, text);
            assert_eq!(find(&section, Some(&root), 310), want, "{section:?}");
        }
    }

    #[test]
    fn a_simple_message_has_one_part() {
        let root = part("text/plain", 0, 40, 100);
        assert_eq!(find(&section(&[1], None), Some(&root), 100), range(40, 100));
        assert_eq!(
            find(&section(&[1], Some(SectionText::Mime)), Some(&root), 100),
            range(0, 40)
        );
        assert_eq!(find(&section(&[1, 1], None), Some(&root), 100), Found::Absent);
        assert_eq!(find(&section(&[2], None), Some(&root), 100), Found::Absent);
    }

    #[test]
    fn a_message_in_a_message_has_its_parts_below() {
        let mut root = part("message/rfc822", 0, 40, 100);
        root.message = Some(Box::new(part("text/plain", 40, 60, 100)));
        assert_eq!(find(&section(&[1], None), Some(&root), 100), range(40, 100));
        assert_eq!(find(&section(&[1, 1], None), Some(&root), 100), range(60, 100));
        assert_eq!(
            find(&section(&[1], Some(SectionText::Header)), Some(&root), 100),
            range(40, 60)
        );
    }
}
