//! See `mox_fuzz::spf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::spf(data));
