//! Standard output, for all commands: `print!` and `println!` of this program write here.
//!
//! Who reads it may have enough before the end, as `head` does. That is no error of ours, and what the standard library
//! does then, a panic, tells people nothing.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};

/// What shells say of a program that was ended by SIGPIPE, 13.
const BROKEN_PIPE: i32 = 128 + 13;

/// Writes a text. If it can't be written, the program ends: nobody gets what it has to say.
pub fn write(text: Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(text) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(BROKEN_PIPE);
        }
        eprintln!("mox: writing to standard output: {error}");
        std::process::exit(1);
    }
}
