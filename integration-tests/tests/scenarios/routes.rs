//! Routes of the account, of its domain and of all say how messages go; transports choose addresses, or fail.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::client::{Smtp, base64, python};
use mox_integration_tests::{Mox, Options, PASSWORD, Shape, USER, wait};
use serde_json::Value;
use toml_edit::{InlineTable, table, value};

in_both_shapes!(
    the_first_route_that_matches_decides,
    addresses_of_one_family_are_left_out
);

/// The lines of a list, each a JSON object.
fn json(mox: &Mox, args: &[&str]) -> Result<Vec<Value>> {
    let printed = mox.command(&[args, &["-json"]].concat())?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn submit(mox: &Mox, user: &str, to: &[&str]) -> Result<()> {
    let mut smtp = Smtp::connect(mox.submission())?;
    let login = base64(&format!("\0{user}\0{PASSWORD}"));
    smtp.command(&format!("AUTH PLAIN {login}"), 235)?;
    for to in to {
        let message = format!("From: <{user}>\r\nSubject: to {to}\r\n\r\nhello\r\n");
        smtp.message(user, to, &message)?;
    }
    Ok(())
}

/// Adds transports that fail, each with its name and a code as text: what became of a message tells which it was.
fn failing(mox: &Mox, transports: &[(&str, u16)]) -> Result<()> {
    mox.edit_config(|config| {
        for (name, code) in transports {
            let mut fail = InlineTable::new();
            fail.insert("smtp_code", i64::from(*code).into());
            fail.insert("smtp_message", format!("refused by {name}").into());
            let mut transport = table();
            transport["fail"] = value(fail);
            config["transports"][*name] = transport;
        }
    })
}

fn edit_domains(mox: &Mox, edit: impl FnOnce(String) -> String) -> Result<()> {
    let path = mox.config_dir().join("domains.toml");
    let text = std::fs::read_to_string(&path)?;
    Ok(std::fs::write(path, edit(text))?)
}

const GLOBAL: &str = r#"
[[routes]]
to_domain = ["all.example", "domain.example", "global.example", "usual.example"]
transport = "by-global"

[[routes]]
to_domain = ["global.example"]
transport = "never"

[[routes]]
to_domain = [".wide.example"]
from_domain = ["localhost"]
transport = "by-global"

[[routes]]
to_domain = [".wide.example"]
from_domain = ["two.example"]
transport = "by-other"

[[routes]]
to_domain = ["late.example"]
transport = "later-global"

[[domains.localhost.routes]]
to_domain = ["all.example", "domain.example"]
transport = "by-domain"

[[domains.localhost.routes]]
to_domain = ["late.example"]
minimum_attempts = 1
transport = "later-domain"

[[accounts.mox.routes]]
to_domain = ["all.example"]
transport = "by-account"

[[accounts.mox.routes]]
to_domain = ["late.example"]
minimum_attempts = 2
transport = "by-account"
"#;

/// The notification about a message, read by Python: what of it a transport that fails is to say.
const NOTIFICATION: &str = r#"
import email, email.policy, imaplib, sys
ip, user, password = sys.argv[1:]
with imaplib.IMAP4(ip, 1143) as i:
    i.login(user, password)
    i.select("INBOX", readonly=True)
    _, found = i.search(None, "SUBJECT", '"to x@global.example"')
    raw = i.fetch(found[0].split()[0], "(BODY.PEEK[])")[1][0][1]
m = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
text, status, back = m.iter_parts()
whole, one = status.get_payload()
assert one["Action"] == "failed" and one["Status"] == "5.7.0", one.as_string()
assert one["Final-Recipient"] == "rfc822; x@global.example", one.as_string()
# RFC 3464 section 2.3.5: no other host took part.
assert one["Remote-MTA"] is None, one.as_string()
assert "553 refused by by-global" in one["Diagnostic-Code"], one.as_string()
assert "553 refused by by-global" in text.get_content(), text.get_content()
"#;

fn the_first_route_that_matches_decides(shape: Shape) -> Result<()> {
    let mut mox = Mox::prepare(shape, &Options::default())?;
    failing(
        &mox,
        &[
            ("by-account", 551),
            ("by-domain", 552),
            ("by-global", 553),
            ("by-other", 556),
            ("later-global", 451),
            ("later-domain", 452),
            ("never", 554),
        ],
    )?;
    edit_domains(&mox, |text| {
        let text = text.replacen(
            "[accounts.mox]\n",
            "[accounts.mox]\nkeep_retired_message_period = \"1h\"\n",
            1,
        );
        // What localserve has for everything is the last of all.
        let (rest, last) = text.split_at(text.find("[[routes]]").unwrap_or(text.len()));
        format!("{rest}{GLOBAL}\n{last}\n[domains.\"two.example\"]\n")
    })?;
    mox.start_first()?;
    submit(
        &mox,
        USER,
        &[
            "x@all.example",
            "x@domain.example",
            "x@global.example",
            "x@usual.example",
            "x@wide.example",
            "x@far.wide.example",
            "x@narrow-wide.example",
            "x@late.example",
        ],
    )?;
    let outcome = |to: &str| -> Result<Value> {
        wait::until(&format!("{to} to leave the queue"), wait::DEADLINE, || {
            let found = json(&mox, &["queue", "retired", "list", "-to", to])?;
            Ok(found.into_iter().next())
        })
        .with_context(|| format!("{:?}\n{}", json(&mox, &["queue", "list"]), mox.log_tails()))
    };
    for (to, code, transport) in [
        ("x@all.example", 551, "by-account"),
        ("x@domain.example", 552, "by-domain"),
        ("x@global.example", 553, "by-global"),
        ("x@usual.example", 553, "by-global"),
        ("x@wide.example", 553, "by-global"),
        ("x@far.wide.example", 553, "by-global"),
    ] {
        let retired = outcome(to)?;
        let result = &retired["results"][0];
        ensure!(
            retired["outcome"] == "failed" && retired["attempts"] == 1,
            "{to}: {retired}"
        );
        ensure!(
            result["smtp_code"] == code && result["error"] == format!("{code} refused by {transport}"),
            "{to}: {retired}"
        );
        ensure!(
            result["enhanced_code"] == "5.7.0" && result["remote_host"] == "",
            "{to}: {retired}"
        );
    }
    ensure!(outcome("x@narrow-wide.example")?["outcome"] == "delivered");
    mox.wait_for_subject("INBOX", "Mail could not be delivered: to x@global.example")?;
    python(NOTIFICATION, &[&mox.ip().to_string(), USER, PASSWORD])?;
    // Our own word about an address is none of its host.
    let suppressed = json(&mox, &["queue", "suppress", "list"])?;
    ensure!(suppressed.is_empty(), "{suppressed:?}");

    // Another route after each attempt.
    for attempts in 1..=2 {
        wait::until("the next attempt", wait::DEADLINE, || {
            let waiting = json(&mox, &["queue", "list", "-to", "x@late.example"])?;
            let tried = waiting.first().is_some_and(|entry| entry["attempts"] == attempts);
            Ok(tried.then_some(()))
        })?;
        mox.command(&["queue", "schedule", "-to", "x@late.example", "-now", "0"])?;
    }
    let retired = outcome("x@late.example")?;
    let errors: Vec<&str> = retired["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|result| result["error"].as_str())
        .collect();
    ensure!(
        errors
            == [
                "451 refused by later-global",
                "452 refused by later-domain",
                "551 refused by by-account"
            ],
        "{retired}"
    );

    // The transport that a message is given counts for more than any route.
    mox.command(&["queue", "holdrules", "add"])?;
    submit(&mox, USER, &["y@all.example"])?;
    mox.command(&["queue", "transport", "-to", "y@all.example", "never"])?;
    mox.command(&["queue", "unhold"])?;
    let retired = outcome("y@all.example")?;
    ensure!(retired["results"][0]["error"] == "554 refused by never", "{retired}");
    ensure!(retired["transport"] == "never", "{retired}");
    Ok(())
}

const RECORDS: &str = "
both.example MX 10 mx.both.example
mx.both.example A 127.99.99.1
mx.both.example AAAA ::1
four.example MX 10 mx.four.example
mx.four.example A 127.99.99.4
routed.example MX 10 mx.both.example
";

/// As a host, which delivers directly. Nobody listens there; the addresses that were dialed tell.
fn addresses_of_one_family_are_left_out(shape: Shape) -> Result<()> {
    let (mut mox, _dns) = Mox::prepare_host(shape, Ipv4Addr::LOCALHOST.into(), RECORDS)?;
    mox.edit_config(|config| {
        for (name, off) in [("v4", "disable_ipv6"), ("v6", "disable_ipv4"), ("any", "")] {
            let mut direct = InlineTable::new();
            if !off.is_empty() {
                direct.insert(off, true.into());
            }
            let mut transport = table();
            transport["direct"] = value(direct);
            config["transports"][name] = transport;
        }
    })?;
    edit_domains(&mox, |text| {
        text.replace(
            "[[routes]]\ntransport = \"self\"",
            "[[routes]]\nto_domain = [\"routed.example\"]\ntransport = \"v4\"",
        )
    })?;
    mox.start_first()?;
    mox.command(&["queue", "holdrules", "add"])?;
    let cases = [
        ("a@both.example", "", &["127.99.99.1:25", "[::1]:25"][..]),
        ("b@both.example", "any", &["127.99.99.1:25", "[::1]:25"]),
        ("c@both.example", "v4", &["127.99.99.1:25"]),
        ("d@both.example", "v6", &["[::1]:25"]),
        ("e@routed.example", "", &["127.99.99.1:25"]),
        ("f@four.example", "v4", &["127.99.99.4:25"]),
        ("g@four.example", "v6", &[]),
    ];
    submit(&mox, USER, &cases.map(|(to, _, _)| to))?;
    for (to, transport, _) in cases {
        mox.command(&["queue", "transport", "-to", to, transport])?;
    }
    mox.command(&["queue", "unhold"])?;
    for (to, transport, dialed) in cases {
        let entry = wait::until(&format!("{to} to be tried"), wait::DEADLINE, || {
            let found = json(&mox, &["queue", "list", "-to", to])?;
            Ok(found.into_iter().find(|entry| entry["attempts"] == 1))
        })
        .with_context(|| mox.log_tails())?;
        let result = &entry["results"][0];
        let mut got: Vec<&str> = result["dialed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        got.sort_unstable();
        ensure!(got == dialed, "{to} by {transport:?}: {entry}");
        // It waits: an administrator can give it another way.
        ensure!(
            result["enhanced_code"]
                .as_str()
                .is_some_and(|code| code.starts_with("4.4.")),
            "{to} by {transport:?}: {entry}"
        );
    }
    Ok(())
}
