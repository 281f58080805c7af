//! Programs send mail by calling sendmail, and an administrator finds the connection that a message came over.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::output;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, binary, run};

in_both_shapes!(
    cron_sends_through_a_mail_server,
    what_can_not_be_submitted_is_kept,
    ids_in_received_fields_lead_to_the_log,
);

/// Settings for the running mox, and how a program calls sendmail with them.
struct Host<'a>(&'a Mox);

impl Host<'_> {
    fn settings(&self, password: &str, more: &str) -> Result<()> {
        let server = self.0.submissions();
        let settings = format!(
            "local_hostname = \"host.example\"\nhost = \"{}\"\nport = {}\ntls = true\n\
             username = \"{USER}\"\npassword = \"{password}\"\nfrom = \"{USER}\"\n\
             default_destination = \"admin@elsewhere.example\"\n{more}\n",
            server.ip(),
            server.port()
        );
        Ok(std::fs::write(self.0.folder().join("moxsubmit.conf"), settings)?)
    }

    /// As a link of that name to mox.
    fn sendmail(&self, arguments: &[&str], message: &str) -> Result<Output> {
        let folder = self.0.folder();
        let link = folder.join("sendmail");
        if !link.exists() {
            std::os::unix::fs::symlink(binary("mox")?, &link)?;
        }
        let variables = [
            format!("HOME={}", folder.display()),
            format!("MOXSUBMITCONF={}", folder.join("moxsubmit.conf").display()),
            link.display().to_string(),
        ];
        let all: Vec<&str> = variables
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        run("env", &all, message)
    }

    /// Messages that were not submitted.
    fn kept(&self) -> Result<Vec<String>> {
        let folder = self.0.folder().join("moxsubmit.failures");
        if !folder.exists() {
            return Ok(Vec::new());
        }
        std::fs::read_dir(folder)?
            .map(|entry| Ok(std::fs::read_to_string(entry?.path())?))
            .collect()
    }
}

const CRON: &str = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> job\n\nfirst\n.\nlast\n";

fn cron_sends_through_a_mail_server(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let host = Host(&mox);
    host.settings(PASSWORD, "tls_insecure_skip_verify = true")?;
    let done = host.sendmail(&["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"], CRON)?;
    ensure!(done.status.success(), "{}", output(&done));
    let uid = mox.wait_for_subject("INBOX", "Cron <root@host> job")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let message = imap.command(&format!("UID FETCH {uid} BODY.PEEK[]"))?.join("");
    for part in [
        "\nFrom: CronDaemon <",
        "\tfor <admin@elsewhere.example>",
        "\nMessage-ID: <",
        "first\r\n.\r\nlast",
    ] {
        ensure!(message.contains(part), "{part:?} in {message}");
    }
    let done = host.sendmail(&["-t", "-oi"], "To: Joe <joe@elsewhere.example>\nSubject: by -t\n\nx\n")?;
    ensure!(done.status.success(), "{}", output(&done));
    mox.wait_for_subject("INBOX", "by -t")?;
    ensure!(host.kept()?.is_empty());
    Ok(())
}

fn what_can_not_be_submitted_is_kept(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let host = Host(&mox);
    host.settings("wrong", "tls_insecure_skip_verify = true")?;
    let done = host.sendmail(&["joe@elsewhere.example"], "Subject: kept\n\nx\n")?;
    ensure!(
        done.status.code() == Some(69) && output(&done).contains("535"),
        "{}",
        output(&done)
    );
    // Who has no certificate that is known could be anybody.
    host.settings(PASSWORD, "")?;
    let done = host.sendmail(&["joe@elsewhere.example"], "Subject: kept\n\nx\n")?;
    ensure!(done.status.code() == Some(75), "{}", output(&done));
    let kept = host.kept()?;
    ensure!(kept.len() == 2, "{kept:?}");
    for message in kept {
        let begins = message.starts_with("X-Mox-Sendmail-Recipients: joe@elsewhere.example\r\nX-Mox-Sendmail-Error: ");
        ensure!(begins && message.ends_with("Subject: kept\r\n\r\nx\r\n"), "{message}");
    }
    // Nor is it lost when the settings are wrong, or have nobody for users of the host.
    host.settings(PASSWORD, "unknown = true")?;
    let done = host.sendmail(&["root"], "Subject: kept too\n\nx\n")?;
    ensure!(done.status.code() == Some(78), "{}", output(&done));
    let kept = host.kept()?;
    let whole = kept
        .iter()
        .find(|message| message.ends_with("Subject: kept too\n\nx\n"));
    ensure!(
        kept.len() == 3 && whole.is_some_and(|m| m.starts_with("X-Mox-Sendmail-Recipients: root\r\n")),
        "{kept:?}"
    );
    host.settings(PASSWORD, "")?;
    for (arguments, code) in [(&["-bp"][..], 64), (&[][..], 64), (&["no address@"][..], 65)] {
        let done = host.sendmail(arguments, "")?;
        ensure!(done.status.code() == Some(code), "{arguments:?}: {}", output(&done));
    }
    Ok(())
}

fn ids_in_received_fields_lead_to_the_log(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let host = Host(&mox);
    host.settings(PASSWORD, "tls_insecure_skip_verify = true")?;
    host.sendmail(&["joe@elsewhere.example"], "Subject: traced\n\nx\n")?;
    let uid = mox.wait_for_subject("INBOX", "traced")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let header = imap.command(&format!("UID FETCH {uid} BODY.PEEK[HEADER]"))?.join("");
    let ids: Vec<&str> = header
        .split("\tid ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_hexdigit()).next())
        .collect();
    ensure!(ids.len() == 2 && ids.iter().all(|id| id.len() == 32), "{header}");
    for id in &ids {
        let cid = mox.command(&["cid", id])?.trim().to_owned();
        u64::from_str_radix(&cid, 16).with_context(|| cid.clone())?;
        let found = mox
            .processes()
            .any(|process| process.log().contains(&format!("cid={cid}")));
        ensure!(found, "no log has {cid}");
    }
    let forged = mox.try_command(&["cid", &"0".repeat(32)], "")?;
    ensure!(!forged.status.success());
    Ok(())
}
