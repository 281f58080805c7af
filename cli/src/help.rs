//! Help about commands.

use std::fmt::Write as _;

use crate::command::{ALL, Command};

/// Command, and what follows it.
pub fn usage_line(command: &Command) -> String {
    let name = command.words.join(" ");
    if command.parameters.is_empty() {
        name
    } else {
        format!("{name} {}", command.parameters)
    }
}

/// All commands, one a line.
pub fn usage() -> String {
    let mut out = String::from("mox [-config config/mox.toml] [-pedantic] ...\n");
    for command in ALL {
        let _ = writeln!(out, "mox {}", usage_line(command));
    }
    out.push_str("mox help <command> tells more about one.\n");
    out
}

/// Lines of this width can be read anywhere.
const WIDTH: usize = 80;
/// Of the explanation of an option.
const INDENT: usize = 8;

/// A paragraph in lines.
fn wrap(paragraph: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines.join("\n")
}

/// Everything about one command.
pub fn full(command: &Command) -> String {
    let text: Vec<String> = command
        .help
        .trim()
        .split('\n')
        .map(|paragraph| wrap(paragraph, 0))
        .collect();
    let text = text.join("\n");
    let mut out = format!(
        "# mox {}\n\n{text}\n\nusage: mox {}\n",
        command.words.join(" "),
        usage_line(command)
    );
    let mut arguments = (command.arguments)();
    arguments.retain(|a| a.get_long().is_some());
    arguments.sort_by_key(|a| a.get_long().map(ToOwned::to_owned));
    for argument in arguments {
        let name = argument.get_long().unwrap_or_default();
        let value = argument
            .get_value_names()
            .and_then(|v| v.first())
            .filter(|_| argument.get_action().takes_values());
        let value = value.map(|v| format!(" {v}")).unwrap_or_default();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "  -{name}{value}\n{}", wrap(&help, INDENT));
    }
    out
}

/// Commands whose name begins with these words; the last may be begun only.
pub fn matching(words: &[String]) -> Vec<&'static Command> {
    let begins = |command: &Command| {
        words.len() <= command.words.len()
            && words.iter().zip(command.words).enumerate().all(|(n, (given, word))| {
                if n + 1 == words.len() {
                    word.starts_with(given.as_str())
                } else {
                    word == given
                }
            })
    };
    let all: Vec<&'static Command> = ALL.iter().copied().filter(|c| begins(c)).collect();
    match all.iter().find(|c| c.words == words) {
        // A name that is whole means that command, unless it begins others too.
        Some(exact)
            if all
                .iter()
                .all(|c| c.words.len() == words.len() || std::ptr::eq(*c, *exact)) =>
        {
            vec![exact]
        }
        _ => all,
    }
}

/// Commands with the first line of their help.
pub fn list(commands: &[&Command]) -> String {
    let mut out = String::new();
    for command in commands {
        let _ = writeln!(
            out,
            "mox {}\n        {}",
            usage_line(command),
            command.help.lines().next().unwrap_or_default()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        matching(&words).iter().map(|c| c.words.join(" ")).collect()
    }

    #[test]
    fn commands_are_found_by_their_beginning() {
        assert_eq!(names(&["stop"]), ["stop"]);
        assert_eq!(
            names(&["se"]),
            ["serve", "setaccountpassword", "setadminpassword", "sendmail"]
        );
        assert_eq!(
            names(&["config", "account"]),
            ["config account add", "config account rm"]
        );
        assert_eq!(names(&["config", "account", "r"]), ["config account rm"]);
        assert_eq!(names(&["conf", "account"]), Vec::<String>::new());
        assert_eq!(names(&[]).len(), ALL.len());
        assert_eq!(names(&["stop", "now"]), Vec::<String>::new());
    }

    #[test]
    fn help_has_every_option() {
        let command = matching(&["queue".into(), "list".into()])[0];
        let text = full(command);
        assert!(
            text.contains("usage: mox queue list [filtersortflags]\n  -account string\n"),
            "{text}"
        );
        assert!(text.contains("\n  -asc\n"), "{text}");
        assert!(usage().contains("\nmox config account add account address\n"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(list(&[command]).starts_with("mox queue list [filtersortflags]\n        List"));
    }
}
