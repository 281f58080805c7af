//! Mail goes in and out in files, is backed up while it arrives, and is checked and repaired.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mox_integration_tests::client::output;
use mox_integration_tests::{Mox, Shape, binary, run, wait};

in_both_shapes!(
    mail_goes_out_and_in_again,
    an_archive_with_errors_adds_whole_messages_only,
    a_backup_is_whole_while_mail_arrives,
    repairs_work_running_and_stopped
);

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// All files below a folder: their path in it, and their bytes.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
            let path: PathBuf = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = text(path.strip_prefix(folder)?);
                found.insert(name, std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// A maildir with three messages: flags, a keyword, times, and one that is large.
fn make_maildir(folder: &Path) -> Result<()> {
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(folder.join(sub))?;
    }
    let large = "0123456789abcdef\n".repeat(40_000);
    let message =
        |n: u32, body: &str| format!("From: a@example.org\nSubject: archived {n}\nMessage-ID: <a{n}@x>\n\n{body}\n");
    std::fs::write(
        folder.join("new/1700000000.1.host"),
        message(1, "From the start\n>From it"),
    )?;
    std::fs::write(folder.join("cur/1700000001.2.host:2,FSa"), message(2, "two"))?;
    std::fs::write(folder.join("cur/1700000002.3.host:2,RSb"), message(3, &large))?;
    std::fs::write(folder.join("dovecot-keywords"), "0 $Forwarded\n1 holiday\n")?;
    for (n, name) in [
        "new/1700000000.1.host",
        "cur/1700000001.2.host:2,FSa",
        "cur/1700000002.3.host:2,RSb",
    ]
    .iter()
    .enumerate()
    {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + n as u64);
        let file = std::fs::File::options().write(true).open(folder.join(name))?;
        file.set_times(std::fs::FileTimes::new().set_modified(at))?;
    }
    Ok(())
}

fn mail_goes_out_and_in_again(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let dir = mox.folder().to_owned();
    make_maildir(&dir.join("in"))?;
    let said = mox.command(&["import", "maildir", "mox", "Old/Things", &text(&dir.join("in"))])?;
    ensure!(said.contains("3 messages imported"), "{said}");
    let mut imap = mox.login()?;
    ensure!(imap.examine("Old/Things")? == 3, "three messages");
    let flags = imap.command("FETCH 1:3 (FLAGS INTERNALDATE)")?.join("\n");
    for expected in ["$Forwarded", "holiday", "\\Flagged", "\\Answered", "13-Sep-2020"] {
        ensure!(flags.contains(expected), "{expected} is not in {flags}");
    }

    // Out as both formats, in again, and out again: the same files.
    for format in ["maildir", "mbox"] {
        let first = dir.join(format!("{format}1"));
        let said = mox.command(&["export", format, &text(&first), "mox", "Old"])?;
        ensure!(said.contains("3 messages of 2 mailboxes"), "{said}");
        let again = mox.try_command(&["export", format, &text(&first), "mox", "Old"], "")?;
        ensure!(
            !again.status.success() && output(&again).contains("not written over"),
            "{}",
            output(&again)
        );
        let name = format!("Back{format}");
        let from = match format {
            "maildir" => first.join("Old/Things"),
            _ => first.join("Old/Things.mbox"),
        };
        mox.command(&["import", format, "mox", &name, &text(&from)])?;
        let second = dir.join(format!("{format}2"));
        mox.command(&["export", format, "-single", &text(&second), "mox", &name])?;
        let (a, b) = match format {
            "maildir" => (files(&from)?, files(&second.join(&name))?),
            _ => (
                BTreeMap::from([("x".to_owned(), std::fs::read(&from)?)]),
                BTreeMap::from([("x".to_owned(), std::fs::read(second.join(format!("{name}.mbox")))?)]),
            ),
        };
        if format == "mbox" {
            let file = String::from_utf8_lossy(&a["x"]).into_owned();
            ensure!(
                file.contains("\n>From the start\n>>From it\n") && file.contains("X-Keywords: $Forwarded\n"),
                "{}",
                &file[..500]
            );
        }
        ensure!(a == b, "{:?} and {:?}", a.keys(), b.keys());
    }

    // The same from the data of a stopped system, by its configuration and by its path.
    mox.terminate()?;
    let data = mox.config_dir().join("data");
    let by_name = dir.join("stopped");
    mox.command(&["export", "maildir", &text(&by_name), "mox", "Old"])?;
    let by_path = dir.join("path");
    mox.command(&["export", "maildir", &text(&by_path), &text(&data.join("mox")), "Old"])?;
    ensure!(files(&by_name)? == files(&by_path)? && files(&by_name)? == files(&dir.join("maildir1"))?);
    let said = mox.command(&[
        "import",
        "mbox",
        "mox",
        "Later",
        &text(&dir.join("mbox1/Old/Things.mbox")),
    ])?;
    ensure!(said.contains("3 messages imported"), "{said}");
    mox.command(&["verifydata", &text(&data)])?;
    mox.start_all()?;
    ensure!(mox.login()?.examine("Later")? == 3);
    Ok(())
}

