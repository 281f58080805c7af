//! See `mox_fuzz::smtp_bdat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::smtp_bdat(data));
