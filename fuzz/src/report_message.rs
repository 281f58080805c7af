//! Reports in messages, and archives: what comes out is bounded by what went in.

use mox_reports::{find, limits, unpack};

/// Takes the input for a message, for its attachment, and for an archive.
pub fn run(input: &[u8]) {
    let _ = find(input);
    if let Ok(unpacked) = unpack::unpack(input) {
        let most = (input.len() * limits::RATIO).max(limits::RATIO_FREE).max(input.len());
        assert!(unpacked.len() <= most);
    }
    let _ = find::read(input);
    let mut message = b"Content-Type: application/zip\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".to_vec();
    message.extend_from_slice(input);
    let _ = find(&message);
}
