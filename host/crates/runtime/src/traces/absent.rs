//! A program without traces.

use std::convert::Infallible;

use http::HeaderMap;
use tracing::Span;
use tracing_subscriber::layer::Identity;

use super::Traces;
use crate::telemetry::InitError;

/// There is none: no [`Endpoint`](super::Endpoint) is taken.
#[derive(Debug)]
pub(crate) struct Sending(Infallible);

impl Sending {
    pub(crate) fn begin(_: &Traces) -> Result<Self, InitError> {
        Err(InitError::Traces("this program was built without the feature otlp".to_owned()))
    }

    #[expect(clippy::unused_async, reason = "as the one that sends")]
    pub(crate) async fn end(self) {
        match self.0 {}
    }
}

pub(crate) fn layer(sending: &Sending) -> Identity {
    match sending.0 {}
}

/// Makes a span part of the trace that a request's headers name.
pub fn join(_: &Span, _: &HeaderMap) {}

/// Names the trace of the current span in the headers of a request.
pub fn hand_on(_: &mut HeaderMap) {}

/// Tells something of the current span, in traces alone.
pub fn note(_: &'static str, _: &(impl ToString + ?Sized)) {}
