//! What a log line looks like.

use std::fmt::Write;
use std::time::SystemTime;

use time::OffsetDateTime;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T08:15:00.123Z info smtp-in: message accepted cid=8f3a from=x@example.org`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A named value of a line or of a span around it.
pub(crate) type Field = (&'static str, Value);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

/// What is written.
pub(crate) struct Line<'a> {
    pub(crate) time: SystemTime,
    pub(crate) level: &'static str,
    pub(crate) package: &'a str,
    pub(crate) message: &'a str,
    pub(crate) fields: Vec<&'a Field>,
}

impl Line<'_> {
    /// The line with its end. What a peer sent can't break out of its field: control characters are escaped.
    pub(crate) fn format(&self, format: Format) -> String {
        let mut out = String::with_capacity(160);
        match format {
            Format::Text => self.text(&mut out),
            Format::Json => self.json(&mut out),
        }
        out.push('\n');
        out
    }

    fn text(&self, out: &mut String) {
        timestamp(out, self.time);
        let _ = write!(out, " {} {}: ", self.level, self.package);
        escape(out, self.message, false);
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}=");
            match value {
                Value::Text(text) => {
                    let quoted =
                        text.is_empty() || text.contains(|c: char| c == ' ' || c == '"' || c == '=' || c.is_control());
                    if quoted {
                        out.push('"');
                    }
                    escape(out, text, quoted);
                    if quoted {
                        out.push('"');
                    }
                }
                Value::Signed(n) => drop(write!(out, "{n}")),
                Value::Unsigned(n) => drop(write!(out, "{n}")),
                Value::Float(n) => drop(write!(out, "{n}")),
                Value::Bool(b) => drop(write!(out, "{b}")),
            }
        }
    }

    fn json(&self, out: &mut String) {
        let mut map = serde_json::Map::new();
        let mut time = String::new();
        timestamp(&mut time, self.time);
        for (name, value) in &self.fields {
            map.insert(
                (*name).to_owned(),
                match value {
                    Value::Text(text) => text.as_str().into(),
                    Value::Signed(n) => (*n).into(),
                    Value::Unsigned(n) => (*n).into(),
                    Value::Float(n) => (*n).into(),
                    Value::Bool(b) => (*b).into(),
                },
            );
        }
        map.insert("time".into(), time.into());
        map.insert("level".into(), self.level.into());
        map.insert("package".into(), self.package.into());
        map.insert("message".into(), self.message.into());
        // JSON leaves some characters as they are that terminals act on; outside of its strings there are none.
        for c in serde_json::Value::Object(map).to_string().chars() {
            if is_active(c) {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            } else {
                out.push(c);
            }
        }
    }
}

fn escape(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' if quoted => {
                out.push('\\');
                out.push(c);
            }
            c if is_active(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
}

/// Whether terminals and viewers may act on it instead of showing it: controls, line separators, direction marks.
fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// RFC 3339 in UTC, with milliseconds.
fn timestamp(out: &mut String, time: SystemTime) {
    let t = OffsetDateTime::from(time);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn line(message: &str, fields: &[Field], format: Format) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_599_007);
        Line {
            time,
            level: "info",
            package: "smtp-in",
            message,
            fields: fields.iter().collect(),
        }
        .format(format)
    }

    #[test]
    fn text_is_one_readable_line() {
        let fields = [
            ("cid", Value::Text("8f3a".into())),
            ("size", Value::Unsigned(7)),
            ("ehlo", Value::Text("a \"b\"\r\nfake".into())),
            ("none", Value::Text(String::new())),
        ];
        assert_eq!(
            line("message accepted", &fields, Format::Text),
            "2025-12-31T23:59:59.007Z info smtp-in: message accepted cid=8f3a size=7 ehlo=\"a \\\"b\\\"\\r\\nfake\" none=\"\"\n"
        );
    }

    #[test]
    fn json_is_one_object() {
        let fields = [("cid", Value::Text("8f3a".into())), ("ok", Value::Bool(true))];
        let value: serde_json::Value = serde_json::from_str(&line("hello", &fields, Format::Json)).unwrap();
        assert_eq!(value["cid"], "8f3a");
        assert_eq!(value["ok"], true);
        assert_eq!(value["message"], "hello");
        assert_eq!(value["time"], "2025-12-31T23:59:59.007Z");
    }

    proptest! {
        #[test]
        fn nothing_breaks_out_of_its_line(message in ".*", value in any::<String>()) {
            let fields = [("v", Value::Text(value.clone()))];
            for format in [Format::Text, Format::Json] {
                let text = line(&message, &fields, format);
                prop_assert_eq!(text.matches('\n').count(), 1);
                prop_assert!(text.ends_with('\n') && !text.trim_end_matches('\n').contains(is_active));
            }
            let json: serde_json::Value = serde_json::from_str(&line(&message, &fields, Format::Json)).unwrap();
            prop_assert_eq!(json["v"].as_str(), Some(value.as_str()));
        }
    }
}
