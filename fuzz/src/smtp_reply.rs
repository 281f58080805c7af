//! Replies: none makes the parser panic, and what was read is written within the limits.

use mox_smtp::{Reply, limits};

/// See the top.
pub fn run(data: &[u8]) {
    if let Ok(reply) = Reply::parse(data.split(|b| *b == b'\n')) {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        assert!(
            out.split_inclusive(|b| *b == b'\n')
                .all(|line| line.len() <= limits::REPLY_LINE_SENT)
        );
    }
}
