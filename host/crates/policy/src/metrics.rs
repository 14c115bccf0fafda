use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::failure::Cause;

/// What is counted of policies. The labels are the names of loaded policies and a closed set of causes.
#[derive(Debug, Clone)]
pub struct Metrics {
    duration: Family<PolicyLabel, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
    busy: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    policy: String,
    cause: Cause,
}

impl Metrics {
    /// Registers `cache_registry_policy_duration_seconds{policy}`, `cache_registry_policy_failures_total{policy,cause}`
    /// and `cache_registry_policy_busy_total`.
    pub fn register(registry: &mut Registry) -> Self {
        // From 10 µs, what a small policy takes, to 160 ms, which is beyond the time that policies are given.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(1e-5, 2.0, 15));
        let metrics = Self {
            duration: Family::new_with_constructor(histogram),
            failures: Family::default(),
            busy: Counter::default(),
        };
        registry.register_with_unit(
            "cache_registry_policy_duration",
            "Time that one policy took for one request, over all of its containers",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "cache_registry_policy_failures",
            "Images left alone because a policy failed",
            metrics.failures.clone(),
        );
        registry.register(
            "cache_registry_policy_busy",
            "Requests whose images were left alone because too many others were being decided on",
            metrics.busy.clone(),
        );
        metrics
    }

    pub(crate) fn duration_of(&self, policy: &str) -> Histogram {
        self.duration.get_or_create_owned(&PolicyLabel { policy: policy.to_owned() })
    }

    pub(crate) fn failed(&self, policy: &str, cause: Cause) {
        self.failures.get_or_create(&FailureLabels { policy: policy.to_owned(), cause }).inc();
    }

    pub(crate) fn busy(&self) {
        self.busy.inc();
    }
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}
