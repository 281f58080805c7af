//! What senders ask for when they submit, and what they are told.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{output, python};
use mox_integration_tests::{Mox, Options, PASSWORD, Shape, Sink, USER, wait};
use serde_json::Value;

in_both_shapes!(
    notifications_say_what_was_asked_for,
    what_is_to_wait_waits,
    what_an_account_sends_in_a_day_is_bounded,
    senders_elsewhere_are_told_of_success
);

/// Submits with the parameters of RFC 3461, and reads the notifications with Python's parser.
const NOTIFICATIONS: &str = r#"
import email, email.policy, imaplib, smtplib, sys, time
ip, user, password = sys.argv[1:]
s = smtplib.SMTP(ip, 1587)
s.ehlo()
s.login(user, password)

def send(subject, to, mail=(), rcpt=()):
    code, text = s.mail(user, list(mail))
    assert code == 250, (subject, text)
    code, text = s.rcpt(to, list(rcpt))
    assert code == 250, (subject, text)
    message = f"From: <{user}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{to[:3]}.One@here>\r\n\r\nthe text\r\n"
    code, text = s.data(message.encode())
    assert code == 250, (subject, text)

asked = ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first+2Bx@here.example"]
send("never", "nev550@elsewhere.example", ["RET=FULL"], ["NOTIFY=NEVER"])
send("only success", "suc550@elsewhere.example", [], ["NOTIFY=SUCCESS,DELAY"])
send("full", "ful550@elsewhere.example", ["RET=FULL", "ENVID=id+2B1"], asked)
send("headers", "hea550@elsewhere.example", ["RET=HDRS"])
send("nothing asked", "not550@elsewhere.example")
send("success", "success@plain.example", ["RET=FULL", "ENVID=ok"], ["NOTIFY=SUCCESS"])
send("Grün", "jörg550@elsewhere.example", ["SMTPUTF8", "BODY=8BITMIME"])
# Alone what may be wrong, refused with the codes of RFC 3461 §10 and RFC 5321.
for mail, rcpt in [(["RET=ALL"], []), ([], ["NOTIFY=NEVER,FAILURE"]), ([], ["NOTIFY=SOMETIMES"]), ([], ["ORCPT=x"]),
                   (["ENVID=+x"], []), (["RET=FULL", "RET=FULL"], [])]:
    s.rset()
    codes = [s.mail(user, mail)[0], s.rcpt("a@elsewhere.example", rcpt)[0]]
    assert 501 in codes, (mail, rcpt, codes)
s.quit()

def fetch():
    with imaplib.IMAP4(ip, 1143) as i:
        i.login(user, password)
        i.enable("UTF8=ACCEPT")
        i.select("INBOX", readonly=True)
        _, found = i.search(None, "ALL")
        for n in found[0].split():
            _, data = i.fetch(n, "(BODY.PEEK[])")
            yield data[0][1]

wanted = {"full", "headers", "nothing asked", "success", "Grün"}
end = time.time() + 60
while True:
    notes = {}
    for raw in fetch():
        m = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
        if m["From"].addresses[0].username == "postmaster":
            name = m["Subject"].split(": ", 1)[1]
            assert name not in notes, "two of " + name
            notes[name] = (m, raw)
    if wanted <= set(notes):
        break
    assert time.time() < end, set(notes)
    time.sleep(0.2)
assert wanted == set(notes), set(notes)

def look(name, action, returned):
    m, raw = notes[name]
    assert m.get_content_type() == "multipart/report" and m.get_param("report-type") == "delivery-status", m
    assert m["To"].addresses[0].addr_spec == user and m["Auto-Submitted"] and m["Date"] and m["Message-ID"]
    text, status, back = m.iter_parts()
    assert text.get_content_type() == "text/plain" and ".example" in text.get_content()
    assert back.get_content_type() == returned, (name, back.get_content_type())
    assert ("the text" in back.as_string()) == (returned == "message/rfc822"), back.as_string()
    assert f"Subject: {name}" in back.as_string() or name == "Grün", back.as_string()
    if status.get_content_type() != "message/delivery-status":
        return m, raw.decode()
    whole, one = status.get_payload()
    assert whole["Reporting-MTA"] == "dns; localhost" and whole["Arrival-Date"], whole.as_string()
    assert one["Action"] == action and one["Last-Attempt-Date"], one.as_string()
    assert one["Status"].startswith("5." if action == "failed" else "2."), one["Status"]
    assert one["Remote-MTA"].startswith("dns; "), one.as_string()
    assert (action != "failed") or one["Diagnostic-Code"].startswith("smtp; 550 5."), one["Diagnostic-Code"]
    return whole, one

