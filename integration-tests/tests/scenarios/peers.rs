//! Other people's software delivers to us: Postfix, Python's smtplib, swaks, and haproxy in front.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Lines, python, swaks};
use mox_integration_tests::{Mox, Options, PASSWORD, Postfix, PostfixSettings, Process, Shape, free_ip, wait};

in_both_shapes!(
    postfix_delivers,
    python_delivers_in_every_way,
    haproxy_tells_who_connects
);

/// An instance of Postfix, which relays everything to one host.
struct Relay {
    instance: Postfix,
    address: SocketAddr,
}

impl Relay {
    fn to(host: SocketAddr, settings: &str) -> Result<Self> {
        let address = SocketAddr::new(free_ip(), 2525);
        let main = format!(
            "myhostname = relay.example\ninet_interfaces = loopback-only\nlocal_transport = error:local\n\
             smtputf8_enable = yes\ndisable_dns_lookups = yes\nrelayhost = [{}]:{}\nsmtp_bind_address = {}\n\
             minimal_backoff_time = 300s\n{settings}\n",
            host.ip(),
            host.port(),
            address.ip()
        );
        let instance = Postfix::start(&PostfixSettings {
            main: &main,
            listeners: &[(address, "")],
            ..PostfixSettings::default()
        })?;
        Ok(Self { instance, address })
    }

    /// Waits until it has logged a line with all of these.
    fn logged(&self, parts: &[&str]) -> Result<String> {
        let found = wait::until(&format!("Postfix to log {parts:?}"), wait::DEADLINE, || {
            let log = self.instance.log();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            Ok(line.map(str::to_owned))
        });
        found.with_context(|| self.instance.log())
    }
}

/// The header of the message with a subject, as it is in the Inbox.
fn header(mox: &Mox, subject: &str) -> Result<String> {
    let uid = mox.wait_for_subject("INBOX", subject)?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let answer = imap.command(&format!("UID FETCH {uid} BODY.PEEK[HEADER]"))?;
    Ok(format!("{answer:?}"))
}

/// Submits to Postfix, one message a line of "subject|from|to".
const SUBMIT: &str = "\
import smtplib, sys
s = smtplib.SMTP(sys.argv[1], int(sys.argv[2]), local_hostname='client.example')
for line in sys.argv[3:]:
    subject, sender, *to = line.split('|')
    m = ('From: <%s>\\r\\nTo: <%s>\\r\\nSubject: %s\\r\\nDate: Mon, 5 Jan 2026 00:00:00 +0000\\r\\n\\r\\n.dot\\r\\nä\\r\\n'
         % (sender, to[0], subject)).encode()
    s.sendmail(sender, to, m, mail_options=['SMTPUTF8', 'BODY=8BITMIME'])
s.quit()
";

fn postfix_delivers(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let postfix = Relay::to(mox.smtp(), "smtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 1")?;
    let (host, port) = (postfix.address.ip().to_string(), postfix.address.port().to_string());
    python(
        SUBMIT,
        &[
            &host,
            &port,
            "by Postfix|a@sender.example|mox@localhost",
            "pöstfix|jürgen@sender.example|päter@localhost",
            "to many|a@sender.example|mox@localhost|other@localhost|third@localhost",
            "refused|a@sender.example|permerror@localhost",
        ],
    )?;
    let found = header(&mox, "by Postfix")?;
    ensure!(
        found.contains("with ESMTPS") || found.contains("with UTF8SMTPS"),
        "{found}"
    );
    ensure!(found.contains("from relay.example"), "{found}");
    mox.wait_for_subject("INBOX", "to many")?;
    postfix.logged(&["to=<third@localhost>", "status=sent", "delivered"])?;
    postfix.logged(&["jürgen@sender.example"])?;
    let sent = postfix.logged(&["päter@localhost", "status="])?;
    ensure!(sent.contains("status=sent"), "{sent}");
    let refused = postfix.logged(&["to=<permerror@localhost>", "status="])?;
    ensure!(
        refused.contains("status=bounced") && refused.contains("550"),
        "{refused}"
    );
    postfix.logged(&["TLS connection established", "TLSv1.3"])?;

    // Without TLS, and one command at a time.
    drop(postfix);
    let slow = "smtp_tls_security_level = none\nsmtp_discard_ehlo_keywords = pipelining, smtputf8, 8bitmime, dsn";
    let postfix = Relay::to(mox.smtp(), slow)?;
    let (host, port) = (postfix.address.ip().to_string(), postfix.address.port().to_string());
    let script = SUBMIT
        .replace("ä", "a")
        .replace("mail_options=['SMTPUTF8', 'BODY=8BITMIME']", "mail_options=[]");
    python(&script, &[&host, &port, "in the clear|a@sender.example|mox@localhost"])?;
    let found = header(&mox, "in the clear")?;
    ensure!(
        found.contains("with ESMTP\\r\\n") || found.contains("with ESMTP"),
        "{found}"
    );
    Ok(())
}

