//! Reading the files.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeTable;

use crate::check::{check, locate};
use crate::dynamic::Dynamic;
use crate::fixed::Static;
use crate::problem::{ConfigError, FieldPath, Located, Problem};
use crate::section::Table;
use crate::sendmail::{self, Sendmail};
use crate::validate;

/// The largest file that is read, in bytes: a hundred thousand accounts fit.
const FILE_MAX: u64 = 256 << 20;

/// Name of the dynamic file, beside the static one.
pub const DYNAMIC_FILE: &str = "domains.toml";

/// The text of a configuration file, for saying where in it something is wrong.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file's path, for messages.
    pub file: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not text.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let fail = |message: String| {
            let field = FieldPath::root();
            ConfigError(vec![Located {
                file: file.to_owned(),
                position: None,
                field,
                message,
            }])
        };
        let size = std::fs::metadata(file).map_err(|e| fail(reading(&e)))?.len();
        if size > FILE_MAX {
            return Err(fail(format!(
                "the file has {size} bytes, more than the {FILE_MAX} that are read"
            )));
        }
        let text = std::fs::read_to_string(file).map_err(|e| fail(reading(&e)))?;
        Ok(Self {
            file: file.to_owned(),
            text,
        })
    }

    /// Adds the places in the file to what is wrong with it.
    #[must_use]
    pub fn located(&self, problems: Vec<Problem>) -> Vec<Located> {
        let table = DeTable::parse(&self.text).ok();
        let mut located: Vec<Located> = problems
            .into_iter()
            .map(|Problem { field, message }| {
                let span = table.as_ref().and_then(|t| locate(t.get_ref(), &field));
                let position = span.map(|s| self.position(s.start));
                Located {
                    file: self.file.clone(),
                    position,
                    field,
                    message,
                }
            })
            .collect();
        located.sort_by_key(|l| l.position);
        located
    }

    /// Line and column of an offset, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    fn parse<T: DeserializeOwned>(&self, shape: &'static Table) -> Result<T, ConfigError> {
        let fail = |span: Option<std::ops::Range<usize>>, message: String| {
            let position = span.map(|s| self.position(s.start));
            ConfigError(vec![Located {
                file: self.file.clone(),
                position,
                field: FieldPath::root(),
                message,
            }])
        };
        let table: Spanned<DeTable<'_>> =
            DeTable::parse(&self.text).map_err(|e| fail(e.span(), format!("not TOML: {}", one_line(e.message()))))?;
        let problems = check(shape, table.get_ref());
        if !problems.is_empty() {
            return Err(ConfigError(self.located(problems)));
        }
        T::deserialize(toml::de::Deserializer::from(table))
            .map_err(|e: toml::de::Error| fail(e.span(), one_line(e.message())))
    }

    /// As the static configuration, validated by itself.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse_static(&self) -> Result<Static, ConfigError> {
        let config: Static = self.parse(Static::table())?;
        self.unless(validate::static_problems(&config))?;
        Ok(config)
    }

    /// As the dynamic configuration, validated together with the static one.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse_dynamic(&self, fixed: &Static) -> Result<Dynamic, ConfigError> {
        let mut config: Dynamic = self.parse(Dynamic::table())?;
        self.unless(validate::dynamic_problems(&config, fixed))?;
        config.host = Some(fixed.host());
        Ok(config)
    }

    /// As the settings of `mox sendmail`.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse_sendmail(&self) -> Result<Sendmail, ConfigError> {
        let settings: Sendmail = self.parse(Sendmail::table())?;
        self.unless(sendmail::problems(&settings))?;
        Ok(settings)
    }

    fn unless(&self, problems: Vec<Problem>) -> Result<(), ConfigError> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(self.located(problems)))
        }
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

fn reading(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            "no such file: name the configuration with -config or MOXCONF, or write one with mox quickstart".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => format!("reading the file: {e}: run mox as a user that may read it"),
        _ => format!("reading the file: {e}"),
    }
}

/// Reads and validates `mox.toml`.
///
/// # Errors
/// Everything that is wrong.
pub fn load_static(file: &Path) -> Result<Static, ConfigError> {
    Source::read(file)?.parse_static()
}

/// Reads and validates `domains.toml`, with the static configuration it belongs to.
///
/// # Errors
/// Everything that is wrong.
pub fn load_dynamic(file: &Path, fixed: &Static) -> Result<Dynamic, ConfigError> {
    Source::read(file)?.parse_dynamic(fixed)
}

