use std::mem;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, DefaultBodyLimit, FromRequest as _, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cache_registry_runtime::traces::{join, note};
use json_patch::Patch;
use tracing::Instrument as _;

use crate::consider::{Considered, consider};
use crate::decide::Decide;
use crate::ground::Ground;
use crate::metrics::{Metrics, Outcome};
use crate::review::{self, Malformed, Request};
use crate::warnings;

/// Pods, the old and the new one of an update, are far below this: the API server takes 3 MiB of one.
const LONGEST_BODY: usize = 8 * 1024 * 1024;

/// An API server sends a review at once, and has given up on its answer long before this.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// In bytes, of the text that says why a body was refused.
const LONGEST_REFUSAL: usize = 500;

/// `POST /mutate/pods`: an `AdmissionReview` in, and one out that allows the pod, with a patch where its images are
/// cached. What is not a review is refused with a text that says what was expected.
pub fn router<D: Decide>(decide: Arc<D>, ground: impl Into<Ground>, metrics: Metrics) -> Router {
    let ground = ground.into();
    Router::new()
        .route("/mutate/pods", post(mutate_pods::<D>))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Arc::new(Webhook { decide, ground, metrics }))
}

struct Webhook<D> {
    decide: Arc<D>,
    ground: Ground,
    metrics: Metrics,
}

/// Why a request gets no review back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("expected Content-Type application/json")]
    ContentType,
    #[error("expected an AdmissionReview of at most {LONGEST_BODY} bytes")]
    TooLarge,
    #[error("expected the whole AdmissionReview within {} s", BODY_TIMEOUT.as_secs())]
    TooSlow,
    #[error("expected the whole AdmissionReview, and it broke off")]
    BrokenOff,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the answer could not be written: {0}")]
    Unwritten(serde_json::Error),
}

async fn mutate_pods<D: Decide>(State(webhook): State<Arc<Webhook<D>>>, request: extract::Request) -> Response {
    let metrics = &webhook.metrics;
    let _timer = metrics.start_review();
    let answered = match read(request).await {
        Ok((headers, body)) => webhook.answer(&headers, &body).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok((outcome, answer)) => {
            metrics.count_review(outcome);
            ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(refusal) => {
            metrics.count_refusal(&refusal);
            let mut text = refusal.to_string();
            // It may quote what was sent.
            text.truncate(text.floor_char_boundary(LONGEST_REFUSAL));
            tracing::warn!(refusal = text, "review refused");
            (refusal.status(), format!("{text}\n")).into_response()
        }
    }
}

/// The headers, for the trace that the API server may name in them, and the body.
async fn read(mut request: extract::Request) -> Result<(HeaderMap, Bytes), Refusal> {
    let headers = mem::take(request.headers_mut());
    if !is_json(&headers) {
        return Err(Refusal::ContentType);
    }
    match tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok((headers, body)),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::BrokenOff),
        Err(_) => Err(Refusal::TooSlow),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

impl<D: Decide> Webhook<D> {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<(Outcome, Vec<u8>), Refusal> {
        let request = review::parse(body)?;
        // Policies log within it too: all lines about a review have its uid, which is in the API server's audit log.
        let span = tracing::info_span!("review", uid = &*request.uid);
        join(&span, headers);
        self.review(&request).instrument(span).await
    }

    async fn review(&self, request: &Request<'_>) -> Result<(Outcome, Vec<u8>), Refusal> {
        let (inquiry, conclusion) = match consider(request, &*self.decide, &self.ground).await? {
            Considered::Concluded { inquiry, conclusion, .. } => (inquiry, conclusion),
            Considered::Passed(_) => {
                let answer = review::allowed(&request.uid, &Patch::default(), &[]).map_err(Refusal::Unwritten)?;
                return Ok((Outcome::Passed, answer));
            }
        };
        for tally in &conclusion.tally {
            self.metrics.count_image(*tally);
        }
        for warning in &conclusion.found_here {
            tracing::warn!(namespace = request.namespace(), pod = inquiry.pod.name(), warning, "image left alone");
        }
        let outcome = if conclusion.patch.is_empty() { Outcome::Unchanged } else { Outcome::Patched };
        tracing::debug!(namespace = request.namespace(), pod = inquiry.pod.name(), ?outcome, "reviewed");
        note("k8s.namespace.name", request.namespace());
        note("k8s.pod.name", inquiry.pod.name().unwrap_or_default());
        note("cache_registry.outcome", outcome.as_str());
        let warnings = warnings::fit(&conclusion.warnings);
        let answer = review::allowed(&request.uid, &conclusion.patch, &warnings).map_err(Refusal::Unwritten)?;
        Ok((outcome, answer))
    }
}

impl Refusal {
    /// All that [`reason`](Self::reason) may answer.
    pub(crate) const REASONS: [&str; 6] =
        ["content_type", "too_large", "too_slow", "broken_off", "malformed", "unwritten"];

    /// The word for it in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::ContentType => "content_type",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::BrokenOff => "broken_off",
            Self::Malformed(_) => "malformed",
            Self::Unwritten(_) => "unwritten",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unwritten(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
