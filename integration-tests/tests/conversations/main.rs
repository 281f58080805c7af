//! Conversations with the IMAP service, as text files: `integration-tests/conversations/*.txt`.
//!
//! Each file is a story of one or more connections, and has an account of its own, so that all run side by side. All
//! run against both shapes of the system. Only some, by parts of their names, with every line as it goes:
//! `CONVERSATIONS=fetch,store cargo test -p mox-integration-tests --test conversations single -- --nocapture`.
//!
//! # The lines of a file
//!
//! A line starts with what it is; those that are about a connection may have its number behind that (`C2: …`,
//! `login 2`). Without, it is connection 1. Empty lines and lines that start with `#` say nothing.
//!
//! | line                       | what it does                                                                         |
//! | -------------------------- | ------------------------------------------------------------------------------------ |
//! | `login`                    | connects and logs in; `login tls`, `login 2 tls`, `login 2 as bob` (another account) |
//! | `connect`                  | connects; the greeting is for the next `S:`. `connect tls`                           |
//! | `starttls`                 | starts TLS here, after the server's OK to STARTTLS                                   |
//! | `deflate`                  | compresses from here on, after the server's OK to COMPRESS                           |
//! | `close`                    | ends the connection from here, without a word                                        |
//! | `ended`                    | the server ends the connection, without a further word                               |
//! | `C: text`                  | sends a line                                                                         |
//! | `S: text`                  | the next response must match; it is waited for, as long as it takes to arrive        |
//! | `S*: text`                 | skips untagged responses until one matches. Several in a row are met in any order    |
//! | `S!: text`                 | what the `S*` lines behind it skip must not match this                               |
//! | `\| text`                  | a line of a literal, see below; `\|- text` is one without CRLF                       |
//! | `& text`                   | what follows the literal in the command or response                                  |
//! | `fill 5 INBOX`             | appends 5 messages "message 1", … in one session of its own                          |
//! | `deliver`                  | delivers the message in `\| ` lines by SMTP, and returns when it was accepted        |
//! | `$ config test`            | runs a `mox` command, which must succeed; `$!` for one that must fail                |
//! | `< text`                   | a line for the command's standard input                                              |
//! | `> text`                   | the command must have printed this                                                   |
//! | `setting key = value`      | at the top: a setting of the account in domains.toml; `setting as bob key = value`   |
//!
//! # Texts
//!
//! - `{{name}}` in what the server says takes a token (no space, bracket, brace or quote) at its first use, and must be
//!   the same later; in what the client says it stands for it.
//! - `{{*}}` matches anything, also literals; `{{/regex/}}` what the regular expression matches.
//! - `{{user}}`, `{{password}}`, `{{account}}` are those of the file's account, `{{plain}}` is both for AUTHENTICATE
//!   PLAIN. `{{user:bob}}` is the address of `as bob`.
//! - `{{crlf}}`, `{{nul}}` and `{{x:00ff}}` are octets, `{{base64:text}}` is encoded, `{{repeat:1000:text}}` repeated.
//! - What people read behind `OK`, `NO`, `BAD`, `BYE`, `+` and behind a response code may be left out: `S: a NO` and
//!   `S: a NO [NONEXISTENT]` match whatever text follows.
//!
//! # Literals
//!
//! A text that ends in `{}` (or `~{}`) is followed by the `| ` lines of the literal; its length is filled in. Where a
//! client says `{}`, the server must ask for the literal with `+` first; `{+}` does not wait for that:
//!
//! ```text
//! login
//! C: a APPEND INBOX (\Seen) {+}
//! | Subject: hello
//! |
//! | text
//! S: a OK [APPENDUID {{validity}} {{uid}}]
//! C: b SELECT INBOX
//! S!: {{*}}RECENT{{*}}
//! S*: * 1 EXISTS
//! S*: b OK [READ-WRITE]
//! C: c FETCH 1 (UID BODY.PEEK[HEADER])
//! S: * 1 FETCH (UID {{uid}} BODY[HEADER] {}
//! | Subject: hello
//! |
//! & )
//! S: c OK
//! ```

mod pattern;
mod run;
mod script;
mod talk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::{Mox, Options, Shape, lock};

use crate::run::account_name;
use crate::script::Script;

/// How many files run at a time.
const WORKERS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conversations")
}

fn scripts() -> Result<Vec<Script>> {
    let wanted = std::env::var("CONVERSATIONS").unwrap_or_default();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder()).context("reading the folder of conversations")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_wanted = wanted.is_empty() || wanted.split(',').any(|part| name.contains(part));
        if path.extension().is_some_and(|e| e == "txt") && is_wanted {
            files.push((name, path));
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no conversation has {wanted:?} in its name");
    files
        .into_iter()
        .map(|(name, path)| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            Script::parse(&name, &text)
        })
        .collect()
}

/// Writes the accounts of all files into the configuration, before the start.
fn add_accounts(mox: &Mox, scripts: &[Script]) -> Result<()> {
    let path = mox.config_dir().join("domains.toml");
    let mut text = std::fs::read_to_string(&path).context("reading domains.toml")?;
    for script in scripts {
        for (who, settings) in &script.accounts {
            let name = account_name(&script.name, who);
            text.push_str(&format!(
                "\n[accounts.\"{name}\"]\ndomain = \"localhost\"\nno_first_time_sender_delay = true\n{}\n\
                 [accounts.\"{name}\".destinations.\"{name}@localhost\"]\n",
                settings.join("\n")
            ));
        }
    }
    std::fs::write(&path, text).context("writing domains.toml")
}

fn run_all(shape: Shape) -> Result<()> {
    let _lock = lock::shared()?;
    let scripts = scripts()?;
    let mut mox = Mox::prepare(shape, &Options::default())?;
    add_accounts(&mox, &scripts)?;
    mox.start_all()?;
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = run::run(&mox, script) {
                        let text = format!("=== {}.txt: {failure:#}\n", script.name);
                        failures.lock().expect("no thread panics with it").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with it");
    if !failures.is_empty() {
        bail!(
            "{} of {} conversations went wrong\n{}\n{}",
            failures.len(),
            scripts.len(),
            failures.join("\n"),
            if std::env::var_os("CONVERSATIONS").is_some() {
                mox.log_tails()
            } else {
                String::new()
            }
        );
    }
    Ok(())
}

/// Prints failures as they are, without a stack that says nothing.
fn outcome(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

#[test]
fn single() -> ExitCode {
    outcome(run_all(Shape::Single))
}

#[test]
fn pieces() -> ExitCode {
    outcome(run_all(Shape::Pieces))
}

/// Names of accounts are made of names of files.
#[test]
fn names_differ() -> Result<()> {
    let scripts = scripts()?;
    let names: BTreeSet<String> = scripts.iter().map(|s| account_name(&s.name, "")).collect();
    ensure!(names.len() == scripts.len(), "two files have the same account");
    Ok(())
}
