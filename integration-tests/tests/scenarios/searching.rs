//! Searches answer the same with any index or none; indices and threads are made anew by commands.

use anyhow::{Context as _, Result, ensure};
use mox_integration_tests::client::Imap;
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(indices_and_threads_are_made_anew);

/// What a command found, by its name.
fn number(output: &str, name: &str) -> Result<i64> {
    let line: serde_json::Value = serde_json::from_str(output.lines().last().unwrap_or_default())
        .with_context(|| format!("reading what the command printed: {output}"))?;
    line[name].as_i64().with_context(|| format!("no {name} in {line}"))
}

fn indices_and_threads_are_made_anew(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let mut imap = Imap::login(mox.imap(), USER, PASSWORD)?;
    // The answer comes before what it answers.
    let messages = [
        "Message-ID: <b@x>\r\nReferences: <a@x>\r\nSubject: Re: Trip\r\n\r\nYes, to Z=C3=BCrich\r\n",
        "Message-ID: <a@x>\r\nSubject: Trip\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nTo Z=FCrich, tomorrow\r\n",
        "Message-ID: <c@x>\r\nReferences: <a@x>\r\nSubject: Lunch\r\n\r\nOther\r\n",
    ];
    for message in messages {
        imap.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    imap.command("SELECT INBOX")?;
    let search = |imap: &mut Imap, key: &str| -> Result<Vec<String>> {
        let lines = imap.command(&format!("UID SEARCH {key}"))?;
        Ok(lines.into_iter().filter(|l| l.starts_with("* SEARCH")).collect())
    };
    let cases = [
        ("CHARSET UTF-8 BODY {6+}\r\nZÜRIC", "* SEARCH 2"),
        ("TEXT morro", "* SEARCH 2"),
        ("SUBJECT rip", "* SEARCH 1 2"),
        ("HEADER REFERENCES <a@x>", "* SEARCH 1 3"),
        ("NOT BODY other", "* SEARCH 1 2"),
    ];
    let check = |imap: &mut Imap| -> Result<()> {
        for (key, expected) in cases {
            let found = search(imap, key)?;
            ensure!(found == [expected], "{key}: {found:?}, not {expected}");
        }
        Ok(())
    };
    check(&mut imap)?;
    let printed = mox.command(&["reindex", "-json", "mox"])?;
    ensure!(number(&printed, "messages")? >= 3, "{printed}");
    check(&mut imap)?;
    let printed = mox.command(&["reassignthreads", "-json"])?;
    ensure!(number(&printed, "linked")? == 1, "{printed}");
    for command in ["reindex", "reassignthreads"] {
        let refused = mox.try_command(&[command, "nobody"], "")?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && told.contains("nobody"), "{told}");
    }
    Ok(())
}
