use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::conclusion::Tally;
use crate::router::Refusal;

/// What the webhook counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    reviews: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    duration: Histogram,
    images: Family<Label, Counter>,
    certificate_not_before: Gauge,
    certificate_not_after: Gauge,
    certificate_loads: Family<Label, Counter>,
}

type Label = [(&'static str, &'static str); 1];

/// How a review was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Allowed, with a patch.
    Patched,
    /// Allowed; the pod was as it should be.
    Unchanged,
    /// Allowed, without looking at images.
    Passed,
    /// An HTTP error.
    Refused,
}

// Answers take well below a millisecond; a policy that uses up its time takes 50 ms.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

impl Metrics {
    /// Metrics that `registry` shows. Every series is there from the start, so that the first event is an increase.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            refusals: Family::default(),
            duration: Histogram::new(SECONDS),
            images: Family::default(),
            certificate_not_before: Gauge::default(),
            certificate_not_after: Gauge::default(),
            certificate_loads: Family::default(),
        };
        registry.register("cache_registry_webhook_reviews", "Admission reviews by outcome", metrics.reviews.clone());
        registry.register(
            "cache_registry_webhook_refusals",
            "Requests that got an HTTP error in the place of a review, by what was wrong with them",
            metrics.refusals.clone(),
        );
        registry.register(
            "cache_registry_webhook_review_duration_seconds",
            "Time from a review's head to its answer",
            metrics.duration.clone(),
        );
        registry.register(
            "cache_registry_webhook_images",
            "Images that were looked at, by decision",
            metrics.images.clone(),
        );
        registry.register(
            "cache_registry_webhook_certificate_not_before_timestamp_seconds",
            "When the certificate that is served began",
            metrics.certificate_not_before.clone(),
        );
        registry.register(
            "cache_registry_webhook_certificate_not_after_timestamp_seconds",
            "When the certificate that is served ends",
            metrics.certificate_not_after.clone(),
        );
        registry.register(
            "cache_registry_webhook_certificate_loads",
            "Certificate files that were new: served, or refused with the one before them kept",
            metrics.certificate_loads.clone(),
        );
        for outcome in [Outcome::Patched, Outcome::Unchanged, Outcome::Passed, Outcome::Refused] {
            drop(metrics.reviews.get_or_create(&outcome.label()));
        }
        for reason in Refusal::REASONS {
            drop(metrics.refusals.get_or_create(&[("reason", reason)]));
        }
        for tally in [Tally::Rewritten, Tally::AlreadyRewritten, Tally::LeftAlone, Tally::PolicyFailed] {
            drop(metrics.images.get_or_create(&tally.label()));
        }
        for served in [true, false] {
            drop(metrics.certificate_loads.get_or_create(&load_label(served)));
        }
        metrics
    }

    pub(crate) fn start_review(&self) -> ReviewTimer<'_> {
        ReviewTimer { metrics: self, start: Instant::now() }
    }

    pub(crate) fn count_review(&self, outcome: Outcome) {
        self.reviews.get_or_create(&outcome.label()).inc();
    }

    pub(crate) fn count_refusal(&self, refusal: &Refusal) {
        self.count_review(Outcome::Refused);
        self.refusals.get_or_create(&[("reason", refusal.reason())]).inc();
    }

    pub(crate) fn count_image(&self, tally: Tally) {
        self.images.get_or_create(&tally.label()).inc();
    }

    /// The certificate that is served is valid from the first to the last of these, in seconds since 1970.
    pub(crate) fn certificate_valid(&self, not_before: i64, not_after: i64) {
        self.certificate_not_before.set(not_before);
        self.certificate_not_after.set(not_after);
    }

    pub(crate) fn count_certificate(&self, served: bool) {
        self.certificate_loads.get_or_create(&load_label(served)).inc();
    }
}

/// Observes the time of a review when it is dropped, however the review ends.
pub(crate) struct ReviewTimer<'m> {
    metrics: &'m Metrics,
    start: Instant,
}

impl Drop for ReviewTimer<'_> {
    fn drop(&mut self) {
        self.metrics.duration.observe(self.start.elapsed().as_secs_f64());
    }
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Patched => "patched",
            Self::Unchanged => "unchanged",
            Self::Passed => "passed",
            Self::Refused => "refused",
        }
    }

    fn label(self) -> Label {
        [("outcome", self.as_str())]
    }
}

impl Tally {
    fn label(self) -> Label {
        let value = match self {
            Self::Rewritten => "rewritten",
            Self::AlreadyRewritten => "already_rewritten",
            Self::LeftAlone => "left_alone",
            Self::PolicyFailed => "policy_failed",
        };
        [("decision", value)]
    }
}

fn load_label(served: bool) -> Label {
    [("outcome", if served { "served" } else { "refused" })]
}
