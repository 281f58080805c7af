//! The trace that a call is part of, as W3C Trace Context (`traceparent`, version 00).

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const HEADER: &str = "traceparent";

/// Adds the current span's trace to a request that leaves the process. Nothing, when traces are not collected.
pub(crate) fn inject(headers: &mut HeaderMap) {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid()
        && let Ok(value) = HeaderValue::try_from(format(span))
    {
        headers.insert(HEADER, value);
    }
}

/// Makes `span` a child of the trace that a request came with, if any.
pub(crate) fn extract(headers: &HeaderMap, span: &Span) {
    let parent = headers.get(HEADER).and_then(|value| parse(value.to_str().ok()?));
    if let Some(parent) = parent {
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        // Fails only for a span that has begun its children, which a new one has not.
        let _ = span.set_parent(context);
    }
}

fn format(span: &SpanContext) -> String {
    format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags().to_u8()
    )
}

/// W3C Trace Context §3.2: lower-case hexadecimal only; ids of zeros are invalid; later versions may append fields.
fn parse(text: &str) -> Option<SpanContext> {
    let mut fields = text.split('-');
    let mut hex = |length: usize| {
        let field = fields.next()?;
        let valid = field.len() == length && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then_some(field)
    };
    let version = hex(2).filter(|v| *v != "ff")?;
    let trace_id = TraceId::from_hex(hex(32)?).ok()?;
    let span_id = SpanId::from_hex(hex(16)?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(hex(2)?, 16).ok()?);
    if version == "00" && fields.next().is_some() {
        return None;
    }
    let span = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    span.is_valid().then_some(span)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn follows_the_examples_of_the_standard() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let span = parse(text).unwrap();
        assert!(span.is_sampled() && span.is_remote());
        assert_eq!(format(&span), text);
        assert!(parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings").is_some());
    }

    #[test]
    fn refuses_invalid_ones() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_kept(text in "[0-9a-f-]{50,60}|.*") {
            if let Some(span) = parse(&text) {
                prop_assert_eq!(&format(&span)[3..], &text[3..55]);
            }
        }
    }
}
