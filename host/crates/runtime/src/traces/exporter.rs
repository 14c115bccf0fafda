use std::iter::successors;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use super::Endpoint;

/// For a batch, with its retries. Meanwhile others are queued.
const PATIENCE: Duration = Duration::from_secs(5);

/// For one request of these.
const ATTEMPT: Duration = Duration::from_secs(3);

/// What sends batches of spans to a collector. Fails with words where that cannot be set up.
pub(super) fn exporter(endpoint: &Endpoint) -> Result<impl SpanExporter + use<>, String> {
    // The system's CA certificates; in an image that has none, Mozilla's as they were at build time.
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .unwrap_or_else(|_| HttpsConnectorBuilder::new().with_webpki_roots());
    let client = HyperClient::new(connector.https_or_http().enable_http1().build(), ATTEMPT, None);
    let (to, obstacle) = (endpoint.traces(), Obstacle::default());
    let otlp = Otlp::builder()
        .with_http()
        .with_http_client(OnRuntime { client, runtime: Handle::current(), obstacle: obstacle.clone() })
        .with_endpoint(&to)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(ToldOnce { otlp, to, obstacle, lost: AtomicU64::new(0) })
}

/// hyper on the process' runtime, for the thread that sends, which has none.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
    obstacle: Obstacle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.obstacle.note(None);
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await }).await?;
        self.obstacle.note(sent.as_ref().err());
        sent
    }
}

/// Why the last request found nobody: a name that is not resolved, a certificate that is not trusted. The exporter of
/// OpenTelemetry takes every such error for "network error".
#[derive(Debug, Clone, Default)]
struct Obstacle(Arc<Mutex<Option<String>>>);

impl Obstacle {
    fn note(&self, error: Option<&HttpError>) {
        let words = error.map(|error| {
            let error: &(dyn std::error::Error + 'static) = &**error;
            let causes = successors(Some(error), |error| error.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn words(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says when a collector goes and when it is back, and not for each batch that it does not take.
#[derive(Debug)]
struct ToldOnce {
    otlp: Otlp,
    to: String,
    obstacle: Obstacle,
    /// Spans since it went.
    lost: AtomicU64,
}

impl SpanExporter for ToldOnce {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        match self.otlp.export(batch).await {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(collector = self.to, lost, "the collector takes traces again");
                }
            }
            Err(error) => {
                if self.lost.fetch_add(spans, Ordering::Relaxed) == 0 {
                    let message = "the collector does not take traces; spans are lost until it does";
                    let error = self.obstacle.words().unwrap_or_else(|| error.to_string());
                    tracing::warn!(collector = self.to, error, "{message}");
                }
            }
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(collector = self.to, lost, "the collector was away to the end");
        }
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
