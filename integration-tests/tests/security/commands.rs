//! Commands that ask DNS are tried against a test zone: with `-resolver` and `-trustanchor` they ask its server, and
//! nobody else, and know what is signed.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Mox, Options, Shape, free_ip, lock};
use toml_edit::{Array, table, value};

use crate::certificates::{Authority, digest};
use crate::dns::Dns;
use crate::policies::{self, Answer};

const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.sender.example\r\nmax_age: 86400\r\n";
const MESSAGE: &str = "From: Joe <joe@sender.example>\r\nTo: you@elsewhere.example\r\nSubject: hi\r\n\
                       Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\nhello\r\n";

/// What is asked, the exit code, and what the answer has in it.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

const CASES: &[Case<'_>] = &[
    (
        &["dns", "lookup", "mx", "sender.example"],
        0,
        &["10 mx.sender.example.", "(with dnssec)"],
    ),
    (
        &["dns", "lookup", "txt", "here.plain.example"],
        0,
        &["unsigned", "(without dnssec"],
    ),
    // The server validates, too, and does not answer.
    (&["dns", "lookup", "txt", "broken.example"], 1, &["Server Failure"]),
    (
        &["dns", "lookup", "a", "nothere.example"],
        1,
        &["no such name (with dnssec)"],
    ),
    (
        &["dns", "lookup", "ips", "alias.example"],
        0,
        &["alias.example is mx.sender.example", "127.0.0.1"],
    ),
    (
        &["spf", "lookup", "sender.example"],
        0,
        &["v=spf1 ip4:127.0.0.1", "(with dnssec)"],
    ),
    (
        &["spf", "check", "sender.example", "127.0.0.1"],
        0,
        &["pass (with dnssec)", "ip4:127.0.0.1"],
    ),
    (
        &["spf", "check", "sender.example", "127.0.0.2"],
        0,
        &["fail", "mechanism: -all", "127.0.0.2 is not ours"],
    ),
    (&["spf", "check", "broken.example", "127.0.0.2"], 1, &["temperror"]),
    (
        &["dkim", "lookup", "key", "sender.example"],
        0,
        &["v=DKIM1", "(with dnssec)"],
    ),
    (&["dkim", "lookup", "none", "sender.example"], 1, &["no such name"]),
    (
        &["dmarc", "lookup", "below.sender.example"],
        0,
        &["policy of sender.example: reject", "(with dnssec)"],
    ),
    (
        &["dmarc", "checkreportaddrs", "sender.example"],
        1,
        &[
            "r@sender.example: agrees",
            "r@agreed.example: agrees",
            "r@silent.example: does not agree",
        ],
    ),
    (
        &["dnsbl", "check", "list.example", "127.0.0.9"],
        0,
        &["listed: it sent junk"],
    ),
    (&["dnsbl", "check", "list.example", "127.0.0.8"], 0, &["not listed"]),
    (&["dnsbl", "checkhealth", "list.example"], 0, &["healthy"]),
    (&["dnsbl", "checkhealth", "sender.example"], 1, &["test entry"]),
    (
        &["tlsrpt", "lookup", "sender.example"],
        0,
        &["tls@sender.example", "(with dnssec)"],
    ),
    (
        &["mtasts", "lookup", "sender.example"],
        0,
        &["v=STSv1; id=1", "mode: enforce", "mx: mx.sender.example"],
    ),
    (&["mtasts", "lookup", "alias.example"], 1, &["does not use MTA-STS"]),
];

fn records(key: &str, policies: IpAddr) -> Vec<String> {
    let text = |name: &str, text: &str| format!("{name}. TXT \"{text}\"");
    vec![
        "sender.example. MX 10 mx.sender.example.".into(),
        "mx.sender.example. A 127.0.0.1".into(),
        "below.sender.example. A 127.0.0.1".into(),
        "alias.example. CNAME mx.sender.example.".into(),
        text("sender.example", "v=spf1 ip4:127.0.0.1 exp=why.sender.example -all"),
        text("why.sender.example", "%{i} is not ours"),
        text("key._domainkey.sender.example", key),
        text(
            "_dmarc.sender.example",
            "v=DMARC1; p=reject; rua=mailto:r@sender.example,mailto:r@agreed.example,mailto:r@silent.example",
        ),
        text("sender.example._report._dmarc.agreed.example", "v=DMARC1"),
        "2.0.0.127.list.example. A 127.0.0.2".into(),
        "9.0.0.127.list.example. A 127.0.0.2".into(),
        text("9.0.0.127.list.example", "it sent junk"),
        text("_smtp._tls.sender.example", "v=TLSRPTv1; rua=mailto:tls@sender.example"),
        text("_mta-sts.sender.example", "v=STSv1; id=1"),
        format!("mta-sts.sender.example. A {policies}"),
        text("broken.example", "v=spf1 before -all"),
        text("here.plain.example", "unsigned"),
    ]
}

