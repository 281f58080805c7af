//! Hundreds of sessions wait, and each is told of what arrives for its account. (`make bench` does it with thousands.)

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, Options, Shape};

in_both_shapes_alone!(every_waiting_session_is_told);

const ACCOUNTS: usize = 25;
/// Of each account.
const SESSIONS: usize = 20;
const PASSWORD: &str = "one of many";

fn add_accounts(mox: &Mox) -> Result<()> {
    let path = mox.config_dir().join("domains.toml");
    let mut text = std::fs::read_to_string(&path)?;
    for n in 0..ACCOUNTS {
        text.push_str(&format!(
            "\n[accounts.many{n}]\ndomain = \"localhost\"\nno_first_time_sender_delay = true\n\
             [accounts.many{n}.destinations.\"many{n}@localhost\"]\n"
        ));
    }
    Ok(std::fs::write(&path, text)?)
}

fn every_waiting_session_is_told(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    add_accounts(&mox)?;
    mox.start_all()?;
    for n in 0..ACCOUNTS {
        mox.command_with_input(&["setaccountpassword", &format!("many{n}")], &format!("{PASSWORD}\n"))?;
    }
    let mut waiting = Vec::new();
    for n in 0..ACCOUNTS {
        for _ in 0..SESSIONS {
            let mut imap = Imap::login(mox.imap(), &format!("many{n}@localhost"), PASSWORD)?;
            imap.command("SELECT INBOX")?;
            imap.lines.send("i IDLE\r\n")?;
            ensure!(imap.lines.line()?.starts_with('+'), "no IDLE");
            waiting.push(imap);
        }
    }
    let mut smtp = mox.session()?;
    for n in 0..ACCOUNTS {
        let to = format!("many{n}@localhost");
        let reply = smtp.message("a@example.org", &to, &format!("Subject: for {n}\r\n\r\nhello\r\n"))?;
        ensure!(reply.code == 250, "{reply:?}");
    }
    for (n, imap) in waiting.iter_mut().enumerate() {
        imap.lines.set_timeout(Duration::from_secs(30))?;
        let line = imap.lines.line().with_context(|| format!("session {n} was not told"))?;
        ensure!(line == "* 1 EXISTS", "session {n}: {line:?}");
    }
    // Nobody is told of another's: the next that each hears is the end of its own command.
    for (n, imap) in waiting.iter_mut().enumerate() {
        imap.lines.send("DONE\r\n")?;
        let line = imap.lines.line()?;
        let is_right = line.starts_with("i OK") || line.starts_with("* 0 RECENT") || line.starts_with("* 1 RECENT");
        ensure!(is_right, "session {n}: {line:?}");
    }
    Ok(())
}
