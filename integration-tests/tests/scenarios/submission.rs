//! Mail is submitted with each mechanism that clients use, and comes back through the queue.

use anyhow::{Result, ensure};
use mox_integration_tests::client::{curl, output, python, swaks};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, run};

in_both_shapes!(
    swaks_submits_with_each_mechanism,
    smtplib_submits_with_scram,
    curl_submits_over_tls,
    what_is_not_allowed_is_refused
);

fn swaks_submits_with_each_mechanism(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let (plain, tls) = (mox.submission().to_string(), mox.submissions().to_string());
    for (server, more) in [(&plain, &[][..]), (&plain, &["--tls"]), (&tls, &["--tls-on-connect"])] {
        for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
            let name = format!("{mechanism} {server} {}", more.join("")).trim().to_owned();
            let subject = format!("Subject: {name}");
            let base = [
                "--server",
                server,
                "--auth",
                mechanism,
                "--auth-user",
                USER,
                "--auth-password",
                PASSWORD,
            ];
            let mail = [
                "--from",
                USER,
                "--to",
                "someone@elsewhere.example",
                "--header",
                &subject,
            ];
            let transcript = swaks(&[&base, more, &mail].concat())?;
            ensure!(transcript.contains("235"), "{transcript}");
            let uid = mox.wait_for_subject("INBOX", &name)?;
            let mut imap = mox.login()?;
            imap.examine("INBOX")?;
            let header = imap.command(&format!("UID FETCH {uid} BODY.PEEK[HEADER]"))?.join("");
            // Once for the submission, once for the delivery.
            ensure!(
                header.matches("\nReceived: ").count() + header.matches(" Received: ").count() >= 2,
                "{header}"
            );
        }
    }
    Ok(())
}

const SCRAM: &str = r#"
import base64, hashlib, hmac, os, smtplib, ssl, sys
kind, host, port, user, password, mechanism, subject = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if kind == "tls":
    s = smtplib.SMTP_SSL(host, int(port), context=context)
else:
    s = smtplib.SMTP(host, int(port))
    s.ehlo()
    s.starttls(context=context)
s.ehlo()
assert mechanism in s.esmtp_features["auth"].split(), s.esmtp_features

# RFC 5802, with RFC 5929's tls-server-end-point for -PLUS.
name = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}[mechanism.removesuffix("-PLUS")]
plus = mechanism.endswith("-PLUS")
nonce = base64.b64encode(os.urandom(18)).decode()
bare = "n=" + user.replace("=", "=3D").replace(",", "=2C") + ",r=" + nonce
header = ("p=tls-server-end-point" if plus else "n") + ",,"
binding = hashlib.sha256(s.sock.getpeercert(True)).digest() if plus else b""
step = 0
def auth(challenge=None):
    global step, expected
    step += 1
    if step == 1 and challenge is None:
        return header + bare
    text = challenge.decode() if isinstance(challenge, bytes) else challenge
    if text.startswith("v="):
        assert text == expected, (text, expected)
        return ""
    values = dict(part.split("=", 1) for part in text.split(","))
    assert values["r"].startswith(nonce), "nonce"
    salted = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(values["s"]), int(values["i"]))
    h = lambda key, data: hmac.new(key, data.encode(), name).digest()
    client = h(salted, "Client Key")
    final = "c=" + base64.b64encode(header.encode() + binding).decode() + ",r=" + values["r"]
    signed = bare + "," + text + "," + final
    proof = bytes(a ^ b for a, b in zip(client, h(hashlib.new(name, client).digest(), signed)))
    expected = "v=" + base64.b64encode(h(h(salted, "Server Key"), signed)).decode()
    return final + ",p=" + base64.b64encode(proof).decode()

s.auth(mechanism, auth)
s.sendmail(user, ["x@elsewhere.example"], "From: %s\r\nSubject: %s\r\n\r\nx\r\n" % (user, subject))
s.quit()
"#;

fn smtplib_submits_with_scram(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let ip = mox.ip().to_string();
    for (kind, address) in [("starttls", mox.submission()), ("tls", mox.submissions())] {
        let port = address.port().to_string();
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] {
            let subject = format!("{mechanism} {kind}");
            python(SCRAM, &[kind, &ip, &port, USER, PASSWORD, mechanism, &subject])?;
            mox.wait_for_subject("INBOX", &subject)?;
        }
    }
    Ok(())
}

fn curl_submits_over_tls(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let file = mox.folder().join("message");
    // Without Date and Message-ID, with Bcc, with bare line feeds: all of it is mended.
    std::fs::write(
        &file,
        format!("From: <{USER}>\nTo: <a@x.example>\nBcc: hidden@x.example\nSubject: by curl\n\ntext\n"),
    )?;
    let (url, user) = (format!("smtps://{}", mox.submissions()), format!("{USER}:{PASSWORD}"));
    let (file, url) = (file.display().to_string(), url.as_str());
    let recipients = ["--mail-rcpt", "a@x.example", "--mail-rcpt", "b@x.example"];
    curl(
        &[
            &[
                "--insecure",
                "--user",
                &user,
                "--mail-from",
                USER,
                "--upload-file",
                &file,
                url,
            ],
            &recipients[..],
        ]
        .concat(),
    )?;
    let uid = mox.wait_for_subject("INBOX", "by curl")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let message = imap.command(&format!("UID FETCH {uid} BODY.PEEK[]"))?.join("");
    ensure!(
        message.contains("\nDate: ") && message.contains("\nMessage-ID: <"),
        "{message}"
    );
    ensure!(!message.contains("hidden@"), "{message}");
    ensure!(message.contains("\r\n\r\ntext\r\n"), "{message}");
    Ok(())
}

fn what_is_not_allowed_is_refused(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let server = mox.submission().to_string();
    let attempt = |user: &str, password: &str, from: &str, header: &str| -> Result<(bool, String)> {
        let login = [
            "--server",
            &server,
            "--auth",
            "PLAIN",
            "--auth-user",
            user,
            "--auth-password",
            password,
        ];
        let mail = ["--from", from, "--to", "x@elsewhere.example", "--header", header];
        let done = run("swaks", &[&login[..], &mail].concat(), "")?;
        Ok((done.status.success(), output(&done)))
    };
    let (sent, text) = attempt(USER, "wrong", USER, "X: y")?;
    ensure!(!sent && text.contains("535"), "wrong password: {text}");
    let (sent, text) = attempt("nobody@elsewhere.example", PASSWORD, USER, "X: y")?;
    ensure!(!sent && text.contains("535"), "unknown user: {text}");
    let (sent, text) = attempt(USER, PASSWORD, "someone@else.example", "X: y")?;
    ensure!(!sent, "MAIL FROM of someone else: {text}");
    let (sent, text) = attempt(USER, PASSWORD, USER, "From: someone@else.example")?;
    ensure!(!sent, "From of someone else: {text}");
    let done = run(
        "swaks",
        &["--server", &server, "--from", USER, "--to", "x@elsewhere.example"],
        "",
    )?;
    ensure!(
        !done.status.success() && output(&done).contains("530"),
        "without login: {}",
        output(&done)
    );
    Ok(())
}
