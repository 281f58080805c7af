//! Whether we say of messages what others say of them: python3-dkim, libopendkim, python3-spf and libopendmarc, from
//! Debian's packages, on messages, signatures and policies that they and their test suites made, and they of ours.
//!
//! Each test prints how often we agree with which tool, and every case in which we don't, with the reason. One that has
//! no reason fails it.

// All of it is a test.
#![allow(clippy::unwrap_used)]

mod dkim;
mod dmarc;
mod spf;
mod standards;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use async_trait::async_trait;
use mox_dns::{Answer, Error, Reason, Record, RecordType, Resolver, ZoneResolver};

/// The interpreter that Debian's packages are for; another may come first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Where we and one tool do not say the same, and why that is right.
pub(crate) struct Exception {
    pub tool: &'static str,
    /// Part of the name of the cases.
    pub cases: &'static str,
    pub why: &'static str,
}

/// How often we agree with each tool.
#[derive(Default)]
pub(crate) struct Tally {
    agreed: BTreeMap<String, usize>,
    explained: BTreeMap<String, Vec<String>>,
    wrong: Vec<String>,
    exceptions: &'static [Exception],
}

impl Tally {
    pub fn new(exceptions: &'static [Exception]) -> Self {
        Self {
            exceptions,
            ..Self::default()
        }
    }

    /// Counts one case. `why` explains a difference; else an exception may.
    pub fn count(&mut self, tool: &str, case: &str, same: bool, told: &str, why: &str) {
        if same {
            *self.agreed.entry(tool.to_owned()).or_default() += 1;
            return;
        }
        let known = self
            .exceptions
            .iter()
            .find(|e| e.tool == tool && case.contains(e.cases));
        let why = if why.is_empty() {
            known.map_or("", |e| e.why)
        } else {
            why
        };
        if why.is_empty() {
            self.wrong.push(format!("{tool}: {case}: {told}"));
        } else {
            self.explained
                .entry(tool.to_owned())
                .or_default()
                .push(format!("{case}: {told}: {why}"));
        }
    }

    /// Prints all, and fails if there is a case without a reason.
    pub fn finish(self, what: &str, at_least: usize) {
        let tools: std::collections::BTreeSet<&String> = self.agreed.keys().chain(self.explained.keys()).collect();
        for tool in tools {
            let explained = self.explained.get(tool).map_or(&[][..], Vec::as_slice);
            let agreed = self.agreed.get(tool).copied().unwrap_or_default();
            println!(
                "{what}, {tool}: {agreed} agreed, {} differ for a reason",
                explained.len()
            );
            for case in explained {
                println!("    {case}");
            }
        }
        assert!(
            self.wrong.is_empty(),
            "{what}: {} cases differ without a reason:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
        let counted: usize = self.agreed.values().sum();
        assert!(counted >= at_least, "{what}: only {counted} cases");
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agreement/tools")
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}: run tools/deps test"));
    assert!(
        output.status.success(),
        "{command:?}: {}: run tools/deps test",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Makes a program of one of the C files, in a folder.
pub(crate) fn compile(name: &str, folder: &Path) -> PathBuf {
    let program = folder.join(name);
    let source = tools().join(format!("{name}.c"));
    run(Command::new("cc")
        .arg("-O1")
        .arg("-o")
        .arg(&program)
        .arg(source)
        .arg(format!("-l{name}")));
    program
}

/// Runs one of the Python files.
pub(crate) fn python(script: &str, arguments: &[&Path]) -> Output {
    run(Command::new(PYTHON)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(tools().join(script))
        .args(arguments))
}

pub(crate) fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

pub(crate) fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A zone of texts by name.
pub(crate) fn texts(map: &serde_json::Value) -> ZoneResolver {
    let mut zone = ZoneResolver::new();
    for (name, record) in map.as_object().unwrap() {
        zone.add(name, Record::Txt(text(record).as_bytes().to_vec()));
    }
    zone
}

/// A zone in which some names have no answer to some questions.
pub(crate) struct Zone {
    pub records: ZoneResolver,
    pub silent: HashSet<String>,
}

#[async_trait]
impl Resolver for Zone {
    async fn lookup(&self, name: &str, record: RecordType) -> Result<Answer<Record>, Error> {
        let found = self.records.lookup(name, record).await;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match found {
            Err(mut error) if self.silent.contains(&name) || name.starts_with("error.") => {
                error.reason = Reason::Timeout;
                Err(error)
            }
            other => other,
        }
    }
}
