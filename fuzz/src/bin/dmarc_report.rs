//! See `mox_fuzz::dmarc_report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::dmarc_report(data));
