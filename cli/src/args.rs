//! From what was typed to a command with its options.
//!
//! Every option is understood with one dash and with two, before and after parameters, with its value behind a space
//! or an equals sign. `-config` and `-pedantic` may be anywhere, also before the command. Behind `--` there are only
//! parameters.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};

use crate::command::{ALL, Command};
use crate::context::Context;

/// What was typed.
pub enum Parsed {
    /// A command.
    Run {
        /// Which.
        command: &'static Command,
        /// Options of all commands.
        context: Context,
        /// Its own options and parameters.
        matches: ArgMatches,
    },
    /// A command with `-help`.
    Help(&'static Command),
    /// Nothing, or `-help` alone.
    Usage,
    /// Words that are no command, or the beginning of several.
    Unclear(Vec<String>),
    /// A command with options or parameters that it does not take.
    Wrong {
        /// What is wrong.
        message: String,
        /// Of which command.
        command: Option<&'static Command>,
    },
}

/// The options of all commands, by name and whether they take a value.
const GLOBAL: [(&str, bool); 4] = [("config", true), ("pedantic", false), ("help", false), ("h", false)];

#[derive(Default)]
struct Global {
    config: Option<PathBuf>,
    pedantic: bool,
    help: bool,
}

/// What an argument is.
enum Token {
    /// `-name`, `--name`, `-name=value`.
    Option { name: String, value: Option<String> },
    /// Anything else.
    Word(String),
}

fn token(argument: &str) -> Token {
    let name = argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'))
        .unwrap_or("");
    // What begins with a dash and no letter is a value: a negative number or duration, or "-" for standard input.
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Token::Word(argument.to_owned());
    }
    match name.split_once('=') {
        Some((name, value)) => Token::Option {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        },
        None => Token::Option {
            name: name.to_owned(),
            value: None,
        },
    }
}

fn truth(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "1" | "yes") => Some(true),
        Some("false" | "0" | "no") => Some(false),
        Some(_) => None,
    }
}

impl Global {
    /// Takes an option that all commands have. Answers whether it is one.
    fn take(
        &mut self,
        name: &str,
        value: Option<String>,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<bool, String> {
        let Some((_, takes_value)) = GLOBAL.iter().find(|(known, _)| *known == name) else {
            return Ok(false);
        };
        if *takes_value {
            let value = value.or_else(|| rest.next()).filter(|v| !v.is_empty());
            self.config = Some(value.ok_or("option -config needs the path of mox.toml")?.into());
        } else {
            let on = truth(value.as_deref()).ok_or(format!("option -{name} takes no value"))?;
            match name {
                "pedantic" => self.pedantic = on,
                _ => self.help = on,
            }
        }
        Ok(true)
    }
}

/// Understands what was typed.
pub fn parse(given: &[String]) -> Parsed {
    match understand(given) {
        Ok(parsed) => parsed,
        Err((message, command)) => Parsed::Wrong { message, command },
    }
}

fn understand(given: &[String]) -> Result<Parsed, (String, Option<&'static Command>)> {
    let mut rest = given.iter().cloned();
    let mut global = Global::default();
    let mut words: Vec<String> = Vec::new();
    // First the words of the command, as many as make the longest name.
    let mut command: Option<&'static Command> = None;
    let mut ahead: Vec<String> = Vec::new();
    while let Some(argument) = rest.next() {
        match token(&argument) {
            Token::Option { name, value } if command.is_none() || is_global(&name) => {
                if !global.take(&name, value, &mut rest).map_err(|e| (e, command))? {
                    let message = format!("option -{name} is not known before a command; -config and -pedantic are");
                    return Err((message, None));
                }
            }
            Token::Word(word) if word != "--" && begins(&words, &word) => {
                words.push(word);
                command = exact(&words);
            }
            _ => {
                ahead.push(argument);
                break;
            }
        }
    }
    let Some(command) = command else {
        if words.is_empty() && ahead.is_empty() {
            return Ok(Parsed::Usage);
        }
        words.extend(ahead.into_iter().filter(|w| w != "--"));
        return Ok(Parsed::Unclear(words));
    };
    let arguments = (command.arguments)();
    let fail = |message: String| (message, Some(command));
    let mut normal = vec!["mox".to_owned()];
    let mut parameters = Vec::new();
    let mut rest = ahead.into_iter().chain(rest);
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parameters.extend(rest);
            break;
        }
        match token(&argument) {
            Token::Word(word) => parameters.push(word),
            Token::Option { name, value } => match arguments.iter().find(|a| a.get_long() == Some(name.as_str())) {
                Some(known) => normal.extend(option(known, &name, value, &mut rest).map_err(fail)?),
                None if global.take(&name, value, &mut rest).map_err(fail)? => {}
                None => return Err(fail(unknown(&name, &arguments))),
            },
        }
    }
    if global.help {
        return Ok(Parsed::Help(command));
    }
    normal.push("--".to_owned());
    normal.extend(parameters);
    let parser = clap::Command::new("mox")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(arguments);
    let matches = parser.try_get_matches_from(normal).map_err(|e| fail(reason(&e)))?;
    let context = Context::new(global.config, global.pedantic);
    Ok(Parsed::Run {
        command,
        context,
        matches,
    })
}

fn is_global(name: &str) -> bool {
    GLOBAL.iter().any(|(known, _)| *known == name)
}

