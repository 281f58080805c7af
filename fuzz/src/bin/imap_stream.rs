//! See `mox_fuzz::imap_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::imap_stream(data));
