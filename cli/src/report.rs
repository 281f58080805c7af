//! What a long operation tells: a bar on a terminal, findings as lines of text or JSON objects.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use mox_proto::admin::v1::report::Report as Kind;
use mox_proto::admin::v1::{Finding, Level, Progress, Report};
use serde_json::json;
use tonic::Streaming;

use crate::admin::told;

/// How often the bar is drawn while nothing changes.
const TICK: Duration = Duration::from_millis(250);

/// Prints reports. Progress goes to standard error, and only if that is a terminal.
pub struct Printer {
    json: bool,
    details: bool,
    bar: Option<ProgressBar>,
    /// Findings that are wrong and stay wrong.
    pub errors: usize,
    /// Findings that were put right.
    pub fixed: usize,
    /// Findings to be looked at.
    pub warnings: usize,
}

impl Printer {
    /// Prints text or JSON, with details or without.
    pub fn new(json: bool, details: bool) -> Self {
        Self {
            json,
            details,
            bar: None,
            errors: 0,
            fixed: 0,
            warnings: 0,
        }
    }

    /// Prints all of a stream.
    ///
    /// # Errors
    /// What it ends with.
    pub async fn all(&mut self, mut reports: Streaming<Report>) -> Result<()> {
        let ended = loop {
            match reports.message().await {
                Ok(Some(report)) => self.take(report),
                Ok(None) => break Ok(()),
                Err(status) => break Err(told(&status)),
            }
        };
        self.end();
        ended
    }

    /// Prints one.
    pub fn take(&mut self, report: Report) {
        match report.report {
            Some(Kind::Progress(progress)) => self.progress(&progress),
            Some(Kind::Finding(finding)) => self.finding(&finding),
            None => {}
        }
    }

    /// Shows how far it is.
    pub fn progress(&mut self, progress: &Progress) {
        if progress.what.is_empty() || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::no_length();
            bar.enable_steady_tick(TICK);
            bar
        });
        let style = match progress.total {
            0 => "{spinner} {pos} {msg}, {elapsed}",
            _ => "{bar:30} {pos}/{len} {msg}, {elapsed}, {eta} left",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        if progress.total > 0 {
            bar.set_length(progress.total.max(progress.done));
        }
        bar.set_message(progress.what.clone());
        bar.set_position(progress.done);
    }

    /// Prints a finding.
    pub fn finding(&mut self, finding: &Finding) {
        match finding.level() {
            Level::Error => self.errors += 1,
            Level::Fixed => self.fixed += 1,
            Level::Warning => self.warnings += 1,
            Level::Info | Level::Detail => {}
        }
        if finding.level() == Level::Detail && !self.details {
            return;
        }
        let line = if self.json { as_json(finding) } else { as_text(finding) };
        let aside = !self.json && matches!(finding.level(), Level::Warning | Level::Error);
        let print = || if aside { eprintln!("{line}") } else { println!("{line}") };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn level(finding: &Finding) -> &'static str {
    match finding.level() {
        Level::Info => "info",
        Level::Detail => "detail",
        Level::Fixed => "fixed",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn as_text(finding: &Finding) -> String {
    let mut line = String::new();
    match finding.level() {
        Level::Info | Level::Detail => {}
        other => line.push_str(match other {
            Level::Fixed => "fixed: ",
            Level::Warning => "warning: ",
            _ => "error: ",
        }),
    }
    if !finding.account.is_empty() {
        line.push_str(&format!("account {}", finding.account));
        if !finding.mailbox.is_empty() {
            line.push_str(&format!(", mailbox {}", finding.mailbox));
        }
        line.push_str(": ");
    }
    line.push_str(&finding.text);
    // Names and subjects are what others chose: they must not move the cursor, or make lines of their own.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn as_json(finding: &Finding) -> String {
    let mut object = json!({ "level": level(finding), "text": finding.text });
    if !finding.account.is_empty() {
        object["account"] = json!(finding.account);
    }
    if !finding.mailbox.is_empty() {
        object["mailbox"] = json!(finding.mailbox);
    }
    let mut numbers: Vec<_> = finding.numbers.iter().collect();
    numbers.sort_unstable();
    for (name, number) in numbers {
        object[name] = json!(number);
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines() {
        let finding = Finding {
            level: Level::Fixed.into(),
            account: "mox".into(),
            mailbox: "a\nb".into(),
            text: "messages 1 → 2".into(),
            numbers: [("messages".to_owned(), 1)].into(),
        };
        assert_eq!(as_text(&finding), "fixed: account mox, mailbox a b: messages 1 → 2");
        let object: serde_json::Value = serde_json::from_str(&as_json(&finding)).unwrap();
        assert_eq!(object["mailbox"], "a\nb");
        assert_eq!(object["messages"], 1);
        let mut printer = Printer::new(true, false);
        printer.finding(&finding);
        assert_eq!((printer.fixed, printer.errors), (1, 0));
    }
}
