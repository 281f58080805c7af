//! What a service's process is started with.

use std::path::PathBuf;

/// Where the configuration is if nothing says so.
const DEFAULT_CONFIG: &str = "config/mox.toml";

/// Names the configuration, for what runs without arguments.
pub(super) const CONFIG_VARIABLE: &str = "MOXCONF";

/// `json` for log lines as JSON.
pub(super) const FORMAT_VARIABLE: &str = "MOX_LOG_FORMAT";

/// The help text.
pub(super) fn usage(service: &str) -> String {
    format!(
        "usage: mox-{service} [-config FILE] [-version] [-help]\n\
         Runs the service {service} of mox as a process of its own. Without -config, the configuration is the file that\n\
         {CONFIG_VARIABLE} names, or {DEFAULT_CONFIG}. {FORMAT_VARIABLE}=json makes log lines JSON."
    )
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    Run(PathBuf),
    Version,
    Help,
}

/// Options are understood with one dash and with two, their value after a space or an equals sign.
pub(super) fn parse(arguments: impl Iterator<Item = String>, variable: Option<PathBuf>) -> Result<Arguments, String> {
    let mut config = variable.unwrap_or_else(|| DEFAULT_CONFIG.into());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let option = argument
            .strip_prefix("--")
            .or(argument.strip_prefix('-'))
            .ok_or_else(|| argument.clone())?;
        match option.split_once('=') {
            Some(("config", file)) if !file.is_empty() => config = file.into(),
            None => match option {
                "config" => config = arguments.next().filter(|file| !file.is_empty()).ok_or(argument)?.into(),
                "version" => return Ok(Arguments::Version),
                "help" | "h" => return Ok(Arguments::Help),
                _ => return Err(argument),
            },
            Some(_) => return Err(argument),
        }
    }
    Ok(Arguments::Run(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str], variable: Option<&str>) -> Result<Arguments, String> {
        parse(arguments.iter().map(ToString::to_string), variable.map(PathBuf::from))
    }

    #[test]
    fn configuration_is_named_in_every_way() {
        let run = |file: &str| Ok(Arguments::Run(file.into()));
        for written in [
            ["-config", "a"].as_slice(),
            &["--config", "a"],
            &["-config=a"],
            &["--config=a"],
        ] {
            assert_eq!(given(written, Some("b")), run("a"));
        }
        assert_eq!(given(&[], Some("b")), run("b"));
        assert_eq!(given(&[], None), run(DEFAULT_CONFIG));
        assert_eq!(given(&["-version"], None), Ok(Arguments::Version));
        assert_eq!(given(&["--help"], None), Ok(Arguments::Help));
        for bad in [
            ["-config"].as_slice(),
            &["-config="],
            &["file"],
            &["-other"],
            &["-version=1"],
            &["---config", "a"],
        ] {
            assert!(given(bad, None).is_err(), "{bad:?}");
        }
    }
}
