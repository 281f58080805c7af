//! Reading a password: asked for twice on a terminal, without showing it; otherwise a line of standard input.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context as _, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The longest line that is read.
const LINE_MAX: u64 = 4096;

/// Reads a new password, and refuses one that is too short.
///
/// # Errors
/// If there is none, it is too short, or is not repeated.
pub fn read_new(whose: &str) -> Result<String> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = ask(&format!("New password for {whose}: "))?;
        mox_control::check_password(&first)?;
        if ask("Again: ")? != first {
            bail!("the two passwords differ: nothing was changed");
        }
        first
    } else {
        line(&mut stdin.lock())?
    };
    if password.is_empty() {
        bail!("the password is empty: write it to standard input, or run this on a terminal");
    }
    mox_control::check_password(&password)?;
    Ok(password)
}

/// One line, without its end.
fn line(input: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    input
        .take(LINE_MAX)
        .read_line(&mut text)
        .context("reading the password")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask(prompt: &str) -> Result<String> {
    let mut out = io::stderr();
    write!(out, "{prompt}")
        .and_then(|()| out.flush())
        .context("asking for the password")?;
    let hidden = Hidden::new().context("hiding what is typed")?;
    let text = line(&mut io::stdin().lock());
    drop(hidden);
    let _ = writeln!(out);
    text
}

/// While it lives, what is typed is not shown.
struct Hidden(Termios);

impl Hidden {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_line_is_taken_off() {
        assert_eq!(line(&mut b" pass word \r\nmore".as_slice()).unwrap(), " pass word ");
        assert_eq!(line(&mut b"".as_slice()).unwrap(), "");
    }
}
