//! Lists: aligned for people on a terminal, with tabs between the fields for programs.

use std::io::IsTerminal;

use serde_json::Value;

/// A list that is printed as it comes, so that it may be longer than memory: JSON objects, or lines with tabs. A terminal
/// gets a table at its end.
pub struct Listing {
    json: bool,
    /// None: it is not for a terminal.
    table: Option<Table>,
}

impl Listing {
    /// Begins one, with titles unless it is of JSON objects.
    pub fn new(json: bool, titles: &[&str]) -> Self {
        let table = Table::new(titles);
        let aligned = !json && std::io::stdout().is_terminal();
        if !json && !aligned {
            print!("{}", table.plain());
        }
        Self {
            json,
            table: aligned.then_some(table),
        }
    }

    /// Adds what is one object, or one row.
    pub fn add(&mut self, object: impl FnOnce() -> Value, row: impl FnOnce() -> Vec<String>) {
        match &mut self.table {
            _ if self.json => println!("{}", object()),
            Some(table) => table.row(row()),
            None => {
                let mut one = Table { rows: Vec::new() };
                one.row(row());
                print!("{}", one.plain());
            }
        }
    }

    /// After the last.
    pub fn end(self) {
        if let Some(table) = self.table {
            table.print();
        }
    }
}

/// Rows under a line of titles.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(ToString::to_string).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, fields: Vec<String>) {
        // What others chose, such as subjects and errors of remote hosts, must not move the cursor.
        let clean = |f: String| f.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.rows.push(fields.into_iter().map(clean).collect());
    }

    /// For standard output, as it is.
    pub fn print(&self) {
        print!(
            "{}",
            if std::io::stdout().is_terminal() {
                self.aligned()
            } else {
                self.plain()
            }
        );
    }

    /// Fields with tabs between them.
    fn plain(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }

    /// Fields in columns.
    fn aligned(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            for (n, field) in row.iter().enumerate() {
                let width = field.chars().count();
                match widths.get_mut(n) {
                    Some(known) => *known = (*known).max(width),
                    None => widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let padded = row.iter().zip(&widths).map(|(field, width)| format!("{field:width$}"));
            out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_or_plain() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(vec!["1".into(), "ä\u{1b}[2J".into()]);
        table.row(vec!["100".into(), String::new()]);
        assert_eq!(table.aligned(), "ID   NAME\n1    ä [2J\n100\n");
        assert_eq!(table.plain(), "ID\tNAME\n1\tä [2J\n100\t\n");
    }
}
