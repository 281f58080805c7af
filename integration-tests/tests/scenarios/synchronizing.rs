//! mbsync keeps a mailbox of 1,000 messages the same on both sides.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(mbsync_synchronizes_both_ways, mbsync_settles_conflicts);

const MESSAGES: usize = 1000;

fn configuration(mox: &Mox, maildir: &Path) -> String {
    let (ip, port, maildir) = (mox.ip(), mox.imap().port(), maildir.display());
    format!(
        "IMAPAccount mox\nHost {ip}\nPort {port}\nUser {USER}\nPass {PASSWORD}\nSSLType None\nAuthMechs LOGIN\n\n\
         IMAPStore far\nAccount mox\n\n\
         MaildirStore near\nPath {maildir}/\nInbox {maildir}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
    )
}

fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for part in ["cur", "new"] {
        for entry in std::fs::read_dir(folder.join(part)).with_context(|| format!("reading {}", folder.display()))? {
            names.push(format!("{part}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    names.sort();
    Ok(names)
}

/// Both sides, to compare: names of files say their flags, and the server's say theirs.
fn both_sides(mox: &Mox, inbox: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let mut imap = mox.login()?;
    let mut far = imap.command("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)")?;
    imap.examine("INBOX")?;
    far.extend(imap.command("UID FETCH 1:* FLAGS")?);
    Ok((files(inbox)?, far))
}

fn mbsync_synchronizes_both_ways(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let mut smtp = mox.session()?;
    for n in 0..MESSAGES {
        let message = format!("From: a@example.org\r\nSubject: message {n}\r\nMessage-ID: <{n}@x>\r\n\r\ntext {n}\r\n");
        let reply = smtp.message("a@example.org", "mox@localhost", &message)?;
        ensure!(reply.code == 250, "{reply:?}");
    }
    let maildir = mox.folder().join("maildir");
    std::fs::create_dir(&maildir)?;
    let rc = mox.folder().join("mbsyncrc");
    std::fs::write(&rc, configuration(&mox, &maildir))?;
    let rc = rc.display().to_string();
    let mbsync = || succeed("mbsync", &["-c", &rc, "-a"], "");

    mbsync()?;
    let inbox = maildir.join("INBOX");
    let first = files(&inbox)?;
    ensure!(
        first.len() == MESSAGES,
        "{} messages arrived of {MESSAGES}",
        first.len()
    );

    let before = both_sides(&mox, &inbox)?;
    mbsync()?;
    ensure!(
        both_sides(&mox, &inbox)? == before,
        "the second run found something to do"
    );

    // Ours: a message read, one removed, a new one. Theirs: one removed, one flagged.
    let named = |text: &str| -> Result<String> {
        for name in files(&inbox)? {
            if std::fs::read_to_string(inbox.join(&name))?.contains(text) {
                return Ok(name);
            }
        }
        anyhow::bail!("no file has {text:?}")
    };
    let (seen, gone) = (
        named("Subject: message 10\n").or_else(|_| named("Subject: message 10\r\n"))?,
        named("Subject: message 20")?,
    );
    let base = seen
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .split(":2,")
        .next()
        .unwrap_or_default();
    std::fs::rename(inbox.join(&seen), inbox.join("cur").join(format!("{base}:2,S")))?;
    std::fs::remove_file(inbox.join(&gone))?;
    std::fs::write(
        inbox.join("new/1.local"),
        "From: me@localhost\nSubject: from here\n\nlocal\n",
    )?;
    let mut imap = mox.login()?;
    imap.command("SELECT INBOX")?;
    imap.command("UID STORE 31 +FLAGS (\\Flagged)")?;
    imap.command("UID STORE 41 +FLAGS (\\Deleted)")?;
    imap.command("UID EXPUNGE 41")?;

    mbsync()?;
    ensure!(imap.examine("INBOX")? == MESSAGES - 1, "messages on the server");
    ensure!(files(&inbox)?.len() == MESSAGES - 1, "messages here");
    let subjects: Vec<String> = imap.subjects(1)?.into_iter().map(|(_, s)| s).collect();
    ensure!(
        subjects.contains(&"from here".to_owned()),
        "the local message did not get there"
    );
    let seen = imap.command("UID SEARCH SEEN")?.join("");
    ensure!(seen.contains(" 11"), "{seen}");
    ensure!(
        files(&inbox)?.iter().any(|f| f.contains(":2,F")),
        "the flag did not get here"
    );
    let before = both_sides(&mox, &inbox)?;
    mbsync()?;
    ensure!(
        both_sides(&mox, &inbox)? == before,
        "the last run found something to do"
    );
    Ok(())
}

/// Both sides change the same messages, and make mailboxes, before they meet again.
fn mbsync_settles_conflicts(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let mut imap = mox.login()?;
    for n in 1..=6 {
        let message = format!("Subject: message {n}\r\nMessage-ID: <{n}@x>\r\n\r\ntext {n}\r\n");
        imap.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    let maildir = mox.folder().join("maildir");
    std::fs::create_dir(&maildir)?;
    let rc = mox.folder().join("mbsyncrc");
    std::fs::write(&rc, configuration(&mox, &maildir))?;
    let rc = rc.display().to_string();
    let mbsync = || succeed("mbsync", &["-c", &rc, "-a"], "");
    mbsync()?;
    let inbox = maildir.join("INBOX");
    let path_of = |subject: &str| -> Result<std::path::PathBuf> {
        for name in files(&inbox)? {
            let path = inbox.join(name);
            if std::fs::read_to_string(&path)?.contains(&format!("Subject: {subject}")) {
                return Ok(path);
            }
        }
        anyhow::bail!("no file has {subject:?}")
    };
    let mark = |subject: &str, flags: &str| -> Result<()> {
        let path = path_of(subject)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let base = name.split(":2,").next().unwrap_or_default().to_owned();
        Ok(std::fs::rename(
            &path,
            inbox.join("cur").join(format!("{base}:2,{flags}")),
        )?)
    };
    imap.command("SELECT INBOX")?;
    // Different flags on both sides; the same; removed on both; removed here and flagged there, and the reverse.
    mark("message 1", "S")?;
    imap.command("UID STORE 1 +FLAGS (\\Flagged)")?;
    mark("message 2", "R")?;
    imap.command("UID STORE 2 +FLAGS (\\Answered)")?;
    std::fs::remove_file(path_of("message 3")?)?;
    std::fs::remove_file(path_of("message 4")?)?;
    imap.command("UID STORE 3,5 +FLAGS (\\Deleted)")?;
    imap.command("UID STORE 4 +FLAGS (\\Flagged)")?;
    imap.command("EXPUNGE")?;
    mark("message 5", "F")?;
    // A mailbox on each side.
    imap.command("CREATE Far/Deep")?;
    imap.command("APPEND Far/Deep {16+}\r\nSubject: far\r\n\r\n")?;
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join("Near").join(part))?;
    }
    std::fs::write(maildir.join("Near/new/1.local"), "Subject: near\n\ntext\n")?;

    mbsync()?;
    mbsync()?;
    imap.examine("INBOX")?;
    let flags: Vec<String> = imap.command("UID FETCH 1:* FLAGS")?;
    ensure!(flags.len() == 3, "{flags:?}");
    ensure!(flags[0].contains("\\Seen \\Flagged"), "{flags:?}");
    ensure!(flags[1].contains("\\Answered"), "{flags:?}");
    let here = files(&inbox)?;
    ensure!(here.len() == 3, "{here:?}");
    ensure!(path_of("message 1")?.to_string_lossy().ends_with(":2,FS"), "{here:?}");
    ensure!(path_of("message 6").is_ok(), "{here:?}");
    ensure!(
        files(&maildir.join("Far/Deep"))?.len() == 1,
        "the far mailbox did not get here"
    );
    ensure!(imap.examine("Near")? == 1, "the near mailbox did not get there");
    let before = both_sides(&mox, &inbox)?;
    mbsync()?;
    ensure!(
        both_sides(&mox, &inbox)? == before,
        "the last run found something to do"
    );
    Ok(())
}
