//! `mox backup`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use mox_proto::admin::v1::BackupRequest;

use crate::admin::{Admins, block_on, told};
use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::report::Printer;

pub const BACKUP: Command = Command {
    words: &["backup"],
    parameters: "dest-dir",
    help: "Make a backup of the data directory, consistent as of one moment, while mail goes on.\n\n\
           The destination is a new or empty folder; what is in it already is not written over. It gets the database, \
           whose files are hard links if the folder is on the same file system, and copies otherwise; all other files of \
           the data directory, with a warning for those that mox does not know; and, in a folder \"config\", the files \
           of the configuration. Empty folders and what is in \"tmp\" are left out.\n\n\
           The store writes the backup, as the user that mox runs as and on its host. The systemd unit that mox config \
           printservice prints lets it write to few folders: one in the data directory, such as data/tmp/backup, also \
           makes hard links possible. Copy the backup elsewhere from there.\n\n\
           A backup without warnings prints nothing. The exit code is 0 if it was made.\n\n\
           To restore: stop mox, move the data directory away, put the backup in its place, run mox verifydata on it, \
           with -fix if needed, and start mox. Clients that saw later messages synchronize again after mox \
           bumpuidvalidity for their account.\n\n\
           Before an upgrade, make a backup and run the new mox verifydata on it. That may upgrade the data in it, so \
           make another one then.",
    arguments: || {
        vec![
            parameter("dest-dir"),
            flag("verbose", "print what is done, with times"),
            flag("json", "print a JSON object for each finding, one a line"),
        ]
    },
    run: backup,
};

fn backup(context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
    let given = text(matches, "dest-dir");
    if given.is_empty() {
        bail!("name a folder for the backup");
    }
    // The store has another folder of its own.
    let folder = std::path::absolute(Path::new(given)).with_context(|| format!("finding folder {given}"))?;
    let folder = folder
        .to_str()
        .with_context(|| format!("folder {} has a name that is not UTF-8", folder.display()))?
        .to_owned();
    let mut printer = Printer::new(matches.get_flag("json"), matches.get_flag("verbose"));
    block_on(async {
        let admins = Admins::open(context).await?;
        let request = BackupRequest {
            folder,
            config_files: Vec::new(),
        };
        let reports = admins.client().backup(request).await.map_err(|s| told(&s))?;
        printer.all(reports.into_inner()).await
    })?;
    Ok(ExitCode::SUCCESS)
}
