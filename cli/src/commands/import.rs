//! `mox import maildir|mbox`: reads an archive, and streams its messages to the store.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use mox_message::archive::ToCrlf;
use mox_message::archive::maildir::{self, Keywords};
use mox_message::archive::mbox::{Event, Reader};
use mox_proto::admin::v1::{ImportMessage, ImportRequest, ImportStart};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::admin::{Admins, block_on, told};
use crate::command::{Command, flag, parameter, text};
use crate::context::Context;
use crate::report::Printer;

/// Bytes of a message that are sent at once: with what is beside them, less than a request may have.
const PIECE: usize = 250 << 10;
/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// Requests that wait for the store.
const AHEAD: usize = 8;

pub const MAILDIR: Command = Command {
    words: &["import", "maildir"],
    parameters: "accountname mailboxname maildir",
    help: concat_help::MAILDIR,
    arguments,
    run: |context, matches| import(context, matches, maildir),
};

pub const MBOX: Command = Command {
    words: &["import", "mbox"],
    parameters: "accountname mailboxname mbox",
    help: concat_help::MBOX,
    arguments,
    run: |context, matches| import(context, matches, mbox),
};

/// Help texts, each with what is common.
mod concat_help {
    macro_rules! common {
        () => {
            "Messages are added to the mailbox, which is made if it does not exist. Those that are there already are not \
             looked for: importing twice gives every message twice. They keep their flags and keywords, and the time they \
             were received at.\n\n\
             Messages with the flags for junk or not junk train the account's junk filter. Those that have neither get \
             one by the name of the mailbox, if the account has automatic_junk_flags. Recipients of messages that are \
             imported into the Sent mailbox count as known: mail from them is accepted, unless something else speaks \
             against it.\n\n\
             This command reads the files, so mox itself needs no access to them. Messages are added in batches. If the \
             import breaks off, those that were added stay, each of them whole; it says how many they are. With a stopped \
             mox, its data is opened directly."
        };
    }
    pub const MAILDIR: &str = concat!(
        "Import a maildir into an account.\n\n",
        common!(),
        "\n\nFlags are in the names of files; a file dovecot-keywords explains letters for others. Subfolders (of \
         Maildir++, with names that begin with a dot) are mailboxes of their own, and are not imported along."
    );
    pub const MBOX: &str = concat!(
        "Import an mbox file into an account.\n\nA maildir is the better format, if there is a choice.\n\n",
        common!(),
        "\n\nFlags are in the fields Status, X-Status and X-Keywords, which are taken out of the message."
    );
}

fn arguments() -> Vec<Arg> {
    vec![
        parameter("accountname"),
        parameter("mailboxname"),
        parameter("path"),
        flag("json", "print a JSON object for each finding, one a line"),
    ]
}

type Sender = mpsc::Sender<ImportRequest>;
type Read = fn(&Path, &Pieces) -> Result<()>;

/// Sends messages in pieces.
struct Pieces(Sender);

/// The store does not take more: its answer says why.
#[derive(Debug, thiserror::Error)]
#[error("the store ended the import")]
struct Ended;

impl Pieces {
    fn send(&self, request: ImportRequest) -> Result<()> {
        self.0.blocking_send(request).map_err(|_| Ended.into())
    }

    /// Sends all full pieces of `data`, and keeps the rest.
    fn full(&self, data: &mut Vec<u8>) -> Result<()> {
        while data.len() > PIECE {
            let rest = data.split_off(PIECE);
            let data = std::mem::replace(data, rest).into();
            self.send(ImportRequest {
                data,
                ..ImportRequest::default()
            })?;
        }
        Ok(())
    }

    /// Sends the last piece of a message.
    fn last(&self, data: Vec<u8>, message: ImportMessage) -> Result<()> {
        self.send(ImportRequest {
            data: data.into(),
            message: Some(message),
            ..ImportRequest::default()
        })
    }
}

