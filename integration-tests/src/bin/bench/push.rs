//! `mox-bench push`: mbsync puts many messages into mailboxes, from several processes at once, without one error.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mox_integration_tests::{Mox, PASSWORD, Shape, USER};

use crate::table::{Row, Table};

/// Processes of mbsync, each with a connection and mailboxes of its own.
const CONNECTIONS: usize = 8;

/// Pushes so many messages, and gives the table.
pub(crate) fn measure(messages: usize, step: &dyn Fn(&str)) -> Result<Table> {
    step("starting");
    let mox = Mox::start(Shape::Single)?;
    let folder = tempfile::Builder::new().prefix("push-").tempdir()?;
    let each = messages.div_ceil(CONNECTIONS);
    step("writing maildirs");
    for n in 0..CONNECTIONS {
        write(&folder.path().join(format!("mail{n}/push{n}")), each, n)?;
        fs::write(
            folder.path().join(format!("mbsyncrc{n}")),
            config(&mox, folder.path(), n),
        )?;
    }
    step("pushing");
    let begin = Instant::now();
    let running = (0..CONNECTIONS)
        .map(|n| {
            let config = folder.path().join(format!("mbsyncrc{n}"));
            Command::new("mbsync")
                .args(["-c", &config.to_string_lossy(), "-a"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("starting mbsync: apt-get install isync")
        })
        .collect::<Result<Vec<Child>>>()?;
    let mut said = String::new();
    let mut failed = 0;
    for child in running {
        let done = child.wait_with_output().context("waiting for mbsync")?;
        failed += usize::from(!done.status.success());
        said.push_str(&String::from_utf8_lossy(&done.stderr));
    }
    let took = begin.elapsed();
    ensure!(failed == 0 && said.is_empty(), "{failed} of mbsync failed:\n{said}");
    step("counting");
    let mut imap = mox.login()?;
    let mut there = 0;
    for n in 0..CONNECTIONS {
        there += imap.examine(&format!("push{n}"))?;
    }
    ensure!(
        there == each * CONNECTIONS,
        "{there} messages are there of {}",
        each * CONNECTIONS
    );
    Ok(Table {
        title: format!("mbsync pushes {there} messages, {CONNECTIONS} connections"),
        others: "",
        rows: vec![Row::rate("messages/s, no errors", there as f64 / took.as_secs_f64())],
    })
}

/// A maildir of small messages.
fn write(maildir: &Path, messages: usize, of: usize) -> Result<()> {
    for name in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(name))?;
    }
    for n in 0..messages {
        let text = format!(
            "From: <a@sender.example>\nTo: <b@bench.example>\nSubject: pushed {n}\n\
             Date: Sun, 22 Nov 2026 12:00:00 +0000\nMessage-ID: <push.{of}.{n}@bench.example>\n\n{}\n",
            "a line of text that is pushed\n".repeat(20)
        );
        let flags = ["", "S", "FS", "RS"][n % 4];
        fs::write(maildir.join(format!("cur/{n}.{of}.bench:2,{flags}")), text)?;
    }
    Ok(())
}

fn config(mox: &Mox, folder: &Path, n: usize) -> String {
    let address = mox.imap();
    let folder = folder.display();
    format!(
        "IMAPAccount mox\nHost {}\nPort {}\nUser {USER}\nPass {PASSWORD}\nSSLType None\nAuthMechs LOGIN PLAIN\n\n\
         IMAPStore remote\nAccount mox\n\n\
         MaildirStore local\nPath {folder}/mail{n}/\nInbox {folder}/inbox{n}\n\n\
         Channel push\nFar :remote:\nNear :local:\nPatterns push{n}\nCreate Far\nSync Push\n\
         SyncState {folder}/state{n}-\n",
        address.ip(),
        address.port()
    )
}
