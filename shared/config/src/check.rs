//! Compares a file with the declared fields: finds every unknown field, missing field and wrong value at once.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{FieldPath, Problem, Step};
use crate::section::{Shape, Table};

/// Everything in a file that does not fit the declared fields.
pub fn check(table: &'static Table, file: &DeTable<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_table(table, file, &FieldPath::root(), &mut problems);
    problems
}

fn check_table(table: &'static Table, given: &DeTable<'_>, at: &FieldPath, problems: &mut Vec<Problem>) {
    for (key, value) in given {
        let name = key.get_ref().as_ref();
        let path = at.key(name);
        match table.fields.iter().find(|f| f.name == name && !f.hidden) {
            Some(field) => check_shape(&field.shape, value, &path, problems),
            None => problems.push(Problem::new(path, unknown(table, name))),
        }
    }
    for field in table.fields.iter().filter(|f| f.required) {
        if !given.iter().any(|(key, _)| key.get_ref() == field.name) {
            let example = match (&field.example, &field.shape) {
                (Some(example), _) => format!(": add a line such as {} = {example}", field.name),
                (None, Shape::Leaf(leaf)) => format!(": add a line such as {} = {}", field.name, leaf.example),
                (None, _) => String::new(),
            };
            problems.push(Problem::new(
                at.clone(),
                format!("required field {} is missing{example}", field.name),
            ));
        }
    }
}

fn unknown(table: &'static Table, name: &str) -> String {
    let known = table.fields.iter().filter(|f| !f.hidden).map(|f| f.name);
    match known
        .clone()
        .min_by_key(|k| distance(k, name))
        .filter(|k| distance(k, name) <= 1 + name.len() / 3)
    {
        Some(near) => format!("unknown field; did you mean {near}?"),
        None => format!("unknown field; known here are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// How many letters have to be added, removed or replaced, with separators and case not counted.
fn distance(a: &str, b: &str) -> usize {
    let letters = |s: &str| -> Vec<char> { s.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect() };
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn check_shape(shape: &Shape, value: &Spanned<DeValue<'_>>, at: &FieldPath, problems: &mut Vec<Problem>) {
    match (shape, value.get_ref()) {
        (Shape::Leaf(leaf), _) => {
            let owned = Spanned::new(value.span(), value.get_ref().clone());
            if let Err(message) = (leaf.check)(owned) {
                problems.push(Problem::new(at.clone(), format!("{message} (expected {})", leaf.kind)));
            }
        }
        (Shape::Table(table), DeValue::Table(given)) => check_table(table(), given, at, problems),
        (Shape::List(entry), DeValue::Array(given)) => {
            for (n, value) in given.iter().enumerate() {
                check_shape(entry, value, &at.entry(n), problems);
            }
        }
        (
            Shape::Map {
                key,
                check,
                value: shape,
                ..
            },
            DeValue::Table(given),
        ) => {
            for (name, value) in given {
                let path = at.key(name.get_ref());
                if let Err(message) = check(name.get_ref()) {
                    problems.push(Problem::new(path, format!("{message} (expected {key})")));
                } else {
                    check_shape(shape, value, &path, problems);
                }
            }
        }
        (Shape::List(_), other) => {
            problems.push(Problem::new(
                at.clone(),
                format!("must be a list in [ ], not {}", other.type_str()),
            ));
        }
        (Shape::Table(_) | Shape::Map { .. }, other) => {
            problems.push(Problem::new(
                at.clone(),
                format!("must be a table, not {}", other.type_str()),
            ));
        }
    }
}

/// Where in the file a field is, or else the table that should have it.
pub fn locate(file: &DeTable<'_>, field: &FieldPath) -> Option<Range<usize>> {
    let mut span = None;
    let mut table = Some(file);
    let mut list = None;
    for step in field.steps() {
        let value = match step {
            Step::Key(key) => {
                let Some((name, value)) = table.and_then(|t| t.iter().find(|(k, _)| k.get_ref() == key)) else {
                    return span;
                };
                span = Some(name.span());
                value
            }
            Step::Entry(n) => {
                let Some(value) = list.and_then(|l: &toml::de::DeArray<'_>| l.get(*n)) else {
                    return span;
                };
                span = Some(value.span());
                value
            }
        };
        table = value.get_ref().as_table();
        list = value.get_ref().as_array();
    }
    span
}
