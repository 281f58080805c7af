//! Reports that are archives which unpack to far more than they are, or documents that grow while they are read.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::Abuse;
use crate::client::{Smtp, python};

/// Where reports are expected, for [`SETTINGS`].
pub const DMARC: &str = "dmarc@receiver.example";
/// See [`DMARC`].
pub const TLS: &str = "tls@receiver.example";
/// To be added to `domains.toml`: the domain that reports are sent to, for the account "mox".
pub const SETTINGS: &str = r#"
[domains."receiver.example".dmarc]
localpart = "dmarc"
account = "mox"
mailbox = "DMARC"

[domains."receiver.example".tlsrpt]
localpart = "tls"
account = "mox"
mailbox = "TLSRPT"
"#;
/// From whom they are; DNS has to verify it.
pub const SENDER: &str = "a@sender.example";
/// Which of them is no bomb: a large report, which is read.
pub const LARGE: &str = "large.xml.gz";

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
with gzip.open("bomb.json.gz", "wb") as f:
    f.write(b'{"organization-name":"a","report-id":"5","policies":[')
    for n in range(400):
        f.write(spaces)
failure = b'{"result-type":"validation-failure","failed-session-count":1,"receiving-mx-hostname":"mx.other.example"},'
with gzip.open("huge.json.gz", "wb") as f:
    f.write(b'{"organization-name":"a","date-range":{"start-datetime":"2026-11-22T00:00:00Z",'
        b'"end-datetime":"2026-11-22T23:59:59Z"},"contact-info":"a@sender.example","report-id":"6","policies":['
        b'{"policy":{"policy-type":"sts","policy-domain":"other.example"},'
        b'"summary":{"total-successful-session-count":0,"total-failure-session-count":1},"failure-details":[')
    for n in range(400):
        f.write(failure * (1 + (1 << 20) // len(failure)))
with gzip.open("many.json.gz", "wb") as f:
    # What is random keeps it from being refused for how well it is packed.
    f.write(b'{"padding":"%s","organization-name":"a","date-range":{"start-datetime":"2026-11-22T00:00:00Z",'
        b'"end-datetime":"never"},"contact-info":"a@sender.example","report-id":"7","policies":['
        b'{"policy":{"policy-type":"sts","policy-domain":"other.example","policy-string":["a"' % os.urandom(100000).hex().encode())
    f.write(b',""' * 3000000 + b'],"mx-host":[""' + b',""' * 1000000)
    f.write(b']},"failure-details":[{"result-type":""}' + b',{"result-type":""}' * 300000 + b']}]}')
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

/// A message with what nobody should unpack.
#[derive(Debug, Clone)]
pub struct Bomb {
    /// That of its attachment.
    pub name: String,
    /// [`DMARC`] or [`TLS`], as fits.
    pub to: &'static str,
    /// With CRLF, to its end.
    pub message: String,
}

/// All of them, in the order of their names.
///
/// # Errors
/// If they can't be made.
pub fn all() -> Result<Vec<Bomb>> {
    let folder = tempfile::tempdir()?;
    python(ATTACHMENTS, &[&folder.path().display().to_string()])?;
    let mut bombs = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        let to = if name.contains(".json") { TLS } else { DMARC };
        let message = python(MESSAGE, &[&path.display().to_string(), to, &name])?;
        bombs.push(Bomb { name, to, message });
    }
    bombs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bombs)
}

impl Abuse<'_> {
    /// Sends a bomb so often at the same time. Each is taken as the mail that it is.
    ///
    /// # Errors
    /// If one is not.
    pub fn bomb(&self, bomb: &Bomb) -> Result<String> {
        std::thread::scope(|scope| {
            let send = || -> Result<()> {
                let mut session = Smtp::connect(self.smtp)?;
                session.lines.set_timeout(super::PATIENCE)?;
                let reply = session.message(SENDER, bomb.to, &bomb.message)?;
                ensure!(reply.code == 250, "{} got {reply:?}", bomb.name);
                Ok(())
            };
            let threads: Vec<_> = (0..self.sizes.at_once).map(|_| scope.spawn(send)).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            Ok(format!("250, {} at once", self.sizes.at_once))
        })
    }
}
