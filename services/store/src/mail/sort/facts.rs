//! What sorting and threading need to know of a message: columns over the messages of a mailbox, made of what was
//! computed when they were added. None of it ever changes.

use bytes::Bytes;
use mox_proto::mail::v1::{Envelope, EnvelopeAddress};

use super::casemap::casemap;
use crate::mail::thread::ids;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// The Date field, in seconds since 1970 ([`NO_DATE`] if there is none).
    Date,
    /// The base subject.
    Subject,
    /// The mailbox of the first From address.
    From,
    /// The mailbox of the first To address.
    To,
    /// The mailbox of the first Cc address.
    Cc,
    /// RFC 5957 §3, of the first From address.
    DisplayFrom,
    /// RFC 5957 §3, of the first To address.
    DisplayTo,
    /// Whether the subject says that it is a reply, the Message-ID and the references ([`Ids`]).
    Ids,
}

/// For a message without a date that can be read.
pub const NO_DATE: i64 = i64::MIN;

/// The part of [`mox_proto::mail::v1::Computed`] that is read here: the structure is passed over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Headers {
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
    #[prost(bytes = "bytes", optional, tag = "40")]
    pub references: Option<Bytes>,
}

/// The values of a column for some messages.
#[derive(Debug, Clone)]
pub struct Values {
    /// Ascending.
    pub uids: Vec<u32>,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    Numbers(Vec<i64>),
    /// All values, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
}

impl Values {
    /// Without messages.
    pub fn new(column: Column) -> Self {
        let data = match column {
            Column::Date => Data::Numbers(Vec::new()),
            _ => Data::Texts(Vec::new(), Vec::new()),
        };
        Self { uids: Vec::new(), data }
    }

    /// Memory, about.
    pub fn bytes(&self) -> usize {
        let data = match &self.data {
            Data::Numbers(numbers) => numbers.len() * size_of::<i64>(),
            Data::Texts(texts, ends) => texts.len() + ends.len() * size_of::<usize>(),
        };
        data + self.uids.len() * size_of::<u32>()
    }

    /// Adds a message, with a UID above the others'.
    pub fn push(&mut self, column: Column, uid: u32, headers: &Headers) {
        self.uids.push(uid);
        let empty = Envelope::default();
        let envelope = headers.envelope.as_ref().unwrap_or(&empty);
        match &mut self.data {
            Data::Numbers(numbers) => {
                let date = envelope.date.as_deref().and_then(mox_message::parse_date);
                numbers.push(date.unwrap_or(NO_DATE));
            }
            Data::Texts(texts, ends) => {
                text(column, envelope, headers.references.as_deref(), texts);
                ends.push(texts.len());
            }
        }
    }

    /// Where a message is.
    pub fn position(&self, uid: u32) -> Option<usize> {
        self.uids.binary_search(&uid).ok()
    }

    /// A number.
    pub fn number(&self, at: usize) -> i64 {
        match &self.data {
            Data::Numbers(numbers) => numbers.get(at).copied().unwrap_or(NO_DATE),
            Data::Texts(..) => NO_DATE,
        }
    }

    /// A text.
    pub fn text(&self, at: usize) -> &[u8] {
        let Data::Texts(texts, ends) = &self.data else {
            return b"";
        };
        let start = match at {
            0 => 0,
            at => ends.get(at - 1).copied().unwrap_or_default(),
        };
        let end = ends.get(at).copied().unwrap_or(start);
        texts.get(start..end).unwrap_or_default()
    }
}

fn text(column: Column, envelope: &Envelope, references: Option<&[u8]>, out: &mut Vec<u8>) {
    match column {
        Column::Date => {}
        Column::Subject => out.extend(casemap(&subject(envelope).0)),
        Column::From => mailbox(&envelope.from, out),
        Column::To => mailbox(&envelope.to, out),
        Column::Cc => mailbox(&envelope.cc, out),
        Column::DisplayFrom => display(&envelope.from, out),
        Column::DisplayTo => display(&envelope.to, out),
        Column::Ids => ids::encode(
            subject(envelope).1,
            envelope.message_id.as_deref(),
            references,
            envelope.in_reply_to.as_deref(),
            out,
        ),
    }
}

fn subject(envelope: &Envelope) -> (String, bool) {
    let Some(subject) = envelope.subject.as_deref() else {
        return Default::default();
    };
    mox_message::base_subject(&mox_message::decode_header(subject))
}

/// RFC 5256 §3: addr-mailbox of the first address.
fn mailbox(addresses: &[EnvelopeAddress], out: &mut Vec<u8>) {
    if let Some(mailbox) = addresses.first().and_then(|a| a.mailbox.as_deref()) {
        out.extend(casemap(&String::from_utf8_lossy(mailbox)));
    }
}

/// RFC 5957 §3: the name, or else the address.
fn display(addresses: &[EnvelopeAddress], out: &mut Vec<u8>) {
    let Some(first) = addresses.first() else { return };
    let name = first
        .name
        .as_deref()
        .map(mox_message::decode_header)
        .unwrap_or_default();
    if !name.is_empty() {
        out.extend(casemap(&name));
        return;
    }
    let Some(mailbox) = first.mailbox.as_deref() else {
        return;
    };
    let mut address = String::from_utf8_lossy(mailbox).into_owned();
    if let Some(host) = first.host.as_deref() {
        address.push('@');
        address.push_str(&String::from_utf8_lossy(host));
    }
    out.extend(casemap(&address));
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn headers(message: &str) -> Headers {
        let computed = mox_message::computed(message.replace('\n', "\r\n").as_bytes());
        Headers::decode(computed.encode_to_vec().as_slice()).unwrap()
    }

    fn shown(column: Column, message: &str) -> String {
        let mut values = Values::new(column);
        values.push(column, 1, &headers(message));
        String::from_utf8(values.text(0).to_vec()).unwrap()
    }

    #[test]
    fn columns_are_those_of_the_standards() {
        let message = "From: =?utf-8?q?=C3=84nne?= <anne@example.org>\nTo: bob@example.org, x@y\nCc: friends: carl@z;\n\
            Subject: Re: [list] =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: 31 Dec 2000 16:01:33 -0800\n\n";
        for (column, want) in [
            (Column::From, "ANNE"),
            (Column::To, "BOB"),
            (Column::Cc, "FRIENDS"),
            (Column::DisplayFrom, "A\u{308}NNE"),
            (Column::DisplayTo, "BOB@EXAMPLE.ORG"),
            (Column::Subject, "GRU\u{308}ßE"),
        ] {
            assert_eq!(shown(column, message), want, "{column:?}");
        }
        for column in [Column::From, Column::Cc, Column::DisplayTo, Column::Subject] {
            assert_eq!(shown(column, "X: y\n\n"), "");
        }
        let mut dates = Values::new(Column::Date);
        dates.push(Column::Date, 3, &headers(message));
        dates.push(Column::Date, 5, &headers("Date: soon\n\n"));
        // RFC 5256 §2.2's example, which is in another year in UTC.
        assert_eq!((dates.number(0), dates.number(1)), (978_307_293, NO_DATE));
        assert_eq!((dates.position(5), dates.position(4)), (Some(1), None));
    }
}
