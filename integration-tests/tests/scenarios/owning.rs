//! Nobody sends in the name of another: MAIL FROM and From are addresses of the account, or of lists that let their
//! members use theirs.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Smtp, base64, output, python};
use mox_integration_tests::{Dns, Mox, Options, PASSWORD, Shape, USER, run, wait};

in_both_shapes!(
    only_own_addresses_and_those_of_lists_are_used,
    limits_hold_for_many_at_once
);

/// Submits as one of two accounts, with each address in either place.
const ADDRESSES: &str = r#"
import smtplib, ssl, sys
ip, password = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
s = smtplib.SMTP_SSL(ip, 1465, context=context)
s.login("other@localhost", password)

def told(code, text, address):
    assert code == 550 and text.startswith(b"5.7.1 ") and address.lower().encode() in text.lower(), (code, text)
    assert b"not an address of your account" in text, text

def envelope(address, allowed):
    s.rset()
    code, text = s.mail(address)
    if allowed:
        assert code == 250, (address, code, text)
    else:
        told(code, text, address)

def header(fields, mail_from="other@localhost"):
    s.rset()
    assert s.mail(mail_from)[0] == 250
    assert s.rcpt("someone@elsewhere.example")[0] == 250
    return s.data((fields + "Subject: x\r\n\r\nx\r\n").encode())

own = ["other@localhost", "OTHER@LocalHost", "other+tag@localhost", "second@two.example", "team@localhost"]
foreign = ["mox@localhost", "anybody@localhost", "postmaster@localhost", "other@elsewhere.example", "quiet@localhost",
           "board@localhost", "third@two.example", "other@sub.localhost"]
for address in own:
    envelope(address, True)
    code, text = header(f"From: =?utf-8?q?N=C3=A4me?= <{address}>\r\n")
    assert code == 250, (address, code, text)
    code, text = header(f"From: {address}\r\n", mail_from=address)
    assert code == 250, (address, code, text)
for address in foreign:
    envelope(address, False)
    told(*header(f"From: Other <{address}>\r\n"), address)
# What looks like an own address is not enough.
for fields, code in [
    ("From: other@localhost <mox@localhost>\r\n", 550),
    ('From: "other@localhost" <mox@localhost>\r\n', 550),
    ("From: other@localhost, mox@localhost\r\n", 550),
    ("From: other@localhost\r\nFrom: mox@localhost\r\n", 550),
    ("From: mox@localhost\r\nSender: other@localhost\r\n", 550),
    ("Sender: other@localhost\r\n", 550),
    ("From: undisclosed:;\r\n", 550),
    ("From:\r\n", 550),
]:
    got = header(fields)
    assert got[0] == code and got[1][:6] in (b"5.6.0 ", b"5.7.1 "), (fields, got)
# RFC 5321 section 4.5.5: notifications have no sender, but the user's From still.
assert header("From: other@localhost\r\n", mail_from="")[0] == 250
told(*header("From: mox@localhost\r\n", mail_from=""), "mox@localhost")
# A session of the other account may use what is nobody else's, but not what this one has.
t = smtplib.SMTP_SSL(ip, 1465, context=context)
t.login("mox@localhost", password)
assert t.mail("anybody@localhost")[0] == 250
t.rset()
code, text = t.mail("other@localhost")
told(code, text, "other@localhost")
"#;

