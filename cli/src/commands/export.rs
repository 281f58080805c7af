//! `mox export maildir|mbox`: writes messages that the store streams into files.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, FileTimes, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Arg, ArgMatches};
use mox_config::Static;
use mox_message::archive::maildir::{self, Keywords};
use mox_message::archive::{mbox, to_lf};
use mox_proto::admin::v1::{ExportMailbox, ExportMessage, ExportRequest, ExportResponse, Progress};
use mox_proto::mail::v1::Flags;
use tonic::Streaming;

use crate::admin::{Admins, STORE, block_on, told};
use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::report::Printer;

/// Bytes of files that are written out at once.
const WRITE: usize = 256 << 10;

/// Help texts, each with what is common.
mod texts {
    macro_rules! common {
        () => {
            "Of one mailbox with those below it, or only itself with -single; without a mailbox, of all of an account. \
             Folders and files are made in dst-dir, by the names of mailboxes; those that exist are not written over.\n\n\
             account-path is the name of an account, whose mail is taken from the running mox as of one moment, or from \
             its data if mox is stopped. It can also be a path to other data that no mox uses, such as a backup: the path \
             of a data directory, followed by the name of an account if it has several (backup/mox).\n\n\
             Flags, keywords and the times that messages were received at are kept."
        };
    }
    pub const MAILDIR: &str = concat!(
        "Export the mail of an account as maildirs.\n\n",
        common!(),
        "\n\nFlags are in the names of files, and a file dovecot-keywords explains the letters for others. Lines end in LF."
    );
    pub const MBOX: &str = concat!(
        "Export the mail of an account as mbox files.\n\nMaildirs are the better format, if there is a choice.\n\n",
        common!(),
        "\n\nLines of messages that begin with \"From \", behind any number of \">\", get one more \">\" (the dialect is \
         called mboxrd), so that nothing is lost. Flags are in fields Status, X-Status and X-Keywords at the top of each \
         message. Lines end in LF."
    );
}

pub const MAILDIR: Command = Command {
    words: &["export", "maildir"],
    parameters: "[-single] dst-dir account-path [mailbox]",
    help: texts::MAILDIR,
    arguments,
    run: |context, matches| export(context, matches, Format::Maildir),
};

pub const MBOX: Command = Command {
    words: &["export", "mbox"],
    parameters: "[-single] dst-dir account-path [mailbox]",
    help: texts::MBOX,
    arguments,
    run: |context, matches| export(context, matches, Format::Mbox),
};

fn arguments() -> Vec<Arg> {
    vec![
        parameter("dst-dir"),
        parameter("account-path"),
        parameter("mailbox").required(false),
        flag("single", "without the mailboxes below; has no effect without a mailbox"),
        flag("json", "print a JSON object for each finding, one a line"),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Maildir,
    Mbox,
}

/// Whose mail.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// An account of the configured system.
    Account(String),
    /// Data elsewhere, and an account unless it has only one.
    Data(PathBuf, String),
}

impl Source {
    fn parse(given: &str) -> Result<Self> {
        let path = Path::new(given);
        if !given.contains('/') && !path.join(STORE).is_dir() {
            ensure!(!given.is_empty(), "name an account, or a path to data");
            return Ok(Self::Account(given.to_owned()));
        }
        if path.join(STORE).is_dir() {
            return Ok(Self::Data(path.to_owned(), String::new()));
        }
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let above = path.parent().map(Path::to_owned).unwrap_or_default();
        let of_accounts = above.file_name().is_some_and(|n| n == "accounts");
        let candidates = [
            Some(above.clone()),
            above.parent().filter(|_| of_accounts).map(Path::to_owned),
        ];
        for data in candidates.into_iter().flatten() {
            if data.join(STORE).is_dir() {
                return Ok(Self::Data(data, name));
            }
        }
        bail!(
            "{given} is no data directory of mox (which has a folder {STORE:?}), nor one followed by the name of an account"
        )
    }
}

fn export(context: &Context, matches: &ArgMatches, format: Format) -> Result<ExitCode> {
    let source = Source::parse(text(matches, "account-path"))?;
    let destination = PathBuf::from(text(matches, "dst-dir"));
    let mut printer = Printer::new(matches.get_flag("json"), false);
    let account = match &source {
        Source::Account(name) | Source::Data(_, name) => name.clone(),
    };
    let request = ExportRequest {
        account,
        mailbox: text(matches, "mailbox").to_owned(),
        single: matches.get_flag("single"),
    };
    let mut export = Export::new(destination, format);
    block_on(async {
        let admins = match &source {
            Source::Account(_) => Admins::open(context).await?,
            Source::Data(data, _) => Admins::stopped(data, any_config(data)?, None).await?,
        };
        let answers = admins.client().export(request).await.map_err(|s| told(&s))?;
        let done = export.all(answers.into_inner(), &mut printer).await;
        printer.end();
        done.with_context(|| format!("exporting to {}", export.destination.display()))
    })?;
    if export.lost_keywords > 0 {
        eprintln!(
            "warning: keywords of {} messages were left out: a maildir has letters for {} different ones",
            export.lost_keywords,
            maildir::KEYWORDS_MAX
        );
    }
    if matches.get_flag("json") {
        let done = serde_json::json!({ "level": "info", "mailboxes": export.mailboxes.len(), "messages": export.done });
        println!("{done}");
    } else {
        println!(
            "{} messages of {} mailboxes exported to {}",
            export.done,
            export.mailboxes.len(),
            export.destination.display()
        );
    }
    if printer.errors > 0 {
        bail!("{} messages could not be read: see mox verifydata", printer.errors);
    }
    Ok(ExitCode::SUCCESS)
}

