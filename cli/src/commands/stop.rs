//! `mox stop`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mox_proto::control::v1::StopRequest;
use rustix::process::{Pid, test_kill_process};

use crate::command::{Command, none};
use crate::context::Context;
use crate::control;

/// The grace of sessions, and what comes after it.
const WAIT: Duration = Duration::from_secs(20);
/// How often it is looked at whether the process is gone.
const LOOK: Duration = Duration::from_millis(20);

pub const STOP: Command = Command {
    words: &["stop"],
    parameters: "",
    help: "Stop the running mox, giving connections up to 3 seconds to finish.\n\n\
           From then on new connections are told that the service is unavailable for now. Those that are open may finish \
           what they do, and are closed after 3 seconds. The command ends when mox has.",
    arguments: none,
    run: |context, _| stop(context),
};

fn stop(context: &Context) -> Result<ExitCode> {
    let connection = control::connect(context)?;
    let server = rustix::net::sockopt::socket_peercred(&connection)
        .context("asking which process serves")?
        .pid;
    drop(connection);
    control::call(context, |mut client| async move { client.stop(StopRequest {}).await })?;
    let begin = Instant::now();
    while is_alive(server) {
        if begin.elapsed() > WAIT {
            bail!(
                "mox was told to stop, but process {} still runs after {WAIT:?}: see its log",
                server.as_raw_nonzero()
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

fn is_alive(process: Pid) -> bool {
    // A process that may not be signalled exists too.
    let exists = !matches!(test_kill_process(process), Err(rustix::io::Errno::SRCH));
    // One that has ended and was not waited for by its parent has ended all the same.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let ended = stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    exists && !ended
}
