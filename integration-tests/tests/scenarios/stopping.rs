//! Stopping: clients are told, sessions get three seconds, and nothing is left behind.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mox_integration_tests::client::Lines;
use mox_integration_tests::{Mox, Process, Shape, binary, wait};

in_both_shapes!(
    sessions_are_told_and_get_three_seconds,
    terminated_processes_end_cleanly
);

fn sessions_are_told_and_get_three_seconds(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let mut idle = mox.login()?;
    idle.command("SELECT INBOX")?;
    idle.lines.send("x IDLE\r\n")?;
    while !idle.lines.line()?.starts_with('+') {}
    let mut waiting = mox.session()?;
    let mut sending = mox.session()?;
    sending.start_data("a@example.org", "mox@localhost")?;
    sending.lines.send("Subject: in time\r\n\r\n")?;
    let mut appending = mox.login()?;
    appending.lines.send("x APPEND INBOX {29}\r\n")?;
    while !appending.lines.line()?.starts_with('+') {}
    appending.lines.send("Subject: appended")?;

    let begin = Instant::now();
    // It returns when all has stopped, so it runs beside this.
    let (config, log) = (mox.config_file().display().to_string(), mox.folder().join("stop.log"));
    let mut stop = Process::start("stop", &binary("mox")?, &["-config", &config, "stop"], &log)?;
    // Who comes now is told to come back.
    for (address, told) in [(mox.smtp(), "421 "), (mox.imap(), "* BYE ")] {
        wait::until("new connections to be refused", Duration::from_secs(3), || {
            Ok(Lines::connect(address)?.line()?.starts_with(told).then_some(()))
        })?;
    }
    // Who is in the middle of a message finishes it.
    sending.lines.send("finished\r\n.\r\n")?;
    sending.expect(250)?;
    appending.lines.send("\r\n\r\nfinished\r\n")?;
    let rest = appending.lines.rest()?;
    ensure!(rest.contains("x OK "), "APPEND was answered with {rest:?}");
    waiting.expect(421)?;
    ensure!(waiting.lines.rest()?.is_empty(), "SMTP goes on after 421");
    let rest = idle.lines.rest()?;
    ensure!(rest.contains("* BYE "), "IMAP was told {rest:?}");
    if shape == Shape::Single {
        let status = mox.process("mox")?.wait(Duration::from_secs(15))?;
        ensure!(status.success(), "mox ended with {status}");
    }
    let status = stop.wait(Duration::from_secs(15))?;
    ensure!(status.success(), "mox stop ended with {status}: {}", stop.log());
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(8), "stopping took {took:?}");
    if shape == Shape::Pieces {
        for name in mox.names().into_iter().filter(|n| *n != "nats") {
            let status = mox.process(name)?.wait(Duration::from_secs(15))?;
            ensure!(status.success(), "{name} ended with {status}");
        }
        mox.kill("nats")?;
    }
    // What was acknowledged while stopping is there.
    mox.start_all()?;
    mox.wait_for_subject("INBOX", "in time")?;
    mox.wait_for_subject("INBOX", "appended")?;
    Ok(())
}

fn terminated_processes_end_cleanly(shape: Shape) -> Result<()> {
    let mut mox = Mox::start(shape)?;
    let _open = (mox.session()?, mox.login()?);
    mox.terminate()?;
    mox.start_all()?;
    mox.login()?;
    Ok(())
}