/// Settings for data whose configuration is not known.
pub fn any_config(data: &Path) -> Result<Static> {
    let hostname = "localhost".parse().context("naming this host")?;
    Ok(Static::new(data.to_owned(), hostname))
}

/// An export that is being written.
struct Export {
    destination: PathBuf,
    format: Format,
    mailboxes: Vec<Target>,
    paths: HashSet<String>,
    message: Option<(ExportMessage, u64, Sink)>,
    open: Option<(u32, File, Vec<u8>)>,
    done: u64,
    total: u64,
    lost_keywords: u64,
}

/// Where the messages of a mailbox go.
struct Target {
    path: PathBuf,
    keywords: Keywords,
}

/// Where the bytes of a message go.
enum Sink {
    /// A file of its own, with the end of a line that may be continued.
    File { path: PathBuf, file: File, held_cr: bool },
    /// The file of its mailbox.
    Mbox(mbox::Writer),
}

impl Export {
    fn new(destination: PathBuf, format: Format) -> Self {
        Self {
            destination,
            format,
            mailboxes: Vec::new(),
            paths: HashSet::new(),
            message: None,
            open: None,
            done: 0,
            total: 0,
            lost_keywords: 0,
        }
    }

    async fn all(&mut self, mut answers: Streaming<ExportResponse>, printer: &mut Printer) -> Result<()> {
        while let Some(answer) = answers.message().await.map_err(|s| told(&s))? {
            if let Some(mailbox) = answer.mailbox {
                self.mailbox(&mailbox)?;
            }
            if let Some(message) = answer.message {
                self.begin(message)?;
            }
            if !answer.data.is_empty() || self.message.as_ref().is_some_and(|(m, _, _)| m.size == 0) {
                self.piece(&answer.data)?;
            }
            if let Some(finding) = answer.finding {
                self.abandon()?;
                printer.finding(&finding);
            }
            printer.progress(&Progress {
                what: "messages".into(),
                done: self.done,
                total: self.total,
            });
        }
        ensure!(self.message.is_none(), "the last message is incomplete");
        self.finish()
    }

    /// Makes what a mailbox is written into.
    fn mailbox(&mut self, mailbox: &ExportMailbox) -> Result<()> {
        self.total += u64::from(mailbox.messages);
        let mut name = maildir::path(&mailbox.name);
        // Two names can become one.
        while !self.paths.insert(name.clone()) {
            name.push('_');
        }
        let path = match self.format {
            Format::Maildir => self.destination.join(name),
            Format::Mbox => self.destination.join(format!("{name}.mbox")),
        };
        if let Some(parent) = path.parent() {
            make_dirs(parent)?;
        }
        match self.format {
            Format::Maildir => {
                make_dirs(&path)?;
                for folder in maildir::FOLDERS {
                    let folder = path.join(folder);
                    DirBuilder::new().mode(0o700).create(&folder).with_context(|| {
                        format!("making folder {}: what exists is not written over", folder.display())
                    })?;
                }
            }
            Format::Mbox => drop(create(&path)?),
        }
        self.mailboxes.push(Target {
            path,
            keywords: Keywords::default(),
        });
        Ok(())
    }

    fn begin(&mut self, message: ExportMessage) -> Result<()> {
        ensure!(self.message.is_none(), "a message is incomplete");
        let target = self
            .mailboxes
            .get_mut(message.mailbox as usize)
            .context("a message of an unknown mailbox")?;
        let flags = message.flags.clone().unwrap_or_default();
        let sink = match self.format {
            Format::Maildir => {
                let path = target
                    .path
                    .join("tmp")
                    .join(format!("{}.{}", message.received, message.uid));
                let file = create(&path)?;
                Sink::File {
                    path,
                    file,
                    held_cr: false,
                }
            }
            Format::Mbox => {
                if self.open.as_ref().is_none_or(|(n, _, _)| *n != message.mailbox) {
                    Self::close(&mut self.open)?;
                    let file = OpenOptions::new()
                        .append(true)
                        .open(&target.path)
                        .with_context(|| format!("opening {}", target.path.display()))?;
                    self.open = Some((message.mailbox, file, Vec::new()));
                }
                let (_, _, buffer) = self.open.as_mut().context("a file that was just opened")?;
                Sink::Mbox(mbox::Writer::begin(
                    &message.mail_from,
                    message.received,
                    &flags,
                    buffer,
                ))
            }
        };
        self.message = Some((message, 0, sink));
        Ok(())
    }

