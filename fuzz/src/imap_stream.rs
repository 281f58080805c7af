//! Connections: where commands begin and end does not depend on how the bytes arrive.

use bytes::{Bytes, BytesMut};
use mox_imap_proto::append::{Next, Place, Segment, parse_start};
use mox_imap_proto::framer::take_line;
use mox_imap_proto::{Event, Framer, FramingError, Names, limits};

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Command(Bytes),
    /// The message of an APPEND, or what is there of it.
    Message(Bytes, u64),
    End(FramingError),
}

/// A session without answers: takes what came, and leaves what is not whole.
fn listen(input: &[u8], piece: usize) -> (Vec<Seen>, BytesMut) {
    let (mut framer, mut buffer, mut seen) = (Framer::default(), BytesMut::new(), Vec::new());
    let mut skip = 0u64;
    // Where in an APPEND it is, behind a streamed literal.
    let mut place: Option<Place> = None;
    for part in input.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            if skip > 0 {
                let n = skip.min(buffer.len() as u64);
                let _ = buffer.split_to(usize::try_from(n).expect("as long as the buffer"));
                skip -= n;
                if skip > 0 {
                    break;
                }
            }
            match framer.next(&mut buffer) {
                Ok(Event::NeedMore) => break,
                Ok(Event::Command(command)) => {
                    if let Some(place) = place.take() {
                        let _ = Segment::parse(&command, Names::Utf7, place, false);
                    }
                    seen.push(Seen::Command(command));
                }
                Ok(Event::Literal(header)) => {
                    let start = framer.start(&buffer);
                    let segment = match place {
                        Some(place) => Segment::parse(start, Names::Utf7, place, true).ok(),
                        None => parse_start(start, Names::Utf7, true)
                            .and_then(Result::ok)
                            .map(|append| append.value.segment),
                    };
                    if let Some(Next::Literal(data)) = segment.map(|s| s.next) {
                        seen.push(Seen::Message(framer.take_start(&mut buffer), header.size));
                        skip = header.size;
                        place = Some(data.into());
                    } else if let Err(error) = framer.accept(limits::COMMAND_LITERALS) {
                        seen.push(Seen::End(error));
                        return (seen, BytesMut::new());
                    }
                }
                Err(error) => {
                    seen.push(Seen::End(error));
                    return (seen, BytesMut::new());
                }
            }
        }
    }
    (seen, buffer)
}

/// See the top.
pub fn run(input: &[u8]) {
    let Some((first, data)) = input.split_first() else {
        return;
    };
    let piece = usize::from(*first) + 1;
    assert_eq!(listen(data, piece), listen(data, usize::MAX));

    let mut buffer = BytesMut::from(data);
    while let Ok(Some(line)) = take_line(&mut buffer, limits::SASL_LINE) {
        assert!(!line.contains(&b'\n'));
    }
}
