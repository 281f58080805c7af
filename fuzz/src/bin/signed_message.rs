//! See `mox_fuzz::signed_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::signed_message(data));
