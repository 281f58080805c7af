//! offlineimap keeps folders of files and the server the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(offlineimap_synchronizes_both_ways);

fn configuration(mox: &Mox, folder: &Path) -> String {
    let (ip, port, folder) = (mox.ip(), mox.imap().port(), folder.display());
    format!(
        "[general]\naccounts = mox\nmetadata = {folder}/state\nui = basic\nsocktimeout = 60\n\n\
         [Account mox]\nlocalrepository = near\nremoterepository = far\n\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {folder}/mail\nsync_deletes = yes\n\n\
         [Repository far]\ntype = IMAP\nremotehost = {ip}\nremoteport = {port}\nremoteuser = {USER}\n\
         remotepass = {PASSWORD}\nssl = no\nstarttls = no\nauth_mechanisms = CRAM-MD5, PLAIN\nmaxconnections = 2\n"
    )
}

/// Files by the subject of their message.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for part in ["cur", "new"] {
        for entry in std::fs::read_dir(folder.join(part)).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path)?;
            let subject = text.lines().find_map(|l| l.strip_prefix("Subject: "));
            files.insert(subject.unwrap_or_default().trim_end().to_owned(), path);
        }
    }
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn offlineimap_synchronizes_both_ways(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let mut imap = mox.login()?;
    for n in 0..20 {
        let message = format!("Subject: message {n}\r\nMessage-ID: <{n}@x>\r\n\r\ntext {n}\r\n");
        imap.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    imap.command("CREATE Far/Deep")?;
    let folder = mox.folder().join("offlineimap");
    std::fs::create_dir(&folder)?;
    let rc = folder.join("rc");
    std::fs::write(&rc, configuration(&mox, &folder))?;
    let rc = rc.display().to_string();
    let synchronize = || succeed("offlineimap", &["-c", &rc], "");
    synchronize()?;
    let inbox = folder.join("mail/INBOX");
    let before = files(&inbox)?;
    ensure!(before.len() == 20, "{} of 20 messages arrived", before.len());
    ensure!(
        folder.join("mail/Far.Deep").exists(),
        "the nested mailbox did not get here"
    );

    // Ours: one read, one removed, a new one, and a new folder with a message.
    let read = &before["message 3"];
    let base = name(read).split(":2,").next().unwrap_or_default().to_owned();
    std::fs::rename(read, inbox.join("cur").join(format!("{base}:2,S")))?;
    std::fs::remove_file(&before["message 4"])?;
    std::fs::write(
        inbox.join("new/1.local"),
        "Subject: from here\nMessage-ID: <a@x>\n\nlocal\n",
    )?;
    let near = folder.join("mail/Near");
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(near.join(part))?;
    }
    std::fs::write(
        near.join("new/2.local"),
        "Subject: in a new folder\nMessage-ID: <b@x>\n\nlocal\n",
    )?;
    // Theirs: one flagged, one removed, a new one.
    imap.command("SELECT INBOX")?;
    imap.command("UID STORE 8 +FLAGS (\\Flagged)")?;
    imap.command("UID STORE 9 +FLAGS (\\Deleted)")?;
    imap.command("EXPUNGE")?;
    let message = "Subject: from there\r\nMessage-ID: <c@x>\r\n\r\nremote\r\n";
    imap.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    // Both: one is flagged there, and removed here.
    imap.command("UID STORE 11 +FLAGS (\\Answered)")?;
    std::fs::remove_file(&before["message 10"])?;

    synchronize()?;
    synchronize()?;
    let here = files(&inbox)?;
    imap.examine("INBOX")?;
    let there = imap.subjects(1)?;
    let mut subjects: Vec<&String> = there.iter().map(|(_, s)| s).collect();
    subjects.sort();
    ensure!(here.keys().eq(subjects.iter().copied()), "{here:?} and {there:?}");
    for (subject, is) in [
        ("message 3", true),
        ("message 4", false),
        ("from here", true),
        ("message 8", false),
        ("from there", true),
    ] {
        ensure!(here.contains_key(subject) == is, "{subject}: {here:?}");
    }
    let flags = imap.command("UID FETCH 4,8 FLAGS")?;
    ensure!(flags[0].contains("\\Seen"), "what was read here: {flags:?}");
    ensure!(
        name(&here["message 7"]).ends_with(":2,F"),
        "what was flagged there: {here:?}"
    );
    ensure!(imap.examine("Near")? == 1, "the new folder did not get there");
    Ok(())
}
