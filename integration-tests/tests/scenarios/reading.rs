//! Mail is read with curl and with Python's imaplib, plain and over TLS.

use anyhow::{Result, ensure};
use mox_integration_tests::client::{curl, python};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

in_both_shapes!(curl_reads, curl_appends_and_searches, imaplib_reads_and_changes);

fn deliver(mox: &Mox, count: usize) -> Result<()> {
    let mut smtp = mox.session()?;
    for n in 0..count {
        let message =
            format!("From: a@example.org\r\nTo: mox@localhost\r\nSubject: message {n}\r\n\r\ntext of {n}\r\n");
        let reply = smtp.message("a@example.org", "mox@localhost", &message)?;
        ensure!(reply.code == 250, "{reply:?}");
    }
    Ok(())
}

fn curl_reads(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    deliver(&mox, 3)?;
    let user = format!("{USER}:{PASSWORD}");
    for (url, tls) in [
        (format!("imap://{}", mox.imap()), &[][..]),
        (format!("imaps://{}", mox.imaps()), &["--insecure"]),
    ] {
        let get =
            |path: &str, more: &[&str]| curl(&[&["--user", &user], tls, more, &[&format!("{url}/{path}")]].concat());
        let list = get("", &[])?;
        ensure!(list.contains("INBOX") && list.contains("Sent"), "{list}");
        let message = get("INBOX;MAILINDEX=2", &[])?;
        ensure!(
            message.contains("Subject: message 1\r\n") && message.ends_with("\r\n\r\ntext of 1\r\n"),
            "{message}"
        );
        let header = get("INBOX;UID=3;SECTION=HEADER.FIELDS%20(SUBJECT)", &[])?;
        ensure!(header.trim() == "Subject: message 2", "{header}");
        let found = get("INBOX?SUBJECT%20%22message%201%22", &[])?;
        ensure!(found.trim() == "* SEARCH 2", "{found}");
        let examined = get("", &["--request", "EXAMINE INBOX"])?;
        ensure!(examined.contains("* 3 EXISTS"), "{examined}");
    }
    Ok(())
}

fn curl_appends_and_searches(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let user = format!("{USER}:{PASSWORD}");
    let file = mox.folder().join("message.eml");
    // Large enough for many reads, and with lines that must arrive as they are.
    let body: String = (0..20_000).map(|n| format!("line {n} {{5}}\r\n.\r\n")).collect();
    let message = format!("From: a@example.org\r\nSubject: uploaded\r\n\r\n{body}");
    std::fs::write(&file, &message)?;
    let file = file.display().to_string();
    for (n, (url, tls)) in (1..).zip([
        (format!("imap://{}", mox.imap()), &["--user", &user][..]),
        (format!("imaps://{}", mox.imaps()), &["--user", &user, "--insecure"]),
        (
            format!("imap://{}", mox.imap()),
            &["--user", &user, "--insecure", "--ssl-reqd"],
        ),
    ]) {
        let get = |path: &str, more: &[&str]| curl(&[tls, more, &[&format!("{url}/{path}")]].concat());
        get("Archive", &["--upload-file", &file])?;
        let fetched = get(&format!("Archive;UID={n}"), &[])?;
        ensure!(
            fetched == message,
            "{} octets came back of {}",
            fetched.len(),
            message.len()
        );
        let found = get("Archive?SUBJECT%20uploaded%20TEXT%20%22line%2019999%22", &[])?;
        let all: Vec<String> = (1..=n).map(|n| n.to_string()).collect();
        ensure!(found.trim() == format!("* SEARCH {}", all.join(" ")), "{found}");
        get("Archive", &["--request", &format!("STORE {n} +Flags (\\Flagged)")])?;
        let flags = get("Archive", &["--request", &format!("FETCH {n} FLAGS")])?;
        ensure!(flags.contains("\\Flagged"), "{flags}");
    }
    Ok(())
}

const IMAPLIB: &str = r#"
import imaplib, ssl, sys
kind, host, port, user, password = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if kind == "tls":
    c = imaplib.IMAP4_SSL(host, int(port), ssl_context=context)
else:
    c = imaplib.IMAP4(host, int(port))
    if kind == "starttls":
        c.starttls(context)

def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]

try:
    c.login(user, "wrong " + password)
    raise SystemExit("a wrong password was accepted")
except imaplib.IMAP4.error:
    pass
ok(c.login(user, password))
box = "Python-" + kind
ok(c.create(box))
ok(c.subscribe(box))
assert any(box.encode() in line for line in ok(c.list())), "created mailbox is not listed"
assert any(box.encode() in line for line in ok(c.lsub())), "subscribed mailbox is not listed"

message = b"From: a@b.example\r\nSubject: appended\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>two</p>\r\n--x--\r\n"
ok(c.append(box, r"(\Flagged custom)", '"22-Nov-2026 12:00:00 +0100"', message))
assert ok(c.select(box)) == [b"1"]
data = ok(c.fetch("1", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
text = b" ".join(d if isinstance(d, bytes) else b" ".join(d) for d in data)
assert b"\\Flagged" in text and b"custom" in text, text
assert b'"22-Nov-2026' in text and b"RFC822.SIZE %d" % len(message) in text, text
assert b'"appended"' in text and b'"html"' in text.lower() and b'"mixed"' in text.lower(), text
assert ok(c.fetch("1", "(BODY[2])"))[0][1] == b"<p>two</p>", "BODY[2]"
assert ok(c.fetch("1", "(RFC822)"))[0][1] == message, "RFC822"
assert b"\\Seen" in ok(c.fetch("1", "(FLAGS)"))[0]

assert ok(c.store("1", "-FLAGS", r"(\Flagged)"))
assert ok(c.search(None, "UNFLAGGED", "SUBJECT", "append")) == [b"1"]
assert ok(c.search(None, "KEYWORD", "custom", "TEXT", '"two"')) == [b"1"]
assert ok(c.search(None, "BODY", '"not there"')) == [b""]
ok(c.copy("1", "Archive"))
assert ok(c.uid("MOVE", "1", "Trash"))
assert ok(c.search(None, "ALL")) == [b""]
assert ok(c.select("Trash")) == [b"1"]
ok(c.store("1", "+FLAGS", r"(\Deleted)"))
assert ok(c.expunge()) == [b"1"]
ok(c.close())
ok(c.rename(box, "Renamed/deeper-" + kind))
assert b"MESSAGES 0" in ok(c.status("Renamed/deeper-" + kind, "(MESSAGES UIDNEXT UNSEEN)"))[0]
ok(c.delete("Renamed/deeper-" + kind))
c.logout()
"#;

fn imaplib_reads_and_changes(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let ip = mox.ip().to_string();
    for (kind, address) in [("plain", mox.imap()), ("starttls", mox.imap()), ("tls", mox.imaps())] {
        python(IMAPLIB, &[kind, &ip, &address.port().to_string(), USER, PASSWORD])?;
    }
    Ok(())
}
