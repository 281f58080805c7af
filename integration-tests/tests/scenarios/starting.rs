//! Starting again, on data that is there already.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mox_integration_tests::client::python;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(everything_is_there_after_a_restart);

fn everything_is_there_after_a_restart(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let state = |mox: &Mox| -> Result<Vec<String>> {
        let mut imap = mox.login()?;
        let mut state = imap.command("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)")?;
        imap.command("EXAMINE INBOX")?;
        state.extend(imap.command("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")?);
        Ok(state)
    };
    let mut smtp = mox.session()?;
    for n in 0..20 {
        smtp.message("a@example.org", "mox@localhost", &format!("Subject: {n}\r\n\r\nx\r\n"))?;
    }
    let mut imap = mox.login()?;
    imap.command("SELECT INBOX")?;
    imap.command("UID STORE 3,5 +FLAGS (\\Seen custom)")?;
    imap.command("UID STORE 4 +FLAGS (\\Deleted)")?;
    imap.command("UID EXPUNGE 4")?;
    let before = state(&mox)?;
    drop((smtp, imap));
    mox.restart()?;
    ensure!(state(&mox)? == before, "the mailbox is not what it was");
    for name in mox.names() {
        mox.kill(name)?;
    }
    let begin = Instant::now();
    mox.start_all()?;
    // A debug build on a busy machine; the benchmark measures the release build.
    ensure!(
        begin.elapsed() < Duration::from_secs(30),
        "starting took {:?}",
        begin.elapsed()
    );
    ensure!(state(&mox)? == before, "the mailbox is not what it was");
    let script = "import imaplib, sys\nc = imaplib.IMAP4(sys.argv[1], int(sys.argv[2]))\nc.login(*sys.argv[3:])\nassert c.select('INBOX') == ('OK', [b'19'])\n";
    python(
        script,
        &[&mox.ip().to_string(), &mox.imap().port().to_string(), USER, PASSWORD],
    )?;
    Ok(())
}