whole, one = look("full", "failed", "message/rfc822")
assert whole["Original-Envelope-Id"] == "id+1", whole.as_string()
assert one["Original-Recipient"] == "rfc822; first+x@here.example", one.as_string()
assert one["Final-Recipient"] == "rfc822; ful550@elsewhere.example", one.as_string()
assert notes["full"][0]["References"] == "<ful.One@here>"
for name in "headers", "nothing asked":
    whole, one = look(name, "failed", "text/rfc822-headers")
    assert not whole["Original-Envelope-Id"] and not one["Original-Recipient"]
# The host that it went to has no DSN.
whole, one = look("success", "relayed", "text/rfc822-headers")
assert whole["Original-Envelope-Id"] == "ok" and one["Status"] == "2.0.0"
# RFC 6533.
m, raw = look("Grün", "failed", "message/global-headers")
assert "Content-Type: message/global-delivery-status" in raw, raw
assert "Final-Recipient: utf-8; jörg550@elsewhere.example" in raw, raw
"#;

fn notifications_say_what_was_asked_for(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let plain = Sink::start(mox.ip(), true)?;
    plain.set_plain();
    mox.deliver_domain_to("plain.example", plain.address())?;
    mox.start_first()?;
    python(NOTIFICATIONS, &[&mox.ip().to_string(), USER, PASSWORD]).with_context(|| mox.log_tails())?;
    Ok(())
}

/// Submits with FUTURERELEASE (RFC 4865).
const LATER: &str = r#"
import datetime, re, smtplib, sys
ip, user, password = sys.argv[1:]
s = smtplib.SMTP(ip, 1587)
s.ehlo()
most, until = s.esmtp_features["futurerelease"].split()
s.login(user, password)
def send(subject, option, expected=250):
    code, text = s.mail(user, [option])
    assert code == expected, (option, code, text)
    if code == 250:
        s.rcpt("someone@elsewhere.example")
        assert s.data(f"From: <{user}>\r\nSubject: {subject}\r\n\r\nx\r\n")[0] == 250
