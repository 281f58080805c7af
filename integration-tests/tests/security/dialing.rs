//! The commands that look at TLS between servers, against the hosts and records of the matrix.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Mox, binary, run, wait};

use crate::certificates::{Authority, Certificate, digest};
use crate::mox::World;

/// What a domain for DMARC's commands has in DNS: one address for reports agrees, the other does not.
pub const RECORDS: &str =
    "_dmarc.starttls-m.example. TXT \"v=DMARC1; p=none; rua=mailto:d@reports.example,mailto:d@a.example\"
starttls-m.example._report._dmarc.reports.example. TXT \"v=DMARC1\"";

/// Hosts whose TLSA records at the port of IMAPS are of usages 0 and 1: that match, and that don't.
const PKIX_EE: &str = "mx.starttls-m.example";
const PKIX_TA: &str = "mx.dane-m.example";
const PKIX_EE_WRONG: &str = "mx.daneta-m.example";
const PKIX_TA_WRONG: &str = "mx.danewrong-m.example";
/// With 1 1 1 and 3 1 1 of its key, and a certificate that is not for its name.
const MISNAMED: &str = "mx.reports.example";

/// The records of these hosts.
pub fn tlsa(receiver: &Certificate, authority: &Authority, sender: &Mox) -> Result<Vec<String>> {
    let (key, ca) = (digest(true, &receiver.cert)?, digest(false, &authority.pem())?);
    let alone = digest(true, &sender.config_dir().join("localhost.crt"))?;
    let at = |host: &str, record: &str, data: &str| format!("_993._tcp.{host}. TLSA {record} {data}");
    Ok(vec![
        at(PKIX_EE, "1 1 1", &key),
        at(PKIX_TA, "0 0 1", &ca),
        // Each the other's.
        at(PKIX_EE_WRONG, "1 1 1", &alone),
        at(PKIX_TA_WRONG, "0 1 1", &alone),
        at(MISNAMED, "1 1 1", &key),
        at(MISNAMED, "3 1 1", &key),
        format!("alone.a.example. A {}", sender.ip()),
        format!("_1993._tcp.alone.a.example. TLSA 1 1 1 {alone}"),
    ])
}

