//! Mail arrives from any sender, for known addresses and unknown ones, with swaks.

use anyhow::{Result, ensure};
use mox_integration_tests::client::swaks;
use mox_integration_tests::{Mox, Shape};

in_both_shapes!(
    mail_arrives,
    unknown_addresses_arrive_too,
    mail_arrives_over_tls,
    what_arrives_is_what_was_sent
);

fn mail_arrives(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let server = mox.smtp().to_string();
    for (n, from) in ["someone@example.org", "x@no-such-domain.invalid", "<>", "mox@localhost"]
        .into_iter()
        .enumerate()
    {
        let subject = format!("Subject: delivery {n}");
        let to = [
            "--server",
            &server,
            "--to",
            "mox@localhost",
            "--from",
            from,
            "--header",
            &subject,
        ];
        let transcript = swaks(&to)?;
        ensure!(transcript.contains("<-  250 "), "{transcript}");
        mox.wait_for_subject("INBOX", &format!("delivery {n}"))?;
    }
    Ok(())
}

fn unknown_addresses_arrive_too(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let server = mox.smtp().to_string();
    for (n, to) in ["nobody@localhost", "a.b+c@localhost", "someone@elsewhere.example"]
        .into_iter()
        .enumerate()
    {
        let subject = format!("Subject: unknown {n}");
        swaks(&[
            "--server",
            &server,
            "--to",
            to,
            "--from",
            "a@example.org",
            "--header",
            &subject,
        ])?;
        mox.wait_for_subject("INBOX", &format!("unknown {n}"))?;
    }
    Ok(())
}

fn mail_arrives_over_tls(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let server = mox.smtp().to_string();
    let transcript = swaks(&[
        "--server",
        &server,
        "--to",
        "mox@localhost",
        "--tls",
        "--header",
        "Subject: over TLS",
    ])?;
    ensure!(transcript.contains("=== TLS started"), "{transcript}");
    let uid = mox.wait_for_subject("INBOX", "over TLS")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let received = imap
        .command(&format!(
            "UID FETCH {uid} BODY.PEEK[HEADER.FIELDS (RECEIVED RETURN-PATH)]"
        ))?
        .join("");
    ensure!(
        received.contains(" with ESMTPS") && received.contains("Return-Path: <"),
        "{received}"
    );
    Ok(())
}

/// Lines with dots, long lines, eight-bit bytes, no line end in the middle of anything: all bytes stay.
fn what_arrives_is_what_was_sent(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let body = format!("..\r\n.x\r\n{}\r\n\r\nä ö ü\r\n .\r\n\t\r\nend", "long ".repeat(150));
    let message =
        format!("Subject: exact\r\nFrom: a@example.org\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n");
    let mut smtp = mox.session()?;
    smtp.command("MAIL FROM:<a@example.org> BODY=8BITMIME", 250)?;
    smtp.command("RCPT TO:<mox@localhost>", 250)?;
    smtp.command("DATA", 354)?;
    let stuffed = message.replace("\r\n.", "\r\n..");
    // In small pieces, so that line ends and dots are cut apart.
    for piece in stuffed.as_bytes().chunks(7) {
        smtp.lines.send(piece)?;
    }
    smtp.command(".", 250)?;
    let uid = mox.wait_for_subject("INBOX", "exact")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let fetched = imap.command(&format!("UID FETCH {uid} BODY.PEEK[]"))?.join("");
    ensure!(fetched.contains(&message), "{fetched}");
    ensure!(fetched.contains("\nReceived: from client.example"), "{fetched}");
    Ok(())
}