/// Whether the words with one more begin the name of a command.
fn begins(words: &[String], next: &str) -> bool {
    ALL.iter()
        .any(|c| c.words.len() > words.len() && c.words[..words.len()] == *words && c.words[words.len()] == next)
}

fn exact(words: &[String]) -> Option<&'static Command> {
    ALL.iter().find(|c| c.words == words).copied()
}

/// An option as clap takes it, in one piece, so that no value can be taken for another option.
fn option(
    known: &Arg,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = String>,
) -> Result<Option<String>, String> {
    if matches!(known.get_action(), ArgAction::SetTrue) {
        let on = truth(value.as_deref()).ok_or(format!("option -{name} takes no value but true and false"))?;
        return Ok(on.then(|| format!("--{name}")));
    }
    let value = value
        .or_else(|| rest.next())
        .ok_or(format!("option -{name} needs a value"))?;
    Ok(Some(format!("--{name}={value}")))
}

fn unknown(name: &str, arguments: &[Arg]) -> String {
    let known: Vec<String> = arguments
        .iter()
        .filter_map(Arg::get_long)
        .map(|long| format!("-{long}"))
        .collect();
    match known.len() {
        0 => format!("option -{name} is not known: this command has none but -config and -pedantic"),
        _ => format!("option -{name} is not known: this command has {}", known.join(", ")),
    }
}

/// What clap says, in one line and with our spelling of options.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ");
    first.trim_start_matches("error: ").replace("--", "-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_that_is_typed_makes_it_panic(
            words in prop::collection::vec("(queue|list|config|account|add|loglevels|-{0,3}[a-z=<>0-9]{0,8})", 0..8),
        ) {
            let _ = parse(&words);
        }

        #[test]
        fn every_value_arrives_as_it_is(value in "\\PC{1,20}") {
            let (_, _, matches) = run(&["queue", "list", "-from", &value]);
            prop_assert_eq!(matches.get_one::<String>("from"), Some(&value));
            let (_, _, matches) = run(&["setaccountpassword", "--", &value]);
            prop_assert_eq!(matches.get_one::<String>("account"), Some(&value));
        }
    }

    fn given(line: &[&str]) -> Parsed {
        parse(&line.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn run(line: &[&str]) -> (String, Context, ArgMatches) {
        match given(line) {
            Parsed::Run {
                command,
                context,
                matches,
            } => (command.words.join(" "), context, matches),
            Parsed::Wrong { message, .. } => panic!("{line:?}: {message}"),
            _ => panic!("{line:?} is no command"),
        }
    }

    #[test]
    fn both_spellings_are_understood_everywhere() {
        for line in [
            ["-config", "/c", "queue", "list", "-account", "a", "-asc"].as_slice(),
            &["--config=/c", "queue", "list", "--account=a", "--asc"],
            &["queue", "-config", "/c", "list", "-account=a", "-asc=true"],
            &["queue", "list", "--asc", "--account", "a", "-config=/c"],
            &[
                "-pedantic",
                "queue",
                "list",
                "--asc",
                "--account",
                "a",
                "--config",
                "/c",
            ],
        ] {
            let (command, context, matches) = run(line);
            assert_eq!(command, "queue list");
            assert_eq!(context.config_given(), Some(std::path::Path::new("/c")), "{line:?}");
            assert_eq!(context.pedantic, line[0] == "-pedantic");
            assert_eq!(matches.get_one::<String>("account").map(String::as_str), Some("a"));
            assert!(matches.get_flag("asc"));
        }
        assert!(!run(&["queue", "list", "-asc=false"]).2.get_flag("asc"));
    }

    #[test]
    fn values_may_look_like_options() {
        let (_, _, matches) = run(&[
            "queue",
            "list",
            "-from",
            "-asc",
            "-n",
            "5",
            "-nextattempt",
            "<1h",
            "-transport",
            "",
        ]);
        assert_eq!(matches.get_one::<String>("from").map(String::as_str), Some("-asc"));
        assert!(!matches.get_flag("asc"));
        assert_eq!(matches.get_one::<String>("transport").map(String::as_str), Some(""));
        let (_, _, matches) = run(&["loglevels", "", "-5"]);
        assert_eq!(matches.get_one::<String>("pkg").map(String::as_str), Some("-5"));
        let (_, _, matches) = run(&["config", "account", "rm", "--", "-config"]);
        assert_eq!(
            matches.get_one::<String>("account").map(String::as_str),
            Some("-config")
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |line: &[&str], expected: &str| match given(line) {
            Parsed::Wrong { message, .. } => assert!(message.contains(expected), "{message}"),
            _ => panic!("{line:?}"),
        };
        wrong(&["stop", "-now"], "option -now is not known");
        wrong(&["queue", "list", "-acount", "x"], "-account");
        wrong(&["queue", "list", "-account"], "needs a value");
        wrong(&["queue", "list", "-asc=maybe"], "no value");
        wrong(&["-bad", "stop"], "not known before a command");
        wrong(&["stop", "now"], "now");
        wrong(&["setaccountpassword"], "account");
        assert!(matches!(given(&[]), Parsed::Usage));
        assert!(matches!(given(&["-help"]), Parsed::Usage));
        assert!(matches!(given(&["stop", "-h"]), Parsed::Help(c) if c.words == ["stop"]));
        assert!(matches!(given(&["config", "account"]), Parsed::Unclear(w) if w == ["config", "account"]));
        assert!(matches!(given(&["nothing"]), Parsed::Unclear(w) if w == ["nothing"]));
    }
}
