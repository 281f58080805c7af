//! See `mox_fuzz::tls_report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::tls_report(data));
