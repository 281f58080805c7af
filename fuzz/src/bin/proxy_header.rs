//! See `mox_fuzz::proxy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mox_fuzz::proxy_header(data));