fn an_archive_with_errors_adds_whole_messages_only(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let dir = mox.folder().to_owned();
    let fails = |args: &[&str], why: &str| -> Result<()> {
        let done = mox.try_command(args, "")?;
        ensure!(
            !done.status.success() && output(&done).contains(why),
            "{args:?}: {}",
            output(&done)
        );
        Ok(())
    };
    let file = dir.join("no.mbox");
    std::fs::write(&file, "Subject: x\n\nno mbox\n")?;
    fails(
        &["import", "mbox", "mox", "New", &text(&file)],
        "line 1 is not in any message",
    )?;
    fails(&["import", "maildir", "mox", "New", &text(&dir)], "is no maildir")?;
    fails(&["import", "mbox", "nobody", "New", &text(&file)], "nobody")?;
    fails(&["import", "mbox", "mox", "a//b", &text(&file)], "a//b")?;
    fails(
        &["import", "mbox", "mox", "New", &text(&dir.join("nothing"))],
        "nothing",
    )?;
    fails(&["export", "mbox", &text(&dir.join("x")), "mox", "Nope"], "Nope")?;
    ensure!(mox.login()?.examine("New").is_err(), "no mailbox was made");
    // A message of any form is a message.
    let odd = dir.join("odd.mbox");
    std::fs::write(&odd, "From -\n\nno header\n\nFrom x\nSubject: cut")?;
    mox.command(&["import", "mbox", "mox", "New", &text(&odd)])?;
    ensure!(mox.login()?.examine("New")? == 2);
    Ok(())
}

fn a_backup_is_whole_while_mail_arrives(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let dir = mox.folder().to_owned();
    let (address, backup) = (mox.smtp(), dir.join("backup"));
    let delivered = std::thread::scope(|scope| -> Result<usize> {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sending = scope.spawn(move || -> Result<usize> {
            let mut sent = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let mut smtp = mox_integration_tests::client::Smtp::connect(address)?;
                smtp.message(
                    "a@example.org",
                    "mox@localhost",
                    &format!("Subject: number {sent}\r\n\r\n{}\r\n", "x".repeat(3000)),
                )?;
                sent += 1;
            }
            Ok(sent)
        });
        let made = (|| {
            wait::until("some messages", wait::DEADLINE, || {
                Ok((mox.login()?.examine("INBOX")? > 20).then_some(()))
            })?;
            mox.command(&["backup", &text(&backup)])
        })();
        let _ = stop.send(());
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let said = made?;
        ensure!(said.is_empty(), "a backup without warnings prints nothing: {said}");
        Ok(sent)
    })?;
    let again = mox.try_command(&["backup", &text(&backup)], "")?;
    ensure!(
        !again.status.success() && output(&again).contains("not empty"),
        "{}",
        output(&again)
    );
    for file in ["config/mox.toml", "config/domains.toml", "store/rocksdb/CURRENT"] {
        ensure!(backup.join(file).exists(), "{file} is not in the backup");
    }
    let mox_binary = text(&binary("mox")?);
    let verified = run(&mox_binary, &["verifydata", &text(&backup)], "")?;
    ensure!(
        verified.status.success() && output(&verified).is_empty(),
        "{}",
        output(&verified)
    );
    let data = mox.config_dir().join("data");
    let used = run(&mox_binary, &["verifydata", &text(&data)], "")?;
    ensure!(
        !used.status.success() && output(&used).contains("in use"),
        "{}",
        output(&used)
    );

    // What is not mox's is stored, with a warning.
    std::fs::write(data.join("notes.txt"), "mine")?;
    let said = mox.command(&["backup", "-verbose", &text(&dir.join("second"))])?;
    ensure!(said.contains("notes.txt") && said.contains(" ms"), "{said}");
    ensure!(std::fs::read(dir.join("second/notes.txt"))? == b"mine");

    // Restored, it serves what there was.
    mox.terminate()?;
    std::fs::rename(&data, dir.join("old-data"))?;
    std::fs::rename(&backup, &data)?;
    mox.start_all()?;
    let restored = mox.login()?.examine("INBOX")?;
    ensure!((21..=delivered).contains(&restored), "{restored} of {delivered}");
    Ok(())
}

fn repairs_work_running_and_stopped(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let dir = mox.folder().to_owned();
    make_maildir(&dir.join("in"))?;
    mox.command(&["import", "maildir", "mox", "Work", &text(&dir.join("in"))])?;
    let commands: [&[&str]; 7] = [
        &["fixuidmeta", "mox"],
        &["fixmsgsize"],
        &["reparse"],
        &["ensureparsed", "mox"],
        &["ensureparsed", "-all", "mox"],
        &["recalculatemailboxcounts", "mox"],
        &["recalculatemailboxcounts", "-json", "mox"],
    ];
    for running in [true, false] {
        for command in commands {
            let said = mox.command(command)?;
            ensure!(said.contains("mox"), "{command:?}: {said}");
        }
        if running {
            // Whoever has the mailbox open is sent away.
            let mut imap = mox.login()?;
            imap.examine("Work")?;
            let said = mox.command(&["bumpuidvalidity", "mox", "Work"])?;
            ensure!(said.contains("UIDVALIDITY is now"), "{said}");
            let noop = imap.command("NOOP");
            ensure!(noop.is_err(), "{noop:?}");
            mox.command(&["reassignuids", "mox"])?;
            mox.terminate()?;
        } else {
            let said = mox.command(&["reassignuids", "mox", "Work"])?;
            ensure!(said.contains("UIDs are 1 to 3"), "{said}");
            mox.command(&["bumpuidvalidity", "mox"])?;
        }
    }
    let eml = dir.join("in/cur/1700000001.2.host:2,FSa");
    let parsed = mox.command(&["message", "parse", &text(&eml)])?;
    let parsed: serde_json::Value = serde_json::from_str(&parsed)?;
    ensure!(parsed["base_subject"] == "archived 2", "{parsed}");
    let said = mox.command(&["message", "parse", "-smtputf8", &text(&eml)])?;
    ensure!(said.contains("message needs smtputf8: false"), "{said}");
    mox.start_all()?;
    if mox.login()?.examine("Work")? != 3 {
        bail!("three messages");
    }
    Ok(())
}
