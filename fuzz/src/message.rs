//! Everything that is done with a message from anybody.

use bytes::Bytes;
use mox_message::{
    HeaderSummary, base_subject, computed, computed_with_prefix, decode_header, decoded_body, decoded_text, header_end,
    headers, parse_addresses, parse_date, received_count, to_crlf, without_fields,
};

/// See the top.
pub fn run(message: &[u8]) {
    let structure = computed(message).structure.expect("always computed");
    assert_eq!(structure.body_offset, header_end(message) as u64);
    assert_eq!(structure.end_offset, message.len() as u64);
    let _ = computed_with_prefix(b"Received: x\r\n", message);
    let _ = HeaderSummary::of(message);
    for field in headers(message) {
        let value = field.value();
        let _ = (parse_addresses(&value), parse_date(&value), decode_header(&value));
        let (base, _) = base_subject(&field.text());
        assert_eq!(base_subject(&base).0, base, "a base subject is its own");
    }
    decoded_text(message, &mut |_| {});
    decoded_body(message, &mut |_| {});
    let _ = received_count(message);
    let without = without_fields(&Bytes::copy_from_slice(message), |field| field.is("subject"));
    assert!(without.concat().len() <= message.len());
    let mended = to_crlf(message);
    assert_eq!(to_crlf(&mended), mended);
}
