//! How a process is seen: its log, its metrics, its health, its traces.
//!
//! - **Log.** Lines on standard error, for people or as JSON, through `tracing`. What a line belongs to, such as a
//!   connection (`cid`), comes from the spans it is written in. Levels are set for each package, a crate of ours by its
//!   name without the `mox_` (`smtp-in`, `imap`, `queue-delivery`, …), and can be changed while running. Libraries of
//!   others are heard from `warn` on, unless given a level of their own by name.
//! - **Metrics.** One [`prometheus_client`] registry, names `mox_<package>_<what>_<unit>`, given out at `/metrics`.
//! - **Health.** `/livez` answers as long as the process does; `/readyz` when every registered check passes.
//! - **Traces.** Sent to an OpenTelemetry collector if one is configured. One that is away costs the traces, nothing else.
//!
//! Everything hangs on a [`Telemetry`] that is passed along; only the log's subscriber is global, as `tracing` has it.

mod exporter;
mod format;
mod http;
mod level;
mod lines;
mod process;
mod readiness;

use std::sync::Arc;
use std::time::Duration;

pub use format::Format;
pub use level::{Level, LevelError, Levels, package_of};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
pub use readiness::Readiness;
use tracing_subscriber::layer::SubscriberExt;

/// For the last traces, when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How a process wants to be seen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the service, for traces.
    pub service: String,
    /// Level of packages that have none of their own.
    pub level: Level,
    /// Levels of packages.
    pub packages: Vec<(String, Level)>,
    /// Of log lines.
    pub format: Format,
    /// OpenTelemetry collector (OTLP over gRPC), such as `http://127.0.0.1:4317`.
    pub otlp_endpoint: Option<String>,
    /// The part of traces that begin here which is kept, 0 to 1.
    pub sample_ratio: f64,
}

impl Settings {
    /// Log lines for people at level info, no traces.
    #[must_use]
    pub fn new(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            level: Level::Info,
            packages: Vec::new(),
            format: Format::Text,
            otlp_endpoint: None,
            sample_ratio: 1.0,
        }
    }
}

/// Why telemetry can't be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process has a log already.
    #[error("the log of this process was started before")]
    Started,
    /// The collector's address is no URL.
    #[error("send traces to {endpoint:?}: {why}; write http://host:4317 or remove [telemetry] otlp_endpoint")]
    Collector {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What of a protocol may be logged besides what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// Transcripts without secrets and without messages.
    Protocol,
    /// Passwords and what stands for them.
    Auth,
    /// Whole messages.
    Data,
}

/// Handle on all of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Metrics are registered here when a service is built.
    pub registry: Arc<Mutex<Registry>>,
    /// Levels of the log.
    pub levels: Levels,
    readiness: Readiness,
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts the log, and traces if configured. Once in a process; with traces, within a tokio runtime.
    ///
    /// # Errors
    /// If it was started before, or the collector's address is not valid. That the collector is away is none.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let mut telemetry = Self::detached();
        telemetry.levels = Levels::new(settings.level, &settings.packages);
        telemetry.traces = exporter::start(settings)?;
        let counts = lines::Counts::register(&mut telemetry.registry.lock());
        let log = lines::Lines::new(settings.format, counts);
        let log = tracing_subscriber::Layer::with_filter(log, telemetry.levels.filter());
        let traces = telemetry.traces.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("mox"));
            tracing_subscriber::Layer::with_filter(layer, tracing_subscriber::filter::filter_fn(exporter::is_traced))
        });
        let subscriber = tracing_subscriber::registry().with(log).with(traces);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Started)?;
        lines::log_panics();
        Ok(telemetry)
    }

    /// Metrics and health only, for tests: nothing is global, so there may be any number.
    #[must_use]
    pub fn detached() -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            levels: Levels::new(Level::Info, &[]),
            readiness: Readiness::default(),
            traces: None,
        }
    }

    /// Whether a protocol's details may be logged: asked before they are put together. The lines themselves are
    /// written with `tracing::trace!`.
    #[must_use]
    pub fn trace_enabled(&self, package: &str, kind: TraceKind) -> bool {
        let needed = match kind {
            TraceKind::Protocol => Level::Trace,
            TraceKind::Auth => Level::TraceAuth,
            TraceKind::Data => Level::TraceData,
        };
        self.levels.level(package) >= needed
    }

    /// What must be well for this process to be given work.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// All metrics in the text format of OpenMetrics.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a collector does.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }

    /// Answers `/metrics`, `/livez` and `/readyz` over HTTP until `shutdown` completes.
    ///
    /// # Errors
    /// If the listener fails for good.
    pub async fn serve_metrics(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        http::serve(self.clone(), listener, shutdown).await
    }

    /// Sends the last traces, for at most 2 seconds.
    pub async fn stop(&self) {
        if let Some(traces) = self.traces.clone() {
            let _ = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        }
    }
}

/// The id of the trace that the current span is of, in hexadecimal; empty if traces are not collected. What is stored
/// for later work, such as a queue entry, keeps it, so that one trace can be followed across.
#[must_use]
pub fn trace_id() -> String {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() {
        span.trace_id().to_string()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_messages_have_their_own_levels() {
        let telemetry = Telemetry::detached();
        let enabled = |kind| telemetry.trace_enabled("imap", kind);
        for (level, protocol, auth, data) in [
            (Level::Debug, false, false, false),
            (Level::Trace, true, false, false),
            (Level::TraceAuth, true, true, false),
            (Level::TraceData, true, true, true),
        ] {
            telemetry.levels.set("imap", Some(level));
            assert_eq!(
                (
                    enabled(TraceKind::Protocol),
                    enabled(TraceKind::Auth),
                    enabled(TraceKind::Data)
                ),
                (protocol, auth, data)
            );
            assert!(!telemetry.trace_enabled("store", TraceKind::Protocol));
        }
    }

    #[test]
    fn trace_id_is_that_of_the_span_or_none() {
        assert_eq!(trace_id(), "");
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let outer = tracing::info_span!("outer").entered();
            let id = trace_id();
            assert_eq!(id.len(), 32);
            assert_eq!(tracing::info_span!("inner").in_scope(trace_id), id);
            drop(outer);
        });
    }

    #[test]
    fn process_metrics_are_there_from_the_start() {
        let text = Telemetry::detached().metrics();
        for name in [
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "mox_build_info",
        ] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }
}