at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=5)
send("for", "HOLDFOR=7200")
send("until", "HOLDUNTIL=" + at.strftime("%Y-%m-%dT%H:%M:%SZ"))
send("zone", "HOLDUNTIL=" + (at + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S+01:00"))
send("past", "HOLDUNTIL=2020-01-01T00:00:00Z", 501)
send("far", f"HOLDFOR={int(most) + 1}", 501)
send("none", "HOLDFOR=soon", 501)
"#;

/// The lines of a list, each a JSON object.
fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn what_is_to_wait_waits(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    python(LATER, &[&mox.ip().to_string(), USER, PASSWORD])?;
    let listed = json(
        &mox,
        &["queue", "list", "-nextattempt", ">110m", "-sort", "queued", "-asc"],
    )?;
    let subjects: Vec<&str> = listed.iter().filter_map(|e| e["subject"].as_str()).collect();
    ensure!(subjects == ["for", "until", "zone"], "{listed:?}");
    ensure!(json(&mox, &["queue", "list", "-nextattempt", ">4h"])?.len() == 2);
    ensure!(listed.iter().all(|e| e["attempts"] == 0), "{listed:?}");
    mox.command(&["queue", "schedule", "-nextattempt", "<3h", "-now", "0"])?;
    mox.wait_for_subject("INBOX", "for")?;
    mox.command(&["queue", "schedule", "-5h"])?;
    mox.wait_for_subject("INBOX", "until")?;
    mox.wait_for_subject("INBOX", "zone")?;
    wait::until("an empty queue", wait::DEADLINE, || {
        Ok(json(&mox, &["queue", "list"])?.is_empty().then_some(()))
    })
}

/// As a host, so that SPF says who senders are.
fn senders_elsewhere_are_told_of_success(shape: Shape) -> Result<()> {
    let records = "remote.example TXT v=spf1 ip4:127.0.0.0/8 -all\nremote.example A 127.0.0.1\n\
                   other.example TXT v=spf1 ?all\nother.example A 127.0.0.1\n";
    let (mut mox, _dns) = Mox::prepare_host(shape, std::net::Ipv4Addr::LOCALHOST.into(), records)?;
    let sink = Sink::start(mox.ip(), true)?;
    mox.deliver_to(sink.address())?;
    mox.start_first()?;
    // Who may be anybody is told nothing.
    for (from, subject, parameters) in [
        ("a@other.example", "doubtful", " NOTIFY=SUCCESS"),
        ("a@remote.example", "quiet", ""),
        ("a@remote.example", "failure", " NOTIFY=FAILURE"),
        (
            "a@remote.example",
            "success",
            " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@remote.example",
        ),
    ] {
        let mut smtp = mox.session()?;
        smtp.command(&format!("MAIL FROM:<{from}> ENVID=e1"), 250)?;
        smtp.command(&format!("RCPT TO:<mox@localhost>{parameters}"), 250)?;
        smtp.command("DATA", 354)?;
        smtp.lines
            .send(format!("From: <{from}>\r\nSubject: {subject}\r\n\r\nhello\r\n.\r\n"))?;
        smtp.expect(250)?;
    }
    let taken = wait::until("the notification", wait::DEADLINE, || {
        Ok((sink.count() > 0).then(|| sink.taken()))
    })
    .with_context(|| mox.log_tails())?;
    ensure!(
        taken.len() == 1
            && taken[0].recipients == ["a@remote.example"]
            && taken[0].subject == "Mail was delivered: success",
        "{taken:?}"
    );
    Ok(())
}

/// As a host: in developer's mode there are no limits.
fn what_an_account_sends_in_a_day_is_bounded(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = Mox::prepare_host(shape, std::net::Ipv4Addr::LOCALHOST.into(), "localhost A 127.0.0.1\n")?;

    let domains = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&domains)?
        .replace(
            "max_outgoing_messages_per_day = 1000000000",
            "max_outgoing_messages_per_day = 5",
        )
        .replace(
            "max_first_time_recipients_per_day = 1000000000",
            "max_first_time_recipients_per_day = 3",
        );
    std::fs::write(&domains, text)?;
    mox.start_first()?;
    mox.command(&["queue", "holdrules", "add"])?;
    let server = mox.submission().to_string();
    let send = |to: &str| -> Result<String> {
        let base = ["--server", &server, "--auth", "PLAIN", "--auth-user", USER];
        let rest = ["--auth-password", PASSWORD, "--from", USER, "--to", to];
        Ok(output(&mox_integration_tests::run(
            "swaks",
            &[&base[..], &rest].concat(),
            "",
        )?))
    };
    for (to, answer) in [
        ("a@x.example,b@x.example", "250 2.6.0"),
        ("c@x.example,d@x.example", "account may write to 3 new recipients a day"),
        ("c@x.example", "250 2.6.0"),
        ("d@x.example", "account may write to 3 new recipients a day"),
        ("a@x.example,c@x.example", "250 2.6.0"),
        ("a@x.example", "account may send 5 messages a day and has sent 5"),
    ] {
        let transcript = send(to)?;
        let code = if answer.starts_with("250") {
            "250 2.6.0"
        } else {
            "451 4.7.1"
        };
        ensure!(
            transcript.contains(answer) && transcript.contains(code),
            "{to}: {transcript}"
        );
    }
    ensure!(json(&mox, &["queue", "list"])?.len() == 5);
    Ok(())
}
