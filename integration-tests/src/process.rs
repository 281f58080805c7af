//! Child processes that never outlive their test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::succeed;
use crate::wait;

/// What a single run of a client may take, in seconds.
const CLIENT_SECONDS: &str = "120";

/// A binary of this workspace, as `cargo build` left it beside the tests.
///
/// # Errors
/// If it is not there.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("MOX_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            // <target>/debug/deps/<test>, or <target>/release/<benchmark>.
            let own = std::env::current_exe().context("asking for this program's path")?;
            let folder = own.parent().context("this program has no folder")?;
            let is_test = folder.file_name() == Some(OsStr::new("deps"));
            (if is_test { folder.parent() } else { Some(folder) })
                .context("no target folder")?
                .to_owned()
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: run 'cargo build --workspace --bins' first",
            path.display()
        );
    }
    Ok(path)
}

/// A command whose process is killed by the kernel when the thread that starts it ends.
fn bound(program: &Path) -> Command {
    let mut command = setpriv();
    command.arg("--").arg(program);
    command
}

fn setpriv() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in `log`, which is appended to.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start<S: AsRef<OsStr>>(name: &str, program: &Path, args: &[S], log: &Path) -> Result<Self> {
        Self::run(name, bound(program), args, log)
    }

    /// As [`Process::start`], with a clock that is so many hours ahead. If a user is named, it is that user's from the
    /// start, and may listen on ports below 1024: what moves the clock does not survive a change of the user.
    ///
    /// # Errors
    /// If it can't be started, or what moves the clock can't be compiled.
    pub fn start_ahead<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: &[S],
        log: &Path,
        hours: u32,
        user: Option<&str>,
    ) -> Result<Self> {
        if hours == 0 {
            return Self::start(name, program, args, log);
        }
        let library = log.with_file_name("ahead.so").display().to_string();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ahead.c");
        succeed("cc", &["-shared", "-fPIC", "-O1", "-o", &library, source], "").context("compiling a clock")?;
        let mut command = setpriv();
        if let Some(user) = user {
            let capability = "+net_bind_service";
            command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups"]);
            command.args(["--inh-caps", capability, "--ambient-caps", capability]);
        }
        command.args(["--", "env"]).arg(format!("LD_PRELOAD={library}"));
        command.arg(format!("AHEAD_SECONDS={}", hours * 3600)).arg(program);
        Self::run(name, command, args, log)
    }

    fn run<S: AsRef<OsStr>>(name: &str, mut command: Command, args: &[S], log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        let program = command.get_args().last().unwrap_or_default().to_owned();
        let child = command
            .args(args)
            .env_remove("MOXCONF")
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("duplicating a file descriptor")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {} with setpriv (package util-linux)", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// As it was started.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id. `setpriv` becomes the program, so there is only this one.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed and logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// The end of its log, for messages about failures.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "--- {} ---\n{}",
            self.name,
            lines[lines.len().saturating_sub(30)..].join("\n")
        )
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Kills it, as a power failure would, and waits until it is gone.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn kill(&mut self) -> Result<()> {
        let _ = self.child.kill(); // an error says that it is gone already
        self.child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// If it can't be asked for.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("asking for the state of {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, deadline, || self.exited()).with_context(|| self.log_tail())
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// If it is gone.
    pub fn memory(&self) -> Result<u64> {
        memory_of(self.id())
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory_of(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS line")?;
    let kib: u64 = line
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .context("reading VmRSS")?;
    Ok(kib << 10)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Runs a client to its end, with text for its standard input, and gives what it printed. It is ended after two
/// minutes.
///
/// # Errors
/// If it can't be started; a program that is missing is named with its package. Whether it succeeded is in the output.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S], input: &str) -> Result<Output> {
    let mut child = bound(Path::new("timeout"))
        .args(["--kill-after=5", CLIENT_SECONDS, program])
        .args(args)
        .env_remove("MOXCONF")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    // A thread, as a program that prints much before it reads would block both.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {program}"))?;
    let _ = writer.join();
    if output.status.code() == Some(127) {
        bail!("{program} is missing: run 'make test', which installs what the tests need");
    }
    Ok(output)
}
