//! See `mox_fuzz::report_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::report_message(data));
