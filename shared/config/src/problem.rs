//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// The way to a field: keys of tables, and numbers of list entries from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath(Vec<Step>);

/// One step of the way to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The key of a table.
    Key(String),
    /// An entry of a list.
    Entry(usize),
}

impl FieldPath {
    /// The whole file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A field of the table at this path.
    #[must_use]
    pub fn key(&self, key: impl fmt::Display) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_string()));
        Self(steps)
    }

    /// An entry of the list at this path.
    #[must_use]
    pub fn entry(&self, number: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Entry(number));
        Self(steps)
    }

    /// The steps from the file to the field.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Entry(number) => write!(f, "[{number}]")?,
                Step::Key(key) => {
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let dot = if n == 0 { "" } else { "." };
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Something that is wrong, before it is known where in the file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field that it is about.
    pub field: FieldPath,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem with a field.
    pub fn new(field: FieldPath, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
        }
    }
}

/// Something that is wrong at a place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, if the place is known.
    pub position: Option<(usize, usize)>,
    /// The field that it is about; empty for the whole file.
    pub field: FieldPath,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if self.field.steps().is_empty() {
            write!(f, ": {}", self.message)
        } else {
            write!(f, ": {}: {}", self.field, self.message)
        }
    }
}

/// Everything that is wrong with a configuration. Prints one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Located>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
