use std::time::Instant;

use cache_registry_runtime::traces::note;
use http::{Method, StatusCode};
use tracing::Span;

use crate::legs::Leg;
use crate::metrics::Metrics;
use crate::refusal::Kind;

/// One request, told in one line when it has ended: answered to its last byte, cut, or left by the client.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Metrics,
    /// Of the request, which a body outlives.
    span: Span,
    started: Instant,
    kind: Kind,
    method: Method,
    name: String,
    reference: String,
    status: Option<StatusCode>,
    served_by: &'static str,
    bytes: u64,
    end: End,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client went away before it had all.
    Left,
    Complete,
    /// The proxy cut it: nobody had the rest, or the bytes were wrong.
    Cut,
}

impl Record {
    pub(crate) fn new(metrics: Metrics, kind: Kind, method: Method, name: String, reference: String) -> Self {
        tracing::debug!(%method, name, reference, "asked");
        metrics.request_began();
        Self {
            metrics,
            span: Span::current(),
            started: Instant::now(),
            kind,
            method,
            name,
            reference,
            status: None,
            served_by: "nobody",
            bytes: 0,
            end: End::Left,
        }
    }

    /// That of the request, for what is logged while its body is sent.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Who answers, and with what.
    pub(crate) fn answers(&mut self, status: StatusCode, served_by: &'static str) {
        self.status = Some(status);
        self.served_by = served_by;
    }

    /// These bytes of a leg were handed to the client's connection.
    pub(crate) fn sent(&mut self, leg: Leg, bytes: u64) {
        self.bytes += bytes;
        self.metrics.sent(leg, bytes);
    }

    /// Another leg goes on.
    pub(crate) fn continued_by(&mut self, leg: Leg) {
        self.served_by = if self.bytes == 0 { leg.as_str() } else { "both" };
    }

    /// All of it was handed over.
    pub(crate) fn complete(&mut self) {
        self.end = End::Complete;
    }

    /// It ends here, before its end.
    pub(crate) fn cut(&mut self) {
        self.end = End::Cut;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = self.status.map_or(0, |status| status.as_u16());
        let took = self.started.elapsed();
        let end = match self.end {
            End::Left => "left by the client",
            End::Complete => "complete",
            End::Cut => "cut",
        };
        match self.end {
            End::Left => self.metrics.broken_off("client"),
            End::Complete => self.metrics.answered_whole(self.kind, took),
            End::Cut => self.metrics.broken_off("proxy"),
        }
        self.metrics.request_ended();
        self.metrics.served(self.served_by, status);
        let _entered = self.span.enter();
        note("cache_registry.repository", &self.name);
        note("cache_registry.reference", &self.reference);
        note("cache_registry.served_by", self.served_by);
        tracing::info!(
            method = %self.method,
            name = self.name,
            reference = self.reference,
            status,
            served_by = self.served_by,
            bytes = self.bytes,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            end,
            "pull"
        );
    }
}
