//! Traces to an OpenTelemetry collector, which may be away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Level, Metadata};

use crate::{Error, Settings};

/// For one batch. The batches wait in memory meanwhile, as many as the SDK bounds.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What becomes part of traces: spans of ours, down to those of single calls between services.
pub(crate) fn is_traced(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::DEBUG && metadata.target().starts_with("mox") && metadata.is_span()
}

pub(crate) fn start(settings: &Settings) -> Result<Option<SdkTracerProvider>, Error> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(None);
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|e| Error::Collector {
            endpoint: endpoint.clone(),
            why: e.to_string(),
        })?;
    let exporter = Patient {
        inner: exporter,
        endpoint: endpoint.clone(),
        failing: AtomicBool::new(false),
    };
    let resource = Resource::builder()
        .with_service_name(format!("mox-{}", settings.service))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            settings.sample_ratio,
        ))))
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    Ok(Some(provider))
}

/// Says once that the collector is away, and once that it is back, instead of at every batch.
#[derive(Debug)]
struct Patient<E> {
    inner: E,
    endpoint: String,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        let failed = result.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            match &result {
                Err(error) => tracing::warn!(
                    endpoint = self.endpoint, %error, "traces are lost until the collector can be reached"
                ),
                Ok(()) => tracing::info!(endpoint = self.endpoint, "traces reach the collector again"),
            }
        }
        // Said; the SDK would say it again at each batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
