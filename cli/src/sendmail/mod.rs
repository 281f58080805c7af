//! `mox sendmail`: what programs find as `/usr/sbin/sendmail`.
//!
//! It reads one message, makes it one from the configured address, and submits it to a mail server. It keeps no queue:
//! what can't be submitted is left in a folder of the user ([`failures`]). As it may run with the rights of a group that
//! can read the password (setgid), it takes the path of its settings from the environment only without such rights.

mod failures;
mod flags;
mod message;
mod submit;
mod tls;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use mox_config::{Sendmail, Source};

use flags::{Flags, FlagsError};
use message::Outgoing;

/// Where the settings are.
const SETTINGS: &str = "/etc/moxsubmit.conf";
/// Names other settings, for who runs this without the rights of a group.
const VARIABLE: &str = "MOXSUBMITCONF";
/// Octets of a message: what mox as a server takes unless configured otherwise.
const MESSAGE_BYTES: u64 = 100 << 20;

/// Exit codes as programs know them of sendmail, from sysexits.h.
const USAGE: u8 = 64;
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
const TEMPORARY: u8 = 75;
const CONFIG: u8 = 78;

/// Whether this program was started by that name.
#[must_use]
pub fn is_invoked(name: Option<std::ffi::OsString>) -> bool {
    name.is_some_and(|name| PathBuf::from(name).file_name().is_some_and(|name| name == "sendmail"))
}

/// Sends the message on standard input. `arguments` are those behind the name.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    match send(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            eprintln!("sendmail: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// Why the message was not sent.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

fn failure(code: u8) -> impl Fn(anyhow::Error) -> Failure {
    move |error| Failure { code, error }
}

fn send(arguments: &[String]) -> Result<(), Failure> {
    let flags = Flags::parse(arguments).map_err(|e: FlagsError| failure(USAGE)(e.into()))?;
    let mut text = Vec::new();
    std::io::stdin()
        .take(MESSAGE_BYTES + 1)
        .read_to_end(&mut text)
        .context("reading the message from standard input")
        .map_err(failure(DATA))?;
    if text.len() as u64 > MESSAGE_BYTES {
        let error = anyhow::anyhow!("the message has more than {MESSAGE_BYTES} bytes");
        return Err(failure(DATA)(error));
    }
    // From here on the message is not lost, whatever is wrong with the settings.
    let as_given = |code: u8| {
        let (text, flags) = (&text, &flags);
        move |error: anyhow::Error| kept(code, error, text, &flags.recipients)
    };
    let settings = settings().map_err(as_given(CONFIG))?;
    let now = std::time::SystemTime::now();
    let outgoing = Outgoing::new(&flags, &settings, &text, now).map_err(|e| as_given(DATA)(e.into()))?;
    submit::submit(&settings, &outgoing).map_err(|failed| {
        let code = if failed.permanent { UNAVAILABLE } else { TEMPORARY };
        let recipients: Vec<String> = failed.recipients.iter().map(ToString::to_string).collect();
        kept(
            code,
            failed.error.context("submit failed"),
            &outgoing.content,
            &recipients,
        )
    })
}

/// Keeps a message that was not sent, if there is one.
fn kept(code: u8, error: anyhow::Error, message: &[u8], recipients: &[String]) -> Failure {
    if message.is_empty() {
        return Failure { code, error };
    }
    let error = match failures::keep(message, recipients, &format!("{error:#}")) {
        Ok(file) => anyhow::anyhow!("{error:#}; the message is kept in {}", file.display()),
        Err(lost) => anyhow::anyhow!("{error:#}; and the message is lost: {lost:#}"),
    };
    Failure { code, error }
}

fn settings() -> Result<Sendmail> {
    let given = std::env::var_os(VARIABLE).filter(|path| !path.is_empty() && !has_rights_of_others());
    let file = given.map_or_else(|| PathBuf::from(SETTINGS), PathBuf::from);
    let source =
        Source::read(&file).context("reading the settings; mox config describe-sendmail prints all there are")?;
    source.parse_sendmail().context("reading the settings")
}

/// Whether the file of the program gives it rights that its user does not have.
fn has_rights_of_others() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    geteuid() != getuid() || getegid() != getgid()
}
