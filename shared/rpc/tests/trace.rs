//! One trace goes through all services that a call leads to.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{Subject, shapes};
use mox_proto::node::v1::InfoRequest;
use mox_proto::node::v1::node_service_client::NodeServiceClient;
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

/// Keeps what it is given.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[tokio::test]
async fn the_handlers_span_is_a_child_of_the_callers() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (channels, _servers) = shapes(&Subject::default(), "control").await;
    for (shape, channel) in channels {
        let mut client = NodeServiceClient::new(channel);
        // The connection's own spans are none of the call's.
        client.info(InfoRequest {}).await.unwrap();
        kept.0.lock().unwrap().clear();
        let call = async { client.info(InfoRequest {}).await.unwrap() };
        call.instrument(tracing::info_span!("caller")).await;
        let spans = std::mem::take(&mut *kept.0.lock().unwrap());
        let find = |name: &str| {
            spans
                .iter()
                .find(|s| s.name == name)
                .unwrap_or_else(|| panic!("{shape}: {spans:?}"))
        };
        let (caller, handler) = (find("caller"), find("rpc"));
        assert_eq!(caller.parent_span_id, SpanId::INVALID, "{shape}");
        assert_eq!(
            handler.span_context.trace_id(),
            caller.span_context.trace_id(),
            "{shape}"
        );
        assert_eq!(handler.parent_span_id, caller.span_context.span_id(), "{shape}");
        let method = handler
            .attributes
            .iter()
            .find(|a| a.key.as_str() == "rpc.method")
            .unwrap();
        assert_eq!(method.value.as_str(), "/mox.node.v1.NodeService/Info");
    }
}
