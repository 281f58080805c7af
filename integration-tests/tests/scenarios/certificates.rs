//! Clients log in by TLS certificates whose public keys are registered, and every login is recorded.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Imap, curl, output, python, succeed};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER, wait};

in_both_shapes!(
    a_registered_key_logs_in,
    a_removed_key_ends_its_connections,
    disabled_accounts_get_their_text,
    logins_are_recorded,
    connections_survive_a_killed_store
);

/// Files of a key that was made for a client.
struct Key {
    both: PathBuf,
    certificate: PathBuf,
    fingerprint: String,
}

fn make_key(mox: &Mox, name: &str) -> Result<Key> {
    let stem = mox.folder().join(name).to_string_lossy().into_owned();
    let said = mox.command(&["config", "tlspubkey", "gen", &stem])?;
    let file = |kind: &str| -> Result<PathBuf> {
        let line = said.lines().find(|l| l.starts_with("wrote ") && l.contains(kind));
        Ok(PathBuf::from(
            line.context("no such file")?.trim_start_matches("wrote "),
        ))
    };
    let fingerprint = said.lines().find_map(|l| l.strip_prefix("fingerprint: "));
    Ok(Key {
        both: file("ed25519privatekey-certificate.pem")?,
        certificate: file(".certificate.pem")?,
        fingerprint: fingerprint.context("no fingerprint")?.to_owned(),
    })
}

fn add_key(mox: &Mox, key: &Key, options: &[&str]) -> Result<String> {
    let pem = std::fs::read_to_string(&key.certificate)?;
    mox.command_with_input(&[&["config", "tlspubkey", "add", USER], options].concat(), &pem)
}

/// Python with the certificate at hand, in both versions of TLS.
fn script(body: &str) -> String {
    let mut script = String::from(
        "import sys, ssl, imaplib, smtplib\n\
         host, cert, imap, imaps, submission, submissions = sys.argv[1:7]\n\
         imaplib.Commands.setdefault('UNAUTHENTICATE', ('AUTH', 'SELECTED'))\n\
         def context(version, cert=cert):\n    \
             c = ssl.create_default_context()\n    \
             c.check_hostname = False\n    \
             c.verify_mode = ssl.CERT_NONE\n    \
             c.minimum_version = c.maximum_version = version\n    \
             if cert: c.load_cert_chain(cert)\n    \
             return c\n\
         for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):\n",
    );
    for line in body.lines() {
        let _ = writeln!(script, "    {line}");
    }
    script
}

fn run(mox: &Mox, cert: &Path, body: &str) -> Result<String> {
    let ports = [mox.imap(), mox.imaps(), mox.submission(), mox.submissions()].map(|a| a.port().to_string());
    let (host, cert) = (mox.ip().to_string(), cert.to_string_lossy().into_owned());
    let args = [&[host.as_str(), &cert], &ports.each_ref().map(String::as_str)[..]].concat();
    python(&script(body), &args)
}

const EXTERNAL_IMAP: &str = "\
m = imaplib.IMAP4(host, int(imap))
m.starttls(context(version))
assert 'AUTH=EXTERNAL' in m.capability()[1][0].decode(), m.capabilities
m.authenticate('EXTERNAL', lambda c: b'')
assert m.select()[0] == 'OK'
m.logout()
m = imaplib.IMAP4(host, int(imap))
m.starttls(context(version))
m.authenticate('EXTERNAL', lambda c: b'mox@localhost')
m.logout()
m = imaplib.IMAP4(host, int(imap))
m.starttls(context(version))
try:
    m.authenticate('EXTERNAL', lambda c: b'other@example.org')
    raise SystemExit('logged in as another')
except imaplib.IMAP4.error as e:
    assert 'AUTHENTICATIONFAILED' in str(e), e
m.logout()
m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version, None))
assert 'AUTH=EXTERNAL' not in m.capability()[1][0].decode()
m.logout()
";

const EXTERNAL_SMTP: &str = "\
for s in (smtplib.SMTP_SSL(host, int(submissions), context=context(version)), smtplib.SMTP(host, int(submission))):
    if not isinstance(s, smtplib.SMTP_SSL):
        s.ehlo()
        assert 'EXTERNAL' not in s.esmtp_features.get('auth', '')
        s.starttls(context=context(version))
    s.ehlo()
    assert 'EXTERNAL' in s.esmtp_features['auth'].split(), s.esmtp_features
    s.auth('EXTERNAL', lambda challenge=None: '')
    s.sendmail('mox@localhost', ['mox@localhost'], 'From: mox@localhost\\r\\nSubject: by key\\r\\n\\r\\nhi\\r\\n')
    s.quit()
";

