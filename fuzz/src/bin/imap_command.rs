//! See `mox_fuzz::imap_command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::imap_command(data));