fn import(context: &Context, matches: &ArgMatches, read: Read) -> Result<ExitCode> {
    let path = PathBuf::from(text(matches, "path"));
    let start = ImportRequest {
        start: Some(ImportStart {
            account: text(matches, "accountname").to_owned(),
            mailbox: text(matches, "mailboxname").to_owned(),
        }),
        ..ImportRequest::default()
    };
    // What is wrong with the path shows before a mailbox is made.
    std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut printer = Printer::new(matches.get_flag("json"), false);
    block_on(async {
        let admins = Admins::open(context).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        sender.send(start).await.map_err(|_| Ended)?;
        let reading = tokio::task::spawn_blocking(move || -> Result<()> {
            let pieces = Pieces(sender);
            read(&path, &pieces)?;
            pieces.send(ImportRequest {
                finish: true,
                ..ImportRequest::default()
            })
        });
        let reports = admins.client().import(ReceiverStream::new(receiver)).await;
        let stored = match reports {
            Ok(reports) => printer.all(reports.into_inner()).await,
            Err(status) => Err(told(&status)),
        };
        match (reading.await.context("reading the archive")?, stored) {
            (Ok(()), stored) => stored,
            // The store's answer is the reason.
            (Err(read), Err(stored)) if read.is::<Ended>() => Err(stored),
            (Err(read), Err(stored)) => Err(read.context(stored.to_string())),
            (Err(read), Ok(())) => Err(read),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn mbox(path: &Path, pieces: &Pieces) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(doing)?;
    if file.metadata().with_context(doing)?.is_dir() {
        bail!("{} is a folder: is it a maildir?", path.display());
    }
    let (mut reader, mut events, mut data) = (Reader::default(), Vec::new(), Vec::new());
    let mut buffer = vec![0; READ];
    let mut take = |events: &mut Vec<Event>| -> Result<()> {
        for event in events.drain(..) {
            match event {
                Event::Data(more) => {
                    data.extend_from_slice(&more);
                    pieces.full(&mut data)?;
                }
                Event::End(found) => pieces.last(
                    std::mem::take(&mut data),
                    ImportMessage {
                        name: format!("{}, message at line {}", path.display(), found.line),
                        flags: Some(found.flags),
                        received: found.received,
                    },
                )?,
            }
        }
        Ok(())
    };
    loop {
        let n = file.read(&mut buffer).with_context(doing)?;
        if n == 0 {
            break;
        }
        reader.feed(&buffer[..n], &mut events).with_context(doing)?;
        take(&mut events)?;
    }
    reader.finish(&mut events).with_context(doing)?;
    take(&mut events)
}

fn maildir(path: &Path, pieces: &Pieces) -> Result<()> {
    if !path.join("cur").is_dir() && !path.join("new").is_dir() {
        bail!("{} has no folder cur or new: it is no maildir", path.display());
    }
    let keywords = read_keywords(path)?;
    // All that is there when it begins, in the order in which it was delivered.
    let mut files = Vec::new();
    for folder in ["new", "cur"] {
        let folder = path.join(folder);
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("reading folder {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading folder {}", folder.display()))?;
            let name = entry.file_name();
            // Dovecot and others keep files of their own there, with names that begin with a dot.
            if !name.as_bytes().starts_with(b".") && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                files.push((maildir::delivered(name.as_bytes()), name, entry.path()));
            }
        }
    }
    files.sort();
    for (delivered, name, path) in files {
        let doing = || format!("reading {}", path.display());
        let mut file = match File::open(&path) {
            // Its flags were changed by whoever uses the maildir, or it was removed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                eprintln!(
                    "warning: {} went away while the maildir was read: left out",
                    path.display()
                );
                continue;
            }
            other => other.with_context(doing)?,
        };
        let metadata = file.metadata().with_context(doing)?;
        // The time of the file is what Dovecot and others keep INTERNALDATE in.
        let received = Some(metadata.mtime()).filter(|at| *at > 0).or(delivered);
        let mut crlf = ToCrlf::default();
        let (mut data, mut buffer) = (Vec::new(), vec![0; READ]);
        loop {
            let n = file.read(&mut buffer).with_context(doing)?;
            if n == 0 {
                break;
            }
            crlf.piece(&buffer[..n], &mut data);
            pieces.full(&mut data)?;
        }
        let flags = maildir::flags(name.as_bytes(), &keywords);
        pieces.last(
            data,
            ImportMessage {
                name: path.display().to_string(),
                flags: Some(flags),
                received,
            },
        )?;
    }
    tell_subfolders(path);
    Ok(())
}

fn read_keywords(path: &Path) -> Result<Keywords> {
    let file = path.join(maildir::KEYWORDS_FILE);
    let mut bytes = Vec::new();
    match File::open(&file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Keywords::default()),
        opened => opened
            .and_then(|f| f.take(maildir::KEYWORDS_FILE_MAX).read_to_end(&mut bytes))
            .map_err(|e| anyhow!("reading {}: {e}", file.display()))?,
    };
    let (keywords, bad) = Keywords::parse(&bytes);
    for line in bad {
        eprintln!("warning: {}:{line} is no number and keyword: left out", file.display());
    }
    Ok(keywords)
}

/// Whoever has subfolders may expect them to come along.
fn tell_subfolders(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().join("cur").is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| !maildir::FOLDERS.contains(&name.as_str()))
        .collect();
    names.sort();
    if !names.is_empty() {
        eprintln!(
            "mox: there are maildirs in it, which are mailboxes of their own: import each by itself, such as {}",
            path.join(&names[0]).display()
        );
    }
}
