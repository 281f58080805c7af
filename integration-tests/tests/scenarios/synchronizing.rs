//! mbsync keeps a mailbox of 1,000 messages the same on both sides.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(mbsync_synchronizes_both_ways);

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