/// Reads and validates `mox.toml` and the `domains.toml` beside it, with all that either refers to in the other.
///
/// # Errors
/// Everything that is wrong, in both.
pub fn load(file: &Path) -> Result<(Static, Dynamic), ConfigError> {
    let source = Source::read(file)?;
    let fixed = source.parse_static();
    let beside = file.with_file_name(DYNAMIC_FILE);
    let fixed = match fixed {
        Ok(fixed) => fixed,
        Err(mut error) => {
            // The other file is looked at for itself, so that all is said at once.
            match Source::read(&beside).and_then(|s| s.parse::<Dynamic>(Dynamic::table()).map(drop)) {
                Ok(()) => {}
                Err(other) => error.0.extend(other.0),
            }
            return Err(error);
        }
    };
    let dynamic = load_dynamic(&beside, &fixed);
    let Ok(dynamic) = dynamic else {
        return dynamic.map(|d| (fixed, d));
    };
    source.unless(validate::references_problems(&fixed, &dynamic))?;
    Ok((fixed, dynamic))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn static_errors(text: &str) -> Vec<String> {
        let source = Source {
            file: "mox.toml".into(),
            text: text.to_owned(),
        };
        source
            .parse_static()
            .err()
            .map(|e| e.0.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    fn dynamic_errors(text: &str) -> Vec<String> {
        let source = Source {
            file: "domains.toml".into(),
            text: text.to_owned(),
        };
        let fixed = Static::new("data".into(), "mail.example.org".parse().unwrap());
        source
            .parse_dynamic(&fixed)
            .err()
            .map(|e| e.0.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    #[test]
    fn all_errors_are_told_with_their_places() {
        let errors = static_errors(
            "data_dir = \"data\"\nlog_level = \"loud\"\n[listeners.public]\nips = [\"1.2.3\"]\n[listeners.public.smpt]\n",
        );
        assert_eq!(errors.len(), 4, "{errors:#?}");
        let told = |start: &str| assert!(errors.iter().any(|e| e.starts_with(start)), "{start}: {errors:#?}");
        told("mox.toml: required field hostname is missing: add a line such as hostname = \"mail.example.org\"");
        told("mox.toml:2:1: log_level: \"loud\" is not a log level: use error, info,");
        told("mox.toml:4:8: listeners.public.ips[0]: invalid IP address");
        told("mox.toml:5:19: listeners.public.smpt: unknown field; did you mean smtp?");
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_place() {
        let errors = static_errors("data_dir = \"data\"\nlog_level =\n");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("mox.toml:2:"), "{errors:?}");
    }

    #[test]
    fn settings_that_do_not_go_together_are_told() {
        let base = "data_dir = \"data\"\nlog_level = \"info\"\nhostname = \"mail.example.org\"\n";
        for (text, expected) in [
            ("[listeners.l]\nips = []", "must not be empty"),
            (
                "[listeners.l]\nips = [\"127.0.0.1\"]\nimaps.enabled = true",
                "needs certificates",
            ),
            (
                "[listeners.l]\nips = [\"127.0.0.1\"]\nsmtp.enabled = true",
                "required table postmaster",
            ),
            (
                "[listeners.l]\nips = [\"127.0.0.1\"]\nmetrics_http = { enabled = true }\npprof_http = { enabled = true, port = 8010 }",
                "is used by listeners.l.metrics_http already",
            ),
            ("[transports.t]", "exactly one of"),
            ("[transports.t.fail]\nsmtp_code = 250", "from 400 to 599"),
            ("[rpc]\nlisten = \"0.0.0.0:7001\"", "needs mutual TLS"),
            (
                "[listeners.public]\nips = [\"127.0.0.1\"]",
                "cannot be reached from outside",
            ),
        ] {
            let errors = static_errors(&format!("{base}{text}"));
            assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:#?}");
        }
        let account = "[domains.\"example.org\"]\n[accounts.a]\ndomain = \"example.org\"\n";
        for (text, expected) in [
            ("[accounts.b]\ndomain = \"other.example\"", "is not one of the domains"),
            (
                "[accounts.\"a b\"]\ndomain = \"example.org\"",
                "cannot be the name of an account",
            ),
            ("[[routes]]\ntransport = \"x\"", "there is no transport \"x\""),
            (
                "destinations.\"x@example.org\" = {}\ndestinations.\"X@example.org\" = {}",
                "already",
            ),
            (
                "destinations.\"x@example.org\" = { rulesets = [{ mailbox = \"y\" }] }",
                "has no condition",
            ),
            (
                "destinations.\"x@example.org\" = { rulesets = [{ mailbox = \"y\", msg_from_regexp = \"(\" }] }",
                "regular expression",
            ),
            // MAIL FROM is what anybody can say.
            (
                "destinations.\"x@example.org\" = { rulesets = [{ mailbox = \"y\", smtp_mail_from_regexp = \"f\", is_forward = true }] }",
                "add verified_domain",
            ),
            (
                "[domains.\"example.org\".aliases.team]\naddresses = [\"x@example.org\"]",
                "no account has the address",
            ),
            (
                "[[web_handlers]]\ndomain = \"example.org\"\npath_regexp = \"/\"\nweb_static = { root = \"x\" }",
                "must begin with ^",
            ),
        ] {
            let errors = dynamic_errors(&format!("{account}{text}"));
            assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:#?}");
        }
        assert_eq!(dynamic_errors(account), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z_\\[\\]\\.=\"{}, \n0-9]{0,200}") {
            let _ = static_errors(&text);
            let _ = dynamic_errors(&text);
        }
    }
}
