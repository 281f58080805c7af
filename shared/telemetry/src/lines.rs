//! From events of `tracing` to lines on standard error.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::field::{Field as Key, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::format::{Field, Format, Line, Value};
use crate::level::package_of;

/// Fields of spans that are for traces only.
const TRACE_ONLY: [&str; 2] = ["otel.", "rpc."];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    level: String,
}

/// How many lines were written, by level: a rise of errors is worth an alert.
#[derive(Clone, Debug)]
pub(crate) struct Counts([Counter; 5]);

impl Counts {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let lines = Family::<Labels, Counter>::default();
        registry.register("mox_telemetry_log_lines", "Lines written to the log", lines.clone());
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        Self(levels.map(|level| {
            lines
                .get_or_create(&Labels {
                    level: name(level).to_owned(),
                })
                .clone()
        }))
    }

    fn add(&self, level: Level) {
        let at = match level {
            Level::ERROR => 0,
            Level::WARN => 1,
            Level::INFO => 2,
            Level::DEBUG => 3,
            Level::TRACE => 4,
        };
        self.0[at].inc();
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The layer that writes lines.
pub(crate) struct Lines {
    format: Format,
    counts: Counts,
    write: fn(&str),
}

impl Lines {
    pub(crate) fn new(format: Format, counts: Counts) -> Self {
        Self {
            format,
            counts,
            write: to_stderr,
        }
    }
}

/// One write a line, so that lines of several threads don't mix. A closed standard error is nobody to tell.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// What spans keep for the lines within them.
struct SpanFields(Vec<Field>);

#[derive(Default)]
struct Collect {
    message: String,
    fields: Vec<Field>,
}

impl Collect {
    fn add(&mut self, key: &Key, value: Value) {
        if key.name() == "message" {
            if let Value::Text(text) = value {
                self.message = text;
            }
        } else if !TRACE_ONLY.iter().any(|prefix| key.name().starts_with(prefix)) {
            self.fields.push((key.name(), value));
        }
    }
}

impl Visit for Collect {
    fn record_debug(&mut self, key: &Key, value: &dyn fmt::Debug) {
        self.add(key, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, key: &Key, value: &str) {
        self.add(key, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, key: &Key, value: i64) {
        self.add(key, Value::Signed(value));
    }

    fn record_u64(&mut self, key: &Key, value: u64) {
        self.add(key, Value::Unsigned(value));
    }

    fn record_f64(&mut self, key: &Key, value: f64) {
        self.add(key, Value::Float(value));
    }

    fn record_bool(&mut self, key: &Key, value: bool) {
        self.add(key, Value::Bool(value));
    }

    fn record_error(&mut self, key: &Key, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let why = error.to_string();
            // Some errors say their cause themselves.
            if !text.ends_with(&why) {
                text.push_str(": ");
                text.push_str(&why);
            }
            cause = error.source();
        }
        self.add(key, Value::Text(text));
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut collect = Collect::default();
        attributes.record(&mut collect);
        span.extensions_mut().insert(SpanFields(collect.fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut collect = Collect::default();
        values.record(&mut collect);
        let mut extensions = span.extensions_mut();
        let Some(SpanFields(fields)) = extensions.get_mut::<SpanFields>() else {
            return;
        };
        for (name, value) in collect.fields {
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => fields.push((name, value)),
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut collect = Collect::default();
        event.record(&mut collect);
        let level = *event.metadata().level();
        // From the outermost span inwards, then the line's own, which win over those of the same name.
        let mut around = Vec::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                    around.extend(fields.iter().cloned());
                }
            }
        }
        let own = |name: &str| collect.fields.iter().any(|(known, _)| *known == name);
        let mut fields: Vec<&Field> = Vec::with_capacity(around.len() + collect.fields.len());
        for (at, field) in around.iter().enumerate() {
            let later = around[at + 1..].iter().any(|(name, _)| *name == field.0);
            if !later && !own(field.0) {
                fields.push(field);
            }
        }
        fields.extend(&collect.fields);
        let package = package_of(event.metadata().target());
        let line = Line {
            time: SystemTime::now(),
            level: name(level),
            package: &package,
            message: &collect.message,
            fields,
        };
        self.counts.add(level);
        (self.write)(&line.format(self.format));
    }
}

/// Panics are bugs: they go to the log, with their place, instead of to standard error as they are.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or(payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace =
            (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            place,
            backtrace,
            "panic, which is a bug: {}",
            text.unwrap_or("without text")
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::level::{self, Levels};

    thread_local! {
        static WRITTEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// What was written since the last call, without the time.
    fn written() -> Vec<String> {
        let lines = WRITTEN.with_borrow_mut(std::mem::take);
        lines
            .iter()
            .map(|line| line.split_once(' ').unwrap().1.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn lines_have_their_spans_fields_and_follow_changed_levels() {
        let mut registry = Registry::default();
        let mut lines = Lines::new(Format::Text, Counts::register(&mut registry));
        lines.write = |line| WRITTEN.with_borrow_mut(|written| written.push(line.to_owned()));
        let levels = Levels::new(level::Level::Info, &[]);
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(levels.filter()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "mox_imap::session", "connection", cid = "8f3a", user = tracing::field::Empty);
            let _in = span.enter();
            let log = || {
                tracing::info!(target: "mox_imap::session", size = 7, "appended");
                tracing::debug!(target: "mox_imap::session", cid = "other", "why");
                tracing::warn!(target: "h2::codec", "odd");
                tracing::info!(target: "h2::codec", "chatter");
            };
            log();
            assert_eq!(
                written(),
                ["info imap: appended cid=8f3a size=7", "warn h2: odd cid=8f3a"]
            );
            span.record("user", "mjl");
            levels.set("imap", Some(level::Level::Debug));
            levels.set_default(level::Level::Error);
            log();
            assert_eq!(
                written(),
                [
                    "info imap: appended cid=8f3a user=mjl size=7",
                    "debug imap: why user=mjl cid=other"
                ]
            );
        });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("mox_telemetry_log_lines_total{level=\"info\"} 2"),
            "{text}"
        );
    }
}
