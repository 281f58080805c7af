//! Two hosts: one gets mail in the other's name, and reports to it; the other reads what it is told, and keeps it.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Dns, Mox, Options, Shape, USER, binary, free_ip, run, wait};

in_both_shapes!(who_asks_is_told_what_dmarc_found_out);

/// A day, and more than reports are spread over.
const LATER_HOURS: u32 = 26;

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
other.example TXT v=spf1 ip4:127.0.0.0/8 -all
other.example MX 10 mx.sender.example
_dmarc.sender.example TXT v=DMARC1; p=none; ri=3600; rua=mailto:dmarc@sender.example
mail.receiver.example TXT v=spf1 -all
mail.receiver.example A 127.0.0.1
_dmarc.receiver.example TXT v=DMARC1; p=reject; rua=mailto:dmarc@receiver.example
";

const KEY: &str = "2026a";

fn append(mox: &Mox, text: &str) -> Result<()> {
    let domains = mox.config_dir().join("domains.toml");
    let before = std::fs::read_to_string(&domains)?;
    Ok(std::fs::write(&domains, format!("{before}\n{text}\n"))?)
}

fn letter(subject: &str) -> String {
    format!(
        "From: <joe@sender.example>\r\nTo: <{USER}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@sender.example>\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\nhello\r\n"
    )
}

fn output(done: &std::process::Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn who_asks_is_told_what_dmarc_found_out(shape: Shape) -> Result<()> {
    // The one who is told is a host of its own, always in one process.
    let prepare = |shape, dns: &Dns| {
        let options = Options {
            host_with_dns: Some(dns.address()),
            ..Options::default()
        };
        Mox::prepare(shape, &options)
    };
    let mox = binary("mox")?.display().to_string();
    let key = output(&run(&mox, &["dkim", "gened25519"], "")?);
    let public = output(&run(&mox, &["dkim", "txt"], &key)?);
    let public = public
        .lines()
        .find(|line| line.contains("v=DKIM1"))
        .context("no record")?;
    let public = public.trim().trim_matches('"');
    let dns = Dns::serve(
        free_ip(),
        &format!("{RECORDS}{KEY}._domainkey.receiver.example TXT {public}\n"),
    )?;

    let mut told = prepare(Shape::Single, &dns)?;
    append(
        &told,
        "[domains.\"sender.example\".dmarc]\nlocalpart = \"dmarc\"\naccount = \"mox\"\nmailbox = \"DMARC\"",
    )?;
    let mut teller = prepare(shape, &dns)?;
    let next = told.smtp();
    teller.edit_config(|config| {
        config["hostname"] = toml_edit::value("mail.receiver.example");
        // Where domains.toml has everything delivered.
        let transport = &mut config["transports"]["self"]["smtp"];
        transport["host"] = toml_edit::value(next.ip().to_string());
        transport["port"] = toml_edit::value(i64::from(next.port()));
    })?;
    append(
        &teller,
        &format!(
            "[domains.\"receiver.example\".dkim]\nsign = [\"{KEY}\"]\n\
             [domains.\"receiver.example\".dkim.selectors.{KEY}]\nprivate_key = \"\"\"\n{key}\"\"\""
        ),
    )?;
    teller.start_first()?;
    for (mail_from, subject) in [
        ("joe@sender.example", "first"),
        ("joe@sender.example", "second"),
        ("joe@other.example", "third"),
    ] {
        let reply = teller.session()?.message(mail_from, USER, &letter(subject))?;
        ensure!(reply.code == 250, "{reply:?}");
    }
    wait::until("messages to be recorded", wait::DEADLINE, || {
        let recorded = teller.figure("store", "mox_store_reports_recorded_total")?;
        Ok((recorded.as_deref() == Some("3")).then_some(()))
    })?;
    wait::until("what is to be reported to be listed", wait::DEADLINE, || {
        let waiting = teller.command(&["reports", "waiting", "-json"])?;
        Ok((waiting.contains("\"dmarc\"") && waiting.contains("sender.example")).then_some(()))
    })?;
    suppressing(&teller)?;
    // A day later.
    teller.set_ahead(LATER_HOURS);
    told.set_ahead(LATER_HOURS);
    told.start_first()?;
    teller.restart()?;
    let mut imap = told.login()?;
    wait::until("a report", wait::DEADLINE, || {
        Ok((imap.examine("DMARC").unwrap_or(0) == 1).then_some(()))
    })
    .with_context(|| format!("{}\n{}", teller.log_tails(), told.log_tails()))?;
    let message = imap.message(1)?;
    ensure!(message.contains("X-Mox-Reason: dmarc-report"), "{message}");
    ensure!(
        message.contains("dkim=pass") && message.contains("dmarc=pass"),
        "{message}"
    );
    ensure!(
        message.contains("Subject: Report Domain: sender.example Submitter: mail.receiver.example"),
        "{message}"
    );
    let file = told.folder().join("report.eml");
    std::fs::write(&file, message)?;
    let file = file.display().to_string();
    let report = told.command(&["dmarc", "parsereportmsg", &file])?;
    for line in [
        "organization: mail.receiver.example",
        "policy of sender.example: p=none",
        "messages: 2 passed, 1 failed",
    ] {
        ensure!(report.contains(line), "{line} in {report}");
    }
    wait::until("the report to be kept", wait::DEADLINE, || {
        let kept = told.figure(
            "store",
            "mox_store_reports_received_total{kind=\"dmarc\",result=\"kept\"}",
        )?;
        Ok((kept.as_deref() == Some("1")).then_some(()))
    })?;
    let listed = told.command(&["reports", "list", "-domain", "sender.example", "-json"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed).context(listed)?;
    ensure!(listed["succeeded"] == 2 && listed["failed"] == 1, "{listed}");
    let id = listed["id"].as_str().context("no id")?;
    ensure!(told.command(&["reports", "print", id])? == report);
    ensure!(told.command(&["reports", "list", "-tls"])?.lines().count() == 1);
    // Nothing is left to be told, and it was told once.
    ensure!(teller.figure("store", "mox_store_reports_waiting")?.as_deref() == Some("0"));
    ensure!(imap.examine("DMARC")? == 1);
    Ok(())
}

/// Addresses come onto the list of those that get no reports, and leave it.
fn suppressing(mox: &Mox) -> Result<()> {
    let list = || mox.command(&["reports", "suppress", "list"]);
    ensure!(list()?.lines().count() == 1);
    mox.command(&[
        "reports",
        "suppress",
        "add",
        "-comment",
        "asked us",
        "Nobody@Sender.example",
    ])?;
    mox.command(&["reports", "suppress", "add", "-days", "3", "other@sender.example"])?;
    let listed = list()?;
    ensure!(
        listed.contains("Nobody@sender.example") && listed.contains("asked us") && listed.lines().count() == 3,
        "{listed}"
    );
    for wrong in [
        &["add", "nowhere"][..],
        &["add", "-days", "0", "a@sender.example"],
        &["remove", "x@sender.example"],
    ] {
        let done = mox.try_command(&[&["reports", "suppress"], wrong].concat(), "")?;
        ensure!(!done.status.success(), "{wrong:?} did not fail");
    }
    mox.command(&["reports", "suppress", "remove", "Nobody@sender.example"])?;
    mox.command(&["reports", "suppress", "remove", "other@sender.example"])?;
    ensure!(list()?.lines().count() == 1);
    Ok(())
}
