//! What is submitted is signed with every key of its domain that signs, as others verify it.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::succeed;
use mox_integration_tests::{Dns, Mox, Options, PASSWORD, Shape, USER, free_ip};

in_both_shapes!(every_key_signs_and_the_header_is_sealed);

/// Selectors: how the key is made, what is configured of it, whether it signs.
const SELECTORS: [(&str, &str, &str, bool); 4] = [
    ("r1", "genrsa", "", true),
    (
        "e1",
        "gened25519",
        "canonicalization = { header_relaxed = false, body_relaxed = false }\nexpiration = \"1.5h\"\n",
        true,
    ),
    (
        "r2",
        "genrsa",
        "dont_seal_headers = true\nheaders = [\"From\", \"To\", \"Subject\"]\n",
        true,
    ),
    ("e2", "gened25519", "", false),
];

/// Submits messages, and verifies the signatures of what arrives with python3-dkim, from Debian.
const VERIFY: &str = r#"
import dkim, email, imaplib, os, smtplib, sys, time
ip, user, password, folder = sys.argv[1:]
sender = "me@signed.example"

def record(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    selector, rest = name.split(".", 1)
    assert rest.rstrip(".") == "_domainkey.signed.example", name
    with open(f"{folder}/{selector}.txt") as f:
        return f.read().strip().encode()

long = "x" * 70 + "\r\n"
messages = {
    "plain": "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <a@localhost>\r\n\r\nhello\r\n",
    "completed": "\r\nhello\r\n",
    "folded": "Cc: a@x.example,\r\n\tb@x.example\r\nX-Mox-Extra-Order: 7\r\nBcc: c@x.example\r\n\r\nhello\r\n",
    "double": "Cc: a@x.example\r\nCc: b@x.example\r\n\r\nhello\r\n",
    "white": "\r\nhello  \t world \r\n\r\n \r\n\r\n",
    "empty": "\r\n",
    "eight": "Content-Type: text/plain; charset=utf-8\r\n\r\ngr\u00fc\u00df\r\n",
    "large": "Bcc: c@x.example\r\nKeywords: many\r\n\r\n" + long * 20000,
}
with smtplib.SMTP(ip, 1587) as s:
    s.login(user, password)
    for name, rest in messages.items():
        body = ["BODY=8BITMIME"] if name == "eight" else []
        top = f"From: Me <{sender}>\r\nTo: someone@elsewhere.example\r\nSubject:  signed {name}\r\n"
        s.sendmail(sender, ["someone@elsewhere.example"], (top + rest).encode(), mail_options=body)

arrived = {}
end = time.time() + 60
while len(arrived) < len(messages):
    assert time.time() < end, list(arrived)
    with imaplib.IMAP4(ip, 1143) as i:
        i.login(user, password)
        i.select("INBOX", readonly=True)
        _, found = i.search(None, "ALL")
        for n in found[0].split():
            raw = i.fetch(n, "(BODY.PEEK[])")[1][0][1]
            subject = email.message_from_bytes(raw)["Subject"].strip()
            if subject.startswith("signed "):
                arrived[subject.split()[1]] = raw
    time.sleep(0.2)

def verdicts(raw, count=3):
    found = {}
    for n in range(count):
        d = dkim.DKIM(raw)
        good = False
        try:
            good = d.verify(idx=n, dnsfunc=record)
        except dkim.DKIMException as e:
            good = repr(e)
        found[d.signature_fields[b"s"].decode()] = (good, d.signature_fields)
    return found

for name, raw in arrived.items():
    header = raw.split(b"\r\n\r\n")[0]
    assert header.lower().count(b"\ndkim-signature:") + header.lower().startswith(b"dkim-signature:") == 3, header
    assert b"X-Mox-Extra" not in header and b"\nBcc" not in header, header
    signatures = verdicts(raw)
    assert set(signatures) == {"r1", "e1", "r2"}, signatures
    for selector, (good, fields) in signatures.items():
        assert good is True, (name, selector, good, header)
        assert fields[b"d"] == b"signed.example", fields
    assert signatures["e1"][1][b"a"] == b"ed25519-sha256" and signatures["r1"][1][b"a"] == b"rsa-sha256"
    assert signatures["r1"][1][b"c"] == b"relaxed/relaxed" and signatures["e1"][1].get(b"c", b"simple/simple") == b"simple/simple"
    assert int(signatures["e1"][1][b"x"]) - int(signatures["e1"][1][b"t"]) == 5400, signatures["e1"][1]
    assert b"x" not in signatures["r1"][1]
    # RFC 6376 section 5.4: sealed is what is signed more often than it is there.
    for selector in "r1", "e1":
        names = [n.strip().lower() for n in signatures[selector][1][b"h"].split(b":")]
        there = [line.split(b":")[0].lower() for line in header.split(b"\r\n") if line[:1].isalpha()]
        for field in b"from", b"to", b"subject", b"date", b"message-id", b"cc", b"reply-to", b"list-unsubscribe":
            assert names.count(field) > there.count(field), (name, selector, field, names)
    names = [n.strip().lower() for n in signatures["r2"][1][b"h"].split(b":")]
    assert sorted(names) == [b"from", b"subject", b"to"], names

    # What is added later breaks the sealed ones; what is changed, all of them.
    for field in "Subject: other", "Reply-To: <other@x.example>", "Cc: other@x.example":
        after = verdicts(field.encode() + b"\r\n" + raw)
        assert after["r1"][0] is not True and after["e1"][0] is not True, (name, field)
        assert after["r2"][0] is True, (name, field, after["r2"][0])
    after = verdicts(raw.replace(b"signed " + name.encode(), b"signed otherwise"))
    assert not any(good is True for good, _ in after.values()), name
    after = verdicts(raw.rstrip(b"\r\n") + b"\r\nadded\r\n" if name != "empty" else raw + b"added\r\n")
    assert not any(good is True for good, _ in after.values()), name
with open(folder + "/signed.eml", "wb") as f:
    f.write(arrived["eight"])
"#;

fn every_key_signs_and_the_header_is_sealed(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let mut text = std::fs::read_to_string(mox.config_dir().join("domains.toml"))?;
    text.push_str(
        "\n[accounts.mox.destinations.\"me@signed.example\"]\n\n[domains.\"signed.example\".dkim]\n\
         sign = [\"r1\", \"e1\", \"r2\"]\n",
    );
    let mut records = String::new();
    for (name, command, settings, _) in SELECTORS {
        let key = mox.command(&["dkim", command])?;
        let file = format!("{name}.pem");
        std::fs::write(mox.config_dir().join(&file), &key)?;
        let printed = mox.command_with_input(&["dkim", "txt"], &key)?;
        let record = printed
            .lines()
            .find(|line| line.contains("v=DKIM1"))
            .context("no record")?;
        std::fs::write(mox.folder().join(format!("{name}.txt")), record)?;
        writeln!(records, "{name}._domainkey.signed.example TXT {record}")?;
        write!(
            text,
            "[domains.\"signed.example\".dkim.selectors.{name}]\nprivate_key_file = \"{file}\"\n{settings}"
        )?;
    }
    std::fs::write(mox.config_dir().join("domains.toml"), text)?;
    mox.start_first()?;
    let (ip, folder) = (mox.ip().to_string(), mox.folder().display().to_string());
    succeed("/usr/bin/python3", &["-c", VERIFY, &ip, USER, PASSWORD, &folder], "").with_context(|| mox.log_tails())?;

    // As an administrator looks at it.
    let dns = Dns::serve(free_ip(), &records)?;
    mox.edit_config(|config| {
        config["dns"]["servers"] = toml_edit::value(toml_edit::Array::from_iter([dns.address().to_string()]));
    })?;
    let file = mox.folder().join("signed.eml").display().to_string();
    let printed = mox.command(&["dkim", "verify", &file])?;
    for (name, _, _, signs) in SELECTORS {
        let passed = printed.lines().any(|line| line.contains(name) && line.contains("pass"));
        ensure!(passed == signs, "{name}: {printed}");
    }
    Ok(())
}
