//! `mox verifydata`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_store::verify::{Checks, verify};

use crate::admin::{STORE, block_on, open_data};
use crate::command::{Command, flag, parameter, text};
use crate::commands::export::any_config;
use crate::context::Context;
use crate::report::Printer;

/// The exit code when something is wrong.
const WRONG: u8 = 1;

pub const VERIFYDATA: Command = Command {
    words: &["verifydata"],
    parameters: "data-dir",
    help: "Check a data directory, usually that of a backup.\n\n\
           Every record is read, and every reference between records is followed: accounts and mailboxes, messages with \
           their contents, sizes and checksums, counts and sizes for quotas, UIDs against UIDNEXT and UIDVALIDITY, \
           threads, and the queue. What is wrong is printed. Files that mox does not know are told of. The exit code is \
           0 if nothing is wrong, or all of it was fixed, and 1 otherwise.\n\n\
           No mox may use the data: to check that of a running one, make a backup and check that. Data of an earlier \
           version of mox is brought to the shape of this one first, which that version may no longer read: check a \
           copy before an upgrade, and make another backup then.",
    arguments: || {
        vec![
            parameter("data-dir"),
            flag(
                "fix",
                "put right what can be: counts, sizes, UIDNEXT, lists of messages, references; what is lost is told only",
            ),
            flag(
                "skip-size-check",
                "do not read contents to check their sizes and checksums",
            ),
            flag("json", "print a JSON object for each finding, one a line"),
        ]
    },
    run: verifydata,
};

fn verifydata(_: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let data = PathBuf::from(text(matches, "data-dir"));
    if !data.join(STORE).is_dir() {
        bail!(
            "{} is no data directory of mox: it has no folder {STORE:?}",
            data.display()
        );
    }
    let checks = Checks {
        fix: matches.get_flag("fix"),
        skip_sizes: matches.get_flag("skip-size-check"),
    };
    let printer = Mutex::new(Printer::new(matches.get_flag("json"), true));
    block_on(check(&data, checks, &printer))?;
    let mut printer = printer.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    printer.end();
    if printer.errors == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !checks.fix {
        eprintln!(
            "mox: {} findings; with -fix, those that can be are put right",
            printer.errors
        );
    }
    Ok(ExitCode::from(WRONG))
}

async fn check(data: &Path, checks: Checks, printer: &Mutex<Printer>) -> Result<()> {
    let store = open_data(data, any_config(data)?).await?;
    let tell = |report| {
        if let Ok(mut printer) = printer.lock() {
            printer.take(report);
        }
    };
    verify(store.parts(), checks, &tell)
        .await
        .with_context(|| format!("checking {}", data.display()))
}
