//! Archives that unpack to far more than they are, and documents that grow while they are read, come as DMARC reports to
//! the address where reports are expected, from who may send them. They are kept as the mail that they are, cost little
//! memory, and hold up no other mail; a report that is only large is read.

use std::fs;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::abuse::{Abuse, Sizes};
use mox_integration_tests::client::{Smtp, python};
use mox_integration_tests::{Dns, Mox, Options, Shape, USER, free_ip};

in_both_shapes_alone!(bombs_do_not_go_off);

/// The most that a process may use.
const MEMORY: u64 = 300 << 20;
/// The longest that ordinary mail may take, in a debug build.
const SLOWEST: std::time::Duration = std::time::Duration::from_secs(5);
/// How often each is sent, at the same time.
const TIMES: usize = 4;

const RECORDS: &str = "
sender.example TXT v=spf1 ip4:127.0.0.0/8 -all
sender.example MX 10 mx.sender.example
mx.sender.example A 127.0.0.1
1.0.0.127.in-addr.arpa PTR mx.sender.example
_dmarc.sender.example TXT v=DMARC1; p=reject
";

/// Writes attachments into a folder, with the names that reports have.
const ATTACHMENTS: &str = r#"
import gzip, io, os, sys, zipfile
os.chdir(sys.argv[1])
head = b"""<?xml version="1.0"?><feedback><report_metadata><org_name>a</org_name><email>a@sender.example</email>
<report_id>%s</report_id><date_range><begin>1795305600</begin><end>1795391999</end></date_range></report_metadata>
<policy_published><domain>other.example</domain><p>none</p></policy_published>"""
record = b"""<record><row><source_ip>192.0.2.%d</source_ip><count>%d</count><policy_evaluated><disposition>none</disposition>
<dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>other.example</header_from></identifiers>
<auth_results></auth_results></record>"""
spaces = b" " * (1 << 20)
with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as z, z.open("a.xml", "w") as f:
    f.write(head % b"1")
    for n in range(400):
        f.write(spaces)
with gzip.open("bomb.xml.gz", "wb") as f:
    f.write(head % b"2")
    for n in range(400):
        f.write(spaces)
with zipfile.ZipFile("within.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.write("bomb.zip")
entities = "".join(f"<!ENTITY l{n} \"{f'&l{n - 1};' * 10}\">" for n in range(1, 10))
open("laughs.xml", "wb").write(b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY l0 "ha">%s]><feedback>&l9;</feedback>' % entities.encode())
open("deep.xml", "wb").write(b"<feedback>" * 500000)
open("deep.json", "wb").write(b"[" * 5000000)
large = head % b"3" + b"".join(record % (n % 250, n) for n in range(60000)) + b"</feedback>"
assert 15 << 20 < len(large) < 20 << 20, len(large)
gzip.open("large.xml.gz", "wb").write(large)
"#;

/// Puts an attachment into a message, in base64.
const MESSAGE: &str = r#"
import email.message, email.policy, sys
path, to, name = sys.argv[1:]
m = email.message.EmailMessage()
m["From"], m["To"], m["Subject"], m["Message-ID"] = "a@sender.example", to, name, f"<{name}@sender.example>"
m["Date"] = "Mon, 23 Nov 2026 12:00:00 +0000"
m.set_content("A report.")
m.add_attachment(open(path, "rb").read(), maintype="application", subtype="octet-stream", filename=name)
sys.stdout.write(m.as_bytes(policy=email.policy.SMTP).decode())
"#;

fn bombs_do_not_go_off(shape: Shape) -> Result<()> {
    let dns = Dns::serve(free_ip(), RECORDS)?;
    let options = Options {
        host_with_dns: Some(dns.address()),
        ..Options::default()
    };
    let mut mox = Mox::prepare(shape, &options)?;
    let domains = mox.config_dir().join("domains.toml");
    let text = fs::read_to_string(&domains)?;
    let address = "dmarc@receiver.example";
    fs::write(
        &domains,
        format!(
            "{text}\n[domains.\"receiver.example\".dmarc]\nlocalpart = \"dmarc\"\naccount = \"mox\"\nmailbox = \"DMARC\"\n"
        ),
    )?;
    mox.start_first()?;

    let folder = tempfile::tempdir()?;
    python(ATTACHMENTS, &[&folder.path().display().to_string()])?;
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        let message = python(MESSAGE, &[&path.display().to_string(), address, &name])?;
        messages.push((name, message));
    }
    ensure!(messages.len() == 7, "{}", messages.len());

    let processes: Vec<u32> = mox.processes().map(|process| process.id()).collect();
    let abuse = Abuse {
        smtp: mox.smtp(),
        processes: &processes,
        ordinary: ("joe@sender.example".into(), USER.into()),
        abusive: ("a@sender.example".into(), address.into()),
        sizes: Sizes::short(),
    };
    let outcome = abuse.watched("bombs as reports", &|abuse| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..TIMES)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        for (name, message) in &messages {
                            let reply = Smtp::connect(abuse.smtp)?.message(&abuse.abusive.0, address, message)?;
                            ensure!(reply.code == 250, "{name} got {reply:?}");
                        }
                        Ok(())
                    })
                })
                .collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok("250".to_owned())
        })
    });
    let outcome = outcome.with_context(|| mox.log_tails())?;
    println!("{outcome:?}");
    ensure!(outcome.memory < MEMORY, "{outcome:?}");
    ensure!(outcome.slowest < SLOWEST && outcome.probes > 0, "{outcome:?}");

    let count = |result: &str| {
        let figure = mox.figure("smtp-in", &format!("mox_smtp_in_reports_total{{result=\"{result}\"}}"))?;
        Ok::<usize, anyhow::Error>(figure.unwrap_or_default().parse().unwrap_or(0))
    };
    let (large, bombs) = (count("dmarc")?, count("unreadable")?);
    ensure!(
        large == TIMES && bombs == 6 * TIMES,
        "{large} reports, {bombs} bombs\n{}",
        mox.log_tails()
    );
    // All of it is mail, in the mailbox of that address; what is a report says so.
    let mut imap = mox.login()?;
    let many = imap.examine("DMARC")?;
    ensure!(many == 7 * TIMES, "{many} messages");
    let mut recognized = 0;
    for n in 1..=many {
        let header = imap.command(&format!("FETCH {n} BODY.PEEK[HEADER]"))?.concat();
        recognized += usize::from(header.contains("X-Mox-Reason: dmarc-report"));
    }
    ensure!(recognized == TIMES, "{recognized} are taken for reports");
    Ok(())
}
