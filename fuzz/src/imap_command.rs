//! Commands: none makes the parser panic, and whatever is understood is understood the same when it is written again.

use mox_imap_proto::append::{Next, Place, Segment, parse_start};
use mox_imap_proto::{ErrorKind, Names, parse_command};

/// See the top.
pub fn run(data: &[u8]) {
    for names in [Names::Utf7, Names::Utf8] {
        if let Ok(command) = parse_command(data, names) {
            let mut written = format!("{} ", command.tag).into_bytes();
            command.value.write(names, &mut written);
            match parse_command(&written, names) {
                // What was sent in a shorter way than it is written.
                Err(again) if again.error.kind == ErrorKind::Limit => {}
                again => assert_eq!(again.as_ref(), Ok(&command), "{:?}", String::from_utf8_lossy(&written)),
            }
        }
        for literal in [false, true] {
            if let Some(Ok(append)) = parse_start(data, names, literal)
                // Otherwise not all of it is known yet.
                && append.value.segment.next != Next::Accept
            {
                let mut written = format!("{} ", append.tag).into_bytes();
                append.value.write(names, &mut written);
                if literal {
                    written.extend_from_slice(b"{5}\r\n");
                }
                match parse_start(&written, names, literal) {
                    Some(Err(again)) if again.error.kind == ErrorKind::Limit => {}
                    again => assert_eq!(again, Some(Ok(append)), "{:?}", String::from_utf8_lossy(&written)),
                }
            }
            for place in [Place::Message, Place::Utf8, Place::Catenate, Place::Utf8Text] {
                let _ = Segment::parse(data, names, place, literal);
            }
        }
    }
}
