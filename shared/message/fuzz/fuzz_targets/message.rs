//! Everything that is done with a message from anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mox_message::{HeaderSummary, computed, computed_with_prefix, decoded_text, header_end, remove_headers, to_crlf};

fuzz_target!(|message: &[u8]| {
    let structure = computed(message).structure.expect("always computed");
    assert_eq!(structure.body_offset as usize, header_end(message));
    assert_eq!(structure.end_offset as usize, message.len());
    let _ = computed_with_prefix(b"Received: x\r\n", message);
    let _ = HeaderSummary::of(message);
    decoded_text(message, &mut |_| {});
    assert!(remove_headers(message, &["subject"]).len() <= message.len());
    let mended = to_crlf(message);
    assert_eq!(to_crlf(&mended), mended);
});