fn a_registered_key_logs_in(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let (key, plain) = (make_key(&mox, "laptop")?, make_key(&mox, "phone")?);
    // A certificate that nobody knows is no obstacle.
    run(
        &mox,
        &key.both,
        "m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n\
         assert m.state == 'NONAUTH', m.state\n\
         m.login('mox@localhost', 'moxmoxmox')\n\
         m.logout()",
    )?;
    let added = add_key(&mox, &key, &[])?;
    ensure!(added.contains(&key.fingerprint) && added.contains(USER), "{added}");
    add_key(&mox, &plain, &["my phone", "-no-imap-preauth"])?;
    let listed = mox.command(&["config", "tlspubkey", "list", "mox"])?;
    ensure!(
        listed.contains(&key.fingerprint) && listed.contains("my phone"),
        "{listed}"
    );
    let got = mox.command(&["config", "tlspubkey", "get", &key.fingerprint])?;
    let pem = std::fs::read_to_string(&key.certificate)?.replace('\r', "");
    ensure!(got.contains("ed25519") && got.contains(pem.trim()), "{got}");

    run(
        &mox,
        &key.both,
        "m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n\
         assert m.state == 'AUTH', (m.state, m.welcome)\n\
         assert m.select()[0] == 'OK'\n\
         m.logout()",
    )?;
    run(
        &mox,
        &plain.both,
        "m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n\
         assert m.state == 'NONAUTH', m.state\n\
         m.authenticate('EXTERNAL', lambda c: b'')\n\
         m.logout()",
    )?;
    run(&mox, &key.both, EXTERNAL_IMAP)?;
    run(&mox, &key.both, EXTERNAL_SMTP)?;
    mox.wait_for_subject("INBOX", "by key")?;

    let both = key.both.to_string_lossy().into_owned();
    let said = succeed(
        "openssl",
        &[
            "s_client",
            "-quiet",
            "-connect",
            &mox.imaps().to_string(),
            "-cert",
            &both,
            "-key",
            &both,
        ],
        "a LOGOUT\r\n",
    )?;
    ensure!(said.contains("* PREAUTH [CAPABILITY "), "{said}");
    let url = format!("imap://mox%40localhost@{}/INBOX", mox.imap());
    let args = ["--ssl-reqd", "--insecure", "--cert", &both, "--key", &both];
    let fetched = curl(
        &[
            &args[..],
            &[
                "--login-options",
                "AUTH=EXTERNAL",
                "-X",
                "STATUS INBOX (MESSAGES)",
                &url,
            ],
        ]
        .concat(),
    )?;
    ensure!(fetched.contains("MESSAGES 4"), "{fetched}");
    Ok(())
}

/// A connection over TLS with a certificate, that waits and prints what it is told.
fn wait_for_bye(mox: &Mox, key: &Key, then: &str) -> Result<String> {
    run(
        mox,
        &key.both,
        &format!(
            "if version != ssl.TLSVersion.TLSv1_3: continue\n\
             import subprocess\n\
             m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n\
             assert m.state == 'AUTH', m.state\n\
             m.select()\n\
             m.sock.settimeout(60)\n\
             m.send(b'i IDLE\\r\\n')\n\
             assert m.readline().startswith(b'+')\n\
             subprocess.run({then}, check=True, stdout=subprocess.DEVNULL)\n\
             print(m.readline().decode())"
        ),
    )
}

fn command(mox: &Mox, args: &[&str]) -> Result<String> {
    let binary = mox_integration_tests::binary("mox")?.to_string_lossy().into_owned();
    let config = mox.config_file().to_string_lossy().into_owned();
    let all = [&[binary.as_str(), "-config", &config], args].concat();
    Ok(serde_json::to_string(&all)?)
}

fn a_removed_key_ends_its_connections(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let (key, other) = (make_key(&mox, "laptop")?, make_key(&mox, "other")?);
    add_key(&mox, &key, &[])?;
    add_key(&mox, &other, &[])?;
    let mut by_password = mox.login()?;
    let rm = command(&mox, &["config", "tlspubkey", "rm", &key.fingerprint])?;
    let said = wait_for_bye(&mox, &key, &rm)?;
    ensure!(said.contains("* BYE"), "{said}");
    by_password.examine("INBOX")?;
    let done = mox.try_command(&["config", "tlspubkey", "get", &key.fingerprint], "")?;
    ensure!(
        !done.status.success() && output(&done).contains("fingerprint"),
        "{}",
        output(&done)
    );
    let said = wait_for_bye(&mox, &other, &command(&mox, &["config", "account", "rm", "mox"])?);
    // The account is that of the postmaster, and stays.
    ensure!(said.is_err(), "{said:?}");
    Ok(())
}

