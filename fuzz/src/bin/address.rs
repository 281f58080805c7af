//! See `mox_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::address(data));
