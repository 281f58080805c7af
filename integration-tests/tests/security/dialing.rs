//! The commands that look at TLS between servers, against the hosts and records of the matrix.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{binary, run, wait};

use crate::certificates::digest;
use crate::mox::World;

/// What a domain for DMARC's commands has in DNS: one address for reports agrees, the other does not.
pub const RECORDS: &str =
    "_dmarc.starttls-m.example. TXT \"v=DMARC1; p=none; rua=mailto:d@reports.example,mailto:d@a.example\"
starttls-m.example._report._dmarc.reports.example. TXT \"v=DMARC1\"";

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

    /// The TLSA record of a certificate by `mox dane makerecord`, as its name in DNS has it.
    pub fn made_record(&self) -> Result<()> {
        let config = self.sender.config_dir();
        let certificate = config.join("localhost.crt");
        let wanted = [
            (["3", "1", "1"], format!("3 1 1 {}", digest(true, &certificate)?)),
            (["2", "0", "1"], format!("2 0 1 {}", digest(false, &certificate)?)),
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
