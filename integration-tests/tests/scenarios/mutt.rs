//! Somebody reads mail with mutt, in a terminal.

use anyhow::{Result, ensure};
use mox_integration_tests::client::Tmux;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, wait};

in_both_shapes!(mutt_reads_flags_moves_and_deletes);

fn configuration(mox: &Mox) -> String {
    let (ip, port, folder) = (mox.ip(), mox.imap().port(), mox.folder().display());
    format!(
        "set imap_user=\"{USER}\"\nset imap_pass=\"{PASSWORD}\"\nset ssl_starttls=no\nset ssl_force_tls=no\n\
         set folder=\"imap://{ip}:{port}\"\nset spoolfile=\"+INBOX\"\nset record=\"+Sent\"\nset postponed=\"+Drafts\"\n\
         set header_cache=\"{folder}/headers\"\nset message_cachedir=\"{folder}/messages\"\n\
         set imap_condstore=yes\nset imap_qresync=yes\nset imap_idle=yes\nset timeout=1\nset mail_check=1\n\
         set confirmappend=no\nset delete=yes\nset quit=yes\nset sort=mailbox-order\nset beep=no\nset wait_key=no\n\
         set index_format=\"%4C %Z %s\"\nset from=\"{USER}\"\nset realname=\"Me\"\n"
    )
}

fn deliver(mox: &Mox, n: usize) -> Result<()> {
    let message = format!("From: a@example.org\r\nSubject: message {n}\r\nMessage-ID: <{n}@x>\r\n\r\ntext of {n}\r\n");
    let reply = mox.session()?.message("a@example.org", "mox@localhost", &message)?;
    ensure!(reply.code == 250, "{reply:?}");
    Ok(())
}

/// The line of the index with a subject has these marks.
fn line<'s>(screen: &'s str, subject: &str) -> Option<&'s str> {
    screen.lines().find(|l| l.trim_end().ends_with(subject))
}

fn mutt_reads_flags_moves_and_deletes(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    std::fs::create_dir(mox.folder().join("headers"))?;
    std::fs::create_dir(mox.folder().join("messages"))?;
    let rc = mox.folder().join("muttrc");
    std::fs::write(&rc, configuration(&mox))?;
    for n in 1..=5 {
        deliver(&mox, n)?;
    }
    let command = format!(
        "env TERM=screen LC_ALL=C.UTF-8 HOME={} mutt -n -F {}",
        mox.folder().display(),
        rc.display()
    );
    let mutt = Tmux::start(mox.folder(), &command)?;
    mutt.shows("message 5")?;

    // Reading the first marks it as read.
    mutt.text("1")?;
    mutt.keys(&["Enter", "Enter"])?;
    mutt.shows("text of 1")?;
    mutt.keys(&["q"])?;
    mutt.shows("message 5")?;

    // The second is flagged, the third deleted, the fourth saved elsewhere.
    mutt.text("2")?;
    mutt.keys(&["Enter", "F"])?;
    mutt.until("the flag", |s| line(s, "message 2").is_some_and(|l| l.contains('!')))?;
    mutt.text("3")?;
    mutt.keys(&["Enter", "d"])?;
    mutt.until("the deletion", |s| {
        line(s, "message 3").is_some_and(|l| l.contains('D'))
    })?;
    mutt.text("4")?;
    mutt.keys(&["Enter", "s"])?;
    mutt.shows("Save to mailbox")?;
    mutt.keys(&["C-u"])?;
    mutt.text("=Archive")?;
    mutt.keys(&["Enter"])?;
    mutt.until("the message saved", |s| {
        line(s, "message 4").is_some_and(|l| l.contains('D'))
    })?;
    mutt.keys(&["$"])?;
    mutt.until("the deleted to be gone", |s| {
        line(s, "message 3").is_none() && line(s, "message 5").is_some()
    })?;

    // What arrives shows up by itself.
    deliver(&mox, 6)?;
    mutt.shows("message 6")?;

    let mut imap = mox.login()?;
    wait::until("mutt's changes on the server", wait::DEADLINE, || {
        Ok((imap.examine("INBOX")? == 4).then_some(()))
    })?;
    let subjects: Vec<String> = imap.subjects(1)?.into_iter().map(|(_, s)| s).collect();
    ensure!(
        subjects == ["message 1", "message 2", "message 5", "message 6"],
        "{subjects:?}"
    );
    let flags = imap.command("FETCH 1:2 FLAGS")?;
    ensure!(
        flags[0].contains("\\Seen") && flags[1].contains("\\Flagged"),
        "{flags:?}"
    );
    ensure!(imap.examine("Archive")? == 1, "nothing was saved");
    ensure!(imap.subjects(1)?[0].1 == "message 4", "something else was saved");

    mutt.keys(&["q"])?;
    mutt.ended()?;
    drop(mutt);

    // While it is away, things change. With what it remembers in its cache, it shows what is.
    imap.command("SELECT INBOX")?;
    imap.command("STORE 1 FLAGS (\\Deleted)")?;
    imap.command("EXPUNGE")?;
    imap.command("STORE 1 FLAGS (\\Seen)")?;
    deliver(&mox, 7)?;
    let mutt = Tmux::start(mox.folder(), &command)?;
    let screen = mutt.shows("message 7")?;
    ensure!(line(&screen, "message 1").is_none(), "{screen}");
    ensure!(line(&screen, "message 2").is_some_and(|l| !l.contains('!')), "{screen}");
    mutt.keys(&["q"])?;
    mutt.ended()?;
    Ok(())
}