fn both(done: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

impl World {
    /// Runs a command that asks the DNS of the test, and looks for texts in what it prints.
    fn says(&self, words: &[&str], input: &str, success: bool, texts: &[&str]) -> Result<()> {
        let (server, anchor) = (self.dns.ip.to_string(), self.dns.anchor.display().to_string());
        let options = ["-resolver", &server, "-trustanchor", &anchor];
        let (command, arguments) = words.split_at(2);
        let done = self
            .sender
            .try_command(&[command, &options[..], arguments].concat(), input)?;
        let said = both(&done);
        ensure!(done.status.success() == success, "{words:?}: {}: {said}", done.status);
        for text in texts {
            ensure!(said.contains(text), "{words:?}: {text:?} is not in {said}");
        }
        Ok(())
    }

    /// A command ends when the other side has closed the connection, although there could be more input.
    fn ends_with_the_connection(&self, words: &[&str], input: &str) -> Result<()> {
        let config = self.sender.config_file();
        let mut child = Command::new(binary("mox")?)
            .arg("-config")
            .arg(&config)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut open = child.stdin.take().context("it has no input")?;
        open.write_all(input.as_bytes())?;
        let ended = wait::until("the command to end", wait::DEADLINE, || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ensure!(ended?.success(), "{words:?} failed");
        drop(open);
        Ok(())
    }

    /// Usages 0 and 1 are gone by where they are asked for: the usual authorities count for them, too (RFC 6698 §2.1.1).
    fn usages_that_are_asked_for(&self) -> Result<()> {
        let logout = "a LOGOUT\r\n";
        let dial = |usages: &str, host: &str, success, texts: &[&str]| {
            self.says(&["dane", "dial", "-usages", usages, host], logout, success, texts)
        };
        let [ee, ta] = [PKIX_EE, PKIX_TA].map(|host| format!("{host}:993"));
        dial("pkix-ee", &ee, true, &["verified by TLSA record 1 1 1", "* OK", "a OK"])?;
        dial("pkix-ta,pkix-ee", &ee, true, &["verified by TLSA record 1 1 1"])?;
        dial(
            "pkix-ta,dane-ta,dane-ee",
            &ee,
            false,
            &["can be used", "pkix-ta or dane-ta or dane-ee"],
        )?;
        dial("pkix-ta", &ta, true, &["verified by TLSA record 0 0 1", "a OK"])?;
        dial("pkix-ee", &ta, false, &["can be used"])?;
        // Without being asked, all of them.
        let all = |host: &str, success, texts: &[&str]| {
            self.says(&["dane", "dial", &format!("{host}:993")], logout, success, texts)
        };
        all(PKIX_EE, true, &["verified by TLSA record 1 1 1"])?;
        all(PKIX_EE_WRONG, false, &["none of the TLSA records"])?;
        all(PKIX_TA_WRONG, false, &["none of the TLSA records"])?;
        // The key is right, and the name is not; with usage 3 names don't matter.
        dial(
            "pkix-ee",
            &format!("{MISNAMED}:993"),
            false,
            &["is not for mx.reports.example"],
        )?;
        all(MISNAMED, true, &["verified by TLSA record 3 1 1"])?;
        // The key is right, and no authority stands behind it.
        let alone = ["dane", "dial", "alone.a.example:1993"];
        self.says(&alone, logout, false, &["no authority that is trusted"])?;
        // RFC 7672 §3.1.3: not for mail.
        for domain in ["danepkix-m.example", "danepkixplain-m.example"] {
            let texts = ["TLSA 1 1 1", "TLSA 0 0 1", "can be used"];
            self.says(&["dane", "dialmx", domain], "QUIT\r\n", false, &texts)?;
        }
        Ok(())
    }

    /// The TLSA record of a certificate by `mox dane makerecord`, as its name in DNS has it.
    pub fn made_record(&self) -> Result<()> {
        let config = self.sender.config_dir();
        let certificate = config.join("localhost.crt");
        let wanted = [
            (["3", "1", "1"], format!("3 1 1 {}", digest(true, &certificate)?)),
            (["2", "0", "1"], format!("2 0 1 {}", digest(false, &certificate)?)),
            (
                ["pkix-ee", "spki", "sha2-256"],
                format!("1 1 1 {}", digest(true, &certificate)?),
            ),
            (["0", "cert", "1"], format!("0 0 1 {}", digest(false, &certificate)?)),
        ];
        for ([usage, selector, matching], wanted) in wanted {
            let file = certificate.display().to_string();
            let mox = binary("mox")?.display().to_string();
            let done = run(&mox, &["dane", "makerecord", usage, selector, matching, &file], "")?;
            let said = both(&done);
            ensure!(
                done.status.success() && said.trim().eq_ignore_ascii_case(&wanted),
                "{said}, not {wanted}"
            );
        }
        Ok(())
    }

    /// Everything is found, and verified, as delivering finds it.
    pub fn commands_see_the_same(&self) -> Result<()> {
        self.made_record().context("mox dane makerecord")?;
        let quit = "QUIT\r\n";
        let dialmx =
            |domain: &str, success, texts: &[&str]| self.says(&["dane", "dialmx", domain], quit, success, texts);
        dialmx("dane-m.example", true, &["verified by TLSA record 3 1 1", "221 2.0.0"])?;
        dialmx(
            "daneta-p.example",
            true,
            &["verified by TLSA record 2 0 1", "221 2.0.0"],
        )?;
        dialmx("danecname-m.example", true, &["_25._tcp.host.danecname-m.example"])?;
        dialmx("danewrong-m.example", false, &["none of the TLSA records"])?;
        dialmx("daneplain-m.example", false, &["STARTTLS"])?;
        dialmx("daneunusable-m.example", false, &["can be used"])?;
        dialmx("danebogus-m.example", false, &["no host of danebogus-m.example"])?;
        dialmx("starttls-m.example", false, &["no TLSA records"])?;
        dialmx("unsigned-m.plain.example", false, &["DANE needs DNSSEC"])?;
        // Where reports about TLS go nevertheless.
        dialmx("reports.example", false, &["none of the TLSA records"])?;
        let host = ["dane", "dialmx", "a.example", "mx.dane-m.example"];
        self.says(&host, quit, true, &["verified by TLSA record"])?;

        self.ends_with_the_connection(&["dane", "dialmx", "dane-m.example"], quit)?;

        let logout = "a LOGOUT\r\n";
        let dial = ["dane", "dial", "mail.a.example:1993"];
        self.says(&dial, logout, true, &["verified by TLSA record 3 1 1", "* OK", "a OK"])?;
        let usages = |list| ["dane", "dial", "-usages", list, "mail.a.example:1993"];
        self.says(&usages("dane-ee"), logout, true, &["a OK"])?;
        self.says(&usages("pkix-ta,pkix-ee"), logout, false, &["can be used"])?;
        self.says(&usages("mail"), logout, false, &["mail"])?;

        self.usages_that_are_asked_for().context("mox dane dial -usages")?;

        let sts = |domain: &str, success, texts: &[&str]| self.says(&["mtasts", "lookup", domain], "", success, texts);
        sts(
            "stsgood-m.plain.example",
            true,
            &["mode: enforce", "mx: mx.stsgood-m.plain.example"],
        )?;
        sts("ststesting-m.plain.example", true, &["mode: testing"])?;
        sts("stsmisnamed-m.plain.example", false, &["not valid for name"])?;
        sts("stsnonsense-m.plain.example", false, &["is no policy"])?;
        sts("stsbroken-m.plain.example", false, &["404"])?;
        sts("sts301-m.plain.example", false, &["301"])?;
        sts("sts302-m.plain.example", false, &["302"])?;
        sts("stshtml-m.plain.example", false, &["text/html, not text/plain"])?;
        sts("stslarge-m.plain.example", false, &["larger than 65536 octets"])?;
        sts("stsendless-m.plain.example", false, &["larger than 65536 octets"])?;
        sts("dane-m.example", false, &["does not use MTA-STS"])?;

        let tlsrpt = ["tlsrpt", "lookup", "dane-m.example"];
        self.says(
            &tlsrpt,
            "",
            true,
            &["reports by mail to: tls@reports.example", "with dnssec"],
        )?;
        self.says(&["tlsrpt", "lookup", "a.example"], "", false, &["_smtp._tls.a.example"])?;
        let dmarc = ["dmarc", "lookup", "a.example"];
        self.says(&dmarc, "", true, &["policy of a.example: reject", "with dnssec"])?;
        let addresses = ["d@reports.example: agrees", "d@a.example: does not agree"];
        self.says(
            &["dmarc", "checkreportaddrs", "starttls-m.example"],
            "",
            false,
            &addresses,
        )
    }
}
