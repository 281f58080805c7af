//! Replies: none makes the parser panic, and what was read is written within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mox_smtp::{Reply, limits};

fuzz_target!(|data: &[u8]| {
    if let Ok(reply) = Reply::parse(data.split(|b| *b == b'\n')) {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        assert!(out.split_inclusive(|b| *b == b'\n').all(|line| line.len() <= limits::REPLY_LINE_SENT));
    }
});
