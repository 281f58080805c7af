//! Other people's software delivers to us: Postfix, Python's smtplib, swaks, and haproxy in front.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mox_integration_tests::client::{Lines, python, succeed, swaks};
use mox_integration_tests::{Mox, Options, PASSWORD, Process, Shape, free_ip, wait};
use rustix::process::Signal;
use tempfile::TempDir;

in_both_shapes!(
    postfix_delivers,
    python_delivers_in_every_way,
    haproxy_tells_who_connects
);

/// Where Debian puts Postfix's programs that are not for users.
const DAEMONS: &str = "/usr/lib/postfix/sbin";

const MASTER: &str = "
ADDRESS   inet  n       -       n       -       -       smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// An instance of its own, which relays everything to one host.
struct Postfix {
    // Before the folder, so that it is stopped when the folder is removed.
    master: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl Postfix {
    fn relaying_to(host: SocketAddr, settings: &str) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "Postfix only runs as root: use sudo"
        );
        let program = Path::new(DAEMONS).join("master");
        ensure!(
            program.exists(),
            "Postfix is missing: run 'make test', which installs what the tests need"
        );
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.path().join(name);
        for name in ["config", "spool", "data"] {
            fs::create_dir(at(name))?;
        }
        let address = SocketAddr::new(free_ip(), 2525);
        let folder_name = text(folder.path());
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {folder_name}/spool\ndata_directory = {folder_name}/data\n\
             maillog_file = {folder_name}/maillog\nmaillog_file_prefixes = {folder_name}\nmail_owner = postfix\n\
             setgid_group = postdrop\ndaemon_directory = {DAEMONS}\ncommand_directory = /usr/sbin\n\
             myhostname = relay.example\nmydestination =\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nalias_maps =\nlocal_transport = error:local\nsmtputf8_enable = yes\n\
             disable_dns_lookups = yes\nrelayhost = [{}]:{}\nsmtp_bind_address = {}\n\
             minimal_backoff_time = 300s\n{settings}\n",
            host.ip(),
            host.port(),
            address.ip()
        );
        fs::write(at("config/main.cf"), main)?;
        fs::write(at("config/master.cf"), MASTER.replace("ADDRESS", &address.to_string()))?;
        succeed("chown", &["postfix", &text(&at("data"))], "")?;
        let config = text(&at("config"));
        succeed("postfix", &["-c", &config, "check"], "")?;
        let mut master = Process::start("postfix", &program, &["-c", &config, "-d"], &at("log"))?;
        wait::until("Postfix to answer", wait::DEADLINE, || {
            if let Some(status) = master.exited()? {
                bail!("Postfix ended with {status}:\n{}", master.log());
            }
            let line = Lines::connect(address)?.line()?;
            ensure!(line.starts_with("220 "), "it greets with {line:?}");
            Ok(Some(()))
        })?;
        Ok(Self {
            master,
            address,
            folder,
        })
    }

    fn maillog(&self) -> String {
        fs::read_to_string(self.folder.path().join("maillog")).unwrap_or_default()
    }

    /// Waits until it has logged a line with all of these.
    fn logged(&self, parts: &[&str]) -> Result<String> {
        let found = wait::until(&format!("Postfix to log {parts:?}"), wait::DEADLINE, || {
            let log = self.maillog();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            Ok(line.map(str::to_owned))
        });
        found.with_context(|| self.maillog())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // On SIGTERM the master ends its children; on SIGKILL they would notice only later.
        if self.master.signal(Signal::TERM).is_ok() {
            let _ = self.master.wait(Duration::from_secs(20));
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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
    let postfix = Postfix::relaying_to(mox.smtp(), "smtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 1")?;
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
    let postfix = Postfix::relaying_to(mox.smtp(), slow)?;
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
    let process = Process::start("haproxy", &program, &["-db", "-f", &text(&file)], &log)?;
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
