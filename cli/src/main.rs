//! mox: the command line, and the server as a single process.

/// As that of the standard library, by [`out::write`].
macro_rules! print {
    ($($what:tt)*) => { $crate::out::write(format_args!($($what)*)) };
}

/// As that of the standard library, by [`out::write`].
macro_rules! println {
    () => { $crate::out::write(format_args!("\n")) };
    ($($what:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($what)*))) };
}

mod admin;
mod args;
mod command;
mod commands;
mod context;
mod control;
mod help;
mod launch;
mod out;
mod password;
mod quickstart;
mod report;
mod resolver;
mod sendmail;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// For a command that was not understood, as is usual.
const USAGE_ERROR: u8 = 2;

fn run() -> anyhow::Result<ExitCode> {
    let given: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    // Its options are of another kind: -t and -i may be one argument, -ti, and help is for people.
    if sendmail::is_invoked(std::env::args_os().next()) {
        return Ok(sendmail::run(&given));
    }
    if let Some(rest) = given.strip_prefix(&["sendmail".to_owned()])
        && !matches!(rest, [only] if only.trim_start_matches('-') == "help")
    {
        return Ok(sendmail::run(rest));
    }
    match args::parse(&given) {
        args::Parsed::Run {
            command,
            context,
            matches,
        } => (command.run)(&context, &matches),
        args::Parsed::Help(command) => {
            print!("{}", help::full(command));
            Ok(ExitCode::SUCCESS)
        }
        args::Parsed::Usage => {
            print!("{}", help::usage());
            Ok(ExitCode::SUCCESS)
        }
        args::Parsed::Unclear(words) => {
            let matching = help::matching(&words);
            if matching.is_empty() {
                eprintln!("mox: there is no command {:?}; mox help lists all", words.join(" "));
            } else {
                eprint!("{}", help::list(&matching));
            }
            Ok(ExitCode::from(USAGE_ERROR))
        }
        args::Parsed::Wrong { message, command } => {
            eprintln!("mox: {message}");
            if let Some(command) = command {
                eprintln!("usage: mox {}", help::usage_line(command));
                eprintln!("see mox help {}", command.words.join(" "));
            }
            Ok(ExitCode::from(USAGE_ERROR))
        }
    }
}
