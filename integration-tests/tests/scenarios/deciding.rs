//! Mail from the internet is accepted or refused by what the user said about its sender before, and by blocklists.

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::{Imap, swaks};
use mox_integration_tests::{Dns, Mox, Shape, USER, free_ip, wait};

in_both_shapes!(
    what_users_say_decides,
    blocklists_are_asked_about_strangers,
    words_decide_and_learning_anew_changes_nothing
);

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
friend.example TXT v=spf1 ip4:127.0.0.0/8 -all
friend.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
2.0.0.127.list.example A 127.0.0.2
2.0.0.127.list.example TXT a test entry
";

fn start(shape: Shape, dnsbls: &[&str]) -> Result<(Mox, Dns)> {
    let (mut mox, dns) = Mox::prepare_host(shape, free_ip(), RECORDS)?;
    mox.edit_config(|config| {
        let zones = toml_edit::Array::from_iter(dnsbls.iter().copied());
        config["listeners"]["local"]["smtp"]["dnsbls"] = toml_edit::value(zones);
    })?;
    mox.start_first()?;
    Ok((mox, dns))
}

fn letter(from: &str, subject: &str) -> String {
    format!(
        "From: <{from}>\r\nTo: <{USER}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@{from}>\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\nhello\r\n"
    )
}

fn send(mox: &Mox, from: &str, subject: &str) -> Result<u16> {
    let reply = mox.session()?.message(from, USER, &letter(from, subject))?;
    Ok(reply.code)
}

/// Why the last message of a mailbox is there.
fn reason(imap: &mut Imap, mailbox: &str) -> Result<String> {
    ensure!(imap.examine(mailbox)? > 0, "{mailbox} is empty");
    let answer = imap
        .command("FETCH * BODY.PEEK[HEADER.FIELDS (X-Mox-Reason)]")?
        .concat();
    let (_, field) = answer.split_once("X-Mox-Reason: ").context("no X-Mox-Reason")?;
    Ok(field.split([';', '\r', '\n']).next().unwrap_or_default().to_owned())
}

fn what_users_say_decides(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape, &[])?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?;
    let text = text.replacen("[accounts.mox]", "[accounts.mox]\nrejects_mailbox = \"Rejects\"", 1);
    std::fs::write(&domains, text)?;
    let mut imap = mox.login()?;
    ensure!(send(&mox, "joe@sender.example", "first")? == 250);
    ensure!(reason(&mut imap, "INBOX")? == "no-bad-signals");
    // By the domain, others are welcome.
    imap.command("SELECT INBOX")?;
    imap.command("STORE 1 +FLAGS ($NotJunk)")?;
    ensure!(send(&mox, "jane@sender.example", "second")? == 250);
    ensure!(reason(&mut imap, "INBOX")? == "reputation-domain");
    // What is flagged is refused from then on, and copies are kept once the setting has come to the store.
    imap.command("SELECT INBOX")?;
    imap.command("STORE 2 +FLAGS ($Junk)")?;
    wait::until("a copy of what is refused", wait::DEADLINE, || {
        ensure!(send(&mox, "jane@sender.example", "third")? == 451);
        Ok((imap.command("STATUS Rejects (MESSAGES)").is_ok()).then_some(()))
    })?;
    ensure!(reason(&mut imap, "Rejects")? == "reputation-address");
    // One of each.
    ensure!(send(&mox, "jane@sender.example", "third")? == 451);
    ensure!(imap.examine("Rejects")? == 1);
    // The user is of another mind: what was refused comes, and is no reject any more.
    imap.command("SELECT INBOX")?;
    imap.command("STORE 2 -FLAGS ($Junk)")?;
    ensure!(send(&mox, "jane@sender.example", "third")? == 250);
    ensure!(imap.examine("Rejects")? == 0);
    // Whom one writes to is known.
    let sent = "To: <friend@friend.example>\r\nSubject: hello\r\n\r\nhello\r\n";
    imap.command(&format!("APPEND Sent {{{}+}}\r\n{sent}", sent.len()))?;
    ensure!(send(&mox, "friend@friend.example", "answer")? == 250);
    ensure!(reason(&mut imap, "INBOX")? == "known");
    Ok(())
}

