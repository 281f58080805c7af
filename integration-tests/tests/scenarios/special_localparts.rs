//! Localserve's addresses that fail on purpose, for developers who test how their software takes it.

use std::time::Duration;

use anyhow::{Result, ensure};
use mox_integration_tests::{Mox, Shape};

in_both_shapes!(localparts_choose_the_reply);

const MESSAGE: &str = "Subject: special\r\n\r\nx\r\n";

fn localparts_choose_the_reply(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    // At the end of DATA.
    for (to, codes) in [
        ("xtemperror@localhost", 400..500),
        ("permerror@localhost", 500..600),
        ("user451@localhost", 451..452),
        ("user550@localhost", 550..551),
        ("452@localhost", 452..453),
    ] {
        let reply = mox.session()?.message("a@example.org", to, MESSAGE)?;
        ensure!(codes.contains(&reply.code), "{to}: {reply:?}");
    }
    // In earlier commands.
    for (from, to, mail, rcpt) in [
        ("mailfrom-temperror@example.org", "mox@localhost", 400..500, None),
        ("mailfrom553@example.org", "mox@localhost", 553..554, None),
        ("a@example.org", "rcptto-permerror@localhost", 250..251, Some(500..600)),
        ("a@example.org", "rcptto452@localhost", 250..251, Some(452..453)),
    ] {
        let mut smtp = mox.session()?;
        smtp.lines.send(format!("MAIL FROM:<{from}>\r\n"))?;
        let reply = smtp.reply()?;
        ensure!(mail.contains(&reply.code), "{from}: {reply:?}");
        if let Some(rcpt) = rcpt {
            smtp.lines.send(format!("RCPT TO:<{to}>\r\n"))?;
            let reply = smtp.reply()?;
            ensure!(rcpt.contains(&reply.code), "{to}: {reply:?}");
        }
    }
    // No answer: not in the time that a test can wait.
    let mut smtp = mox.session()?;
    smtp.command("MAIL FROM:<a@example.org>", 250)?;
    smtp.lines.set_timeout(Duration::from_secs(3))?;
    smtp.lines.send("RCPT TO:<rcptto-timeout@localhost>\r\n")?;
    let silence = smtp.reply();
    ensure!(silence.is_err(), "{silence:?}");
    // None of it arrived, and the server is well.
    mox.session()?
        .message("a@example.org", "mox@localhost", "Subject: fine\r\n\r\nx\r\n")?;
    mox.wait_for_subject("INBOX", "fine")?;
    ensure!(
        mox.login()?.examine("INBOX")? == 1,
        "a message that was refused arrived"
    );
    Ok(())
}