    fn piece(&mut self, data: &[u8]) -> Result<()> {
        let (message, got, sink) = self.message.as_mut().context("bytes of no message")?;
        *got += data.len() as u64;
        match sink {
            Sink::File { path, file, held_cr } => {
                let mut text = Vec::with_capacity(data.len() + 1);
                let mut whole = Vec::new();
                let mut piece = data;
                if std::mem::take(held_cr) {
                    whole.push(b'\r');
                    whole.extend_from_slice(data);
                    piece = &whole;
                }
                // The LF may be in the next piece.
                if piece.last() == Some(&b'\r') && *got < message.size {
                    *held_cr = true;
                    piece = &piece[..piece.len() - 1];
                }
                to_lf(piece, &mut text);
                file.write_all(&text)
                    .with_context(|| format!("writing {}", path.display()))?;
            }
            Sink::Mbox(writer) => {
                let (_, file, buffer) = self.open.as_mut().context("the file of a mailbox")?;
                writer.piece(data, buffer);
                if buffer.len() > WRITE {
                    file.write_all(buffer).context("writing an mbox file")?;
                    buffer.clear();
                }
            }
        }
        if *got >= message.size { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<()> {
        let Some((message, _, sink)) = self.message.take() else {
            return Ok(());
        };
        self.done += 1;
        match sink {
            Sink::Mbox(writer) => {
                let (_, _, buffer) = self.open.as_mut().context("the file of a mailbox")?;
                writer.end(buffer);
                Ok(())
            }
            Sink::File { path, file, .. } => {
                let target = self
                    .mailboxes
                    .get_mut(message.mailbox as usize)
                    .context("a message of an unknown mailbox")?;
                let flags: Flags = message.flags.unwrap_or_default();
                let size = file
                    .metadata()
                    .with_context(|| format!("looking at {}", path.display()))?
                    .len();
                let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(message.received).unwrap_or(0));
                file.set_times(FileTimes::new().set_modified(at).set_accessed(at))
                    .with_context(|| format!("setting the time of {}", path.display()))?;
                // Padded, so that files of one second sort as their messages do.
                let unique = format!("U{:010}.mox", message.uid);
                let (name, lost) = maildir::file_name(message.received, &unique, size, &flags, &mut target.keywords);
                self.lost_keywords += u64::from(!lost.is_empty());
                let to = target.path.join("cur").join(name);
                std::fs::rename(&path, &to).with_context(|| format!("moving a message to {}", to.display()))
            }
        }
    }

    /// A message that the store cannot read to its end.
    fn abandon(&mut self) -> Result<()> {
        match self.message.take() {
            Some((_, _, Sink::File { path, .. })) => {
                std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
            }
            Some((_, _, Sink::Mbox(writer))) => {
                // What is written of it stays, as a message that ends early.
                let (_, _, buffer) = self.open.as_mut().context("the file of a mailbox")?;
                writer.end(buffer);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn close(open: &mut Option<(u32, File, Vec<u8>)>) -> Result<()> {
        if let Some((_, mut file, buffer)) = open.take() {
            file.write_all(&buffer).context("writing an mbox file")?;
        }
        Ok(())
    }

    /// Writes the names of keywords, and waits until all is on disk.
    fn finish(&mut self) -> Result<()> {
        Self::close(&mut self.open)?;
        if self.format == Format::Maildir {
            for target in &self.mailboxes {
                let text = target.keywords.to_file();
                if !text.is_empty() {
                    let path = target.path.join(maildir::KEYWORDS_FILE);
                    create(&path)?
                        .write_all(text.as_bytes())
                        .with_context(|| format!("writing {}", path.display()))?;
                }
            }
        }
        if !self.mailboxes.is_empty() {
            let folder =
                File::open(&self.destination).with_context(|| format!("opening {}", self.destination.display()))?;
            rustix::fs::syncfs(&folder)
                .with_context(|| format!("waiting until {} is on disk", self.destination.display()))?;
        }
        Ok(())
    }
}

fn make_dirs(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making folder {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}: what exists is not written over", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_paths_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("backup");
        std::fs::create_dir_all(data.join(STORE)).unwrap();
        let of = |text: &str| Source::parse(&format!("{}{text}", data.display())).unwrap();
        assert_eq!(Source::parse("mjl").unwrap(), Source::Account("mjl".into()));
        assert_eq!(of(""), Source::Data(data.clone(), String::new()));
        assert_eq!(of("/mjl"), Source::Data(data.clone(), "mjl".into()));
        assert_eq!(of("/accounts/mjl"), Source::Data(data.clone(), "mjl".into()));
        assert!(Source::parse("/nowhere/mjl").is_err());
        assert!(Source::parse("").is_err());
    }
}