fn blocklists_are_asked_about_strangers(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape, &["gone.example", "list.example"])?;
    let server = mox.smtp().to_string();
    // RFC 5782 §5: this address is in every list.
    let from_listed = |from: &str| {
        let args = [
            "--server",
            &server,
            "--to",
            USER,
            "--from",
            from,
            "--local-interface",
            "127.0.0.2",
        ];
        // It fails when it is refused, and says what it was told.
        Ok::<_, anyhow::Error>(swaks(&args).unwrap_or_else(|refused| format!("{refused:#}")))
    };
    let transcript = from_listed("joe@sender.example")?;
    ensure!(transcript.contains("451 4.7.1"), "{transcript}");
    ensure!(send(&mox, "joe@sender.example", "from elsewhere")? == 250);
    // The user's word counts more.
    let mut imap = mox.login()?;
    imap.command("SELECT INBOX")?;
    imap.command("STORE 1 +FLAGS ($NotJunk)")?;
    let transcript = from_listed("joe@sender.example")?;
    ensure!(transcript.contains("<-  250 2.6.0"), "{transcript}");
    Ok(())
}

const JUNK_WORDS: &str = "cheap pills casino winner lottery jackpot bonus offer";
const OTHER_WORDS: &str = "meeting minutes deadline report invoice review branch schedule";

/// The probability of a message, as it is told in the mailbox where it went.
fn words(imap: &mut Imap, subject: &str) -> Result<String> {
    for mailbox in ["Rejects", "INBOX"] {
        if imap.examine(mailbox).unwrap_or(0) == 0 {
            continue;
        }
        let known = imap.subjects(1)?.into_iter().find(|(_, known)| known == subject);
        if let Some((uid, _)) = known {
            let fetch = format!("UID FETCH {uid} BODY.PEEK[HEADER.FIELDS (X-Mox-Reason)]");
            let answer = imap.command(&fetch)?.concat();
            let (_, words) = answer.split_once("words: ").context("no words")?;
            let probability = words.split_once(" of ").context("no threshold")?.0;
            return Ok(probability.to_owned());
        }
    }
    bail!("{subject:?} is nowhere")
}

fn words_decide_and_learning_anew_changes_nothing(shape: Shape) -> Result<()> {
    let (mox, _dns) = start(shape, &[])?;
    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?;
    let text = text.replacen("[accounts.mox]", "[accounts.mox]\nrejects_mailbox = \"Rejects\"", 1);
    let filter = "\n[accounts.mox.junk_filter]\nthreshold = 0.95\n\
                  [accounts.mox.junk_filter.params]\nonegrams = true\n";
    std::fs::write(&domains, text + filter)?;
    let mut imap = mox.login()?;
    imap.command("CREATE Learned")?;
    for n in 0..10 {
        for (flag, words) in [("$Junk", JUNK_WORDS), ("$NotJunk", OTHER_WORDS)] {
            let message = format!("Subject: {n}\r\n\r\n{words}\r\n");
            imap.command(&format!("APPEND Learned ({flag}) {{{}+}}\r\n{message}", message.len()))?;
        }
    }
    let learn = || mox.try_command(&["retrain", "mox"], "");
    wait::until("the filter to be set", wait::DEADLINE, || {
        let learned = String::from_utf8_lossy(&learn()?.stdout).into_owned();
        Ok(learned.contains("from 10 junk messages and 10 others").then_some(()))
    })?;
    let mixed = JUNK_WORDS.split(' ').take(4).chain(OTHER_WORDS.split(' ').take(3));
    let mixed = mixed.collect::<Vec<_>>().join(" ");
    let send = |subject: &str, words: &str| -> Result<u16> {
        let from = "joe@sender.example";
        let text = letter(from, subject).replace("hello", words);
        Ok(mox.session()?.message(from, USER, &text)?.code)
    };
    ensure!(send("junk1", JUNK_WORDS)? == 451);
    ensure!(send("other1", OTHER_WORDS)? == 250);
    send("mixed1", &mixed)?;
    ensure!(learn()?.status.success());
    send("junk2", JUNK_WORDS)?;
    send("mixed2", &mixed)?;
    for kind in ["junk", "mixed"] {
        let (before, after) = (
            words(&mut imap, &format!("{kind}1"))?,
            words(&mut imap, &format!("{kind}2"))?,
        );
        ensure!(before == after, "{kind}: {before} before, {after} after");
    }
    // By the id in a Received field, the operator finds the connection in the log.
    imap.examine("INBOX")?;
    let answer = imap.command("FETCH 1 BODY.PEEK[HEADER.FIELDS (Received)]")?.concat();
    let id = answer.split("id ").nth(1).context("no id in Received")?;
    let id: String = id.chars().take_while(char::is_ascii_hexdigit).collect();
    let cid = mox.command(&["cid", &id])?;
    ensure!(u64::from_str_radix(cid.trim(), 16).is_ok(), "{cid:?} is no cid");
    Ok(())
}
