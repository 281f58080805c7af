//! See `mox_fuzz::tls_policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::tls_policy(data));
