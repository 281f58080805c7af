//! What attackers send: line ends that other servers take for the end of a message, and commands before TLS.

use anyhow::{Result, ensure};
use mox_integration_tests::client::{Imap, Smtp, base64};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(
    smuggled_messages_are_refused,
    submission_mends_line_feeds,
    commands_before_tls_are_dropped
);

fn smuggled_messages_are_refused(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    for end in [
        "\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "a\nb", "a\rb", "a\r\r\nb",
    ] {
        let mut smtp = mox.session()?;
        smtp.start_data("a@example.org", "mox@localhost")?;
        let hidden = "MAIL FROM:<b@example.org>\r\nRCPT TO:<mox@localhost>\r\nDATA\r\nSubject: smuggled\r\n\r\nx";
        smtp.lines
            .send(format!("Subject: outer\r\n\r\ntext{end}{hidden}\r\n.\r\n"))?;
        let reply = smtp.reply()?;
        ensure!((500..600).contains(&reply.code), "{end:?} was answered with {reply:?}");
    }
    // Nothing of it arrived before a message that did.
    mox.session()?
        .message("a@example.org", "mox@localhost", "Subject: last\r\n\r\nx\r\n")?;
    mox.wait_for_subject("INBOX", "last")?;
    ensure!(mox.login()?.examine("INBOX")? == 1, "a smuggled message arrived");
    Ok(())
}

fn submission_mends_line_feeds(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let mut smtp = Smtp::connect(mox.submission())?;
    smtp.command(&format!("AUTH PLAIN {}", base64(&format!("\0{USER}\0{PASSWORD}"))), 235)?;
    smtp.start_data(USER, "x@elsewhere.example")?;
    smtp.lines
        .send(format!("From: {USER}\nSubject: mended\n\none\n.\ntwo\r\n.\r\n"))?;
    smtp.expect(250)?;
    let uid = mox.wait_for_subject("INBOX", "mended")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let text = imap.command(&format!("UID FETCH {uid} BODY.PEEK[TEXT]"))?.join("");
    ensure!(text.contains("one\r\n.\r\ntwo\r\n"), "{text:?}");
    Ok(())
}

/// RFC 3207 §4.2, and CVE-2011-0411: what was sent before the handshake must not be taken as sent over TLS.
fn commands_before_tls_are_dropped(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    for address in [mox.smtp(), mox.submission()] {
        let mut smtp = Smtp::connect(address)?;
        smtp.lines.send("STARTTLS\r\nEHLO injected.example\r\n")?;
        let rest = smtp.lines.rest()?;
        ensure!(!rest.contains("250"), "{address} answered what was injected: {rest}");
    }
    let mut imap = Imap::connect(mox.imap())?;
    imap.lines.send("a STARTTLS\r\nb NOOP\r\n")?;
    let rest = imap.lines.rest()?;
    ensure!(!rest.contains("b OK"), "IMAP answered what was injected: {rest}");
    Ok(())
}
