//! What comes later: reports about DMARC, which go as securely as any mail, and mail to hosts that had TLS once.

use anyhow::{Context, Result, ensure};
use mox_integration_tests::wait;
use serde_json::Value;

use crate::cells::Cell;
use crate::mox::World;

/// Domains that ask for reports about DMARC: their hosts' TLSA records match, and don't.
const GOOD: &str = "dane-m.example";
const WRONG: &str = "danewrong-m.example";
/// More than the two days in which it is remembered that a host had TLS, and less than mail stays in the queue.
const FORGOTTEN_HOURS: u32 = 54;

/// What they have in DNS for that.
pub fn records() -> Vec<String> {
    let of = |domain| {
        [
            format!("{domain}. TXT \"v=spf1 ip4:127.0.0.0/8 -all\""),
            format!("_dmarc.{domain}. TXT \"v=DMARC1; p=none; ri=3600; rua=mailto:x@{domain}\""),
        ]
    };
    [GOOD, WRONG].into_iter().flat_map(of).collect()
}

impl World {
    /// Mail arrives from domains that want to be told about it.
    pub fn gets_mail(&self) -> Result<()> {
        for domain in [GOOD, WRONG] {
            let message = format!(
                "From: <x@{domain}>\r\nTo: <mox@a.example>\r\nSubject: from {domain}\r\nMessage-ID: <1@{domain}>\r\n\
                 Date: Mon, 23 Nov 2026 09:00:00 +0000\r\n\r\nhello\r\n"
            );
            let from = format!("x@{domain}");
            let reply = self.sender.session()?.message(&from, "mox@a.example", &message)?;
            ensure!(reply.code == 250, "{reply:?}");
        }
        Ok(())
    }

    /// A report about DMARC goes to the host that DANE vouches for, and waits for the other. (Those about TLS go to a host
    /// whose TLSA records don't match; see `reports.example`.)
    pub fn dmarc_reports_heed_dane(&self) -> Result<()> {
        let subject = format!("Report Domain: {GOOD} Submitter: mail.a.example");
        wait::until("a DMARC report", wait::DEADLINE, || {
            let subjects = self.receiver_mail.subjects(&self.receiver)?;
            Ok(subjects.iter().any(|s| s.starts_with(&subject)).then_some(()))
        })
        .with_context(|| self.logs())?;
        wait::until("the other DMARC report to wait", wait::DEADLINE, || {
            let list = self.sender.command(&["queue", "list", "-json"])?;
            for line in list.lines().filter(|line| line.starts_with('{')) {
                let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                let is_report = entry["mail_from"] == "postmaster@mail.a.example";
                if is_report && entry["recipient"] == format!("x@{WRONG}") {
                    let text = entry["results"].to_string();
                    ensure!(
                        entry["requiretls"].is_null() && text.contains("TLSA records"),
                        "{entry}"
                    );
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .with_context(|| self.logs())
    }

    /// Hosts that had TLS get mail without, in the end.
    pub fn forgets_tls(&mut self, cells: &[Cell]) -> Result<()> {
        self.sender.set_ahead(FORGOTTEN_HOURS);
        self.sender.restart()?;
        for cell in cells.iter().filter(|cell| cell.case.host.had_tls()) {
            wait::until(&format!("the message to {}", cell.recipient()), wait::DEADLINE, || {
                let received = self.received(cell)?;
                ensure!(received.as_deref() == Some("delivered without TLS"), "{received:?}");
                Ok(Some(()))
            })
            .with_context(|| self.logs())?;
        }
        Ok(())
    }
}
