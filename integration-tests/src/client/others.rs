//! Clients that nobody here wrote.

use std::process::Output;

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::process::run;

/// Text as SASL sends it.
#[must_use]
pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// Everything that a program printed.
#[must_use]
pub fn output(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a program that must succeed, and gives what it printed.
///
/// # Errors
/// If it fails: with what it printed.
pub fn succeed(program: &str, args: &[&str], input: &str) -> Result<String> {
    let done = run(program, args, input)?;
    if !done.status.success() {
        bail!("{program} {args:?} failed with {}:\n{}", done.status, output(&done));
    }
    Ok(output(&done))
}

/// swaks, which must succeed. Gives its transcript.
///
/// # Errors
/// If it fails.
pub fn swaks(args: &[&str]) -> Result<String> {
    succeed("swaks", args, "")
}

/// curl, which must succeed. Gives what it fetched.
///
/// # Errors
/// If it fails.
pub fn curl(args: &[&str]) -> Result<String> {
    succeed(
        "curl",
        &[&["--silent", "--show-error", "--max-time", "60"], args].concat(),
        "",
    )
}

/// A Python script, with arguments, which must succeed. Gives what it printed.
///
/// # Errors
/// If it raises an exception.
pub fn python(script: &str, args: &[&str]) -> Result<String> {
    succeed("python3", &[&["-c", script], args].concat(), "")
}
