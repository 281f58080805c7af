//! Mail moves in from Dovecot, and out to Dovecot, by Dovecot's own means, through IMAP.
//!
//! Moving in is `doveadm import` into a store that is this server (imapc); `doveadm sync` can't, as it wants to set
//! the GUIDs of mailboxes, which no IMAP server lets it. Moving out is `doveadm backup -R`, as Dovecot documents it.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(mail_moves_in_from_dovecot_and_out_again);

/// Dovecot does not work for root.
const NOBODY: &str = "65534";
/// 2023-11-14T22:13:20Z.
const FIRST: u64 = 1_700_000_000;
const DAY: u64 = 86_400;

/// Folder, flags as a Maildir has them, as IMAP has them.
const MAIL: [(&str, &str, &str); 6] = [
    ("", "", ""),
    ("", "S", "\\Seen"),
    ("", "FS", "\\Seen \\Flagged"),
    (".Work", "RS", "\\Seen \\Answered"),
    (".Work.Deep", "D", "\\Draft"),
    (".Sent", "S", "\\Seen"),
];

fn write_mail(maildir: &Path) -> Result<()> {
    for (n, (folder, flags, _)) in (0..).zip(MAIL) {
        let folder = maildir.join(folder);
        for part in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let path = folder.join(format!("cur/{}.M{n}P1.host:2,{flags}", FIRST + n));
        std::fs::write(
            &path,
            format!("From: a@example.org\nSubject: moved {n}\n\ntext of {n}\n"),
        )?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST + n * DAY);
        File::options()
            .write(true)
            .open(&path)?
            .set_times(FileTimes::new().set_modified(time).set_accessed(time))?;
    }
    Ok(())
}

fn configuration(mox: &Mox, home: &Path, location: &str) -> String {
    let (ip, port, home) = (mox.ip(), mox.imap().port(), home.display());
    format!(
        "base_dir = {home}/run\nstate_dir = {home}/state\nlog_path = /dev/stderr\nssl = no\nmail_home = {home}\n\
         mail_location = {location}\nnamespace inbox {{\n  inbox = yes\n  separator = /\n}}\n\
         imapc_host = {ip}\nimapc_port = {port}\nimapc_user = {USER}\nimapc_password = {PASSWORD}\nimapc_ssl = no\n\
         imapc_features = rfc822.size fetch-headers\n"
    )
}

/// Files of a Maildir++: folder, flags, subject, day.
fn read_mail(maildir: &Path) -> Result<BTreeSet<(String, String, String, u64)>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(String::new(), maildir.to_owned())];
    for entry in std::fs::read_dir(maildir)? {
        let (path, name) = entry.map(|e| (e.path(), e.file_name().to_string_lossy().into_owned()))?;
        if name.starts_with('.') && path.is_dir() {
            folders.push((name, path));
        }
    }
    for (folder, path) in folders {
        for part in ["cur", "new"] {
            for entry in std::fs::read_dir(path.join(part)).with_context(|| format!("reading {}", path.display()))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let flags = name.split_once(":2,").map_or("", |(_, flags)| flags);
                let text = std::fs::read_to_string(&path)?;
                let subject = text
                    .lines()
                    .find_map(|l| l.strip_prefix("Subject: "))
                    .unwrap_or_default();
                let time = path.metadata()?.modified()?.duration_since(SystemTime::UNIX_EPOCH)?;
                found.insert((folder.clone(), flags.to_owned(), subject.to_owned(), time.as_secs()));
            }
        }
    }
    Ok(found)
}

struct Dovecot {
    home: PathBuf,
    root: bool,
}

impl Dovecot {
    fn run(&self, mox: &Mox, location: &str, args: &[&str]) -> Result<()> {
        let config = self.home.join("dovecot.conf");
        std::fs::write(&config, configuration(mox, &self.home, location))?;
        let (home, config) = (self.home.display().to_string(), config.display().to_string());
        if self.root {
            succeed("chown", &["-R", NOBODY, &home], "")?;
        }
        let home = format!("HOME={home}");
        let command = [&["env", "USER=nobody", &home, "doveadm", "-c", &config], args].concat();
        let (program, args) = match self.root {
            true => (
                "setpriv",
                [&["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"], &command[..]].concat(),
            ),
            false => ("env", command[1..].to_vec()),
        };
        let said = succeed(program, &args, "")?;
        if said.contains("Error") {
            bail!("{args:?}: {said}");
        }
        Ok(())
    }
}

fn mail_moves_in_from_dovecot_and_out_again(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    // Of its own, as another user must get there.
    let home = tempfile::Builder::new().prefix("mox-dovecot-").tempdir()?;
    let dovecot = Dovecot {
        home: home.path().to_owned(),
        root: rustix::process::geteuid().is_root(),
    };
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    write_mail(&old)?;
    let source = format!("maildir:{}", old.display());
    let imapc = format!("imapc:{}/imapc:INDEX=MEMORY", home.path().display());
    dovecot.run(&mox, &imapc, &["import", "-s", &source, "", "all"])?;

    let mut imap = mox.login()?;
    let mut found = 0;
    for (n, (folder, _, flags)) in MAIL.into_iter().enumerate() {
        let mailbox = match folder.strip_prefix('.') {
            Some(name) => name.replace('.', "/"),
            None => "INBOX".to_owned(),
        };
        imap.examine(&mailbox)?;
        let day = 14 + n;
        for response in imap.command("FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")? {
            if response.contains(&format!("Subject: moved {n}\r\n")) {
                found += 1;
                ensure!(response.contains(&format!("FLAGS ({flags})")), "{response:?}");
                ensure!(
                    response.contains(&format!("INTERNALDATE \"{day}-Nov-2023 22:13:20 +0000\"")),
                    "{response:?}"
                );
            }
        }
    }
    ensure!(found == MAIL.len(), "{found} messages of {} moved in", MAIL.len());

    // A second mailbox, as it was.
    let target = format!("maildir:{}", new.display());
    for _ in 0..2 {
        dovecot.run(&mox, &target, &["backup", "-R", "imapc:"])?;
        let (is, should) = (read_mail(&new)?, read_mail(&old)?);
        let plain = |all: &BTreeSet<(String, String, String, u64)>| -> Vec<(String, String, String)> {
            all.iter()
                .map(|(f, l, s, _)| (f.clone(), l.clone(), s.clone()))
                .collect()
        };
        ensure!(plain(&is) == plain(&should), "{is:?}, should be {should:?}");
    }
    Ok(())
}