const EVERY_WAY: &str = "\
import smtplib, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
def message(subject, body=b'hi\\r\\n'):
    return ('From: <a@sender.example>\\r\\nTo: <mox@localhost>\\r\\nSubject: %s\\r\\n\\r\\n' % subject).encode() + body
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE

s = smtplib.SMTP(host, port, local_hostname='client.example')
s.ehlo()
for extension in ('pipelining', 'size', 'starttls', '8bitmime', 'smtputf8', 'enhancedstatuscodes', 'chunking', 'limits'):
    assert s.has_extn(extension), (extension, s.esmtp_features)
assert not s.has_extn('requiretls') and not s.has_extn('binarymime')
s.starttls(context=context)
s.ehlo()
assert s.has_extn('requiretls')
s.sendmail('a@sender.example', ['mox@localhost'], message('python tls'), mail_options=['REQUIRETLS'])
refused = s.sendmail('a@sender.example', ['mox@localhost', 'rcptto-permerror@localhost'], message('python partly'))
assert list(refused) == ['rcptto-permerror@localhost'] and refused['rcptto-permerror@localhost'][0] == 550, refused
s.sendmail('jürgen@sender.example', ['päter@localhost'], message('python utf8'), mail_options=['SMTPUTF8'])
s.sendmail('a@xn--bcher-kva.example', ['mox@localhost'], message('python idna'))
s.sendmail('', ['mox@localhost'], message('python null'))

def chunks(subject, *pieces):
    assert s.docmd('MAIL', 'FROM:<a@sender.example>')[0] == 250
    assert s.docmd('RCPT', 'TO:<mox@localhost>')[0] == 250
    pieces = (message(subject, b''),) + pieces
    for n, piece in enumerate(pieces):
        last = ' LAST' if n == len(pieces) - 1 else ''
        s.send(b'BDAT %d%s\\r\\n' % (len(piece), last.encode()) + piece)
        code, text = s.getreply()
    return code
assert chunks('python chunks', b'.\\r\\n..\\r\\n', b'x' * 900 + b'\\r\\n', b'') == 250
assert chunks('python large chunks', *[(b'y' * 76 + b'\\r\\n') * 10000] * 4) == 250
assert chunks('python bad chunks', b'a\\nb\\n') == 554
assert s.noop()[0] == 250
s.quit()

s = smtplib.SMTP(host, port, local_hostname='client.example')
s.helo()
s.mail('a@sender.example')
s.rcpt('mox@localhost')
assert s.data(message('python helo'))[0] == 250
s.quit()
";

