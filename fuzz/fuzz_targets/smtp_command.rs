//! Commands: none makes the parser panic, and every error has a permanent reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mox_smtp::Command;

fuzz_target!(|line: &[u8]| {
    if let Err(error) = Command::parse(line) {
        assert!(error.reply().is_permanent());
    }
});