#[test]
fn commands_ask_the_zone_that_they_are_told() -> Result<()> {
    let _lock = lock::shared()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: the ports 53 and 443 need root");
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("commands-").tempdir()?;
    let (path, ip) = (folder.path(), free_ip());
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mox = Mox::prepare(Shape::Single, &Options::default())?;
    let authority = Authority::new(path)?;
    mox.edit_config(|config| {
        let ca = config["tls"].or_insert(table())["ca"].or_insert(table());
        ca["cert_files"] = value(Array::from_iter([authority.pem().display().to_string()]));
    })?;
    let host = "mta-sts.sender.example".to_owned();
    let certificate = authority.issue("policies", std::slice::from_ref(&host))?;
    let _policies = policies::serve(path, ip, &certificate, &[(host, Answer::text(POLICY))])?;
    let pem = mox.command(&["dkim", "gened25519"])?;
    let key = mox.command_with_input(&["dkim", "txt"], &pem)?;
    fs::write(mox.config_dir().join("key.pem"), &pem)?;
    let broken = ("v=spf1 before -all".to_owned(), "v=spf1 after -all".to_owned());
    let dns = Dns::start(path, free_ip(), &records(key.trim(), ip), &[broken])?;
    let (resolver, anchor) = (dns.ip.to_string(), dns.anchor.display().to_string());
    let options = ["-resolver", &resolver, "-trustanchor", &anchor];
    for (words, code, parts) in CASES {
        let (got, text) = asked(&mox, &[words, &options[..]].concat(), "")?;
        let good = got == Some(*code) && parts.iter().all(|part| text.contains(part));
        ensure!(
            good,
            "mox {words:?} exits with {got:?}, and not {code}, or has not {parts:?}:\n{text}"
        );
    }
    messages(&mox, path, &options)?;
    let tlsa = digest(true, &certificate.cert)?;
    let made = mox.command(&[
        "dane",
        "makerecord",
        "dane-ee",
        "spki",
        "sha2-256",
        &certificate.cert.display().to_string(),
    ])?;
    ensure!(made.to_lowercase().contains(&tlsa), "{made}");
    // Without the anchor, nothing of the zone leads to a key that is known; without the server, there is no zone.
    for options in [&options[..2], &["-resolver", "127.0.0.1:1"]] {
        let (code, text) = asked(
            &mox,
            &[&["dns", "lookup", "mx", "sender.example"], options].concat(),
            "",
        )?;
        ensure!(code == Some(1), "{text}");
    }
    Ok(())
}

/// Exit code, and what was printed.
fn asked(mox: &Mox, args: &[&str], input: &str) -> Result<(Option<i32>, String)> {
    let done = mox.try_command(args, input)?;
    let text = [done.stdout, done.stderr].concat();
    Ok((done.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// Signs a message as the configuration has it, and looks at it as a receiver.
fn messages(mox: &Mox, folder: &Path, options: &[&str]) -> Result<()> {
    let domains = mox.config_dir().join("domains.toml");
    let dkim = "\n[domains.\"sender.example\".dkim]\nsign = [\"key\"]\n\
                [domains.\"sender.example\".dkim.selectors.key]\nprivate_key_file = \"key.pem\"\n";
    let text = fs::read_to_string(&domains).context("reading domains.toml")? + dkim;
    fs::write(&domains, text)?;
    let (plain, signed) = (folder.join("plain.eml"), folder.join("signed.eml"));
    fs::write(&plain, MESSAGE)?;
    let message = mox
        .try_command(&["dkim", "sign", &plain.display().to_string()], "")?
        .stdout;
    fs::write(&signed, &message)?;
    let message = String::from_utf8(message)?;
    for (file, code, part) in [
        (&signed, 0, "pass: domain sender.example, selector key"),
        (&plain, 1, "not signed"),
    ] {
        let file = file.display().to_string();
        let (got, text) = asked(mox, &[&["dkim", "verify", &file], options].concat(), "")?;
        ensure!(got == Some(code) && text.contains(part), "{got:?}: {text}");
    }
    // SPF fails, and the signature says enough; then neither does.
    for (message, result) in [(message.as_str(), "pass"), (MESSAGE, "fail")] {
        let words = [
            "dmarc",
            "verify",
            "127.0.0.2",
            "joe@sender.example",
            "mx.sender.example",
        ];
        let (_, text) = asked(mox, &[&words, options].concat(), message)?;
        let expected = format!("dmarc of sender.example: {result}, policy reject of sender.example (with dnssec)");
        ensure!(
            text.contains("spf=fail (with dnssec) (-all)") && text.contains(&expected),
            "{text}"
        );
    }
    Ok(())
}