fn disabled_accounts_get_their_text(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let key = make_key(&mox, "laptop")?;
    add_key(&mox, &key, &[])?;
    let file = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&file)?;
    let disabled = text.replacen(
        "[accounts.mox]",
        "[accounts.mox]\nlogin_disabled = \"please call us\"",
        1,
    );
    ensure!(text != disabled, "{text}");
    let then = format!(
        "['python3', '-c', 'import sys; open(sys.argv[1], \"w\").write(sys.argv[2])', {}, {}]",
        serde_json::to_string(&file.to_string_lossy())?,
        serde_json::to_string(&disabled)?
    );
    let said = wait_for_bye(&mox, &key, &then)?;
    ensure!(said.contains("* BYE"), "{said}");
    let refused = Imap::login(mox.imap(), USER, PASSWORD).err().map(|e| format!("{e:#}"));
    ensure!(
        refused.as_deref().is_some_and(|e| e.contains("please call us")),
        "{refused:?}"
    );
    run(
        &mox,
        &key.both,
        "try:\n    \
             m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n    \
             raise SystemExit('greeted with ' + repr(m.welcome))\n\
         except imaplib.IMAP4.error as e:\n    \
             assert 'please call us' in str(e), e\n\
         for attempt in (lambda: s.login('mox@localhost', 'moxmoxmox'), lambda: s.auth('EXTERNAL', lambda c=None: '')):\n    \
             s = smtplib.SMTP_SSL(host, int(submissions), context=context(version))\n    \
             s.ehlo()\n    \
             try:\n        \
                 attempt()\n        \
                 raise SystemExit('logged in')\n    \
             except smtplib.SMTPAuthenticationError as e:\n        \
                 assert b'please call us' in e.smtp_error and e.smtp_code == 525, e",
    )?;
    Ok(())
}

fn logins_are_recorded(shape: Shape) -> Result<()> {
    let mox = Mox::start(shape)?;
    let key = make_key(&mox, "laptop")?;
    add_key(&mox, &key, &[])?;
    run(
        &mox,
        &key.both,
        "m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version))\n\
         m.xatom('ID', '(\"name\" \"teststand\" \"version\" \"7\")')\n\
         m.logout()\n\
         for name in ('mox@localhost', 'stranger@example.org'):\n    \
             m = imaplib.IMAP4_SSL(host, int(imaps), ssl_context=context(version, None))\n    \
             try: m.login(name, 'wrong password')\n    \
             except imaplib.IMAP4.error: pass\n    \
             m.logout()",
    )?;
    let read = |args: &[&str]| -> Result<Vec<serde_json::Value>> {
        let said = mox.command(&[&["logins", "-json"], args].concat())?;
        said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let own = read(&["mox"])?;
    let by_key: Vec<_> = own.iter().filter(|l| l["mechanism"] == "tlsclientauth").collect();
    // One for each version of TLS.
    ensure!(by_key.len() == 2, "{own:?}");
    for login in by_key {
        ensure!(
            login["result"] == "ok" && login["client_id"] == "teststand 7" && login["count"] == 1,
            "{login}"
        );
        ensure!(
            login["public_key"] == key.fingerprint.as_str() && login["account"] == "mox",
            "{login}"
        );
        ensure!(
            login["remote_ip"] == login["local_ip"] || !login["local_ip"].is_null(),
            "{login}"
        );
    }
    let failed: Vec<_> = own.iter().filter(|l| l["result"] == "badcreds").collect();
    ensure!(failed.len() == 2 && failed[0]["login_address"] == USER, "{own:?}");
    let unknown = read(&["-unknown"])?;
    ensure!(
        unknown.len() == 2
            && unknown
                .iter()
                .all(|l| l["login_address"] == "stranger@example.org" && l["account"].is_null()),
        "{unknown:?}"
    );
    let table = mox.command(&["logins"])?;
    ensure!(
        table.contains("RESULT") && table.contains("badcreds") && table.contains("teststand 7"),
        "{table}"
    );
    let done = mox.try_command(&["logins", "nobody"], "")?;
    ensure!(
        !done.status.success() && output(&done).contains("nobody"),
        "{}",
        output(&done)
    );
    Ok(())
}

/// In one process, there is nobody left to be connected to.
fn connections_survive_a_killed_store(shape: Shape) -> Result<()> {
    if shape == Shape::Single {
        return Ok(());
    }
    let mut mox = Mox::start(shape)?;
    let mut imap = mox.login()?;
    imap.examine("INBOX")?;
    // Asking for the record writes it, with the sessions.
    mox.command(&["logins"])?;
    mox.kill("store")?;
    mox.start_one("store")?;
    mox.wait_until_ready()?;
    wait::until("the session to be served again", wait::DEADLINE, || {
        Ok(imap.command("NOOP").is_ok().then_some(()))
    })?;
    imap.examine("INBOX")?;
    mox.command_with_input(&["setaccountpassword", "mox"], "a new password\n")?;
    wait::until("the session to end", wait::DEADLINE, || {
        Ok(imap.command("NOOP").is_err().then_some(()))
    })?;
    Ok(())
}
