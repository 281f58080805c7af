//! A full disk: mail is refused for now, what is there can be read, and it goes on when there is room.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Smtp, base64, succeed};
use mox_integration_tests::{Mox, Options, PASSWORD, Shape, USER, wait};

in_both_shapes!(mail_is_refused_for_now_and_accepted_later);

/// Of the small file system.
const DISK_MIB: u64 = 400;
/// That the store leaves free.
const RESERVE: u64 = 100 << 20;

/// A small file system of its own, if this is root; removed when dropped.
struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Disk {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().display().to_string();
        let mounted = rustix::process::geteuid().is_root()
            && succeed(
                "mount",
                &["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs", &path],
                "",
            )
            .is_ok();
        Ok(Self { folder, mounted })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = succeed("umount", &["--lazy", &self.folder.path().display().to_string()], "");
        }
    }
}

/// Takes all but half of the reserve of what is free.
fn fill(disk: &Path) -> Result<PathBuf> {
    let path = disk.join("filler");
    let file = std::fs::File::create(&path)?;
    let stat = rustix::fs::statvfs(disk)?;
    let size = (stat.f_bavail * stat.f_frsize).saturating_sub(RESERVE / 2);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).context("filling the disk")?;
    Ok(path)
}

fn mail_is_refused_for_now_and_accepted_later(shape: Shape) -> Result<()> {
    let disk = Disk::new()?;
    let data = disk.path().join("data");
    std::fs::create_dir(&data)?;
    // Where nothing can be mounted, the reserve is more than the disk has.
    let options = |reserve| Options {
        data_dir: Some(data.clone()),
        reserve_bytes: Some(reserve),
        ..Options::default()
    };
    let mut mox = Mox::start_with(shape, &options(RESERVE))?;
    let deliver = |mox: &Mox, subject: &str| -> Result<u16> {
        let message = format!("Subject: {subject}\r\n\r\n{}", "text\r\n".repeat(1000));
        Ok(mox.session()?.message("a@example.org", "mox@localhost", &message)?.code)
    };
    ensure!(
        deliver(&mox, "before")? == 250,
        "mail was refused before the disk was full"
    );

    let filler = if disk.mounted {
        Some(fill(disk.path())?)
    } else {
        mox.terminate()?;
        mox.edit_config(|c| c["store"]["reserve_bytes"] = toml_edit::value(i64::MAX))?;
        mox.start_all()?;
        None
    };
    // Soon, and from then on: free space is looked at now and then.
    let mut accepted = 1;
    wait::until("mail to be refused", wait::DEADLINE, || {
        Ok(match deliver(&mox, "full")? {
            250 => {
                accepted += 1;
                None
            }
            code => {
                ensure!(code == 452 || code == 451, "refused with {code}");
                Some(())
            }
        })
    })?;
    // Submission and APPEND are refused for now too, and what is there can be read.
    let mut smtp = Smtp::connect(mox.submission())?;
    smtp.command("AUTH LOGIN", 334)?;
    smtp.command(&base64(USER), 334)?;
    smtp.command(&base64(PASSWORD), 235)?;
    let submitted = smtp.message(
        USER,
        "x@elsewhere.example",
        &format!("From: {USER}\r\nSubject: submitted\r\n\r\nx\r\n"),
    );
    let code = submitted.map(|r| r.code);
    ensure!(matches!(code, Ok(451 | 452)), "submission was answered with {code:?}");
    let mut imap = mox.login()?;
    ensure!(imap.examine("INBOX")? == accepted, "messages are missing");
    imap.lines.send("a APPEND INBOX {5+}\r\nA: b\n\r\n")?;
    let answer = imap.lines.line()?;
    ensure!(answer.starts_with("a NO ["), "APPEND was answered with {answer:?}");

    match filler {
        Some(filler) => std::fs::remove_file(filler)?,
        None => {
            mox.terminate()?;
            mox.edit_config(|c| c["store"]["reserve_bytes"] = toml_edit::value(0))?;
            mox.start_all()?;
        }
    }
    wait::until("mail to be accepted again", wait::DEADLINE, || {
        Ok((deliver(&mox, "after")? == 250).then_some(()))
    })?;
    mox.wait_for_subject("INBOX", "after")?;
    mox.wait_for_subject("INBOX", "before")?;
    for process in mox.processes() {
        ensure!(process.exited()?.is_none(), "{} ended", process.name());
    }
    Ok(())
}
