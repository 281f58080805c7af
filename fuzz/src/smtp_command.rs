//! Commands: none makes the parser panic, and every error has a permanent reply.

use mox_smtp::Command;

/// See the top.
pub fn run(line: &[u8]) {
    if let Err(error) = Command::parse(line) {
        assert!(error.reply().is_permanent());
    }
}