fn python_delivers_in_every_way(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let (host, port) = (mox.ip().to_string(), mox.smtp().port().to_string());
    python(EVERY_WAY, &[&host, &port])?;
    let found = header(&mox, "python chunks")?;
    ensure!(found.contains("Return-Path: <a@sender.example>"), "{found}");
    for (subject, part) in [
        ("python tls", "ESMTPS"),
        ("python partly", "Received"),
        ("python utf8", "UTF8SMTPS"),
        ("python idna", "a@xn--bcher-kva.example"),
        ("python null", "Return-Path: <>"),
        ("python large chunks", "Received"),
        ("python helo", "with SMTP"),
    ] {
        let found = header(&mox, subject)?;
        ensure!(found.contains(part), "{part:?} in {found}");
    }
    let uid = mox.wait_for_subject("INBOX", "python chunks")?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    let answer = imap.command(&format!("UID FETCH {uid} BODY.PEEK[TEXT]"))?;
    let body = format!("{answer:?}");
    ensure!(body.contains(".\\r\\n..\\r\\nxxx"), "{body}");
    ensure!(
        !format!("{:?}", imap.subjects(1)?).contains("bad chunks"),
        "it was refused"
    );
    Ok(())
}

/// haproxy in front of us on an address of its own, with a header of this version.
fn haproxy(mox: &Mox, ip: IpAddr, option: &str) -> Result<(Process, SocketAddr)> {
    let program = PathBuf::from("/usr/sbin/haproxy");
    ensure!(
        program.exists(),
        "haproxy is missing: run 'make test', which installs what the tests need"
    );
    let address = SocketAddr::new(ip, 2526);
    // Its own checks have a header too, which says that they are its own.
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         listen smtp\n  bind {address}\n  source {ip}\n  option smtpchk EHLO proxy.example\n  \
         server mox {} {option} check check-send-proxy inter 200ms\n",
        mox.smtp()
    );
    let file = mox.folder().join(format!("haproxy-{option}.cfg"));
    fs::write(&file, config)?;
    let log = mox.folder().join("haproxy.log");
    let process = Process::start("haproxy", &program, &["-db", "-f", &file.display().to_string()], &log)?;
    wait::until("haproxy to answer", wait::DEADLINE, || {
        let line = Lines::connect(address)?.line()?;
        ensure!(line.starts_with("220 "), "it greets with {line:?}");
        Ok(Some(()))
    })
    .with_context(|| process.log_tail())?;
    Ok((process, address))
}

fn haproxy_tells_who_connects(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    let proxy = free_ip();
    mox.edit_config(|config| {
        if let Some(listeners) = config["listeners"].as_table_like_mut() {
            for (_, listener) in listeners.iter_mut() {
                listener["proxy_networks"] = toml_edit::value(toml_edit::Array::from_iter([format!("{proxy}/32")]));
            }
        }
    })?;
    mox.start_all()?;
    if shape == Shape::Pieces {
        mox.command_with_input(&["setaccountpassword", "mox"], &format!("{PASSWORD}\n"))?;
    }
    for (option, subject) in [("send-proxy", "by proxy 1"), ("send-proxy-v2", "by proxy 2")] {
        let (_haproxy, address) = haproxy(&mox, proxy, option)?;
        let client = free_ip().to_string();
        swaks(&[
            "--server",
            &address.to_string(),
            "--local-interface",
            &client,
            "--tls",
            "--to",
            "mox@localhost",
            "--from",
            "a@sender.example",
            "--header",
            &format!("Subject: {subject}"),
        ])?;
        let found = header(&mox, subject)?;
        ensure!(found.contains(&format!("[{client}]")), "{client} in {found}");
    }
    // A header is required from the proxy, and means nothing from others.
    let from_proxy = python(CONNECT, &[&proxy.to_string(), &mox.ip().to_string(), "EHLO x"])?;
    ensure!(from_proxy.trim() == "closed", "{from_proxy}");
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 25";
    let from_other = python(CONNECT, &["127.0.0.1", &mox.ip().to_string(), header])?;
    ensure!(from_other.contains("500 "), "{from_other}");
    Ok(())
}

/// Says a line from an address, and prints what comes back.
const CONNECT: &str = "\
import socket, sys
s = socket.create_connection((sys.argv[2], 1025), source_address=(sys.argv[1], 0), timeout=20)
s.sendall(sys.argv[3].encode() + b'\\r\\nQUIT\\r\\n')
try:
    text = b''.join(iter(lambda: s.recv(4096), b''))
except ConnectionResetError:
    text = b''
print(text.decode() or 'closed')
";
