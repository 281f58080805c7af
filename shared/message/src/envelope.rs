//! ENVELOPE (RFC 9051 §7.5.2).

use bytes::Bytes;
use mox_proto::mail::v1::{Envelope, EnvelopeAddress};

use crate::address::{self, Item};
use crate::fields::Field;
use crate::limits;

/// What may still be added to what is computed for one message.
pub(crate) struct Budget {
    octets: usize,
}

/// What the frame of an address, parameter or value counts beside its text.
const OVERHEAD: usize = 16;

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            octets: limits::COMPUTED,
        }
    }

    /// Whether there is room for so many octets; takes them.
    pub(crate) fn take(&mut self, octets: usize) -> bool {
        let rest = self.octets.checked_sub(octets + OVERHEAD);
        self.octets = rest.unwrap_or(0);
        rest.is_some()
    }

    /// A value, cut to its limit; none if there is no room.
    pub(crate) fn value(&mut self, value: &[u8]) -> Option<Bytes> {
        let value = &value[..value.len().min(limits::VALUE)];
        self.take(value.len()).then(|| Bytes::copy_from_slice(value))
    }
}

/// Collects an envelope from fields in their order.
pub(crate) struct Builder {
    envelope: Envelope,
    sender: Vec<EnvelopeAddress>,
    reply_to: Vec<EnvelopeAddress>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            envelope: Envelope::default(),
            sender: Vec::new(),
            reply_to: Vec::new(),
        }
    }

    /// Takes note of a field. Of fields that may occur once, the first counts; recipients are put together.
    pub(crate) fn add(&mut self, field: &Field<'_>, budget: &mut Budget) {
        let e = &mut self.envelope;
        let once = |place: &mut Option<Bytes>, budget: &mut Budget| {
            if place.is_none() {
                *place = budget.value(&field.value());
            }
        };
        let first = |place: &mut Vec<EnvelopeAddress>, budget: &mut Budget| {
            if place.is_empty() {
                addresses(field, place, budget);
            }
        };
        match field.name.to_ascii_lowercase().as_slice() {
            b"date" => once(&mut e.date, budget),
            b"subject" => once(&mut e.subject, budget),
            b"in-reply-to" => once(&mut e.in_reply_to, budget),
            b"message-id" => once(&mut e.message_id, budget),
            b"from" => first(&mut e.from, budget),
            b"sender" => first(&mut self.sender, budget),
            b"reply-to" => first(&mut self.reply_to, budget),
            b"to" => addresses(field, &mut e.to, budget),
            b"cc" => addresses(field, &mut e.cc, budget),
            b"bcc" => addresses(field, &mut e.bcc, budget),
            _ => {}
        }
    }

    /// RFC 9051 §7.5.2: absent or empty, Sender and Reply-To are what From is.
    pub(crate) fn finish(mut self) -> Envelope {
        let or_from = |given: Vec<EnvelopeAddress>, from: &[EnvelopeAddress]| {
            if given.is_empty() { from.to_vec() } else { given }
        };
        self.envelope.sender = or_from(self.sender, &self.envelope.from);
        self.envelope.reply_to = or_from(self.reply_to, &self.envelope.from);
        self.envelope
    }
}

fn addresses(field: &Field<'_>, place: &mut Vec<EnvelopeAddress>, budget: &mut Budget) {
    for item in address::list(&field.value(), limits::COMPUTED / OVERHEAD) {
        let (size, address) = match item {
            Item::GroupStart(name) => (
                name.len(),
                EnvelopeAddress {
                    mailbox: Some(cut(name)),
                    ..Default::default()
                },
            ),
            Item::GroupEnd => (0, EnvelopeAddress::default()),
            Item::Mailbox(m) => {
                let size = m.name.as_ref().map_or(0, Vec::len) + m.localpart.len() + m.domain.len();
                let address = EnvelopeAddress {
                    name: m.name.map(cut),
                    adl: m.route.map(cut),
                    mailbox: Some(cut(m.localpart)),
                    // Never absent, which would say that a group starts.
                    host: Some(cut(m.domain)),
                };
                (size, address)
            }
        };
        // From may be repeated as Sender and Reply-To: each counts three times.
        if !budget.take(3 * size.min(limits::VALUE)) {
            close_group(place);
            break;
        }
        place.push(address);
    }
}

/// A list that is cut ends no group in the middle.
fn close_group(place: &mut Vec<EnvelopeAddress>) {
    let opened = place.iter().rposition(|a| a.host.is_none() && a.mailbox.is_some());
    let closed = place.iter().rposition(|a| a.host.is_none() && a.mailbox.is_none());
    if opened.is_some() && opened > closed {
        place.push(EnvelopeAddress::default());
    }
}

fn cut(mut value: Vec<u8>) -> Bytes {
    value.truncate(limits::VALUE);
    Bytes::from(value)
}