fn only_own_addresses_and_those_of_lists_are_used(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    mox.command(&["config", "account", "add", "other", "other@localhost"])?;
    mox.command_with_input(&["setaccountpassword", "other"], &format!("{PASSWORD}\n"))?;
    mox.command(&["config", "domain", "add", "two.example", "mox"])?;
    mox.command(&["config", "address", "add", "second@two.example", "other"])?;
    for (list, members, allowed) in [
        ("team@localhost", &["mox@localhost", "other@localhost"][..], "true"),
        ("quiet@localhost", &["other@localhost"], "false"),
        ("board@localhost", &["mox@localhost"], "true"),
    ] {
        mox.command(&[&["config", "alias", "add", list], members].concat())?;
        mox.command(&["config", "alias", "update", list, "-allowmsgfrom", allowed])?;
    }
    mox.command(&["queue", "holdrules", "add"])?;
    let script = || python(ADDRESSES, &[&mox.ip().to_string(), PASSWORD]);
    // Services hear of a change in a moment.
    wait::until("the lists to be known", wait::DEADLINE, || {
        let login = [
            "--server",
            &mox.submission().to_string(),
            "--auth",
            "PLAIN",
            "--auth-user",
            "other@localhost",
        ];
        let mail = [
            "--auth-password",
            PASSWORD,
            "--from",
            "team@localhost",
            "--to",
            "x@elsewhere.example",
            "--quit-after",
            "RCPT",
        ];
        let done = run("swaks", &[&login[..], &mail].concat(), "")?;
        ensure!(done.status.success(), "{}", output(&done));
        Ok(Some(()))
    })?;
    script().with_context(|| mox.log_tails())?;

    // It is the moment of submitting that counts, not that of MAIL.
    let mut smtp = Smtp::connect(mox.submission())?;
    let login = base64(&format!("\0other@localhost\0{PASSWORD}"));
    smtp.command(&format!("AUTH PLAIN {login}"), 235)?;
    smtp.command("MAIL FROM:<team@localhost>", 250)?;
    smtp.command("RCPT TO:<x@elsewhere.example>", 250)?;
    mox.command(&["config", "alias", "rmaddr", "team@localhost", "other@localhost"])?;
    smtp.command("DATA", 354)?;
    smtp.lines
        .send("From: <other@localhost>\r\nSubject: too late\r\n\r\nx\r\n.\r\n")?;
    let reply = smtp.expect(550)?;
    ensure!(
        reply.lines[0].contains("5.7.1") && reply.lines[0].contains("team@localhost"),
        "{reply:?}"
    );
    let queued = mox.command(&["queue", "list", "-json"])?;
    ensure!(!queued.contains("too late"), "{queued}");
    Ok(())
}

/// Many sessions of one account, all at once, each with one or two recipients; prints who was answered what.
const MANY: &str = r#"
import smtplib, sys, threading
ip, user, password = sys.argv[1:]
begin = threading.Barrier(12)
said = []
def one(n):
    s = smtplib.SMTP(ip, 1587, timeout=60)
    s.login(user, password)
    to = [f"a{n}@x.example"] + ([f"b{n}@x.example"] if n % 2 else [])
    begin.wait()
    try:
        s.sendmail(user, to, f"From: {user}\r\nSubject: {n}\r\n\r\nx\r\n")
        said.append((250, len(to)))
    except smtplib.SMTPDataError as e:
        assert e.smtp_code == 451 and e.smtp_error.startswith(b"4.7.1 account may "), e
        said.append((451, len(to)))
threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
for t in threads: t.start()
for t in threads: t.join()
assert len(said) == 12, said
print(sum(n for code, n in said if code == 250), sum(1 for code, n in said if code == 451 and n == 1))
"#;

/// As a host: in developer's mode there are no limits.
fn limits_hold_for_many_at_once(shape: Shape) -> Result<()> {
    let dns = Dns::serve(std::net::Ipv4Addr::LOCALHOST.into(), "localhost A 127.0.0.1\n")?;
    for (setting, least, most) in [
        ("max_outgoing_messages_per_day", 6, 7),
        ("max_first_time_recipients_per_day", 6, 7),
    ] {
        let options = Options {
            host_with_dns: Some(dns.address()),
            ..Options::default()
        };
        let mut mox = Mox::prepare(shape, &options)?;
        let domains = mox.config_dir().join("domains.toml");
        let text = std::fs::read_to_string(&domains)?
            .replace(&format!("{setting} = 1000000000"), &format!("{setting} = {most}"));
        std::fs::write(&domains, text)?;
        mox.start_first()?;
        mox.command(&["queue", "holdrules", "add"])?;
        let printed = python(MANY, &[&mox.ip().to_string(), USER, PASSWORD]).with_context(|| mox.log_tails())?;
        let numbers: Vec<usize> = printed.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [taken, single_refused] = numbers[..] else {
            anyhow::bail!("{printed}")
        };
        // Two at once may not fit where one does; one is refused only if there is no room at all.
        ensure!((least..=most).contains(&taken), "{setting}: {printed}");
        ensure!(single_refused == 0 || taken == most, "{setting}: {printed}");
        let queued = mox.command(&["queue", "list"])?.lines().count() - 1;
        ensure!(queued == taken, "{setting}: {queued} in the queue of {taken}");
    }
    Ok(())
}
