use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::{Ratio, Traces, exporter};
use crate::telemetry::InitError;

/// How long the end of a process waits for its last spans to be taken. It comes after what a role drains, within the
/// pod's `terminationGracePeriodSeconds`.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Whether there is a collector. What is told of spans is put into words for one alone.
static SENDS: AtomicBool = AtomicBool::new(false);

/// Our crates and no others: what libraries trace may name headers, and is not ours to answer for.
const OURS: &str = "cache_registry";

/// Spans on their way to a collector: a bounded queue in memory, which a thread of its own empties. Where it is full,
/// spans are dropped; nobody waits.
#[derive(Debug)]
pub(crate) struct Sending(SdkTracerProvider);

impl Sending {
    /// Called within the runtime that is to do the sending. Makes no connection.
    pub(crate) fn begin(traces: &Traces) -> Result<Self, InitError> {
        let Ratio(ratio) = traces.ratio;
        let resource = Resource::builder()
            .with_service_name("cache-registry")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("cache_registry.role", traces.role))
            .build();
        let exporter = exporter::exporter(&traces.endpoint).map_err(InitError::Traces)?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_batch_exporter(exporter)
            .build();
        SENDS.store(true, Ordering::Relaxed);
        Ok(Self(provider))
    }

    /// Sends what is left, and gives up on a collector that does not take it in time.
    pub(crate) async fn end(self) {
        // It waits for its thread. A collector that is away was told of when it went.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS)).await;
    }
}

/// What makes spans of ours OpenTelemetry's. What is logged within one goes with it.
pub(crate) fn layer<S>(sending: &Sending) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(sending.0.tracer(OURS))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(OURS, LevelFilter::INFO))
}

fn sends() -> bool {
    SENDS.load(Ordering::Relaxed)
}

/// Makes a span part of the trace that a request's headers name
/// ([`traceparent`](https://www.w3.org/TR/trace-context/)). Called before the span is entered.
pub fn join(span: &Span, headers: &HeaderMap) {
    if !sends() {
        return;
    }
    let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if context.span().span_context().is_valid() {
        // It fails for a span that is in no trace, and then there is none to join.
        let _ = span.set_parent(context);
    }
}

/// Names the trace of the current span in the headers of a request.
pub fn hand_on(headers: &mut HeaderMap) {
    if !sends() {
        return;
    }
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeaderInjector(headers));
}

/// Tells something of the current span, in traces alone.
pub fn note(key: &'static str, value: &(impl ToString + ?Sized)) {
    let span = Span::current();
    if sends() && !span.is_disabled() {
        span.set_attribute(key, value.to_string());
    }
}
