//! Commands: none makes the parser panic, and whatever is understood is understood the same when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mox_imap_proto::append::parse_start;
use mox_imap_proto::{ErrorKind, Names, parse_command};

fuzz_target!(|data: &[u8]| {
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
        if let Some(append) = parse_start(data, names) {
            let mut written = format!("{} ", append.tag).into_bytes();
            append.value.write(names, &mut written);
            written.extend_from_slice(b"{5}\r\n");
            assert_eq!(parse_start(&written, names), Some(append));
        }
    }
});
