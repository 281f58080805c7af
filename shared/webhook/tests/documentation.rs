//! The examples of `docs/webhooks.md` are what is told.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;

use mox_webhook::{Event, Incoming, Outgoing};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/webhooks.md");

/// What stands between "```kind" and "```".
fn block(kind: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n```{kind}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

#[test]
fn outgoing() {
    let example: Value = serde_json::from_str(block("json outgoing")).unwrap();
    let read: Outgoing = serde_json::from_value(example.clone()).unwrap();
    // Nothing is missing, and nothing is too much.
    assert_eq!(serde_json::to_value(&read).unwrap(), example);
    let documented: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    for event in Event::ALL.iter().filter(|event| **event != Event::Incoming) {
        assert!(documented.contains(event.name()), "{event}");
    }
}

#[test]
fn incoming() {
    let example: Value = serde_json::from_str(block("json incoming")).unwrap();
    let read: Incoming = serde_json::from_value(example.clone()).unwrap();
    let message = block("eml").replace('\n', "\r\n") + "\r\n";
    let told = Incoming::of(message.as_bytes(), read.meta);
    assert_eq!(serde_json::to_value(&told).unwrap(), example);
}
